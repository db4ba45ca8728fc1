"""Reductions: sum, mean, var, max, min and logsumexp over any axes.

Reducing and broadcasting are adjoint: the backward of each reduction gives the cotangent its
reduced axes back as ones and broadcasts it over them, weighted by how much each entry mattered.
"""

import math
from typing import Any

import numpy as np

from minigrad.core.decisions import decide, held
from minigrad.core.dtypes import NUMBERS, as_floats
from minigrad.core.errors import ArgumentError, ShapeError
from minigrad.core.function import Function
from minigrad.core.shapes import normalize_axes
from minigrad.core.tensor import Tensor
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.arithmetic import bad_single, check_operands

__all__ = ["logsumexp", "max", "mean", "min", "sum", "var"]


def _check(name: str, x: Any, axis: Any) -> tuple[int, ...]:
    """The axes to reduce, of an operand that is an array or a number."""
    check_operands(name, x)
    return normalize_axes(name, axis, len(getattr(x, "shape", ())))


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """``shape`` with reduced axes kept as ones: in this shape a result broadcasts against x."""
    return tuple([1 if i in axes else n for i, n in enumerate(shape)])


def _count(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    """How many entries of x go into each entry of the result."""
    return math.prod([shape[a] for a in axes])


def _total(x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    """The sum over axes; np.sum goes a longer way to it, and np.mean one longer still."""
    return _reduce(x, axis=axes, keepdims=keepdims)


def _average(x: Any, axes: tuple[int, ...], keepdims: bool, count: int) -> Any:
    """The mean of so many entries; whole numbers are summed in float64, where none overflows."""
    dtype = np.float64 if np.result_type(x).kind in "biu" else None
    return _reduce(x, axis=axes, keepdims=keepdims, dtype=dtype) / count


_reduce: Any = np.add.reduce  # Any: its types want keepdims as a literal


def _samples(rng: np.random.Generator) -> list[Sample]:  # of all reductions
    normal = rng.standard_normal
    return [
        Sample(normal((2, 3, 5)), axis=1),
        Sample(normal((2, 3, 5))),
        Sample(normal((2, 3, 5)), keepdims=True),
        Sample(normal((2, 3, 5, 7)), axis=(0, -1)),
        Sample(normal((2, 3, 5)), axis=(-1, 1), keepdims=True),
        Sample(normal((2, 3)), axis=()),
        Sample(normal(())),
    ]


def _bad_axes(name: str) -> list[Wrong]:
    x = np.ones((2, 3))
    return [
        *bad_single(name),
        Wrong(
            ArgumentError,
            f"{name}: axis 2 was asked for, x has 2 axes. Valid axes are -2 to 1.",
            x,
            axis=2,
        ),
        Wrong(
            ArgumentError,
            f"{name}: axis names each axis once, got (0, -2). Drop the one named twice.",
            x,
            axis=(0, -2),
        ),
        Wrong(
            ArgumentError,
            f"{name}: axis is an int, a tuple of ints or None, got 1.0. Pass for example axis=0.",
            x,
            axis=1.0,
        ),
    ]


class Sum(Function):
    """y = sum of x over axes."""

    @staticmethod
    def forward(ctx: Any, x: Any, *, axes: tuple[int, ...], keepdims: bool) -> Any:
        ctx.shape = np.shape(x)
        ctx.kept = _kept(ctx.shape, axes)
        return _total(x, axes, keepdims)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        return np.broadcast_to(grad_out.reshape(ctx.kept), ctx.shape)


@operation(Sum, samples=_samples, wrong=lambda rng: _bad_axes("sum"))
def sum(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Sum over axes: y = sum_i x_i.

    Parameters
    ----------
    x : Tensor, ndarray or number
    axis : int, tuple of int or None
        Axes to reduce; None for all. Negative ones count from the last.
    keepdims : bool
        Keep reduced axes with size 1, so that the result broadcasts against x.

    Returns
    -------
    Tensor
        Of the shape of x without the reduced axes. The sum of no entries is 0.

    Raises
    ------
    ArgumentError
        If an axis does not exist or is named twice.

    Gradient
    --------
    grad_x = grad_out, broadcast to the shape of x without a copy. Saves nothing.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.sum(mg.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0).data
    array([4., 6.], dtype=float32)
    """
    return Sum.apply(x, axes=_check("sum", x, axis), keepdims=keepdims)


class Mean(Function):
    """y = mean of x over axes."""

    @staticmethod
    def forward(ctx: Any, x: Any, *, axes: tuple[int, ...], keepdims: bool) -> Any:
        ctx.shape = np.shape(x)
        ctx.kept = _kept(ctx.shape, axes)
        count = _count(ctx.shape, axes)
        # Where there are no entries, no gradient is to be divided either.
        ctx.count = count or 1
        return _average(x, axes, keepdims, count)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        return np.broadcast_to(grad_out.reshape(ctx.kept) / ctx.count, ctx.shape)


@operation(Mean, samples=_samples, wrong=lambda rng: _bad_axes("mean"))
def mean(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Mean over axes: y = (1/n) sum_i x_i.

    Parameters
    ----------
    x : Tensor, ndarray or number
    axis : int, tuple of int or None
        Axes to reduce; None for all. Negative ones count from the last.
    keepdims : bool
        Keep reduced axes with size 1, so that the result broadcasts against x.

    Returns
    -------
    Tensor
        Of the shape of x without the reduced axes. The mean of no entries is NaN, with NumPy's
        warning.

    Raises
    ------
    ArgumentError
        If an axis does not exist or is named twice.

    Gradient
    --------
    grad_x = grad_out / n, broadcast to the shape of x without a copy. Saves nothing.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.mean(mg.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=1).data
    array([1.5, 3.5], dtype=float32)
    """
    return Mean.apply(x, axes=_check("mean", x, axis), keepdims=keepdims)


class Var(Function):
    """y = sum of (x - mean)**2 over axes, divided by n - ddof."""

    @staticmethod
    def forward(ctx: Any, x: Any, *, axes: tuple[int, ...], ddof: float, keepdims: bool) -> Any:
        shape = np.shape(x)
        n = _count(shape, axes)
        ctx.kept = _kept(shape, axes)
        ctx.free = float(n - ddof) if n > ddof else 0.0  # a NumPy scalar would widen float32
        # Two passes: the mean of the squares minus the square of the mean loses all digits
        # where the mean is large. Squared without abs, which no complex step could cross.
        average = _average(x, axes, True, n)
        centred = x - average
        ctx.save(x, average)
        return _total(centred * centred, axes, keepdims) / ctx.free

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        x, average = ctx.saved
        # The mean moves with x, but sum(x - mean) = 0, so its share vanishes.
        return (2 * grad_out.reshape(ctx.kept) / ctx.free) * (x - average)


def _vars(rng: np.random.Generator) -> list[Sample]:
    normal = rng.standard_normal
    return [
        *[s for s in _samples(rng) if s.args[0].ndim and s.options.get("axis") != ()],
        Sample(normal((2, 3, 5)), axis=(0, 2), ddof=1),
        Sample(normal((2, 3)) + 100, axis=0, ddof=0.5, keepdims=True),
    ]


def _bad_vars(rng: np.random.Generator) -> list[Wrong]:
    return [
        *_bad_axes("var"),
        Wrong(
            ArgumentError,
            "var: ddof is a number, got None. Pass ddof=0 to divide by n, ddof=1 by n - 1.",
            np.ones((2, 3)),
            ddof=None,
        ),
    ]


@operation(Var, samples=_vars, wrong=_bad_vars)
def var(x: Any, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Tensor:
    """Variance over axes: y = sum_i (x_i - mean)**2 / (n - ddof).

    Parameters
    ----------
    x : Tensor, ndarray or number
    axis : int, tuple of int or None
        Axes to reduce; None for all. Negative ones count from the last.
    ddof : number
        Degrees of freedom taken off n: 0 for the biased variance, as in NumPy; 1 for the unbiased
        one, which is torch's default.
    keepdims : bool
        Keep reduced axes with size 1, so that the result broadcasts against x.

    Returns
    -------
    Tensor
        Of the shape of x without the reduced axes; NaN or Inf where n <= ddof, with NumPy's
        warning.

    Raises
    ------
    ArgumentError
        If an axis does not exist or is named twice, or ddof is not a number.

    Gradient
    --------
    grad_x = grad_out 2 (x - mean) / (n - ddof). Saves x and the mean.

    Notes
    -----
    Two passes over x. mean(x**2) - mean(x)**2 needs one, and is 9 times wrong in float32 at
    mean / std = 1e4.

    Examples
    --------
    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 2.0, 3.0, 6.0])
    >>> mg.var(x).item(), mg.var(x, ddof=2).item()
    (3.5, 7.0)
    """
    axes = _check("var", x, axis)
    if isinstance(ddof, bool) or not isinstance(ddof, NUMBERS):
        raise ArgumentError(
            f"var: ddof is a number, got {ddof!r}. Pass ddof=0 to divide by n, ddof=1 by n - 1."
        )
    return Var.apply(x, axes=axes, ddof=ddof, keepdims=keepdims)


def _shared_among_winners(ctx: Any, grad_out: np.ndarray) -> np.ndarray:
    """The cotangent in equal shares to the entries of x that equal the result."""
    x, y = ctx.saved
    best = y.real.reshape(ctx.kept)
    winners = np.equal(x.real, best) | np.isnan(x.real)  # a NaN wins, and equals nothing
    count = winners.sum(axis=ctx.axes, keepdims=True).astype(grad_out.real.dtype)
    return winners * (grad_out.reshape(ctx.kept) / count)


def _shares(x: np.ndarray, best: np.ndarray) -> np.ndarray:
    """How much of each entry is in the result: all of the winner, equal shares of several."""
    winners = np.equal(x, best) | np.isnan(x)
    axes = tuple(i for i, n in enumerate(best.shape) if n == 1)
    return winners / winners.sum(axis=axes, keepdims=True)


class Max(Function):
    """y = largest entry of x over axes."""

    @staticmethod
    def forward(ctx: Any, x: Any, *, axes: tuple[int, ...], keepdims: bool) -> Any:
        y = np.max(x, axis=axes, keepdims=keepdims)  # of complex numbers: by real part first
        ctx.axes, ctx.kept = axes, _kept(np.shape(x), axes)
        ctx.save(x, y)
        if held():
            share = decide("max", lambda: _shares(np.real(x), np.real(y).reshape(ctx.kept)))
            return _total(x * share, axes, keepdims)
        return y

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        return _shared_among_winners(ctx, grad_out)


def _bad_extremes(name: str) -> list[Wrong]:
    return [
        *_bad_axes(name),
        Wrong(
            ShapeError,
            f"{name}: at least one entry to choose from is needed, x is (2, 0) and axis=1 has "
            f"none. Reduce over another axis, or leave empty arrays out.",
            np.ones((2, 0)),
            axis=1,
        ),
    ]


def _check_extreme(name: str, x: Any, axis: Any) -> tuple[int, ...]:
    """The axes, if they hold an entry: nothing has no largest one."""
    axes = _check(name, x, axis)
    shape = getattr(x, "shape", ())
    if not _count(shape, axes):
        raise ShapeError(
            f"{name}: at least one entry to choose from is needed, x is {shape} and axis={axis} "
            f"has none. Reduce over another axis, or leave empty arrays out."
        )
    return axes


@operation(Max, samples=_samples, wrong=lambda rng: _bad_extremes("max"))
def max(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Largest entry over axes; NaN wins.

    Parameters
    ----------
    x : Tensor, ndarray or number
    axis : int, tuple of int or None
        Axes to reduce; None for all. Negative ones count from the last.
    keepdims : bool
        Keep reduced axes with size 1, so that the result broadcasts against x.

    Returns
    -------
    Tensor
        Of the shape of x without the reduced axes.

    Raises
    ------
    ArgumentError
        If an axis does not exist or is named twice.
    ShapeError
        If there is no entry to choose from.

    Gradient
    --------
    grad_out goes to the largest entry, in equal shares where several tie. Saves x and the result.

    Examples
    --------
    >>> import minigrad as mg
    >>> x = mg.tensor([2.0, 5.0, 5.0], requires_grad=True)
    >>> mg.max(x).backward()
    >>> x.grad
    array([0. , 0.5, 0.5], dtype=float32)
    """
    return Max.apply(x, axes=_check_extreme("max", x, axis), keepdims=keepdims)


class Min(Function):
    """y = smallest entry of x over axes."""

    @staticmethod
    def forward(ctx: Any, x: Any, *, axes: tuple[int, ...], keepdims: bool) -> Any:
        y = np.min(x, axis=axes, keepdims=keepdims)
        ctx.axes, ctx.kept = axes, _kept(np.shape(x), axes)
        ctx.save(x, y)
        if held():
            share = decide("min", lambda: _shares(np.real(x), np.real(y).reshape(ctx.kept)))
            return _total(x * share, axes, keepdims)
        return y

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        return _shared_among_winners(ctx, grad_out)


@operation(Min, samples=_samples, wrong=lambda rng: _bad_extremes("min"))
def min(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Smallest entry over axes; NaN wins.

    Parameters
    ----------
    x : Tensor, ndarray or number
    axis : int, tuple of int or None
        Axes to reduce; None for all. Negative ones count from the last.
    keepdims : bool
        Keep reduced axes with size 1, so that the result broadcasts against x.

    Returns
    -------
    Tensor
        Of the shape of x without the reduced axes.

    Raises
    ------
    ArgumentError
        If an axis does not exist or is named twice.
    ShapeError
        If there is no entry to choose from.

    Gradient
    --------
    grad_out goes to the smallest entry, in equal shares where several tie. Saves x and the result.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.min(mg.tensor([[2.0, 5.0], [4.0, 3.0]]), axis=1).data
    array([2., 3.], dtype=float32)
    """
    return Min.apply(x, axes=_check_extreme("min", x, axis), keepdims=keepdims)


class LogSumExp(Function):
    """y = log of the sum of exp x over axes."""

    @staticmethod
    def forward(ctx: Any, x: Any, *, axes: tuple[int, ...], keepdims: bool) -> Any:
        x = as_floats(np.asarray(x))
        ctx.kept = _kept(x.shape, axes)
        top = np.max(x.real, axis=axes, keepdims=True, initial=-np.inf)
        # Any shift gives the same y, and the largest entry keeps exp from overflowing. Where that
        # is infinite the result is too, and 0 keeps Inf - Inf out of it.
        shift = np.where(np.isfinite(top), top, 0).astype(top.dtype)
        with np.errstate(divide="ignore", over="ignore"):  # log 0 = -Inf is meant, and exp Inf
            y = np.log(_total(np.exp(x - shift), axes, True)) + shift
        ctx.save(x, y)
        return y if keepdims else np.squeeze(y, axis=axes)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        x, y = ctx.saved
        shift = np.where(np.isneginf(y.real), 0, y)  # exp(-Inf - 0) = 0, but -Inf + Inf is NaN
        return grad_out.reshape(ctx.kept) * np.exp(x - shift)


@operation(LogSumExp, samples=_samples, wrong=lambda rng: _bad_axes("logsumexp"))
def logsumexp(x: Any, axis: Any = None, *, keepdims: bool = False) -> Tensor:
    """Smooth maximum over axes: y = log sum_i exp(x_i), without overflow.

    Parameters
    ----------
    x : Tensor, ndarray or number
    axis : int, tuple of int or None
        Axes to reduce; None for all. Negative ones count from the last.
    keepdims : bool
        Keep reduced axes with size 1, so that the result broadcasts against x.

    Returns
    -------
    Tensor
        Of the shape of x without the reduced axes; -Inf where all entries are -Inf or there is
        none.

    Raises
    ------
    ArgumentError
        If an axis does not exist or is named twice.

    Gradient
    --------
    grad_x = grad_out exp(x - y), the softmax of x; 0 where y is -Inf, NaN where an entry is Inf.
    Saves x and the result.

    Examples
    --------
    >>> import minigrad as mg
    >>> round(mg.logsumexp(mg.tensor([1000.0, 1000.0])).item(), 3)
    1000.693
    """
    return LogSumExp.apply(x, axes=_check("logsumexp", x, axis), keepdims=keepdims)
