"""Average pooling and interpolation: rows are mixed, then columns, one output row at a time.

An input row is W * C values side by side and a pixel is C of them. Both are *runs*, and both steps
add up weighted runs, some vectors of them in registers until all are in. Rows and columns apart
cost KH + KW additions a value where a window costs KH * KW, and the line between the two steps
stays in the cache. An average is divided before its chunk leaves the cache.
"""

import numpy as np

from minigrad.kernels._jit import CHUNK, body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import NO_VALUES, empty_channels_last, flat_channels_last
from minigrad.kernels._runs import aligned_empty, zero_run
from minigrad.kernels._simd import (
    lanes_of,
    tile_add,
    tile_divide,
    tile_load,
    tile_load_columns,
    tile_multiply,
    tile_outer,
    tile_store,
    tile_store_columns,
    tile_zeros,
)
from minigrad.kernels._simd_fold import tile_fill
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
def _mix_few(total, x, at, count, sources, weights, first, last):
    """Add runs of ``count`` values, weighted, to a tile of one vector, which has room for them."""
    for k in range(first, last):
        values = tile_load_columns(total, x, at + sources[k] * count, 0, count)
        total = tile_add(total, tile_multiply(values, tile_fill(total, weights[k])))
    return total


@body(inline=True)
def _mix(x, at, count, sources, weights, first, last, out, to):
    """Set ``count`` values of ``out``, a vector or more, to the sum of some runs, weighted."""
    width, j = lanes_of(x), 0
    while j + 4 * width <= count:
        tile = _mix_vectors(tile_zeros(1, 4, x), x, at + j, count, sources, weights, first, last)
        tile_store(tile, out, to + j, 0)
        j += 4 * width
    while j < count:
        j = min(j, count - width)  # the last vector may begin within the one before
        one = _mix_vectors(tile_zeros(1, 1, x), x, at + j, count, sources, weights, first, last)
        tile_store(one, out, to + j, 0)
        j += width


@body(inline=True)
def _divide_run(out, at, count, divisor):
    """Divide neighbouring values by one number."""
    zeros, width = tile_zeros(1, 1, out), lanes_of(out)
    divisors, whole = tile_fill(zeros, divisor), count // width * width
    for j in range(at, at + whole, width):
        tile_store(tile_divide(tile_load(zeros, out, j, 0), divisors), out, j, 0)
    rest = tile_load_columns(zeros, out, at + whole, 0, count - whole)
    tile_store_columns(tile_divide(rest, divisors), out, at + whole, 0, count - whole)


@body
def _divide_rows(out, first, last, OH, OW, C, divisors):
    """Divide output rows: all by one number, or each pixel of an image by its own."""
    if divisors.size == 1:
        _divide_run(out, first * OW * C, (last - first) * OW * C, divisors[0])
    else:
        for pixel in range(first * OW, last * OW):
            _divide_run(out, pixel * C, C, divisors[pixel % (OH * OW)])


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
        at, oh = i // OH * H * W * C, i % OH
        top, bottom = row_starts[oh], row_starts[oh + 1]
        if width > W * C:  # written whole: what is written in part is waited for when it is read
            few = _mix_few(zeros, x, at, W * C, row_sources, row_weights, top, bottom)
            tile_store(few, line, 0, 0)
        else:
            _mix(x, at, W * C, row_sources, row_weights, top, bottom, line, 0)
        for ow in range(OW):
            left, right, to = starts[ow], starts[ow + 1], (i * OW + ow) * C
            if width > C:
                pixel = _mix_vectors(zeros, line, 0, C, sources, weights, left, right)
                tile_store_columns(pixel, out, to, 0, C)
            else:
                _mix(line, 0, C, sources, weights, left, right, out, to)


@kernel
def _resample_loop(x, size, rows, columns, divisors, all_rows, chunks, out):
    for chunk in prange(chunks):
        first, last = chunk_bounds(chunk, chunks, all_rows)
        _resample_rows(x, size, rows, columns, first, last, out)
        if divisors.size:  # behind the chunk: a pixel just written in part would be waited for
            OH, OW = rows[0].size - 1, columns[0].size - 1
            _divide_rows(out, first, last, OH, OW, size[2], divisors)


def resample2d(
    x: np.ndarray, rows: Taps, columns: Taps, divisors: np.ndarray | None = None
) -> np.ndarray:
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
        NO_VALUES[x.dtype] if divisors is None else divisors.ravel(),
        N * rows.size,
        min(N * rows.size, chunks_of(work, CHUNK)),
        flat_channels_last(out),
    )
    return out


def _typed(taps: Taps, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return taps.starts, taps.sources, taps.weights.astype(dtype, copy=False)
