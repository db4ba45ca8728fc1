"""Operations that give the entries of x another shape, or its axes another order.

Where NumPy can, a result is a view: it shares memory with x. The backward of each puts the entries
of the cotangent back where they came from.
"""

import math
from typing import Any

import numpy as np

from minigrad.core.dtypes import INTEGERS
from minigrad.core.errors import ArgumentError, ShapeError
from minigrad.core.function import Function
from minigrad.core.shapes import normalize_axes
from minigrad.core.tensor import Tensor
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.arithmetic import bad_single, check_operands

__all__ = ["expand_dims", "flatten", "permute", "reshape", "squeeze", "transpose"]


def shape_of(name: str, x: Any) -> tuple[int, ...]:
    """The shape of an operand that is an array or a number."""
    check_operands(name, x)
    return getattr(x, "shape", ())


def check_sizes(name: str, shape: Any) -> tuple[int, ...]:
    """``shape``, an int or a sequence of ints, as a tuple."""
    sizes = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    for n in sizes:
        if isinstance(n, bool | np.bool_) or not isinstance(n, INTEGERS):
            raise ArgumentError(
                f"{name}: shape is an int or a tuple of ints, got {shape!r}. "
                f"Pass for example (2, 3)."
            )
    return tuple([int(n) for n in sizes])


def bad_shape(name: str) -> Wrong:
    return Wrong(
        ArgumentError,
        f"{name}: shape is an int or a tuple of ints, got (2, 3.0). Pass for example (2, 3).",
        np.ones((2, 3)),
        (2, 3.0),
    )


class Reshape(Function):
    """y = x in another shape, entries in the same (C) order."""

    @staticmethod
    def forward(ctx: Any, x: Any, *, shape: tuple[int, ...]) -> Any:
        x = np.asarray(x)
        ctx.shape = x.shape
        return x.reshape(shape)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        return grad_out.reshape(ctx.shape)


def _reshapes(rng: np.random.Generator) -> list[Sample]:
    x = rng.standard_normal((2, 3, 5))
    channels_last = rng.standard_normal((2, 5, 7, 3)).transpose(0, 3, 1, 2)  # (N, C, H, W)
    return [
        Sample(x, (5, 6)),
        Sample(x, (3, -1)),
        Sample(x, -1),
        Sample(channels_last, (2, -1)),
        Sample(rng.standard_normal(()), (1, 1)),
    ]


def _bad_reshapes(rng: np.random.Generator) -> list[Wrong]:
    x = np.ones((2, 3))
    return [
        Wrong(
            ShapeError,
            f"reshape: a shape for the 6 entries of x is needed, x is (2, 3) and {shape} was asked "
            f"for. The sizes multiply to 6; one of them may be -1, to be computed.",
            x,
            shape,
        )
        for shape in [(2, 4), (-1, -1), (4, -1), (0, -1), (-2, -3)]
    ] + [*bad_single("reshape", 3), bad_shape("reshape")]


