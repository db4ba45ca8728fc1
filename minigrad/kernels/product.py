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

With few rows, as one image gives, packing would take longer than the product. They are multiplied
with b as it lies: where its rows lie in one piece, by the same tiles; where its columns do, as the
weight of a linear layer, each value of out is the sum of one row times one column.
"""

import numpy as np

from minigrad.kernels import _pool
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import values_or_none
from minigrad.kernels._runs import add_run, aligned_empty, copy_run
from minigrad.kernels._simd import (
    ROWS,
    VECTORS,
    lanes,
    lanes_of,
    tile_by_lane,
    tile_load_columns,
    tile_load_part,
    tile_store,
    tile_zeros,
)
from minigrad.kernels._simd_transpose import tile_square, tile_transpose
from minigrad.kernels.gemm import ADD, FEW, OVERWRITE, multiply

# Rows of b that are packed at once: a block of a panel stays in the second cache.
DEPTH = 1024

# Into how many chunks a product with few panels is cut.
CHUNKS = 16

# Columns in a chunk of a product with few rows.
DOTS = 32


def matrix_product(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """Return a @ b, plus a bias for each column."""
    (M, K), N = a.shape, b.shape[1]
    left, right = _flat(a), _flat(b)
    out = _pool.empty((M, N), a.dtype)
    if left[2] == right[1] == 1 and min(M, N) <= FEW:  # few columns are few rows of the transpose
        rows, columns = (*left[:2], M, N), (right[0], right[2], N, 1)
        few, many = (rows, columns) if M <= N else (columns, rows)
        _dots_loop.launch(M * K * N, *few, *many, K, out.reshape(-1))
        return out if bias is None else np.add(out, bias, out=out)
    panels = max(chunks_of(N, VECTORS * lanes(a.dtype)), 1)
    parts = max(min(chunks_of(CHUNKS, panels), M // (4 * ROWS)), 1)
    added = values_or_none(bias, a.dtype)
    _product_loop.launch(M * K * N, *left, *right, M, K, N, parts, added, out.reshape(-1))
    return out


def _flat(x: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Return the values of a matrix in one dimension, and the steps to the next row and column."""
    rows, columns = x.shape
    if x.flags.f_contiguous:
        return x.T.reshape(-1), 1, rows
    return np.ascontiguousarray(x).reshape(-1), columns, 1


@kernel
def _product_loop(a, a_row, a_column, b, b_row, b_column, M, K, N, parts, bias, out):
    panel = VECTORS * lanes_of(out)
    for chunk in prange(chunks_of(N, panel) * parts):
        first, last = chunk_bounds(chunk % parts, parts, M)
        _product_panel(
            last - first, K, N, chunk // parts * panel,
            a[first * a_row :], a_row, a_column, b, b_row, b_column, bias, out[first * N :],
        )  # fmt: skip


@body
def _product_panel(M, K, N, column, a, a_row, a_column, b, b_row, b_column, bias, out):
    """Compute M rows of the panel that begins at ``column``."""
    width = lanes_of(out)
    columns = min(N - column, VECTORS * width)
    vectors = chunks_of(columns, width)
    packed = aligned_empty((min(K, DEPTH) + width) * vectors * width, out)
    sums, row = out[column:], N
    whole = columns == vectors * width
    near = whole and b_column == 1 and M <= FEW
    if not whole:  # tiles are stored in whole vectors: beside out, then
        sums, row = aligned_empty(M * vectors * width, out), vectors * width
    for k in range(0, max(K, 1), DEPTH):  # once at least: an empty sum is zero
        depth = min(DEPTH, K - k)
        block, step = packed, vectors * width
        if near:
            block, step = b[k * b_row + column :], b_row
        else:
            _pack(b, k * b_row + column * b_column, b_row, b_column, depth, columns, packed)
        multiply(
            M, vectors, depth, a[k * a_column :], a_row, a_column,
            block, width, step, sums, row, ADD if k > 0 else OVERWRITE,
        )  # fmt: skip
    for m in range(M):
        if not whole:
            copy_run(out, m * N + column, sums, m * row, columns)
        if bias.size:
            add_run(out, m * N + column, bias, column, columns)


@body
def _pack(b, at, b_row, b_column, rows, columns, packed):
    """Bring a block of b to vectors that lie row by row, the last one filled up with zeros.

    Where columns lie in one piece, squares are read by columns and turned; the last ones write up
    to a vector of rows too many.
    """
    width = lanes_of(packed)
    one, square = tile_zeros(1, 1, packed), tile_square(packed)
    step = chunks_of(columns, width) * width
    if b_column == 1:
        for k in range(rows):
            for v in range(0, columns, width):
                held = tile_load_columns(one, b, at + k * b_row + v, 0, columns - v)
                tile_store(held, packed, k * step + v, 0)
        return
    for v in range(0, columns, width):
        for k in range(0, rows, width):
            start = at + v * b_column + k
            held = tile_load_part(square, b, start, b_column, 0, columns - v, rows - k)
            tile_store(tile_transpose(held), packed, k * step + v, step)


@kernel
def _dots_loop(few, few_step, rows, few_out, many, many_step, columns, many_out, K, out):
    chunks = max(columns // DOTS, 1)
    for chunk in prange(chunks):
        first, last = chunk_bounds(chunk, chunks, columns)
        sums = np.empty(FEW * lanes_of(out), out.dtype)
        for row in range(rows):
            _dots(
                few[row * few_step :], many, many_step, first, last, K, sums,
                out[row * few_out :], many_out,
            )  # fmt: skip


@body
def _dots(x, y, y_step, first, last, K, sums, out, out_step):
    """Multiply a row with the columns from ``first`` up to ``last``."""
    several, one = tile_zeros(FEW, 1, out), tile_zeros(1, 1, out)
    n = first
    while n + FEW <= last:
        _columns(several, FEW, x, y[n * y_step :], y_step, K, sums, out[n * out_step :], out_step)
        n += FEW
    while n < last:
        _columns(one, 1, x, y[n * y_step :], y_step, K, sums, out[n * out_step :], out_step)
        n += 1


@body
def _columns(held, columns, x, y, y_step, K, sums, out, out_step):
    """Multiply a row with some columns: whole vectors first, their lanes summed, then the rest."""
    width = lanes_of(out)
    whole = K // width * width
    for k in range(0, whole, width):
        held = tile_by_lane(held, y, k, y_step, x, k)
    tile_store(held, sums, 0, width)
    for n in range(columns):
        total = sums[n * width]
        for lane in range(1, width):
            total += sums[n * width + lane]
        for k in range(whole, K):
            total += x[k] * y[n * y_step + k]
        out[n * out_step] = total
