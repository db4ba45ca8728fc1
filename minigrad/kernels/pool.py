"""Max pooling, and its backward as a gather.

Forward, an output pixel looks through its window, all channels side by side. Backward, an input
pixel looks through the windows it lies in and takes the cotangents of those it won: nothing is
written twice, so rows can be shared among threads, and nothing needs to be zero first.
"""

import numpy as np

from minigrad.kernels._contest import add_won, take_larger
from minigrad.kernels._jit import CHUNK, body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import channels_last, empty_channels_last
from minigrad.kernels.taps import Taps, place_dtype, window_taps

Pair = tuple[int, int]


def _window_taps(
    in_size: Pair,
    out_size: Pair,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> tuple[Taps, Taps]:
    geometry = zip(in_size, out_size, kernel_size, stride, padding, dilation, strict=True)
    rows, columns = (window_taps(*axis) for axis in geometry)
    return rows, columns


@body
def _max_row(x, image, W, rows, columns, KW, oh, out, place, at, C):
    """Look through the windows of one row; places in the flat arrays are those of a first channel.

    ``image`` is where in x the image begins, ``at`` where in out the row does.
    """
    row_starts, row_sources, kh = rows
    column_starts, column_sources, kw = columns
    for ow in range(column_starts.size - 1):
        first, to = np.uint8(1), at + ow * C
        for r in range(row_starts[oh], row_starts[oh + 1]):
            for c in range(column_starts[ow], column_starts[ow + 1]):
                tap = place.dtype.type(kh[r] * KW + kw[c])
                source = image + (row_sources[r] * W + column_sources[c]) * C
                take_larger(x, source, tap, first, out, place, to, C)
                first = np.uint8(0)


@body
def _max_rows(x, rows, columns, KW, first, last, out, place):
    """Look through the windows of output rows ``first`` to ``last``, counted through all images."""
    _, H, W, C = x.shape
    _, OH, OW, _ = out.shape
    x, out, place = x.reshape(-1), out.reshape(-1), place.reshape(-1)
    # A window that lies in the padding alone, as a dilated one may, has no first value.
    out[first * OW * C : last * OW * C] = -np.inf
    place[first * OW * C : last * OW * C] = 0
    for i in range(first, last):
        image, at = i // OH * H * W * C, i * OW * C
        _max_row(x, image, W, rows, columns, KW, i % OH, out, place, at, C)


@kernel
def _forward_loop(x, rows, columns, KW, chunks, out, place):
    for chunk in prange(chunks):
        first, last = chunk_bounds(chunk, chunks, out.shape[0] * out.shape[1])
        _max_rows(x, rows, columns, KW, first, last, out, place)


def max_pool2d_forward(
    x: np.ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    out_size: Pair,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest value of each window, and its place there."""
    N, C, H, W = x.shape
    KH, KW = kernel_size
    rows, columns = _window_taps((H, W), out_size, kernel_size, stride, padding, dilation)
    out = empty_channels_last((N, C, *out_size), x.dtype)
    place = empty_channels_last((N, C, *out_size), place_dtype(kernel_size))
    work = out.size * KH * KW
    chunks = min(N * out_size[0], chunks_of(work, CHUNK))
    _forward_loop.launch(
        work,
        channels_last(x),
        tuple(rows),
        tuple(columns),
        KW,
        chunks,
        channels_last(out),
        channels_last(place),
    )
    return out, place


@body
def _gather_row(grad_out, place, image, OW, rows, columns, KW, h, grad_x, at, C):
    """Collect the cotangents of the windows that the pixels of one row won; see ``_max_row``."""
    row_starts, row_windows, kh = rows
    column_starts, column_windows, kw = columns
    for w in range(column_starts.size - 1):
        for r in range(row_starts[h], row_starts[h + 1]):
            for c in range(column_starts[w], column_starts[w + 1]):
                tap = place.dtype.type(kh[r] * KW + kw[c])
                window = image + (row_windows[r] * OW + column_windows[c]) * C
                add_won(grad_out, place, window, tap, grad_x, at + w * C, C)


@body
def _gather_rows(grad_out, place, rows, columns, KW, first, last, grad_x):
    """Collect for the image rows ``first`` to ``last``, counted through all images."""
    _, OH, OW, C = grad_out.shape
    _, H, W, _ = grad_x.shape
    grad_out, place, grad_x = grad_out.reshape(-1), place.reshape(-1), grad_x.reshape(-1)
    grad_x[first * W * C : last * W * C] = 0
    for i in range(first, last):
        image, at = i // H * OH * OW * C, i * W * C
        _gather_row(grad_out, place, image, OW, rows, columns, KW, i % H, grad_x, at, C)


@kernel
def _backward_loop(grad_out, place, rows, columns, KW, chunks, grad_x):
    for chunk in prange(chunks):
        first, last = chunk_bounds(chunk, chunks, grad_x.shape[0] * grad_x.shape[1])
        _gather_rows(grad_out, place, rows, columns, KW, first, last, grad_x)


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
    N, C, OH, OW = grad_out.shape
    H, W = in_size
    KH, KW = kernel_size
    rows, columns = _window_taps(in_size, (OH, OW), kernel_size, stride, padding, dilation)
    grad_x = empty_channels_last((N, C, H, W), grad_out.dtype)
    work = max(grad_x.size, grad_out.size * KH * KW)
    _backward_loop.launch(
        work,
        channels_last(grad_out),
        channels_last(place),
        tuple(rows.transposed(H)),
        tuple(columns.transposed(W)),
        KW,
        min(N * H, chunks_of(work, CHUNK)),
        channels_last(grad_x),
    )
    return grad_x
