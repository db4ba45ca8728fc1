"""A batch norm with a relu and max pooling behind it, whose values are never written as a whole.

This is how networks for large images begin, and there is no larger array in them. Forward, the rows
that some windows see are normalised into a room in the cache, and the windows look for their
winners there. Backward, what the pixels of a chunk have won is gathered into such a room, once for
the sums of the batch norm and once more for the gradient of x::

    x --statistics--> mean, inv_std
    x --normalise--> [rows] --windows, relu--> out, place

    grad_out, place --gather--> [chunk of grad], x --> sums
    grad_out, place --gather--> [chunk of grad], x --> grad_x

The relu waits for the winner: it keeps the larger of two values the larger. Where it stops the
winner nobody has won, and the place is one that no pixel has. So no bits of the relu are kept.

x comes from memory, and what windows and pixels look at from the cache. So some lines of x that are
needed next are prefetched for each few of them. All else is the work of ``norm_chunks.py`` and
``pool.py``, in the same chunks and the same order: the bits are those of the separate kernels.
"""

import numpy as np

from minigrad.kernels._ahead import LINE_BYTES, spread_lines
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import (
    channels_last,
    empty_channels_last,
    flat_channels_last,
    remembered,
    values_or_none,
)
from minigrad.kernels._runs import aligned_empty
from minigrad.kernels._stream import end_of_stream, is_far
from minigrad.kernels._threads import get_num_threads
from minigrad.kernels.norm import (
    batch_norm_backward,
    cut,
    keep_moved,
    moving_statistics,
    second_chunk,
    statistics_part,
)
from minigrad.kernels.norm_chunks import (
    affine_rows,
    chunk_sums,
    grad_input,
    grad_rows,
    merge_sums,
    normalise,
    settle_statistics,
    slots,
    span,
    widen,
)
from minigrad.kernels.pool import Axis, Pair, gather_into, gather_row, max_row, window_axes
from minigrad.kernels.reference.norm import Running
from minigrad.kernels.taps import place_dtype

# Room for normalised rows: in the second cache there is place for x and the outputs beside it.
_ROOM_BYTES = 256 * 1024

# Where x has no more bytes, all that pixels have won stays in a cache, and is gathered once.
_ROOM_OF_ALL = 1 << 21

_CLOSE = (1, 1)  # the dilation: each window sees a pixel


@body
def _seen(rows, first, last, x):
    """Return where in an image the rows begin that some rows of outputs see, and their values."""
    row = x.shape[2] * x.shape[3]
    top = rows.offsets[rows.starts[first]]
    return top, rows.offsets[rows.starts[last] - 1] + row - top


@body
def _stop(out, place, nobody):
    """Apply the relu to some outputs."""
    for i in range(out.size):
        if out[i] <= 0:
            out[i] = 0
            place[i] = nobody


@body
def _band(x, n, affine, rows, columns, first, last, ahead, room, out, place, nobody):
    """Find the winners of some rows of outputs of image n."""
    _, H, W, C = x.shape
    _, OH, OW, _ = out.shape
    top, size = _seen(rows, first, last, x)
    x, out, place = x.reshape(-1), out.reshape(-1), place.reshape(-1)
    at, no_mask = n * H * W * C + top, np.empty(0, np.uint8)
    pivot, scale, shift = affine
    normalise(x[at : at + size], x[:0], pivot, scale, shift, room[:size], no_mask, False)
    line, (count, step) = np.intp(x.ctypes.data) + (at + size) * x.itemsize, ahead
    begin = to = (n * OH + first) * OW * C
    for row in range(first, last):
        max_row(room, -top, rows, columns, row, OW, C, out, place, to, (line, count, step))
        line += OW * count * step
        to += OW * C
    _stop(out[begin:to], place[begin:to], nobody)


@kernel
def _training_loop(
    x, weight, bias, eps, sum_width, width, chunks, threads, running_mean, running_var, momentum,
    mean, inv_std, rows, columns, bands, room_size, ahead, nobody, out, place,
):  # fmt: skip
    values, C, (N, OH) = x.reshape(-1), mean.size, out.shape[:2]
    means, squares, counts = slots(chunks, C), slots(chunks, C), slots(1, chunks)[0]
    for thread in prange(threads):
        first, stop = chunk_bounds(thread, threads, chunks)
        for chunk in range(first, stop):
            statistics_part(chunk, chunks, values, sum_width, width, means, squares, counts)
    settle_statistics(
        means, squares, counts, eps, running_mean, running_var, momentum, mean, inv_std
    )
    affine = affine_rows(mean, inv_std, weight, bias, width, values)
    rows, columns = Axis(*rows), Axis(*columns)
    for thread in prange(threads):
        room = aligned_empty(room_size, values)
        first, stop = chunk_bounds(thread, threads, N * bands)
        for i in range(first, stop):
            n, (top, bottom) = i // bands, chunk_bounds(i % bands, bands, OH)
            _band(x, n, affine, rows, columns, top, bottom, ahead, room, out, place, nobody)


