"""Joining tensors and taking them apart: concat, stack and split.

The two are adjoint: the backward of joining splits the cotangent, the backward of splitting joins
the cotangents.
"""

from typing import Any

import numpy as np

from minigrad.core.dtypes import INTEGERS
from minigrad.core.errors import ArgumentError, DTypeError, ShapeError
from minigrad.core.function import Function
from minigrad.core.shapes import normalize_axes
from minigrad.core.tensor import Tensor
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.arithmetic import bad_single
from minigrad.ops.shaping import shape_of

__all__ = ["concat", "split", "stack"]


def _single_axis(name: str, axis: Any, ndim: int, of: str) -> int:
    if axis is None or isinstance(axis, tuple | list):
        raise ArgumentError(f"{name}: axis is an int, got {axis!r}. Pass for example axis=0.")
    return normalize_axes(name, axis, ndim, of)[0]


def _shapes(name: str, tensors: Any) -> list[tuple[int, ...]]:
    """The shapes of the members of a list of tensors."""
    if not isinstance(tensors, list | tuple) or not tensors:
        told = type(tensors).__name__ if not isinstance(tensors, list | tuple) else "an empty one"
        raise DTypeError(
            f"{name}: a list or tuple of tensors is needed, got {told}. Pass for example [x, y]."
        )
    return [shape_of(name, x) for x in tensors]


def _bad_lists(name: str) -> list[Wrong]:
    text = f"{name}: a list or tuple of tensors is needed, got {{}}. Pass for example [x, y]."
    return [
        Wrong(DTypeError, text.format("ndarray"), np.ones((2, 3))),
        Wrong(DTypeError, text.format("an empty one"), []),
        Wrong(
            ArgumentError,
            f"{name}: axis is an int, got None. Pass for example axis=0.",
            [np.ones(3), np.ones(3)],
            axis=None,
        ),
        *[Wrong(wrong.error, wrong.text, list(wrong.args)) for wrong in bad_single(name)],
    ]


class Concat(Function):
    """y = tensors one after the other along an axis they have."""

    @staticmethod
    def forward(ctx: Any, *tensors: np.ndarray, axis: int) -> Any:
        ctx.axis = axis
        ctx.sizes = [x.shape[axis] for x in tensors]
        return np.concatenate(tensors, axis=axis)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        grads, start, outer = [], 0, (slice(None),) * ctx.axis
        for size, need in zip(ctx.sizes, ctx.needs, strict=True):
            stop = start + size
            grads.append(grad_out[*outer, start:stop] if need else None)
            start = stop
        return tuple(grads)


def _concats(rng: np.random.Generator) -> list[Sample]:
    normal = rng.standard_normal
    return [
        Sample([normal((2, 3, 5)), normal((2, 1, 5)), normal((2, 4, 5))], axis=1),
        Sample([normal((2, 3)), normal((5, 3))]),
        Sample((normal((2, 3)), normal((2, 3))), axis=-1),
        Sample([normal(3)]),
    ]


def _bad_concats(rng: np.random.Generator) -> list[Wrong]:
    return [
        *_bad_lists("concat"),
        Wrong(
            ShapeError,
            "concat: shapes that agree outside axis 1 are needed, got (2, 3) and (3, 3). Join "
            "along another axis, or cut or pad one of them first.",
            [np.ones((2, 3)), np.ones((2, 1)), np.ones((3, 3))],
            axis=-1,
        ),
        Wrong(
            ShapeError,
            "concat: shapes that agree outside axis 0 are needed, got (3,) and (2, 3). Join along "
            "another axis, or cut or pad one of them first.",
            [np.ones(3), np.ones((2, 3))],
        ),
        Wrong(
            ArgumentError,
            "concat: axis 0 was asked for, the first tensor has 0 axes. Valid axes are none, for "
            "it has no axes.",
            [1.0, 2.0],
        ),
    ]


@operation(Concat, samples=_concats, wrong=_bad_concats)
def concat(tensors: Any, axis: int = 0) -> Tensor:
    """Join tensors one after the other along an axis they have; NumPy's concatenate.

    Parameters
    ----------
    tensors : list or tuple of Tensor or ndarray
        Of shapes that agree outside ``axis``.
    axis : int
        Along which to join.

    Returns
    -------
    Tensor
        With the sizes along ``axis`` added up.

    Raises
    ------
    ShapeError
        If the shapes differ outside ``axis``.
    ArgumentError
        If the axis does not exist.

    Gradient
    --------
    Each tensor receives its slice of grad_out. Saves nothing.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.concat([mg.tensor([1.0, 2.0]), mg.tensor([3.0])]).data
    array([1., 2., 3.], dtype=float32)
    """
    shapes = _shapes("concat", tensors)
    axis = _single_axis("concat", axis, len(shapes[0]), "the first tensor")
    outside = [(len(s), s[:axis], s[axis + 1 :]) for s in shapes]
    for shape, rest in zip(shapes, outside, strict=True):
        if rest != outside[0]:
            raise ShapeError(
                f"concat: shapes that agree outside axis {axis} are needed, got {shapes[0]} and "
                f"{shape}. Join along another axis, or cut or pad one of them first."
            )
    return Concat.apply(*tensors, axis=axis)


