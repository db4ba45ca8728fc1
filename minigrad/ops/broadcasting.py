"""Broadcasting as an operation of its own: broadcast_to, and expand, torch's form of it.

Copying along an axis and summing over it are adjoint, so the backward is
:func:`~minigrad.core.shapes.unbroadcast`.
"""

from typing import Any

import numpy as np

from minigrad.core.errors import ShapeError
from minigrad.core.function import Function
from minigrad.core.shapes import unbroadcast
from minigrad.core.tensor import Tensor
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.arithmetic import bad_single
from minigrad.ops.shaping import bad_shape, check_sizes, shape_of

__all__ = ["broadcast_to", "expand"]


class BroadcastTo(Function):
    """y = x repeated along new axes and along axes of size 1, without a copy."""

    @staticmethod
    def forward(ctx: Any, x: Any, *, shape: tuple[int, ...]) -> Any:
        ctx.shape = np.shape(x)
        return np.broadcast_to(x, shape)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        return unbroadcast(grad_out, ctx.shape)


def _targets(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((3, 1)), (2, 3, 5)),
        Sample(rng.standard_normal((2, 3)), (2, 3)),
        Sample(rng.standard_normal(()), (2, 3)),
        Sample(rng.standard_normal(1), 3),
    ]


def _check_target(name: str, shape: tuple[int, ...], target: tuple[int, ...]) -> None:
    """Raise unless an array of ``shape`` broadcasts to ``target``."""
    aligned = target[len(target) - len(shape) :]
    fits = len(shape) <= len(target) and min(target, default=0) >= 0
    if not fits or any(n not in (1, m) for n, m in zip(shape, aligned, strict=True)):
        raise ShapeError(
            f"{name}: a shape that x broadcasts to is needed, x is {shape} and {target} was asked "
            f"for. Aligned from the last axis, each size of x is 1 or the one asked for."
        )


def _bad_targets(name: str) -> list[Wrong]:
    return [
        Wrong(
            ShapeError,
            f"{name}: a shape that x broadcasts to is needed, x is (2, 3) and {target} was asked "
            f"for. Aligned from the last axis, each size of x is 1 or the one asked for.",
            np.ones((2, 3)),
            target,
        )
        for target in [(4, 3), (3,), (2, -3), (-1, 2, 3)]
    ] + [*bad_single(name, 3), bad_shape(name)]


@operation(BroadcastTo, samples=_targets, wrong=lambda rng: _bad_targets("broadcast_to"))
def broadcast_to(x: Any, shape: Any) -> Tensor:
    """Repeat x along new axes and along axes of size 1, without a copy.

    Parameters
    ----------
    x : Tensor, ndarray or number
    shape : int or tuple of int
        Of the result.

    Returns
    -------
    Tensor
        A read-only view of x.

    Raises
    ------
    ShapeError
        If x does not broadcast to that shape.
    ArgumentError
        If the shape is not made of ints.

    Gradient
    --------
    grad_x = grad_out, summed over the axes along which x was repeated. Saves nothing.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.broadcast_to(mg.tensor([1.0, 2.0]), (2, 2)).data
    array([[1., 2.],
           [1., 2.]], dtype=float32)
    """
    target = check_sizes("broadcast_to", shape)
    _check_target("broadcast_to", shape_of("broadcast_to", x), target)
    return BroadcastTo.apply(x, shape=target)


class Expand(BroadcastTo):
    """y = x repeated along new axes and along axes of size 1, without a copy."""


@operation(
    Expand,
    samples=lambda rng: [*_targets(rng), Sample(rng.standard_normal((3, 1)), (2, -1, 5))],
    wrong=lambda rng: [w for w in _bad_targets("expand") if w.args[1] != (2, -3)],
)
def expand(x: Any, shape: Any) -> Tensor:
    """Repeat x along new axes and along axes of size 1: torch's form of :func:`broadcast_to`.

    Parameters
    ----------
    x : Tensor, ndarray or number
    shape : int or tuple of int
        Of the result; -1 keeps the size that x has there.

    Returns
    -------
    Tensor
        A read-only view of x.

    Raises
    ------
    ShapeError
        If x does not broadcast to that shape.
    ArgumentError
        If the shape is not made of ints.

    Gradient
    --------
    grad_x = grad_out, summed over the axes along which x was repeated. Saves nothing.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> mg.expand(np.ones((3, 1)), (2, -1, 5)).shape
    (2, 3, 5)
    """
    x_shape, target = shape_of("expand", x), check_sizes("expand", shape)
    new = len(target) - len(x_shape)
    kept = tuple(x_shape[i - new] if n == -1 and i >= new >= 0 else n for i, n in enumerate(target))
    _check_target("expand", x_shape, kept)
    return Expand.apply(x, shape=kept)
