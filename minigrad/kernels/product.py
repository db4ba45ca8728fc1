"""The product of two matrices, for layers that are one: the same bits on any number of threads.

NumPy's BLAS library brings threads of its own. They wait for cores that the threads of the kernels
hold, and their number may change the order of sums.

The result is cut into panels of columns, as wide as a tile of registers. Each chunk packs what its
panel needs of b, a block of rows at a time, and multiplies its rows of a with it (``gemm.py``)::

    a (M, K)            b (K, N)                   out (M, N)
    +------+------+     +---------+--+-----+       +---------+--+-----+
    |      :      |     |         |##| <- packed   |         |  |     |
    |......:......|  @  |.........|##|.....|   =   |.........|##|.....|  rows of the chunk
    |######:######|     |         |##|     |       |         |##|     |
    +------+------+     +---------+--+-----+       +---------+--+-----+
"""

import numpy as np

from minigrad.kernels import _pool
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._runs import aligned_empty, copy_run
from minigrad.kernels._simd import (
    ROWS,
    VECTORS,
    lanes,
    lanes_of,
    tile_gather,
    tile_load,
    tile_store,
    tile_zeros,
)
from minigrad.kernels.gemm import ADD, OVERWRITE, multiply

# Rows of b that are packed at once: a block of a panel stays in the second cache.
DEPTH = 1024

# Into how many chunks a product with few panels is cut.
CHUNKS = 16


def matrix_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a @ b."""
    (M, K), N = a.shape, b.shape[1]
    panels = max(chunks_of(N, VECTORS * lanes(a.dtype)), 1)
    parts = max(min(chunks_of(CHUNKS, panels), M // (4 * ROWS)), 1)
    out = _pool.empty((M, N), a.dtype)
    _product_loop.launch(M * K * N, *_flat(a), *_flat(b), M, K, N, parts, out.reshape(-1))
    return out


def _flat(x: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Return the values of a matrix in one dimension, and the steps to the next row and column."""
    rows, columns = x.shape
    if x.flags.f_contiguous:
        return x.T.reshape(-1), 1, rows
    return np.ascontiguousarray(x).reshape(-1), columns, 1


@kernel
def _product_loop(a, a_row, a_column, b, b_row, b_column, M, K, N, parts, out):
    panel = VECTORS * lanes_of(out)
    for chunk in prange(chunks_of(N, panel) * parts):
        first, last = chunk_bounds(chunk % parts, parts, M)
        _product_panel(
            last - first, K, N, chunk // parts * panel,
            a[first * a_row :], a_row, a_column, b, b_row, b_column, out[first * N :],
        )  # fmt: skip


@body
def _product_panel(M, K, N, column, a, a_row, a_column, b, b_row, b_column, out):
    """Compute M rows of the panel that begins at ``column``."""
    width = lanes_of(out)
    columns = min(N - column, VECTORS * width)
    vectors = chunks_of(columns, width)
    packed = aligned_empty(min(K, DEPTH) * vectors * width, out)
    sums, row = out[column:], N
    whole = columns == vectors * width
    if not whole:  # tiles are stored in whole vectors: beside out, then
        sums, row = aligned_empty(M * vectors * width, out), vectors * width
    for k in range(0, max(K, 1), DEPTH):  # once at least: an empty sum is zero
        depth = min(DEPTH, K - k)
        _pack(b, k * b_row + column * b_column, b_row, b_column, depth, columns, packed)
        multiply(
            M, vectors, depth, a[k * a_column :], a_row, a_column,
            packed, width, vectors * width, sums, row, ADD if k > 0 else OVERWRITE,
        )  # fmt: skip
    if not whole:
        for m in range(M):
            copy_run(out, m * N + column, sums, m * row, columns)


@body
def _pack(b, at, b_row, b_column, rows, columns, packed):
    """Bring a block of b to vectors that lie row by row, the last one filled up with zeros."""
    width = lanes_of(packed)
    one = tile_zeros(1, 1, packed)
    to = 0
    for _ in range(rows):
        for v in range(0, columns, width):
            if b_column == 1 and v + width <= columns:
                held = tile_load(one, b, at + v, 0)
            else:
                held = tile_gather(one, b, at + v * b_column, b_column, columns - v)
            tile_store(held, packed, to, 0)
            to += width
        at += b_row