class Stack(Function):
    """y = tensors one after the other along a new axis."""

    @staticmethod
    def forward(ctx: Any, *tensors: Any, axis: int) -> Any:
        ctx.axis = axis
        # Python numbers take the precision of the arrays, as in arithmetic.
        return np.stack(tensors, axis=axis, dtype=np.result_type(*tensors))

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        parts = np.moveaxis(grad_out, ctx.axis, 0)
        # [...] keeps a 0-d part an array.
        return tuple(parts[i, ...] if need else None for i, need in enumerate(ctx.needs))


def _stacks(rng: np.random.Generator) -> list[Sample]:
    normal = rng.standard_normal
    return [
        Sample([normal((2, 3)), normal((2, 3)), normal((2, 3))], axis=1),
        Sample([normal((2, 3)), normal((2, 3))]),
        Sample((normal((2, 3)), normal((2, 3))), axis=-1),
        Sample([normal(()), 1.5]),
    ]


def _bad_stacks(rng: np.random.Generator) -> list[Wrong]:
    return [
        *_bad_lists("stack"),
        Wrong(
            ShapeError,
            "stack: tensors of one shape are needed, got (2, 3) and (2, 1). Broadcast them first, "
            "or use concat.",
            [np.ones((2, 3)), np.ones((2, 1))],
        ),
        Wrong(
            ArgumentError,
            "stack: axis 2 was asked for, the result has 2 axes. Valid axes are -2 to 1.",
            [np.ones(3), np.ones(3)],
            axis=2,
        ),
    ]


@operation(Stack, samples=_stacks, wrong=_bad_stacks)
def stack(tensors: Any, axis: int = 0) -> Tensor:
    """Join tensors one after the other along a new axis.

    Parameters
    ----------
    tensors : list or tuple of Tensor, ndarray or number
        All of one shape.
    axis : int
        Where the new axis stands in the result.

    Returns
    -------
    Tensor
        With one axis more, whose size is the number of tensors.

    Raises
    ------
    ShapeError
        If the shapes differ.
    ArgumentError
        If the result has no such axis.

    Gradient
    --------
    Each tensor receives its slice of grad_out. Saves nothing.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.stack([mg.tensor([1.0, 2.0]), mg.tensor([3.0, 4.0])], axis=1).data
    array([[1., 3.],
           [2., 4.]], dtype=float32)
    """
    shapes = _shapes("stack", tensors)
    for shape in shapes:
        if shape != shapes[0]:
            raise ShapeError(
                f"stack: tensors of one shape are needed, got {shapes[0]} and {shape}. Broadcast "
                f"them first, or use concat."
            )
    axis = _single_axis("stack", axis, len(shapes[0]) + 1, "the result")
    return Stack.apply(*tensors, axis=axis)


class Split(Function):
    """y_1, y_2, ... = consecutive slices of x along an axis."""

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, *, cuts: list[int], axis: int) -> Any:
        ctx.axis = axis
        return tuple(np.split(x, cuts, axis=axis))

    @staticmethod
    def backward(ctx: Any, *grad_outs: np.ndarray) -> Any:
        return np.concatenate(grad_outs, axis=ctx.axis)


def _splits(rng: np.random.Generator) -> list[Sample]:
    x = rng.standard_normal((2, 6, 5))
    return [
        Sample(x, 3, 1),
        Sample(x, [1, 4], axis=1),
        Sample(x, (2, -1), axis=-1),
        Sample(x, np.cumsum([1, 3]), axis=1),
        Sample(x, sizes=[3, 1, 2], axis=1),
        Sample(x, [0, 2, 9], 1),
        Sample(x, 1),
    ]


