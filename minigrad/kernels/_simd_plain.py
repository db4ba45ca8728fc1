"""What the intrinsics on tiles mean, in NumPy: used when Numba compiles nothing.

A tile is an array of shape (rows, vectors), of vectors that hold one element each.
"""

import numpy as np


def tile_zeros(rows: int, vectors: int, like: np.ndarray) -> np.ndarray:
    """Make a tile of zeros with the dtype of an array."""
    return np.zeros((rows, vectors), like.dtype)


def _places(tile: np.ndarray, at: int, row: int) -> np.ndarray:
    rows, vectors = tile.shape
    return at + row * np.arange(rows)[:, None] + np.arange(vectors)


def tile_load(tile: np.ndarray, array: np.ndarray, at: int, row: int) -> np.ndarray:
    """Read a tile of the same size."""
    return array[_places(tile, at, row)]


def tile_load_columns(
    tile: np.ndarray, array: np.ndarray, at: int, row: int, columns: int
) -> np.ndarray:
    """Read the first so many columns of a tile, and zeros for the rest."""
    held = np.zeros_like(tile)
    columns = max(columns, 0)
    held[:, :columns] = array[_places(tile[:, :columns], at, row)]
    return held


def tile_load_part(
    tile: np.ndarray, array: np.ndarray, at: int, row: int, first: int, last: int, columns: int
) -> np.ndarray:
    """Read some rows and columns of a tile, and zeros for the rest."""
    rows, vectors = np.ogrid[: tile.shape[0], : tile.shape[1]]
    inside = (first <= rows) & (rows < last) & (vectors < columns)
    held = np.zeros_like(tile)
    held[inside] = array[_places(tile, at, row)[inside]]
    return held


def tile_gather(tile: np.ndarray, array: np.ndarray, at: int, step: int, count: int) -> np.ndarray:
    """Read the only vector of a tile, which holds one element here."""
    return tile_load_columns(tile, array, at, step, count)


def tile_square(like: np.ndarray) -> np.ndarray:
    """Make a square tile of zeros."""
    return tile_zeros(1, 1, like)


def tile_transpose(tile: np.ndarray) -> np.ndarray:
    """Exchange rows and lanes of a tile, which has one of each here."""
    return tile


def tile_store(tile: np.ndarray, array: np.ndarray, at: int, row: int) -> None:
    """Write a tile."""
    array[_places(tile, at, row)] = tile


def tile_store_columns(
    tile: np.ndarray, array: np.ndarray, at: int, row: int, columns: int
) -> None:
    """Write the first so many columns of a tile."""
    tile_store(tile[:, : max(columns, 0)], array, at, row)


def tile_store_part(
    tile: np.ndarray, array: np.ndarray, at: int, row: int, rows: int, columns: int
) -> None:
    """Write the first so many rows and columns of a tile."""
    tile_store(tile[: max(rows, 0), : max(columns, 0)], array, at, row)


def tile_outer(
    tile: np.ndarray, a: np.ndarray, a_at: int, a_row: int, b: np.ndarray, b_at: int, b_vector: int
) -> np.ndarray:
    """Add an outer product to a tile."""
    rows, vectors = tile.shape
    a_values = a[a_at + a_row * np.arange(rows)]
    b_values = b[b_at + b_vector * np.arange(vectors)]
    return tile + a_values[:, None] * b_values


tile_outer_far = tile_outer


def tile_by_lane(
    tile: np.ndarray, a: np.ndarray, a_at: int, a_row: int, b: np.ndarray, b_at: int
) -> np.ndarray:
    """Add products lane by lane."""
    return tile + a[_places(tile, a_at, a_row)] * b[b_at + np.arange(tile.shape[1])]


def tile_add(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Add two tiles of one size."""
    return x + y


def tile_subtract(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Subtract a tile from another of its size."""
    return x - y


def tile_multiply(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Multiply two tiles of one size, entry by entry."""
    return x * y


def tile_divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Divide a tile by another of its size, entry by entry."""
    return x / y


def tile_larger(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the larger entry of each two; where one of them is NaN, that of y."""
    return np.where(x > y, x, y)


def tile_load_or_lowest(tile: np.ndarray, array: np.ndarray, at: int, columns: int) -> np.ndarray:
    """Read the first so many columns of a tile of one row, and minus infinity for the rest."""
    inside = np.arange(tile.shape[1]) < columns
    return np.where(
        inside, tile_load_columns(tile, array, at, 0, columns), tile.dtype.type(-np.inf)
    )


def tile_fill(tile: np.ndarray, value: float) -> np.ndarray:
    """Make a tile of the same size that holds one number everywhere."""
    return np.full_like(tile, value)


def tile_largest(tile: np.ndarray) -> float:
    """Return the largest entry of a tile."""
    return tile.max()


def tile_total(tile: np.ndarray) -> float:
    """Return the sum of a tile in float64."""
    return tile.sum(dtype=np.float64)


def tile_exp(tile: np.ndarray, peak: float) -> np.ndarray:
    """Return exp(x - peak) of each entry x of a tile."""
    wide = (tile - peak).astype(np.float64)  # NumPy's exponential of float32 is rough
    return np.exp(wide).astype(tile.dtype)


def tile_dot(
    tile: np.ndarray, x: np.ndarray, rows: np.ndarray, at: int, weight: np.ndarray, weight_at: int,
    weight_step: int, columns: int,
) -> np.ndarray:  # fmt: skip
    """Add products lane by lane for rows that begin anywhere, at most one column."""
    if columns <= 0:
        return tile
    count, vectors = tile.shape
    factors = weight[weight_at + weight_step * np.arange(vectors)]
    return tile + x[rows[:count] + at][:, None] * factors


def tile_dot_some(
    tile: np.ndarray, x: np.ndarray, rows: np.ndarray, at: int, weight: np.ndarray, weight_at: int,
    weight_step: int, c: int, columns: int, kept: np.ndarray, zeros: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Do the same for some rows, and add products of zeros to the others."""
    if columns <= 0:
        return tile
    values = np.where(kept, x[np.where(kept, rows + at + c, 0)], zeros[c])
    places = np.arange(len(values))
    return tile_dot(tile, values, places, 0, weight, weight_at + c, weight_step, columns)


def tile_totals(tile: np.ndarray) -> np.ndarray:
    """Add the lanes of each vector up, of which each has one here."""
    return tile.reshape(1, -1)
