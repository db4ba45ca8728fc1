"""Taking entries out of a tensor: x[index], and putting entries around it: pad.

The adjoint of reading is adding: the backward of x[index] adds each entry of the cotangent to the
place it was read from. A place that was read twice receives both.
"""

from typing import Any

import numpy as np

from minigrad.core.errors import ArgumentError, IndexingError, ShapeError
from minigrad.core.function import Function
from minigrad.core.tensor import Tensor
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.arithmetic import bad_single
from minigrad.ops.shaping import shape_of

__all__ = ["getitem", "pad"]


class GetItem(Function):
    """y = x[index]."""

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, *, index: tuple[Any, ...]) -> Any:
        ctx.shape = x.shape
        ctx.save(*index)  # arrays among it are watched: changed later, they would mislead backward
        return x[index]

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        # Like grad_out also in memory: where a channels-last image was cut, the gradient is
        # channels-last.
        grad_x = np.zeros_like(grad_out, shape=ctx.shape)
        if any(isinstance(part, np.ndarray) and part.dtype.kind in "iu" for part in ctx.saved):
            np.add.at(grad_x, ctx.saved, grad_out)  # integer arrays may name a place twice
        else:
            grad_x[ctx.saved] = grad_out
        return grad_x


def _plain(part: Any) -> Any:
    """One part of an index without tensors and lists."""
    if isinstance(part, Tensor):
        return part.data
    if isinstance(part, list):
        array = np.asarray([_plain(p) for p in part])
        return array if array.size else array.astype(np.intp)
    return part


def _indices(rng: np.random.Generator) -> list[Sample]:
    x = rng.standard_normal((3, 5, 4))
    return [
        Sample(x, 1),
        Sample(x, (slice(None), slice(3, 0, -2), None, -1)),
        Sample(x, (..., 2)),
        Sample(x, (1, 2, 3)),
        Sample(x, np.array([[0, 2, 0], [-1, 2, 2]])),
        Sample(x, ([1, 1, 2], slice(None, None, 2), np.array([0, 3, 0]))),
        Sample(x, (slice(1, None), [4, 0, 4])),
        Sample(x, x > 0),
        Sample(x, (np.array([True, False, True]), 0)),
        Sample(x, ()),
        Sample(x, []),
    ]


def _bad_indices(rng: np.random.Generator) -> list[Wrong]:
    def wrong(index: Any, told: str) -> Wrong:
        return Wrong(
            IndexingError,
            f"getitem: an index that x has is needed, x is (3, 5) and NumPy says: {told}. Index "
            f"with ints, slices, ..., None, integer arrays or boolean masks.",
            np.ones((3, 5)),
            index,
        )

    return [
        wrong(3, "index 3 is out of bounds for axis 0 with size 3"),
        wrong((0, -6), "index -6 is out of bounds for axis 1 with size 5"),
        wrong((0, 0, 0), "too many indices for array: array is 2-dimensional, but 3 were indexed"),
        wrong(
            1.0,
            "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer or "
            "boolean arrays are valid indices",
        ),
        wrong(
            np.ones((2, 5), bool),
            "boolean index did not match indexed array along axis 0; size of axis is 3 but size of "
            "corresponding boolean axis is 2",
        ),
        *bad_single("getitem", 0),
    ]


@operation(GetItem, samples=_indices, wrong=_bad_indices)
def getitem(x: Any, index: Any) -> Tensor:
    """Entries of x, as NumPy indexes: y = x[index].

    Parameters
    ----------
    x : Tensor or ndarray
    index : int, slice, Ellipsis, None, integer array, boolean mask, or a tuple of them
        Arrays may also be integer or bool tensors, or lists.

    Returns
    -------
    Tensor
        A view of x where there are no arrays in the index, else a copy.

    Raises
    ------
    IndexingError
        If x has no such index.

    Gradient
    --------
    Each entry of grad_out is added to the place it was read from, once for each time it was read;
    all other places receive 0. Saves the index.

    Notes
    -----
    The gradient is as large as x however little was read: split cuts x in parts at once.

    Examples
    --------
    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> x[[0, 2, 2]].sum().backward()
    >>> x.grad
    array([1., 0., 2.], dtype=float32)
    """
    shape = shape_of("getitem", x)
    parts = index if isinstance(index, tuple) else (index,)
    try:
        return GetItem.apply(x, index=tuple([_plain(part) for part in parts]))
    except (IndexError, ValueError, TypeError) as error:
        raise IndexingError(
            f"getitem: an index that x has is needed, x is {shape} and NumPy says: {error}. Index "
            f"with ints, slices, ..., None, integer arrays or boolean masks."
        ) from None