def _bad_splits(rng: np.random.Generator) -> list[Wrong]:
    x = np.ones((5, 6))
    return [
        *bad_single("split", 2),
        Wrong(
            ShapeError,
            "split: a number of equal parts is needed, x is (5, 6), of size 5 along axis 0, and 2 "
            "parts were asked for. Pass a divisor, or the sizes of the parts as sizes=[...].",
            x,
            2,
        ),
        Wrong(
            ShapeError,
            "split: sizes that add up to 6 are needed, x is (5, 6) and axis 1 was to be split in "
            "[2, 3]. Change one of them.",
            x,
            sizes=[2, 3],
            axis=1,
        ),
        Wrong(
            ArgumentError,
            "split: places to cut at in growing order are needed, got [4, 1]. Sort them, or pass "
            "the sizes of the parts as sizes=[...].",
            x,
            [4, 1],
            1,
        ),
        Wrong(
            ArgumentError,
            "split: a number of parts, places to cut at, or sizes=[...] is needed, got 2.0. Pass "
            "for example 2, [1, 3] or sizes=[1, 2].",
            x,
            2.0,
        ),
        Wrong(
            ArgumentError,
            "split: a number of parts, places to cut at, or sizes=[...] is needed, got two of "
            "them. Pass for example 2, [1, 3] or sizes=[1, 2].",
            x,
            2,
            sizes=[2, 3],
        ),
        Wrong(
            ArgumentError, "split: axis is an int, got None. Pass for example axis=0.", x, 2, None
        ),
    ]


def _is_int(value: Any) -> bool:
    return isinstance(value, INTEGERS) and not isinstance(value, bool)


def _listed(value: Any) -> Any:
    """The numbers of an array or an integer tensor as a list."""
    array = value.data if isinstance(value, Tensor) else value
    return array.tolist() if isinstance(array, np.ndarray) else array


def _cuts(shape: tuple[int, ...], axis: int, parts: Any, sizes: Any) -> list[int]:
    """Where to cut: places from 0 to the size of the axis, in growing order."""
    size = shape[axis]
    parts, sizes = _listed(parts), _listed(sizes)
    both = parts is not None and sizes is not None
    given = parts if sizes is None else sizes
    many = isinstance(given, list | tuple) and all(_is_int(n) for n in given)
    if both or not (many or (sizes is None and _is_int(given))):
        raise ArgumentError(
            f"split: a number of parts, places to cut at, or sizes=[...] is needed, got "
            f"{'two of them' if both else repr(given)}. Pass for example 2, [1, 3] or "
            f"sizes=[1, 2]."
        )
    if sizes is not None:
        if sum(sizes) != size or min(sizes, default=-1) < 0:
            raise ShapeError(
                f"split: sizes that add up to {size} are needed, x is {shape} and axis {axis} was "
                f"to be split in {sizes}. Change one of them."
            )
        return [int(n) for n in np.cumsum(sizes)[:-1]]
    if _is_int(parts):
        if parts < 1 or size % parts:
            raise ShapeError(
                f"split: a number of equal parts is needed, x is {shape}, of size {size} along "
                f"axis {axis}, and {parts} parts were asked for. Pass a divisor, or the sizes of "
                f"the parts as sizes=[...]."
            )
        return [i * (size // parts) for i in range(1, parts)]
    cuts = [min(max(n + size if n < 0 else n, 0), size) for n in parts]
    if cuts != sorted(cuts):
        raise ArgumentError(
            f"split: places to cut at in growing order are needed, got {parts}. Sort them, or "
            f"pass the sizes of the parts as sizes=[...]."
        )
    return cuts


@operation(Split, samples=_splits, wrong=_bad_splits)
def split(
    x: Any, indices_or_sections: Any = None, axis: int = 0, *, sizes: Any = None
) -> tuple[Tensor, ...]:
    """Cut x in consecutive slices along an axis.

    Parameters
    ----------
    x : Tensor or ndarray
    indices_or_sections : int, or sequence or array of int
        As in NumPy: the number of equal parts, or the places to cut at, in growing order.
    axis : int
        Along which to cut.
    sizes : sequence or array of int, optional
        Instead: the sizes of the parts, as torch wants them.

    Returns
    -------
    tuple of Tensor
        Views of x.

    Raises
    ------
    ShapeError
        If the parts do not make up the axis.
    ArgumentError
        If the axis does not exist, or it is not said where to cut.

    Gradient
    --------
    grad_x joins the cotangents of the parts; a part that nothing depends on counts as zeros. Saves
    nothing.

    Examples
    --------
    >>> import minigrad as mg
    >>> head, tail = mg.split(mg.tensor([1.0, 2.0, 3.0]), sizes=[1, 2])
    >>> tail.data
    array([2., 3.], dtype=float32)
    """
    shape = shape_of("split", x)
    axis = _single_axis("split", axis, len(shape), "x")
    return Split.apply(x, cuts=_cuts(shape, axis, indices_or_sections, sizes), axis=axis)