@remembered
def _bands(
    shape: tuple[int, ...], itemsize: int, out_size: Pair, kernel_size: Pair, stride: Pair
) -> tuple[int, int, Pair]:
    """Return into how many bands an image is cut, the values of a room, and what each output has
    prefetched: so many lines, and the bytes from one to the next.
    """
    _, C, H, W = shape
    (OH, OW), KH = out_size, kernel_size[0]
    fitting = (_ROOM_BYTES // max(1, W * C * itemsize) - KH) // stride[0] + 1
    bands = chunks_of(OH, max(1, fitting))
    rows = chunks_of(OH, bands)
    new = min(rows * stride[0], H) * W * C * itemsize  # rows that the band before has not seen
    ahead = spread_lines(new, rows * OW)
    return bands, min((rows - 1) * stride[0] + KH, H) * W * C, ahead


def batch_norm_relu_max_pool_training(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    eps: float,
    running: Running | None,
    momentum: float,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    out_size: Pair,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the largest value of each window, its place there, mean and 1 / deviation."""
    N, C, *in_size = x.shape
    nobody = kernel_size[0] * kernel_size[1]
    axes = window_axes(C, tuple(in_size), out_size, kernel_size, stride, padding, _CLOSE, False)
    mean, inv_std, moving = np.empty(C), np.empty(C), moving_statistics(running, x)
    out = empty_channels_last((N, C, *out_size), x.dtype)
    place = empty_channels_last((N, C, *out_size), place_dtype(nobody + 1))
    _training_loop.launch(
        3 * x.size,
        channels_last(x),
        values_or_none(weight, x.dtype),
        values_or_none(bias, x.dtype),
        float(eps),
        *cut(x.shape),
        get_num_threads(),
        *moving,
        float(momentum),
        mean,
        inv_std,
        *axes,
        *_bands(x.shape, x.itemsize, out_size, kernel_size, stride),
        nobody,
        channels_last(out),
        channels_last(place),
    )
    keep_moved(running, moving)
    return out, place, mean, inv_std


@body
def _gathered(chunk, chunks, grad_out, place, rows, columns, x, width, room):
    """Return what the pixels of a chunk have won, and the chunk of x, which comes meanwhile."""
    _, OH, OW, C = grad_out.shape
    _, H, W, _ = x.shape
    grad_out, place, x = grad_out.reshape(-1), place.reshape(-1), x.reshape(-1)
    start, stop = span(chunk, chunks, x.size, width)
    line, count = np.intp(x.ctypes.data) + start * x.itemsize, chunks_of(C * x.itemsize, LINE_BYTES)
    pixel, last = start // C, stop // C
    while pixel < last:
        row, w = pixel // W, pixel % W
        after = min(W, w + last - pixel)
        at, to = row // H * OH * OW * C, pixel * C - start
        ahead = line + to * x.itemsize, count, LINE_BYTES
        gather_row(grad_out, place, at, rows, columns, row % H, w, after, C, room, to, False, ahead)
        pixel += after - w
    return room[: stop - start], x[start:stop]


@kernel
def _backward_loop(
    grad_out, place, rows, columns, x, mean, inv_std, weight, sum_width, width, chunks, threads,
    room_size, sum_grad, sum_grad_normal, grad_x,
):  # fmt: skip
    rows, columns = Axis(*rows), Axis(*columns)
    no_mask, values = np.empty(0, np.uint8), x.reshape(-1)
    middle = widen(mean, sum_width, values)
    totals, moments = slots(chunks, mean.size), slots(chunks, mean.size)
    for thread in prange(threads):
        room = aligned_empty(room_size, values)
        first, stop = chunk_bounds(thread, threads, chunks)
        for i in range(first, stop):
            grad, part = _gathered(i, chunks, grad_out, place, rows, columns, x, width, room)
            chunk_sums(grad, part, no_mask, middle, totals[i], moments[i])
    merge_sums(totals, moments, mean, inv_std, middle, sum_grad, sum_grad_normal)
    pivot, scale, shift, slope = grad_rows(
        mean, inv_std, weight, sum_grad, sum_grad_normal, width, values
    )
    far = is_far(grad_x)
    for thread in prange(threads):
        room = aligned_empty(room_size, values)
        first, stop = chunk_bounds(thread, threads, chunks)
        for i in range(first, stop):
            chunk = second_chunk(i, first, stop)
            grad, part = _gathered(chunk, chunks, grad_out, place, rows, columns, x, width, room)
            begin, end = span(chunk, chunks, values.size, width)
            to = grad_x[begin:end]
            grad_input(grad, part, no_mask, pivot, scale, shift, slope, to, far)
            end_of_stream()


def batch_norm_relu_max_pool_backward(
    grad_out: np.ndarray,
    place: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    inv_std: np.ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradients of x, bias and weight; the latter two in float64."""
    window = kernel_size, stride, padding, _CLOSE
    grad_x = empty_channels_last(x.shape, x.dtype)
    if x.nbytes <= _ROOM_OF_ALL:
        gather_into(grad_x, grad_out, place, *window)
        return batch_norm_backward(grad_x, x, weight, mean, inv_std)
    C, in_size, out_size = x.shape[1], x.shape[2:], grad_out.shape[2:]
    axes = window_axes(C, in_size, out_size, *window, True)
    sum_grad, sum_grad_normal = np.empty(C), np.empty(C)
    sum_width, width, chunks = cut(x.shape)
    room_size = (chunks_of(x.size, width * max(1, chunks)) + 1) * width
    _backward_loop.launch(
        4 * x.size,
        channels_last(grad_out),
        channels_last(place),
        *axes,
        channels_last(x),
        mean,
        inv_std,
        values_or_none(weight, x.dtype),
        sum_width,
        width,
        chunks,
        get_num_threads(),
        room_size,
        sum_grad,
        sum_grad_normal,
        flat_channels_last(grad_x),
    )
    return grad_x, sum_grad, sum_grad_normal
