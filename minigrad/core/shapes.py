"""Broadcasting and its adjoint, and how shapes are written in messages."""

from typing import Any

import numpy as np

from minigrad.core.dtypes import INTEGERS
from minigrad.core.errors import ArgumentError, ShapeError

__all__ = ["broadcast_shape", "normalize_axes", "unbroadcast"]


def unbroadcast(grad: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum ``grad`` back to ``shape``: the adjoint of broadcasting is summing.

    An entry that broadcasting copied to many places receives the sum of what comes back from them.

    Parameters
    ----------
    grad : ndarray
        Of the broadcast shape.
    shape : tuple of int
        Of the array that was broadcast.

    Returns
    -------
    ndarray
        Of shape ``shape``; ``grad`` itself where the shapes are equal.

    Examples
    --------
    >>> unbroadcast(np.ones((2, 3)), (3,))
    array([2., 2., 2.])
    """
    if grad.shape == shape:
        return grad
    added = grad.ndim - len(shape)
    stretched = tuple(added + i for i, n in enumerate(shape) if n != grad.shape[added + i])
    return np.asarray(grad.sum(axis=tuple(range(added)) + stretched)).reshape(shape)


def broadcast_shape(name: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that ``shapes`` broadcast to, or a ShapeError that speaks for the op ``name``."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        pass
    told = " and ".join(str(shape) for shape in shapes)
    raise ShapeError(
        f"{name}: shapes that broadcast together are needed, got {told}. Aligned from the last "
        f"axis, each pair of sizes must be equal or contain a 1."
    )


def normalize_axes(name: str, axis: Any, ndim: int, of: str = "x") -> tuple[int, ...]:
    """``axis`` (None, an int, or a tuple of ints) as a tuple of distinct axes, each 0 <= a < ndim.

    The errors speak for the op ``name`` and for the axes ``of`` its operand, or of its result.

    Examples
    --------
    >>> normalize_axes("sum", -1, 3), normalize_axes("sum", None, 2)
    ((2,), (0, 1))
    """
    if axis is None:
        return tuple(range(ndim))
    if type(axis) is int and -ndim <= axis < ndim:
        return (axis % ndim,)  # nearly always
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    result = []
    for a in axes:
        if isinstance(a, bool | np.bool_) or not isinstance(a, INTEGERS):
            raise ArgumentError(
                f"{name}: axis is an int, a tuple of ints or None, got {axis!r}. "
                f"Pass for example axis=0."
            )
        if not -ndim <= a < ndim:
            valid = f"{-ndim} to {ndim - 1}" if ndim else "none, for it has no axes"
            raise ArgumentError(
                f"{name}: axis {a} was asked for, {of} has {ndim} axes. Valid axes are {valid}."
            )
        result.append(int(a) % ndim)
    if len(set(result)) != len(result):
        raise ArgumentError(
            f"{name}: axis names each axis once, got {axis!r}. Drop the one named twice."
        )
    return tuple(result)
