"""Max pooling, and its backward as a gather or a scatter.

Forward, an output pixel looks through its window. Backward, an input pixel looks through the
windows it lies in and takes the cotangents of those it won: nothing is written twice, so rows can
be shared among threads, and nothing needs to be zero first. Both hold vectors of channels in
registers until they have seen all there is to see, and write them once.

Where windows are large and channels few it is sooner done to send each cotangent to its winner, one
at a time, an image on one thread. And where windows lie side by side, each is dealt its cotangents
by itself. All ways add up in the order of the windows: the bits are equal.
"""

import functools
from typing import NamedTuple

import numpy as np

from minigrad.kernels._ahead import LINE_BYTES, prefetch_lines, spread_lines
from minigrad.kernels._contest import add_won, challenge, contest, settle
from minigrad.kernels._jit import CHUNK, body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import channels_last, empty_channels_last
from minigrad.kernels._runs import zero_run
from minigrad.kernels._simd import lanes, lanes_of, tile_store_columns, tile_zeros
from minigrad.kernels._stream import end_of_stream, is_far, tile_stream
from minigrad.kernels.taps import Taps, place_dtype, window_taps

Pair = tuple[int, int]


class Axis(NamedTuple):
    """What each entry of one axis of the result looks at, ready to be added up.

    Entry i looks at ``offsets[k]``, values from where the image begins, for each k from
    ``starts[i]`` up to ``starts[i + 1]``; ``places[k]`` is the axis' part of the place in the
    window.
    """

    starts: np.ndarray
    offsets: np.ndarray
    places: np.ndarray


def _axis(taps: Taps, step: int, stride: int) -> tuple[np.ndarray, ...]:
    """Return an axis as a plain tuple, whose type a launch knows sooner (see ``_numbers.py``)."""
    return tuple(Axis(taps.starts, taps.sources * step, taps.weights * stride))