@operation(Reshape, samples=_reshapes, wrong=_bad_reshapes)
def reshape(x: Any, shape: Any) -> Tensor:
    """Give x another shape, keeping the order of its entries.

    Parameters
    ----------
    x : Tensor, ndarray or number
    shape : int or tuple of int
        Of as many entries as x has; one size may be -1 and is then computed.

    Returns
    -------
    Tensor
        Of that shape; a view of x where its memory allows. Entries are taken with the last axis
        fastest, whatever their order in memory: of a channels-last image that is a copy.

    Raises
    ------
    ShapeError
        If the numbers of entries differ.
    ArgumentError
        If the shape is not made of ints.

    Gradient
    --------
    grad_x = grad_out in the shape of x. Saves nothing.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.reshape(mg.tensor([1.0, 2.0, 3.0, 4.0]), (2, -1)).data
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    """
    x_shape = shape_of("reshape", x)
    sizes = check_sizes("reshape", shape)
    size, known = math.prod(x_shape), math.prod([n for n in sizes if n != -1])
    if sizes.count(-1) == 1 and known > 0 and size % known == 0:
        sizes = tuple([size // known if n == -1 else n for n in sizes])
    elif min(sizes, default=0) < 0 or known != size:
        raise ShapeError(
            f"reshape: a shape for the {size} entries of x is needed, x is {x_shape} and {sizes} "
            f"was asked for. The sizes multiply to {size}; one of them may be -1, to be computed."
        )
    return Reshape.apply(x, shape=sizes)


class Flatten(Reshape):
    """y = x with consecutive axes merged into one."""


def _flattenings(rng: np.random.Generator) -> list[Sample]:
    x = rng.standard_normal((2, 3, 5, 7))
    return [
        Sample(x),
        Sample(x, 1),
        Sample(x, 1, 2),
        Sample(x, -3, -1),
        Sample(rng.standard_normal(())),
    ]


def _bad_flattenings(rng: np.random.Generator) -> list[Wrong]:
    return [
        *bad_single("flatten"),
        Wrong(
            ArgumentError,
            "flatten: axis 3 was asked for, x has 3 axes. Valid axes are -3 to 2.",
            np.ones((2, 3, 5)),
            3,
        ),
        Wrong(
            ArgumentError,
            "flatten: start_axis comes before end_axis, got 2 and 0 of 3 axes. Exchange them.",
            np.ones((2, 3, 5)),
            2,
            -3,
        ),
    ]


@operation(Flatten, samples=_flattenings, wrong=_bad_flattenings)
def flatten(x: Any, start_axis: int = 0, end_axis: int = -1) -> Tensor:
    """Merge consecutive axes into one, keeping the order of the entries.

    Parameters
    ----------
    x : Tensor, ndarray or number
    start_axis, end_axis : int
        First and last of the axes to merge; ``flatten(x, 1)`` makes a row of each image.

    Returns
    -------
    Tensor
        A view of x where its memory allows; of shape (1,) where x has no axes.

    Raises
    ------
    ArgumentError
        If an axis does not exist, or the last one comes before the first.

    Gradient
    --------
    grad_x = grad_out in the shape of x. Saves nothing.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> mg.flatten(np.ones((8, 3, 4, 4)), 1).shape
    (8, 48)
    """
    shape = shape_of("flatten", x) or (1,)
    (first,) = normalize_axes("flatten", (start_axis,), len(shape))
    (last,) = normalize_axes("flatten", (end_axis,), len(shape))
    if first > last:
        raise ArgumentError(
            f"flatten: start_axis comes before end_axis, got {first} and {last} of {len(shape)} "
            f"axes. Exchange them."
        )
    merged = math.prod(shape[first : last + 1])
    return Flatten.apply(x, shape=(*shape[:first], merged, *shape[last + 1 :]))


class Squeeze(Reshape):
    """y = x without axes of size 1."""


def _squeezings(rng: np.random.Generator) -> list[Sample]:
    x = rng.standard_normal((2, 1, 5, 1))
    return [Sample(x), Sample(x, 1), Sample(x, (-1, 1)), Sample(rng.standard_normal((2, 3)))]


def _bad_squeezings(rng: np.random.Generator) -> list[Wrong]:
    return [
        *bad_single("squeeze"),
        Wrong(
            ShapeError,
            "squeeze: axes of size 1 are needed, x is (2, 1) and axis 0 has size 2. Name axes of "
            "size 1, or leave axis out to drop all of them.",
            np.ones((2, 1)),
            -2,
        ),
    ]


@operation(Squeeze, samples=_squeezings, wrong=_bad_squeezings)
def squeeze(x: Any, axis: Any = None) -> Tensor:
    """Drop axes of size 1.

    Parameters
    ----------
    x : Tensor, ndarray or number
    axis : int, tuple of int or None
        Axes to drop; None for all of size 1.

    Returns
    -------
    Tensor
        A view of x.

    Raises
    ------
    ShapeError
        If a named axis has another size.
    ArgumentError
        If a named axis does not exist.

    Gradient
    --------
    grad_x = grad_out in the shape of x. Saves nothing.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> mg.squeeze(np.ones((8, 10, 1, 1))).shape
    (8, 10)
    """
    shape = shape_of("squeeze", x)
    axes = normalize_axes("squeeze", axis, len(shape))
    if axis is None:
        axes = tuple(a for a in axes if shape[a] == 1)
    for a in axes:
        if shape[a] != 1:
            raise ShapeError(
                f"squeeze: axes of size 1 are needed, x is {shape} and axis {a} has size "
                f"{shape[a]}. Name axes of size 1, or leave axis out to drop all of them."
            )
    return Squeeze.apply(x, shape=tuple(n for i, n in enumerate(shape) if i not in axes))


class ExpandDims(Reshape):
    """y = x with new axes of size 1."""


def _new_axes(rng: np.random.Generator) -> list[Sample]:
    x = rng.standard_normal((2, 3))
    return [Sample(x, 1), Sample(x, (0, -1)), Sample(rng.standard_normal(()), 0)]


def _bad_new_axes(rng: np.random.Generator) -> list[Wrong]:
    return [
        *bad_single("expand_dims", 0),
        Wrong(
            ArgumentError,
            "expand_dims: axis 3 was asked for, the result has 3 axes. Valid axes are -3 to 2.",
            np.ones((2, 3)),
            3,
        ),
    ]


@operation(ExpandDims, samples=_new_axes, wrong=_bad_new_axes)
def expand_dims(x: Any, axis: Any) -> Tensor:
    """Insert axes of size 1.

    Parameters
    ----------
    x : Tensor, ndarray or number
    axis : int or tuple of int
        Where the new axes stand in the result.

    Returns
    -------
    Tensor
        A view of x.

    Raises
    ------
    ArgumentError
        If the result has no such axis, or it is named twice.

    Gradient
    --------
    grad_x = grad_out in the shape of x. Saves nothing.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.expand_dims(mg.tensor([1.0, 2.0]), 0).shape
    (1, 2)
    """
    shape = shape_of("expand_dims", x)
    axis = axis if isinstance(axis, tuple | list) else (axis,)
    ndim = len(shape) + len(axis)
    axes = normalize_axes("expand_dims", axis, ndim, of="the result")
    old = iter(shape)
    return ExpandDims.apply(x, shape=tuple(1 if i in axes else next(old) for i in range(ndim)))


class Transpose(Function):
    """y = x with its axes in another order."""

    @staticmethod
    def forward(ctx: Any, x: Any, *, axes: tuple[int, ...]) -> Any:
        ctx.axes = axes
        return np.transpose(x, axes)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        return grad_out.transpose(np.argsort(ctx.axes))  # the inverse permutation


def _orders(rng: np.random.Generator) -> list[Sample]:
    x = rng.standard_normal((2, 3, 5))
    return [Sample(x, (1, 2, 0)), Sample(x, (-1, 0, 1)), Sample(x[0], (1, 0))]


def _bad_orders(name: str) -> list[Wrong]:
    return [
        *bad_single(name, ()),
        Wrong(
            ArgumentError,
            f"{name}: axes names each of the 3 axes of x once, got (1, 2). Pass a permutation of "
            f"them, such as (2, 1, 0).",
            np.ones((2, 3, 5)),
            (1, 2),
        ),
        Wrong(
            ArgumentError,
            f"{name}: axis names each axis once, got (0, 1, 1). Drop the one named twice.",
            np.ones((2, 3, 5)),
            (0, 1, 1),
        ),
    ]


def _permutation(name: str, axes: Any, ndim: int) -> tuple[int, ...]:
    order = normalize_axes(name, () if axes is None else axes, ndim)
    if len(order) != ndim:
        raise ArgumentError(
            f"{name}: axes names each of the {ndim} axes of x once, got {axes!r}. Pass a "
            f"permutation of them, such as {tuple(reversed(range(ndim)))}."
        )
    return order


@operation(
    Transpose,
    samples=lambda rng: [*_orders(rng), Sample(rng.standard_normal((2, 3, 5)))],
    wrong=lambda rng: _bad_orders("transpose"),
)
def transpose(x: Any, axes: Any = None) -> Tensor:
    """Put the axes in another order: y[i, j, k] = x[k, j, i].

    Parameters
    ----------
    x : Tensor, ndarray or number
    axes : tuple of int or None
        Axis ``axes[i]`` of x becomes axis i of the result; None reverses them.

    Returns
    -------
    Tensor
        A view of x.

    Raises
    ------
    ArgumentError
        If ``axes`` is not a permutation of the axes of x.

    Gradient
    --------
    grad_x = grad_out with the axes put back. Saves nothing.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.transpose(mg.tensor([[1.0, 2.0], [3.0, 4.0]])).data
    array([[1., 3.],
           [2., 4.]], dtype=float32)
    """
    ndim = len(shape_of("transpose", x))
    if axes is None:
        return Transpose.apply(x, axes=tuple(reversed(range(ndim))))
    return Transpose.apply(x, axes=_permutation("transpose", axes, ndim))


class Permute(Transpose):
    """y = x with its axes in a given order."""


@operation(Permute, samples=_orders, wrong=lambda rng: _bad_orders("permute"))
def permute(x: Any, axes: Any) -> Tensor:
    """Put the axes in the given order: torch's name for :func:`transpose` with axes.

    Parameters
    ----------
    x : Tensor, ndarray or number
    axes : tuple of int
        Axis ``axes[i]`` of x becomes axis i of the result.

    Returns
    -------
    Tensor
        A view of x.

    Raises
    ------
    ArgumentError
        If ``axes`` is not a permutation of the axes of x.

    Gradient
    --------
    grad_x = grad_out with the axes put back. Saves nothing.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> mg.permute(np.ones((8, 3, 32, 64)), (0, 2, 3, 1)).shape
    (8, 32, 64, 3)
    """
    return Permute.apply(x, axes=_permutation("permute", axes, len(shape_of("permute", x))))
