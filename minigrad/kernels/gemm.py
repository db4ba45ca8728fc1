"""The product of matrices, as a grid of tiles that stay in registers.

``c = a @ b`` is cut into tiles of ROWS x VECTORS vectors. A tile of sums is held in registers
while the whole inner dimension passes by: each step reads one column of a and one row of b, as
tall and as wide as the tile, and adds their outer product (``tile_outer``). Memory is read
ROWS + VECTORS times a step for ROWS x VECTORS vector operations.

Arrays are flat. The matrix a may have any strides, so a transposed matrix is a swap of two
numbers. The columns of b and c come in whole vectors, each vector of b an own distance from the
last; ``pack`` brings any matrix to that form.
"""

import numpy as np

from minigrad.kernels._jit import body
from minigrad.kernels._simd import (
    ROWS,
    VECTORS,
    lanes,
    lanes_of,
    tile_load,
    tile_outer,
    tile_store,
    tile_zeros,
)

# Rows that do not fill a tile are taken four at a time, then one at a time.
FEW = 4

# Vectors of a tile with FEW rows: they nearly fill the registers.
BROAD = 6 if ROWS >= 8 else 3

# Rows of b that are read together, from one end to the other: few enough to be foreseen.
DEEP = 16

# Not 0 and 1 themselves: Numba would compile ``multiply`` anew for each literal it is called with.
OVERWRITE, ADD, NEIGHBOUR = np.intp(0), np.intp(1), np.intp(1)


def whole_vectors(columns: int, dtype: np.dtype) -> int:
    """Return how many vectors hold a row of so many columns."""
    return -(-columns // lanes(dtype))


def pack(b: np.ndarray) -> np.ndarray:
    """Bring matrices to the form in which ``multiply`` reads its right factor fastest.

    Parameters
    ----------
    b : ndarray, shape (..., K, N)

    Returns
    -------
    packed : ndarray, shape (..., vectors, K, lanes), C-contiguous
        Columns in whole vectors, filled up with zeros, the rows of one vector after another.
    """
    *stack, K, N = b.shape
    width, vectors = lanes(b.dtype), whole_vectors(N, b.dtype)
    padded = np.zeros((*stack, K, vectors * width), b.dtype)
    padded[..., :N] = b
    return np.ascontiguousarray(padded.reshape(*stack, K, vectors, width).swapaxes(-3, -2))


@body
def _tile(sums, K, a, a_at, a_row, a_step, b, b_at, b_vector, b_step, c, c_at, c_row, add):
    """Compute one tile of c; ``sums`` are zeros, and say how large it is."""
    if add:
        sums = tile_load(sums, c, c_at, c_row)
    for k in range(K):
        sums = tile_outer(sums, a, a_at + k * a_step, a_row, b, b_at + k * b_step, b_vector)
    tile_store(sums, c, c_at, c_row)


@body
def _stripe(full, few, one, M, K, a, a_row, a_step, b, b_at, b_vector, b_step, c, c_at, c_row, add):
    """Compute a stripe of c that is M rows tall and as wide as the tiles of the three heights."""
    m = 0
    while m + ROWS <= M:
        _tile(
            full, K, a, m * a_row, a_row, a_step, b, b_at, b_vector, b_step,
            c, c_at + m * c_row, c_row, add,
        )  # fmt: skip
        m += ROWS
    _low_stripe(few, one, m, M, K, a, a_row, a_step, b, b_at, b_vector, b_step, c, c_at, c_row, add)


@body
def _low_stripe(
    few, one, m, M, K, a, a_row, a_step, b, b_at, b_vector, b_step, c, c_at, c_row, add
):  # fmt: skip
    """Compute the rows of a stripe from m on, FEW at a time and then one by one."""
    while m + FEW <= M:
        _tile(
            few, K, a, m * a_row, a_row, a_step, b, b_at, b_vector, b_step,
            c, c_at + m * c_row, c_row, add,
        )  # fmt: skip
        m += FEW
    while m < M:
        _tile(
            one, K, a, m * a_row, a_row, a_step, b, b_at, b_vector, b_step,
            c, c_at + m * c_row, c_row, add,
        )  # fmt: skip
        m += 1


@body
def multiply(M, vectors, K, a, a_row, a_step, b, b_vector, b_step, c, c_row, add):
    """Compute ``c = a @ b``, or ``c += a @ b``.

    Parameters
    ----------
    M, vectors, K : int
        Rows of a and c, vectors in a row of b and c, columns of a and rows of b.
    a : ndarray
        ``a[m, k]`` is element ``m * a_row + k * a_step``.
    a_row, a_step : int
    b : ndarray
        Vector v of row k begins at element ``v * b_vector + k * b_step``.
    b_vector, b_step : int
    c : ndarray
        Vector v of row m begins at element ``m * c_row + v * lanes``.
    c_row : int
    add : OVERWRITE or ADD
        What to do with the values that c holds.
    """
    width = lanes_of(c)
    v = 0
    while v + VECTORS <= vectors:
        _stripe(
            tile_zeros(ROWS, VECTORS, c), tile_zeros(FEW, VECTORS, c), tile_zeros(1, VECTORS, c),
            M, K, a, a_row, a_step, b, v * b_vector, b_vector, b_step, c, v * width, c_row, add,
        )  # fmt: skip
        v += VECTORS
    while v < vectors:
        _stripe(
            tile_zeros(ROWS, 1, c), tile_zeros(FEW, 1, c), tile_zeros(1, 1, c),
            M, K, a, a_row, a_step, b, v * b_vector, b_vector, b_step, c, v * width, c_row, add,
        )  # fmt: skip
        v += 1


@body
def multiply_low(M, vectors, K, a, a_row, a_step, b, b_step, c, c_row):
    """Compute ``c = a @ b`` for few rows, with neighbouring vectors of b.

    Rows of b may lie pages apart, as those of a large matrix do. So DEEP of them at a time are read
    from one end to the other, by tiles that are low and broad; the sums wait in c meanwhile.
    """
    width = lanes_of(c)
    for k in range(0, max(K, 1), DEEP):  # once at least: an empty sum is zero
        depth, add = min(DEEP, K - k), ADD if k > 0 else OVERWRITE
        factors, rows = a[k * a_step :], b[k * b_step :]
        v = 0
        while v + BROAD <= vectors:
            _low_stripe(
                tile_zeros(FEW, BROAD, c), tile_zeros(1, BROAD, c), 0, M, depth,
                factors, a_row, a_step, rows, v * width, width, b_step, c, v * width, c_row, add,
            )  # fmt: skip
            v += BROAD
        while v + VECTORS <= vectors:
            _low_stripe(
                tile_zeros(FEW, VECTORS, c), tile_zeros(1, VECTORS, c), 0, M, depth,
                factors, a_row, a_step, rows, v * width, width, b_step, c, v * width, c_row, add,
            )  # fmt: skip
            v += VECTORS
        if v < vectors:
            _low_stripe(
                tile_zeros(FEW, 1, c), tile_zeros(1, 1, c), 0, M, depth,
                factors, a_row, a_step, rows, v * width, width, b_step, c, v * width, c_row, add,
            )  # fmt: skip