@functools.lru_cache(maxsize=64)
def window_axes(
    C: int,
    in_size: Pair,
    out_size: Pair,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    back: bool,
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Return what the rows and the columns of the output look at, or ``back``, of the input."""
    geometry = zip(in_size, out_size, kernel_size, stride, padding, dilation, strict=True)
    rows, columns = (window_taps(*axis) for axis in geometry)
    W, KW = in_size[1], kernel_size[1]
    if back:
        rows, columns = rows.transposed(in_size[0]), columns.transposed(W)
        W = out_size[1]
    return _axis(rows, W * C, KW), _axis(columns, C, 1)


@body
def _max_window(tile, x, at, rows, columns, seen, out, place, to, count):
    """Find the largest values of one window in ``count`` channels, held in a tile like this."""
    r_first, r_last, c_first, c_last = seen
    # A window that lies in the padding alone, as a dilated one may, has no first place.
    somewhere = r_first < r_last and c_first < c_last
    held = contest(tile, rows.places[r_first] + columns.places[c_first] if somewhere else 0)
    for r in range(r_first, r_last):
        line, tap = at + rows.offsets[r], rows.places[r]
        for c in range(c_first, c_last):
            held = challenge(held, x, line + columns.offsets[c], tap + columns.places[c], count)
    settle(held, out, place, to, count)


@body(inline=True)
def max_row(x, at, rows, columns, row, OW, C, out, place, to, ahead):
    """Look through the windows of a row of outputs, of an image that begins at ``at``.

    ``to`` is where the row is written. ``ahead`` is what else to prefetch: the first line, the
    lines for each output, and the bytes from one to the next.
    """
    width, one, several = lanes_of(out), tile_zeros(2, 1, out), tile_zeros(2, 4, out)
    line, count, step = ahead
    r_first, r_last = rows.starts[row], rows.starts[row + 1]
    for ow in range(OW):
        line = prefetch_lines(line, count, step)
        seen, c = (r_first, r_last, columns.starts[ow], columns.starts[ow + 1]), 0
        while c + 4 * width <= C:
            _max_window(several, x, at + c, rows, columns, seen, out, place, to + c, 4 * width)
            c += 4 * width
        if width > C:
            _max_window(one, x, at, rows, columns, seen, out, place, to, C)
            c = C
        while c < C:
            c = min(c, C - width)  # the last vector may begin within the one before
            _max_window(one, x, at + c, rows, columns, seen, out, place, to + c, width)
            c += width
        to += C


@body
def _max_rows(x, rows, columns, first, last, ahead, out, place):
    """Look through the windows of output rows ``first`` to ``last``, counted through all images."""
    _, H, W, C = x.shape
    _, OH, OW, _ = out.shape
    x, out, place = x.reshape(-1), out.reshape(-1), place.reshape(-1)
    count, step = ahead if is_far(x) else (0, 0)
    for i in range(first, last):
        row, image, to = i % OH, i // OH * H * W * C, i * OW * C
        after = rows.starts[row + 1]
        new = rows.offsets[after - 1] + W * C if after else 0  # no window has seen it yet
        line = np.intp(x.ctypes.data) + (image + new) * x.itemsize
        max_row(x, image, rows, columns, row, OW, C, out, place, to, (line, count, step))


@kernel
def _forward_loop(x, rows, columns, chunks, ahead, out, place):
    rows, columns = Axis(*rows), Axis(*columns)
    for chunk in prange(chunks):
        first, last = chunk_bounds(chunk, chunks, out.shape[0] * out.shape[1])
        _max_rows(x, rows, columns, first, last, ahead, out, place)


def max_pool2d_forward(
    x: np.ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    out_size: Pair,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest value of each window, and its place there."""
    N, C, *in_size = x.shape
    window = kernel_size, stride, padding, dilation
    rows, columns = window_axes(C, tuple(in_size), out_size, *window, False)
    out = empty_channels_last((N, C, *out_size), x.dtype)
    taps = kernel_size[0] * kernel_size[1]
    place = empty_channels_last((N, C, *out_size), place_dtype(taps))
    work = out.size * taps
    chunks = min(N * out_size[0], chunks_of(work, CHUNK))
    ahead = spread_lines(stride[0] * in_size[1] * C * x.itemsize, out_size[1])
    _forward_loop.launch(
        work, channels_last(x), rows, columns, chunks, ahead, channels_last(out),
        channels_last(place),
    )  # fmt: skip
    return out, place


@body
def _gather(total, grad_out, place, at, rows, columns, seen, grad_x, to, count, far):
    """Collect the cotangents that one pixel won, in ``count`` channels."""
    r_first, r_last, c_first, c_last = seen
    for r in range(r_first, r_last):
        line, tap = at + rows.offsets[r], rows.places[r]
        for c in range(c_first, c_last):
            window, number = line + columns.offsets[c], tap + columns.places[c]
            total = add_won(total, grad_out, place, window, number, count)
    if far:
        tile_stream(total, grad_x, to, 0)
    else:
        tile_store_columns(total, grad_x, to, 0, count)


@body(inline=True)
def gather_row(grad_out, place, at, rows, columns, row, first, last, C, grad_x, to, far, ahead):
    """Collect for pixels ``first`` to ``last`` of a row, in an image whose outputs begin at ``at``.

    ``to`` is where the first of these pixels is written, and ``ahead`` as for ``max_row``.
    """
    line, count, step = ahead
    width, one, several = lanes_of(grad_x), tile_zeros(1, 1, grad_x), tile_zeros(1, 4, grad_x)
    r_first, r_last = rows.starts[row], rows.starts[row + 1]
    for w in range(first, last):
        line = prefetch_lines(line, count, step)
        seen, c = (r_first, r_last, columns.starts[w], columns.starts[w + 1]), 0
        while c + 4 * width <= C:
            _gather(
                several, grad_out, place, at + c, rows, columns, seen, grad_x, to + c, 4 * width,
                far,
            )  # fmt: skip
            c += 4 * width
        if width > C:
            _gather(one, grad_out, place, at, rows, columns, seen, grad_x, to, C, far)
            c = C
        while c < C:
            c = min(c, C - width)  # the last vector may begin within the one before
            here, there = at + c, to + c
            _gather(one, grad_out, place, here, rows, columns, seen, grad_x, there, width, far)
            c += width
        to += C


@body
def _gather_rows(grad_out, place, rows, columns, first, last, grad_x):
    """Collect for the image rows ``first`` to ``last``, counted through all images."""
    _, OH, OW, C = grad_out.shape
    _, H, W, _ = grad_x.shape
    grad_out, place, grad_x = grad_out.reshape(-1), place.reshape(-1), grad_x.reshape(-1)
    far = C * grad_x.itemsize % LINE_BYTES == 0 and is_far(grad_x)  # each pixel begins with a line
    for i in range(first, last):
        image, to = i // H * OH * OW * C, i * W * C
        gather_row(
            grad_out, place, image, rows, columns, i % H, 0, W, C, grad_x, to, far, (0, 0, 0)
        )


@kernel
def _gather_loop(grad_out, place, rows, columns, chunks, grad_x):
    rows, columns = Axis(*rows), Axis(*columns)
    for chunk in prange(chunks):
        first, last = chunk_bounds(chunk, chunks, grad_x.shape[0] * grad_x.shape[1])
        _gather_rows(grad_out, place, rows, columns, first, last, grad_x)
        end_of_stream()


def _side_by_side(
    in_size: Pair, out_size: Pair, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> bool:
    """Tell whether each pixel lies in one window, but for those behind the last ones."""
    if stride != kernel_size or padding != (0, 0) or dilation != (1, 1):
        return False
    axes = zip(in_size, out_size, kernel_size, strict=True)
    return all(0 < out * k <= size for size, out, k in axes)  # no window looks over the edge


@body
def _deal(zeros, grad_out, place, at, window, row, C, grad_x, to, count, far):
    """Write what the pixels of a window have won, in ``count`` channels."""
    KH, KW = window
    for kh in range(KH):
        for kw in range(KW):
            won = add_won(zeros, grad_out, place, at, kh * KW + kw, count)
            pixel = to + kh * row + kw * C
            if far:
                tile_stream(won, grad_x, pixel, 0)
            else:
                tile_store_columns(won, grad_x, pixel, 0, count)


@body
def _deal_row(grad_out, place, at, window, OW, row, C, grad_x, to, far):
    """Write what a row of windows has won, into an image whose rows have ``row`` values."""
    width, one, several = lanes_of(grad_x), tile_zeros(1, 1, grad_x), tile_zeros(1, 4, grad_x)
    for _ in range(OW):
        c = 0
        while c + 4 * width <= C:
            _deal(
                several, grad_out, place, at + c, window, row, C, grad_x, to + c, 4 * width, far
            )  # fmt: skip
            c += 4 * width
        if width > C:
            _deal(one, grad_out, place, at, window, row, C, grad_x, to, C, far)
            c = C
        while c < C:
            c = min(c, C - width)  # the last vector may begin within the one before
            _deal(one, grad_out, place, at + c, window, row, C, grad_x, to + c, width, far)
            c += width
        at += C
        to += window[1] * C


@body
def _deal_rows(grad_out, place, window, first, last, grad_x):
    """Write the pixels of some rows of windows, counted through all images, and those behind."""
    _, OH, OW, C = grad_out.shape
    _, H, W, _ = grad_x.shape
    grad_out, place, grad_x = grad_out.reshape(-1), place.reshape(-1), grad_x.reshape(-1)
    far = C * grad_x.itemsize % LINE_BYTES == 0 and is_far(grad_x)  # each pixel begins with a line
    KH, KW = window
    for i in range(first, last):
        n, oh = i // OH, i % OH
        to = (n * H + oh * KH) * W * C
        _deal_row(grad_out, place, i * OW * C, window, OW, W * C, C, grad_x, to, far)
        for kh in range(KH):
            zero_run(grad_x, to + (kh * W + OW * KW) * C, (W - OW * KW) * C)
        if oh == OH - 1:
            zero_run(grad_x, to + KH * W * C, (H - OH * KH) * W * C)


@kernel
def _deal_loop(grad_out, place, window, chunks, grad_x):
    for chunk in prange(chunks):
        first, last = chunk_bounds(chunk, chunks, grad_out.shape[0] * grad_out.shape[1])
        _deal_rows(grad_out, place, window, first, last, grad_x)
        end_of_stream()


# Cycles that a vector of a tap costs in a gather, and a value of grad_out in a scatter.
_GATHERED, _SCATTERED = 6, 5


def _scatters(N: int, C: int, taps: int, dtype: np.dtype) -> bool:
    """Say whether a scatter takes less time than a gather, for each window of all channels."""
    several, rest = divmod(C, 4 * lanes(dtype))
    vectors = 2 * several + -(-rest // lanes(dtype))  # four together cost as much as two
    # One image has one thread.
    return _GATHERED * taps * vectors > _SCATTERED * C * (2 if N == 1 else 1)


@functools.lru_cache(maxsize=64)
def _landing(
    C: int,
    in_size: Pair,
    out_size: Pair,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows and columns of windows that see anything, and values up to each place."""
    geometry = zip(in_size, out_size, kernel_size, stride, padding, dilation, strict=True)
    rows, columns = (np.flatnonzero(np.diff(window_taps(*axis).starts)) for axis in geometry)
    kh, kw = np.indices(kernel_size)
    return rows, columns, ((kh * dilation[0] * in_size[1] + kw * dilation[1]) * C).ravel()


@body
def _scatter(grad_out, place, n, rows, columns, away, stride, padding, grad_x):
    """Send the cotangents of one image to the winners, window after window."""
    _, OH, OW, C = grad_out.shape
    _, H, W, _ = grad_x.shape
    grad_out, place, grad_x = grad_out.reshape(-1), place.reshape(-1), grad_x.reshape(-1)
    zero_run(grad_x, n * H * W * C, H * W * C)
    for oh in rows:
        for ow in columns:
            at = ((n * OH + oh) * OW + ow) * C
            to = ((n * H + oh * stride[0] - padding[0]) * W + ow * stride[1] - padding[1]) * C
            for c in range(C):
                grad_x[to + away[place[at + c]] + c] += grad_out[at + c]


@kernel
def _scatter_loop(grad_out, place, rows, columns, away, stride, padding, grad_x):
    for n in prange(grad_out.shape[0]):
        _scatter(grad_out, place, n, rows, columns, away, stride, padding, grad_x)


def max_pool2d_backward(
    grad_out: np.ndarray,
    place: np.ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    in_size: Pair,
) -> np.ndarray:
    """Return the gradient of x: each winner receives the cotangent of its window."""
    N, C, *out_size = grad_out.shape
    taps, window = kernel_size[0] * kernel_size[1], (kernel_size, stride, padding, dilation)
    grad_x = empty_channels_last((N, C, *in_size), grad_out.dtype)
    if _scatters(N, C, taps, grad_out.dtype):
        _scatter_loop.launch(
            max(grad_x.size, 4 * grad_out.size),
            channels_last(grad_out),
            channels_last(place),
            *_landing(C, in_size, tuple(out_size), *window),
            stride,
            padding,
            channels_last(grad_x),
        )
    elif _side_by_side(in_size, (out_size[0], out_size[1]), *window):
        chunks = min(N * out_size[0], chunks_of(grad_x.size, CHUNK))
        _deal_loop.launch(
            grad_x.size,
            channels_last(grad_out),
            channels_last(place),
            kernel_size,
            chunks,
            channels_last(grad_x),
        )
    else:
        gather_into(grad_x, grad_out, place, *window)
    return grad_x


def gather_into(
    grad_x: np.ndarray,
    grad_out: np.ndarray,
    place: np.ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> None:
    """Collect what each pixel has won; a place that no pixel has is won by none."""
    N, C, *in_size = grad_x.shape
    out_size = (grad_out.shape[2], grad_out.shape[3])
    window = kernel_size, stride, padding, dilation
    rows, columns = window_axes(C, tuple(in_size), out_size, *window, True)
    work = max(grad_x.size, grad_out.size * kernel_size[0] * kernel_size[1])
    chunks = min(N * in_size[0], chunks_of(work, CHUNK))
    _gather_loop.launch(
        work,
        channels_last(grad_out),
        channels_last(place),
        rows,
        columns,
        chunks,
        channels_last(grad_x),
    )