class Pad(Function):
    """y = x with entries put around it."""

    @staticmethod
    def forward(
        ctx: Any, x: Any, *, widths: tuple[tuple[int, int], ...], mode: str, value: float
    ) -> Any:
        x = np.asarray(x)
        ctx.shape, ctx.mode = x.shape, mode
        if mode == "constant":
            ends = [before + n for (before, _), n in zip(widths, x.shape, strict=True)]
            ctx.inside = tuple(slice(b, end) for (b, _), end in zip(widths, ends, strict=True))
            padded = [end + after for (_, after), end in zip(widths, ends, strict=True)]
            y = np.full_like(x, value, shape=padded)  # channels-last stays channels-last
            y[ctx.inside] = x
            return y
        # Each mode repeats entries of x: along each axis, which?
        ctx.sources = [
            np.pad(np.arange(n), width, mode=mode)  # type: ignore[call-overload]  # mode is checked
            for n, width in zip(x.shape, widths, strict=True)
        ]
        return x[np.ix_(*ctx.sources)]

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        if ctx.mode == "constant":
            return grad_out[ctx.inside]
        for axis, source in enumerate(ctx.sources):  # fold one axis after the other
            shape = (*grad_out.shape[:axis], ctx.shape[axis], *grad_out.shape[axis + 1 :])
            folded = np.zeros(shape, grad_out.dtype)
            np.add.at(folded, (slice(None),) * axis + (source,), grad_out)
            grad_out = folded
        return grad_out


_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")


def _pads(rng: np.random.Generator) -> list[Sample]:
    x = rng.standard_normal((2, 3, 5))
    return [
        Sample(x, ((0, 1), (2, 0), (1, 3))),
        Sample(x, 1, constant_values=0.5),
        Sample(x, (1, 2)),
        Sample(x, [(1, 2)]),
        *[Sample(x, ((1, 0), (4, 0), (2, 7)), mode) for mode in _MODES],
        Sample(x, 0, mode="edge"),
        Sample(rng.standard_normal(()), 2),
    ]


def _bad_pads(rng: np.random.Generator) -> list[Wrong]:
    x = np.ones((2, 3))

    def wrong_width(width: Any) -> Wrong:
        return Wrong(
            ArgumentError,
            f"pad: pad_width is an int, a pair (before, after), or a pair for each of the 2 axes "
            f"of x, none negative, got {width!r}. Pass for example 1, or (0, 1) on each axis.",
            x,
            width,
        )

    return [
        *[wrong_width(width) for width in [-1, (1, 2, 3), ((1, 1),) * 3, 1.5, None, "1"]],
        Wrong(
            ArgumentError,
            "pad: mode is one of constant, edge, reflect, symmetric, wrap, got 'replicate'. Write "
            "edge for torch's replicate, wrap for its circular.",
            x,
            1,
            "replicate",
        ),
        Wrong(
            ArgumentError,
            "pad: constant_values is one number, got (1, 2). Pad twice for two values.",
            x,
            1,
            constant_values=(1, 2),
        ),
        Wrong(
            ShapeError,
            "pad: entries to repeat are needed for mode='edge', x is (2, 0) and axis 1 has none. "
            "Use mode='constant'.",
            np.ones((2, 0)),
            1,
            "edge",
        ),
        *bad_single("pad", 1),
    ]


def _check_widths(pad_width: Any, ndim: int) -> tuple[tuple[int, int], ...]:
    """A pair (before, after) for each axis."""
    try:
        given = np.asarray(pad_width)
        pairs = np.broadcast_to(given, (ndim, 2))
    except ValueError:
        given = pairs = np.asarray(None)
    if given.dtype.kind not in "iu" or (pairs < 0).any():
        raise ArgumentError(
            f"pad: pad_width is an int, a pair (before, after), or a pair for each of the {ndim} "
            f"axes of x, none negative, got {pad_width!r}. Pass for example 1, or (0, 1) on each "
            f"axis."
        )
    return tuple((int(before), int(after)) for before, after in pairs)


@operation(Pad, samples=_pads, wrong=_bad_pads)
def pad(x: Any, pad_width: Any, mode: str = "constant", *, constant_values: float = 0) -> Tensor:
    """Put entries around x.

    Parameters
    ----------
    x : Tensor, ndarray or number
    pad_width : int, pair of int, or a pair for each axis
        How many entries to put before and after, along each axis.
    mode : {"constant", "edge", "reflect", "symmetric", "wrap"}
        What to put there, as in NumPy: one value, the last entry, or x mirrored without or with
        the last entry, or x again.
    constant_values : number
        The value of mode "constant".

    Returns
    -------
    Tensor
        Larger by before + after along each axis.

    Raises
    ------
    ArgumentError
        If the widths do not fit the axes of x, or there is no such mode.
    ShapeError
        If entries of an empty axis were to be repeated.

    Gradient
    --------
    grad_x = the inner part of grad_out (constant); in the other modes each padded entry is added to
    the one it repeats. Saves nothing.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.pad(mg.tensor([1.0, 2.0]), (0, 2)).data
    array([1., 2., 0., 0.], dtype=float32)
    """
    shape = shape_of("pad", x)
    widths = _check_widths(pad_width, len(shape))
    if mode not in _MODES:
        raise ArgumentError(
            f"pad: mode is one of {', '.join(_MODES)}, got {mode!r}. Write edge for torch's "
            f"replicate, wrap for its circular."
        )
    if not isinstance(constant_values, int | float | np.number):
        raise ArgumentError(
            f"pad: constant_values is one number, got {constant_values!r}. Pad twice for two "
            f"values."
        )
    for axis, (n, width) in enumerate(zip(shape, widths, strict=True)):
        if n == 0 and any(width) and mode != "constant":
            raise ShapeError(
                f"pad: entries to repeat are needed for mode={mode!r}, x is {shape} and axis "
                f"{axis} has none. Use mode='constant'."
            )
    return Pad.apply(x, widths=widths, mode=mode, value=constant_values)
