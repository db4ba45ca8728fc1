"""Max pooling, and its backward as a gather.

Forward, an output pixel looks through its window, all channels side by side. Backward, an input
pixel looks through the windows it lies in and takes the cotangents of those it won: nothing is
written twice, so rows can be shared among threads, and nothing needs to be zero first.
"""

import numpy as np

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
def _take_larger(values, tap, best, place):
    for c in range(values.size):
        value = values[c]
        wins = (value > best[c]) | (value != value)  # a NaN differs from itself
        best[c] = value if wins else best[c]
        place[c] = tap if wins else place[c]


@body
def _max_pixel(image, rows, columns, KW, oh, ow, best, place):
    """Look through one window."""
    row_starts, row_sources, kh = rows
    column_starts, column_sources, kw = columns
    best[:] = -np.inf
    place[:] = 0
    first = True
    for r in range(row_starts[oh], row_starts[oh + 1]):
        for c in range(column_starts[ow], column_starts[ow + 1]):
            values = image[row_sources[r], column_sources[c]]
            tap = place.dtype.type(kh[r] * KW + kw[c])
            if first:
                best[:] = values
                place[:] = tap
                first = False
            else:
                _take_larger(values, tap, best, place)


@body
def _max_rows(x, rows, columns, KW, first, last, out, place):
    """Look through the windows of output rows ``first`` to ``last``, counted through all images."""
    _, OH, OW, _ = out.shape
    for i in range(first, last):
        n, oh = i // OH, i % OH
        for ow in range(OW):
            _max_pixel(x[n], rows, columns, KW, oh, ow, out[n, oh, ow], place[n, oh, ow])


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
def _add_won(grad_out, place, tap, grad_x):
    zero = grad_x.dtype.type(0)
    for c in range(grad_x.size):
        grad_x[c] += grad_out[c] if place[c] == tap else zero


@body
def _gather_pixel(grad_out, place, rows, columns, KW, h, w, grad_x):
    """Collect the cotangents of the windows that one pixel won."""
    row_starts, row_windows, kh = rows
    column_starts, column_windows, kw = columns
    grad_x[:] = 0
    for r in range(row_starts[h], row_starts[h + 1]):
        oh = row_windows[r]
        for c in range(column_starts[w], column_starts[w + 1]):
            ow, tap = column_windows[c], place.dtype.type(kh[r] * KW + kw[c])
            _add_won(grad_out[oh, ow], place[oh, ow], tap, grad_x)


@body
def _gather_rows(grad_out, place, rows, columns, KW, first, last, grad_x):
    """Collect for the image rows ``first`` to ``last``, counted through all images."""
    _, H, W, _ = grad_x.shape
    for i in range(first, last):
        n, h = i // H, i % H
        for w in range(W):
            _gather_pixel(grad_out[n], place[n], rows, columns, KW, h, w, grad_x[n, h, w])


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
