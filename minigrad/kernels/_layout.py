"""The order of arrays in memory.

Shapes are always (N, C, H, W). Memory is channels-last: the array is a transposed view of
C-contiguous (N, H, W, C) memory, so that the channels of a pixel lie side by side. Kernels see
the (N, H, W, C) array; callers never do.
"""

import functools

import numpy as np

from minigrad.kernels import _pool

Shape = tuple[int, int, int, int]

# For what follows from shapes alone: without it each step would work it out again.
remembered = functools.lru_cache(maxsize=1024)

_TO_LAST = (0, 2, 3, 1)  # (N, C, H, W) -> (N, H, W, C)
_TO_FIRST = (0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)

# Stand for an array that is None, of which a kernel would be compiled anew.
NO_VALUES = {np.dtype(kind): np.empty(0, kind) for kind in ("f4", "f8")}


def channels_last(x: np.ndarray) -> np.ndarray:
    """Return x, of shape (N, C, H, W), as a C-contiguous (N, H, W, C) array.

    It is a view where the memory is channels-last already, else a copy.
    """
    return np.ascontiguousarray(x.transpose(_TO_LAST))


def flat_channels_last(x: np.ndarray) -> np.ndarray:
    """Return the values of x, of shape (N, C, H, W), in one dimension, in channels-last order."""
    return x.transpose(_TO_LAST).ravel()


def values_or_none(values: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
    """Return one value a channel, as a kernel takes them; no values stand for None."""
    return NO_VALUES[dtype] if values is None else np.ascontiguousarray(values)


def filled_up(values: np.ndarray | None, size: int, dtype: np.dtype) -> np.ndarray:
    """Return one value a channel, filled up with zeros; zeros alone stand for None."""
    full = np.zeros(size, dtype)
    if values is not None:
        full[: values.size] = values
    return full


def empty_channels_last(shape: Shape, dtype: np.dtype) -> np.ndarray:
    """Make an (N, C, H, W) array, values undefined, in channels-last memory."""
    N, C, H, W = shape
    return _pool.empty((N, H, W, C), np.dtype(dtype)).transpose(_TO_FIRST)


def memory_order(x: np.ndarray) -> tuple[int, ...]:
    """Return the axes of x from the one with the longest stride to the one with the shortest."""
    return _by_stride(x.strides)


@remembered
def _by_stride(strides: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(strides)), key=lambda axis: -abs(strides[axis])))


def flat(x: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """Return the values of x in one dimension, its axes taken in the given order.

    It is a view where memory has that order, else a copy: element-wise kernels give all arrays
    the order of the first and need not know their shape.
    """
    return x.transpose(order).ravel()


def empty_in_order(
    shape: tuple[int, ...], dtype: np.dtype, order: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Make an array, values undefined, and what ``flat`` of it is in an order of its axes."""
    there, back = _turned(shape, order)
    memory = _pool.empty(there, dtype)
    return memory.transpose(back), memory.ravel()


@remembered
def _turned(
    shape: tuple[int, ...], order: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return a shape with its axes in another order, and the order that undoes that."""
    there = tuple([shape[axis] for axis in order])
    return there, tuple([order.index(axis) for axis in range(len(order))])


@remembered
def channels_last_order(ndim: int) -> tuple[int, ...]:
    """Return the memory order of (N, C, ...) arrays whose channels lie side by side."""
    return (0, *range(2, ndim), 1)
