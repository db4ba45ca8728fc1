"""What the intrinsics of ``_simd_slide.py`` mean, in NumPy: used when Numba compiles nothing.

A vector holds one element, so all its lanes are of one group, and the window has one plane.
"""

import numpy as np


def _size(known: np.ndarray, name: str) -> int:
    (size,) = known.dtype[name].shape
    return size


def tile_outputs(known: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Make a tile of zeros with a row for each output."""
    return np.zeros((_size(known, "outputs"), 1), like.dtype)


def tile_taps(known: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Make a tile of zeros with a row for each (row of taps, tap)."""
    return np.zeros((_size(known, "rows") * _size(known, "taps"), 1), like.dtype)


def slide_clear(known: np.ndarray, window: np.ndarray, to: int) -> None:
    """Set the place of a pixel in the window to zero."""
    window[to] = 0


def slide_take(known: np.ndarray, x: np.ndarray, at: int, window: np.ndarray, to: int) -> None:
    """Copy a pixel to its place in the window."""
    window[to] = x[at]


def slide_take_part(
    known: np.ndarray, x: np.ndarray, at: int, count: int, window: np.ndarray, to: int
) -> None:
    """Copy a pixel, if its value is wanted, or zero."""
    window[to] = x[at] if count > 0 else 0


def tile_prefetch_write(tile: np.ndarray, array: np.ndarray, at: int, row: int) -> None:
    """Do nothing: this is for the caches."""


def tile_prefetch(tile: np.ndarray, array: np.ndarray, at: int, row: int) -> None:
    """Do nothing: this is for the caches."""


def _seen(known: np.ndarray, window: np.ndarray, at: int, tap: int) -> np.ndarray:
    outputs, stride = np.arange(_size(known, "outputs")), _size(known, "stride")
    return window[at + tap * _size(known, "dilation") + stride * outputs]


def tile_slide(
    tile: np.ndarray, known: np.ndarray, window: np.ndarray, at: int, weight: np.ndarray,
    weight_at: int, tap: int,
) -> np.ndarray:  # fmt: skip
    """Add to a tile of outputs what the taps of one row of the filter see."""
    for k in range(_size(known, "taps")):
        tile = tile + _seen(known, window, at, k)[:, None] * weight[weight_at + k * tap]
    return tile


def tile_slide_back(
    tile: np.ndarray, known: np.ndarray, window: np.ndarray, at: int, rows: np.ndarray,
    rows_at: int, grad: np.ndarray, grad_at: int, grad_step: int,
) -> np.ndarray:  # fmt: skip
    """Add to the gradient of some rows of taps what a few neighbouring outputs contribute."""
    tile, taps = tile.copy(), _size(known, "taps")
    grads = grad[grad_at + grad_step * np.arange(_size(known, "outputs"))]
    for index in range(len(tile)):
        start = at + rows[rows_at + index // taps]
        tile[index] += np.sum(_seen(known, window, start, index % taps) * grads)
    return tile
