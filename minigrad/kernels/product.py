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
with b as it lies: where its rows lie in one piece, by low and broad tiles; where its columns do, as
the weight of a linear layer, each value of out is the sum of one row times one column. The former
also serve where the rows of b are few: out is written once, from one end of a row to the other.
"""

import numpy as np

from minigrad.kernels import _pool
from minigrad.kernels._ahead import LINE_BYTES, PAGE_BYTES
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import values_or_none
from minigrad.kernels._runs import add_run, aligned_empty, copy_run
from minigrad.kernels._simd import (
    ROWS,
    VECTORS,
    lanes,
    lanes_of,
    tile_load_columns,
    tile_load_part,
    tile_store,
    tile_zeros,
)
from minigrad.kernels._simd_dot import tile_dot, tile_totals
from minigrad.kernels._simd_slide import tile_prefetch
from minigrad.kernels._simd_transpose import tile_square, tile_transpose
from minigrad.kernels.gemm import ADD, BROAD, DEEP, FEW, OVERWRITE, multiply, multiply_low

# Rows of b that are packed at once: a block of a panel stays in the second cache.
DEPTH = 1024

# Into how many chunks a product with few panels is cut.
CHUNKS = 16

# Up to so many rows are multiplied with b as it lies; so many are one chunk where b is small.
LOW = 2 * FEW

# The same where columns of b lie in one piece: packing these takes longer.
DOTS = 3 * FEW

# So many panels pay for a copy of rows of a that lie whole pages apart.
COLLIDING = 3

# Columns of a tile of such sums, with FEW rows, and tiles of a chunk.
ACROSS, TILES = BROAD, 4

# How many vectors ahead of the sums columns are asked for.
AHEAD = 4


def matrix_product(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """Return a @ b, plus a bias for each column."""
    (M, K), N = a.shape, b.shape[1]
    left, right = _flat(a), _flat(b)
    out = _pool.empty((M, N), a.dtype)
    work, added = M * K * N, values_or_none(bias, a.dtype)
    if left[2] == right[1] == 1 and min(M, N) <= DOTS:  # few columns are few rows of the transpose
        rows, columns = (*left[:2], M, N), (right[0], right[2], N, 1)
        few, many = (rows, columns) if M <= N else (columns, rows)
        _dots_loop.launch(work, *few, *many, K, out.reshape(-1))
        return out if bias is None else np.add(out, bias, out=out)
    if right[2] == 1 and (M <= LOW or K <= DEEP):
        _low_loop.launch(work, *left, *right[:2], M, K, N, added, out.reshape(-1))
        return out
    panels = max(chunks_of(N, VECTORS * lanes(a.dtype)), 1)
    if panels >= COLLIDING and left[1] * a.itemsize % PAGE_BYTES == 0:
        left = _apart(left[0], M, K)
    parts = max(min(chunks_of(CHUNKS, panels), M // (4 * ROWS)), 1)
    _product_loop.launch(work, *left, *right, M, K, N, parts, added, out.reshape(-1))
    return out


def _flat(x: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Return the values of a matrix in one dimension, and the steps to the next row and column."""
    rows, columns = x.shape
    if x.flags.f_contiguous:
        return x.T.reshape(-1), 1, rows
    return np.ascontiguousarray(x).reshape(-1), columns, 1


