"""Average pooling and interpolation: rows are mixed, then columns, one output row at a time.

An input row is W * C values side by side and a pixel is C of them. Both are *runs*, and both steps
add up weighted runs, some vectors of them in registers until all are in. Rows and columns apart
cost KH + KW additions a value where a window costs KH * KW, and the line between the two steps
stays in the cache.
"""

import numpy as np

from minigrad.kernels._jit import CHUNK, body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import empty_channels_last, flat_channels_last
from minigrad.kernels._runs import aligned_empty, zero_run
from minigrad.kernels._simd import (
    lanes_of,
    tile_outer,
    tile_store,
    tile_store_columns,
    tile_zeros,
)
from minigrad.kernels.taps import Taps

# Inline, for many runs are a few vectors long, and a call would take longer than to add them.


@body(inline=True)
def _mix_vectors(total, x, at, step, sources, weights, first, last):
    """Add some vectors of each run, weighted, to a tile; runs begin ``step`` values apart."""
    width = lanes_of(x)
    for k in range(first, last):
        total = tile_outer(total, weights, k, 0, x, at + sources[k] * step, width)
    return total


@body(inline=True)
def _mix_value(x, at, step, sources, weights, first, last):
    """Add one value of each run, weighted."""
    total = weights.dtype.type(0)
    for k in range(first, last):
        total += weights[k] * x[at + sources[k] * step]
    return total


@body(inline=True)
def _mix(x, at, count, sources, weights, first, last, out, to):
    """Set ``count`` values of ``out`` to the sum of some runs, weighted."""
    width, j = lanes_of(x), 0
    while j + 4 * width <= count:
        tile = _mix_vectors(tile_zeros(1, 4, x), x, at + j, count, sources, weights, first, last)
        tile_store(tile, out, to + j, 0)
        j += 4 * width
    while j < count and count >= width:
        j = min(j, count - width)  # the last vector may begin within the one before
        one = _mix_vectors(tile_zeros(1, 1, x), x, at + j, count, sources, weights, first, last)
        tile_store(one, out, to + j, 0)
        j += width
    while j < count:
        out[to + j] = _mix_value(x, at + j, count, sources, weights, first, last)
        j += 1


@body
def _resample_rows(x, size, rows, columns, first, last, out):
    """Compute the output rows from ``first`` up to ``last``, counted through all images."""
    H, W, C = size
    row_starts, row_sources, row_weights = rows
    starts, sources, weights = columns
    OH, OW = row_starts.size - 1, starts.size - 1
    width, zeros = lanes_of(x), tile_zeros(1, 1, x)
    line = aligned_empty(W * C + width, x)
    zero_run(line, W * C, width)  # the last pixel of few channels is read as a whole vector
    for i in range(first, last):
        at, top, bottom = i // OH * H * W * C, row_starts[i % OH], row_starts[i % OH + 1]
        _mix(x, at, W * C, row_sources, row_weights, top, bottom, line, 0)
        for ow in range(OW):
            left, right, to = starts[ow], starts[ow + 1], (i * OW + ow) * C
            if width > C:
                pixel = _mix_vectors(zeros, line, 0, C, sources, weights, left, right)
                tile_store_columns(pixel, out, to, 0, C)
            else:
                _mix(line, 0, C, sources, weights, left, right, out, to)


@kernel
def _resample_loop(x, size, rows, columns, all_rows, chunks, out):
    for chunk in prange(chunks):
        first, last = chunk_bounds(chunk, chunks, all_rows)
        _resample_rows(x, size, rows, columns, first, last, out)


def resample2d(x: np.ndarray, rows: Taps, columns: Taps) -> np.ndarray:
    """Mix the rows of each image, and then its columns: out = R x C^T for sparse R and C."""
    N, C, H, W = x.shape
    out = empty_channels_last((N, C, rows.size, columns.size), x.dtype)
    # An output row costs its share of the input or of the output, whichever is larger.
    work = max(x.size, out.size)
    _resample_loop.launch(
        work,
        flat_channels_last(x),
        (H, W, C),
        _typed(rows, x.dtype),
        _typed(columns, x.dtype),
        N * rows.size,
        min(N * rows.size, chunks_of(work, CHUNK)),
        flat_channels_last(out),
    )
    return out


def _typed(taps: Taps, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return taps.starts, taps.sources, taps.weights.astype(dtype, copy=False)
