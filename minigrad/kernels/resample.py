"""Average pooling and interpolation: rows are mixed, then columns, one output row at a time.

An input row is W * C values side by side and a pixel is C of them. Both are *runs*, and both steps
add up weighted runs. Rows and columns apart cost KH + KW additions a value where a window costs
KH * KW, and the line between the two steps stays in the cache.
"""

import numpy as np

from minigrad.kernels._jit import CHUNK, body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import channels_last, empty_channels_last
from minigrad.kernels.taps import Taps


@body
def _add_four(runs, sources, weights, out):
    """Add four weighted runs, one after the other."""
    run0, run1, run2, run3 = runs[sources[0]], runs[sources[1]], runs[sources[2]], runs[sources[3]]
    weight0, weight1, weight2, weight3 = weights[0], weights[1], weights[2], weights[3]
    for j in range(out.size):
        total = out[j] + weight0 * run0[j]
        total = total + weight1 * run1[j]
        total = total + weight2 * run2[j]
        out[j] = total + weight3 * run3[j]


@body
def _mix(runs, taps, i, out):
    """Set ``out`` to the weighted sum of those runs that entry i of the output reads."""
    starts, sources, weights = taps
    first, last = starts[i], starts[i + 1]
    if first == last:
        out[:] = 0
        return
    run, weight = runs[sources[first]], weights[first]
    for j in range(out.size):
        out[j] = weight * run[j]
    k = first + 1
    while k + 4 <= last:  # four at a time, for the sum is read and written each time
        _add_four(runs, sources[k : k + 4], weights[k : k + 4], out)
        k += 4
    while k < last:
        run, weight = runs[sources[k]], weights[k]
        for j in range(out.size):
            out[j] += weight * run[j]
        k += 1


@body
def _resample_rows(x, W, rows, columns, first, last, out):
    """Compute the output rows from ``first`` up to ``last``, counted through all images."""
    _, OH, OW, C = out.shape
    line = np.empty(W * C, x.dtype)
    pixels = line.reshape(W, C)
    for i in range(first, last):
        n, oh = i // OH, i % OH
        _mix(x[n], rows, oh, line)
        for ow in range(OW):
            _mix(pixels, columns, ow, out[n, oh, ow])


@kernel
def _resample_loop(x, W, rows, columns, chunks, out):
    for chunk in prange(chunks):
        first, last = chunk_bounds(chunk, chunks, out.shape[0] * out.shape[1])
        _resample_rows(x, W, rows, columns, first, last, out)


def resample2d(x: np.ndarray, rows: Taps, columns: Taps) -> np.ndarray:
    """Mix the rows of each image, and then its columns: out = R x C^T for sparse R and C."""
    N, C, H, W = x.shape
    out = empty_channels_last((N, C, rows.size, columns.size), x.dtype)
    # An output row costs its share of the input or of the output, whichever is larger.
    work = max(x.size, out.size)
    _resample_loop.launch(
        work,
        channels_last(x).reshape(N, H, W * C),
        W,
        _typed(rows, x.dtype),
        _typed(columns, x.dtype),
        min(N * rows.size, chunks_of(work, CHUNK)),
        channels_last(out),
    )
    return out


def _typed(taps: Taps, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return taps.starts, taps.sources, taps.weights.astype(dtype)