def _apart(a: np.ndarray, M: int, K: int) -> tuple[np.ndarray, int, int]:
    """Copy the rows of a matrix a little farther apart.

    A tile reads a value of each of its rows at a time. Where they lie pages apart, these share one
    set of the first cache, which loses them before it has read the next.
    """
    copy = _pool.empty((M, K + LINE_BYTES // a.itemsize), a.dtype)
    _apart_loop.launch(a.size, a, K, copy)
    return copy.reshape(-1), copy.shape[1], 1


@kernel
def _apart_loop(a, K, copy):
    for m in prange(len(copy)):
        _copy_row(a, K, m, copy[m])


@body
def _copy_row(a, K, m, row):
    copy_run(row, 0, a, m * K, K)


@kernel
def _product_loop(a, a_row, a_column, b, b_row, b_column, M, K, N, parts, bias, out):
    panel = VECTORS * lanes_of(out)
    for chunk in prange(chunks_of(N, panel) * parts):
        first, last = chunk_bounds(chunk % parts, parts, M)
        product_panel(
            last - first, K, N, chunk // parts * panel,
            a[first * a_row :], a_row, a_column, b, b_row, b_column, bias, out[first * N :],
        )  # fmt: skip


@body
def product_panel(M, K, N, column, a, a_row, a_column, b, b_row, b_column, bias, out):
    """Compute M rows of the panel that begins at ``column``."""
    width = lanes_of(out)
    columns = min(N - column, VECTORS * width)
    vectors = chunks_of(columns, width)
    packed = aligned_empty((min(K, DEPTH) + width) * vectors * width, out)
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
def _low_loop(a, a_row, a_column, b, b_row, M, K, N, bias, out):
    tile, heights = BROAD * lanes_of(out), max(chunks_of(M, LOW), 1)
    block = chunks_of(chunks_of(N, tile), chunks_of(CHUNKS, heights)) * tile
    blocks = max(chunks_of(N, block), 1)
    for chunk in prange(heights * blocks):
        row, column = chunk // blocks * LOW, chunk % blocks * block
        rows, columns = min(LOW, M - row), min(block, N - column)
        at = row * N + column
        low_product(
            rows, K, columns, a[row * a_row :], a_row, a_column, b[column:], b_row, out[at:], N
        )
        if bias.size:
            for m in range(rows):
                add_run(out, at + m * N, bias, column, columns)


@body
def low_product(M, K, columns, a, a_row, a_column, b, b_row, out, row):
    """Multiply few rows with columns of b, whose rows lie in one piece each ``b_row`` elements.

    Those that do not fill a vector are packed, and go out from one that is filled up.
    """
    width = lanes_of(out)
    vectors = columns // width
    whole = vectors * width
    multiply_low(M, vectors, K, a, a_row, a_column, b, b_row, out, row)
    if whole < columns:
        packed, sums = np.empty(K * width, out.dtype), np.empty(M * width, out.dtype)
        _pack(b, whole, b_row, 1, K, columns - whole, packed)
        multiply_low(M, 1, K, a, a_row, a_column, packed, width, sums, width)
        for m in range(M):
            copy_run(out, m * row + whole, sums, m * width, columns - whole)


@kernel
def _dots_loop(few, few_step, rows, few_out, many, many_step, columns, many_out, K, out):
    chunk_columns = TILES * ACROSS
    for chunk in prange(chunks_of(columns, chunk_columns)):
        first = chunk * chunk_columns
        last = min(first + chunk_columns, columns)
        _dots(few, few_step, rows, few_out, many, many_step, first, last, many_out, K, out)


@body
def _dots(few, few_step, rows, few_out, many, step, first, last, many_out, K, out):
    """Multiply few rows with the columns from ``first`` up to ``last``.

    A tile of columns stays in the second cache while the rows pass. Rows that do not fill a tile
    stand in it twice; columns that do not are taken one by one.
    """
    places, sums = np.empty(FEW, np.intp), np.empty(FEW * ACROSS + lanes_of(out), out.dtype)
    ahead, all_ahead = tile_zeros(1, 1, out), tile_zeros(ACROSS, 1, out)
    column = first
    while column < last:
        wide, at = ACROSS if column + ACROSS <= last else 1, column * step
        for row in range(0, rows, FEW):
            tall = min(FEW, rows - row)
            for i in range(FEW):
                places[i] = (row + min(i, tall - 1)) * few_step
            if tall == 1 and wide == 1:
                _dot(tile_zeros(1, 1, out), ahead, few, places, many, at, step, K, sums)
            elif tall == 1:
                _dot(tile_zeros(1, ACROSS, out), all_ahead, few, places, many, at, step, K, sums)
            elif wide == 1:
                _dot(tile_zeros(FEW, 1, out), ahead, few, places, many, at, step, K, sums)
            else:
                _dot(tile_zeros(FEW, ACROSS, out), all_ahead, few, places, many, at, step, K, sums)
            for i in range(tall):
                for j in range(wide):
                    out[(row + i) * few_out + (column + j) * many_out] = sums[i * wide + j]
        column += wide


@body
def _dot(held, ahead, few, places, many, at, step, K, sums):
    """Multiply rows with columns lane by lane, whole vectors first, and add the lanes up.

    Columns lie far apart, so vectors of each are asked for ahead of time: a tile of them.
    """
    width = lanes_of(sums)
    whole = K // width * width
    for k in range(0, whole, width):
        tile_prefetch(ahead, many, at + k + AHEAD * width, step)
        held = tile_dot(held, few, places, k, many, at + k, step, width)
    if whole < K:
        held = tile_dot(held, few, places, whole, many, at + whole, step, K - whole)
    tile_store(tile_totals(held), sums, 0, 0)
