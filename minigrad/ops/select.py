"""Element-wise operations with a kink: abs, maximum, minimum, clip, and where.

Decisions look at real parts only, so that the complex step can differentiate each branch.
"""

from typing import Any

import numpy as np

from minigrad.core.decisions import decide, held
from minigrad.core.errors import ArgumentError, DTypeError, ShapeError
from minigrad.core.function import Function
from minigrad.core.shapes import unbroadcast
from minigrad.core.tensor import Tensor
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.arithmetic import bad_pairs, bad_single, check_operands

__all__ = ["abs", "clip", "maximum", "minimum", "where"]


class Abs(Function):
    """y = |x|."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save(x)
        if held():
            return x * decide("abs", lambda: np.sign(np.real(x)))
        return np.where(np.real(x) < 0, -x, x) if np.iscomplexobj(x) else np.abs(x)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        (x,) = ctx.saved
        # Not np.sign, which is NaN at a NaN: torch takes 0 there.
        sign = np.subtract(x.real > 0, x.real < 0, dtype=grad_out.real.dtype)
        return grad_out * sign


def _off_zero(rng: np.random.Generator) -> list[Sample]:
    x = rng.standard_normal((2, 3, 5))
    return [Sample(x + 0.1 * np.sign(x)), Sample(np.asarray(-1.5))]


@operation(Abs, samples=_off_zero, wrong=lambda rng: bad_single("abs"))
def abs(x: Any) -> Tensor:
    """Absolute value: y = abs(x).

    Parameters
    ----------
    x : Tensor, ndarray or number

    Returns
    -------
    Tensor
        Of the shape of x.

    Gradient
    --------
    grad_x = grad_out sign(x); at the kink x = 0, and at a NaN, it is 0. Saves x.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.abs(mg.tensor([1.0, -2.0])).data
    array([1., 2.], dtype=float32)
    """
    check_operands("abs", x)
    return Abs.apply(x)


def _larger(x: Any, y: Any) -> Any:
    """max(x, y), and NaN where one is NaN; of complex numbers by their real parts."""
    if np.iscomplexobj(x) or np.iscomplexobj(y):
        return np.where(np.real(x) >= np.real(y), x, y)
    return np.maximum(x, y)


def _smaller(x: Any, y: Any) -> Any:
    """min(x, y), and NaN where one is NaN; of complex numbers by their real parts."""
    if np.iscomplexobj(x) or np.iscomplexobj(y):
        return np.where(np.real(x) <= np.real(y), x, y)
    return np.minimum(x, y)


def _preference(x: Any, beats: np.ufunc, y: Any) -> np.ndarray:
    """How much of x is in the result: 1 where x beats y, 1/2 at a tie, else 0."""
    real_x, real_y = np.real(x), np.real(y)
    return np.where(np.equal(real_x, real_y), 0.5, beats(real_x, real_y))


def _to_winners(ctx: Any, beaten_by: np.ufunc, grad_out: np.ndarray) -> Any:
    """The cotangent for each operand where it is not beaten, half of it at a tie; at a NaN both."""
    x, y = ctx.saved
    real_x, real_y = x.real, y.real
    share = np.where(real_x == real_y, grad_out / 2, grad_out)
    grad_x = grad_y = None
    if ctx.needs[0]:
        grad_x = unbroadcast(np.where(beaten_by(real_x, real_y), 0, share), x.shape)
    if ctx.needs[1]:
        grad_y = unbroadcast(np.where(beaten_by(real_y, real_x), 0, share), y.shape)
    return grad_x, grad_y


class Maximum(Function):
    """z = max(x, y), element by element."""

    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        ctx.save(x, y)
        if held():
            share = decide("maximum", lambda: _preference(x, np.greater, y))
            return share * x + (1 - share) * y
        return _larger(x, y)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        return _to_winners(ctx, np.less, grad_out)


def _untied_pairs(rng: np.random.Generator) -> list[Sample]:
    normal = rng.standard_normal
    return [
        Sample(normal((2, 3, 5)), normal((2, 3, 5))),
        Sample(normal((5,)), normal((3, 1))),
        Sample(normal((2, 3)), 0.25),
        Sample(0.25, normal((2, 3))),
    ]


@operation(Maximum, samples=_untied_pairs, wrong=lambda rng: bad_pairs("maximum"))
def maximum(x: Any, y: Any) -> Tensor:
    """Larger of two, element by element, with broadcasting; NaN wins.

    Parameters
    ----------
    x, y : Tensor, ndarray or number
        Of shapes that broadcast together.

    Returns
    -------
    Tensor
        Of the broadcast shape.

    Raises
    ------
    ShapeError
        If the shapes do not broadcast.

    Gradient
    --------
    grad_out goes to the larger operand, half to each at a tie, and to both where one is NaN;
    summed over the axes along which it was broadcast. Saves both operands.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.maximum(mg.tensor([1.0, -2.0]), 0).data
    array([1., 0.], dtype=float32)
    """
    check_operands("maximum", x, y)
    return Maximum.apply(x, y)


class Minimum(Function):
    """z = min(x, y), element by element."""

    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        ctx.save(x, y)
        if held():
            share = decide("minimum", lambda: _preference(x, np.less, y))
            return share * x + (1 - share) * y
        return _smaller(x, y)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        return _to_winners(ctx, np.greater, grad_out)


@operation(Minimum, samples=_untied_pairs, wrong=lambda rng: bad_pairs("minimum"))
def minimum(x: Any, y: Any) -> Tensor:
    """Smaller of two, element by element, with broadcasting; NaN wins.

    Parameters
    ----------
    x, y : Tensor, ndarray or number
        Of shapes that broadcast together.

    Returns
    -------
    Tensor
        Of the broadcast shape.

    Raises
    ------
    ShapeError
        If the shapes do not broadcast.

    Gradient
    --------
    grad_out goes to the smaller operand, half to each at a tie, and to both where one is NaN;
    summed over the axes along which it was broadcast. Saves both operands.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.minimum(mg.tensor([1.0, -2.0]), 0).data
    array([ 0., -2.], dtype=float32)
    """
    check_operands("minimum", x, y)
    return Minimum.apply(x, y)


class Clip(Function):
    """y = min(max(x, low), high)."""

    @staticmethod
    def forward(ctx: Any, x: Any, low: Any, high: Any) -> Any:
        ctx.save(x, low, high)
        if held():
            meet = low is not None and high is not None and bool(np.any(np.equal(low, high)))
            side, still = decide("clip", lambda: _clip_side(x, low, high), by_rule=meet)
            return np.choose(side.astype(np.intp), (*_present(x, low, high), still))
        raised = x if low is None else _larger(x, low)
        return raised if high is None else _smaller(raised, high)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        x, low, high = ctx.saved
        real_x = np.real(x)
        real_low = -np.inf if low is None else np.real(low)
        real_high = np.inf if high is None else np.real(high)
        crossed = high is not None and real_low >= real_high
        below = (real_x < real_low) & np.logical_not(crossed)
        above = (real_x > real_high) | (real_low > real_high)
        inside = (real_x >= real_low) & (real_x <= real_high)
        return tuple(
            unbroadcast(grad_out * mask, np.shape(value)) if need else None
            for mask, value, need in zip((inside, below, above), ctx.saved, ctx.needs, strict=True)
        )


def _clip_side(x: Any, low: Any, high: Any) -> np.ndarray:
    """Which one is the result: 0 for x, which wins a tie with a bound, 1 for low, 2 for high.

    3 where x lies below two equal bounds: neither receives a gradient, so the result stands still,
    at the value that comes along.
    """
    x, low, high = np.broadcast_arrays(*[np.real(value) for value in _present(x, low, high)])
    below = np.where(low == high, 3, 1)
    side = np.where((x > high) | (low > high), 2, np.where(x < low, below, 0))
    return np.stack([side, np.where(side == 3, low, 0)])


def _present(x: Any, low: Any, high: Any) -> tuple[Any, Any, Any]:
    """The three with infinite bounds for absent ones."""
    return x, -np.inf if low is None else low, np.inf if high is None else high


def _clips(rng: np.random.Generator) -> list[Sample]:
    normal = rng.standard_normal
    return [
        Sample(normal((2, 3, 5)), -0.5, 0.75),
        Sample(normal((2, 3, 5)), None, 0.25),
        Sample(normal((2, 3, 5)), min=0.25),
        Sample(normal((2, 3, 5)), normal((3, 1)) - 1, normal((5,)) + 1),
        Sample(normal((2, 3, 5)), np.full((3, 1), 0.5), np.full(5, -0.5)),
    ]


def _bad_clips(rng: np.random.Generator) -> list[Wrong]:
    return [
        *bad_single("clip"),
        Wrong(
            ArgumentError,
            "clip: a lower or an upper bound is needed, got neither. Pass min=..., max=... or "
            "both.",
            np.ones(3),
        ),
        Wrong(
            ShapeError,
            "clip: shapes that broadcast together are needed, got (2, 3) and (4,). Aligned from "
            "the last axis, each pair of sizes must be equal or contain a 1.",
            np.ones((2, 3)),
            np.ones(4),
        ),
    ]


@operation(Clip, samples=_clips, wrong=_bad_clips)
def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """Keep each entry between bounds: y = min(max(x, low), high).

    Parameters
    ----------
    x : Tensor, ndarray or number
    min, max : Tensor, ndarray, number or None
        Bounds that broadcast with x; None for no bound. Where min > max the result is max, and
        where a bound is NaN it is NaN.

    Returns
    -------
    Tensor
        Of the broadcast shape.

    Raises
    ------
    ArgumentError
        Without any bound.
    ShapeError
        If the shapes do not broadcast.

    Gradient
    --------
    grad_x = grad_out where min <= x <= max, bounds included, else 0; a bound receives grad_out
    where it is the result, but min only where it lies below max. Saves x and the bounds.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.clip(mg.tensor([-3.0, 0.5, 3.0]), -1, 1).data
    array([-1. ,  0.5,  1. ], dtype=float32)
    """
    for bound in min, max:
        check_operands("clip", x, x if bound is None else bound)
    if min is None and max is None:
        raise ArgumentError(
            "clip: a lower or an upper bound is needed, got neither. Pass min=..., max=... or both."
        )
    return Clip.apply(x, min, max)


class Where(Function):
    """z = x where the condition holds, else y."""

    @staticmethod
    def forward(ctx: Any, condition: np.ndarray, x: Any, y: Any) -> Any:
        condition = decide("where", lambda: condition)
        ctx.save(condition)
        ctx.shapes = np.shape(x), np.shape(y)
        return np.where(condition, x, y)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        (condition,) = ctx.saved
        x_shape, y_shape = ctx.shapes
        grad_x = unbroadcast(np.where(condition, grad_out, 0), x_shape) if ctx.needs[1] else None
        grad_y = unbroadcast(np.where(condition, 0, grad_out), y_shape) if ctx.needs[2] else None
        return None, grad_x, grad_y


def _choices(rng: np.random.Generator) -> list[Sample]:
    normal = rng.standard_normal
    return [
        Sample(normal((2, 3, 5)) > 0, normal((2, 3, 5)), normal((2, 3, 5))),
        Sample(normal((3, 1)) > 0, normal((5,)), normal((2, 1, 1))),
        Sample(normal((2, 3)) > 0, normal((2, 3)), 0.0),
    ]


def _bad_choices(rng: np.random.Generator) -> list[Wrong]:
    return [
        Wrong(
            DTypeError,
            "where: a condition of booleans is needed, got float64. Pass a comparison, such as "
            "x > 0.",
            np.ones(3),
            np.ones(3),
            np.ones(3),
        ),
        Wrong(
            ShapeError,
            "where: shapes that broadcast together are needed, got (2,) and (3,). Aligned from "
            "the last axis, each pair of sizes must be equal or contain a 1.",
            np.ones(3, bool),
            np.ones(2),
            np.ones(3),
        ),
    ]


@operation(Where, samples=_choices, wrong=_bad_choices)
def where(condition: Any, x: Any, y: Any) -> Tensor:
    """Choose element by element, with broadcasting: x where the condition holds, else y.

    Parameters
    ----------
    condition : Tensor or ndarray of bool
        Has no gradient.
    x, y : Tensor, ndarray or number
        All three broadcast together.

    Returns
    -------
    Tensor
        Of the broadcast shape.

    Raises
    ------
    DTypeError
        If the condition is not boolean.
    ShapeError
        If the shapes do not broadcast.

    Gradient
    --------
    grad_x = grad_out where the condition holds, else 0; grad_y the other way round; each summed
    over the axes along which it was broadcast. Saves the condition.

    Examples
    --------
    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, -2.0])
    >>> mg.where(x > 0, x, 0.5).data
    array([1. , 0.5], dtype=float32)
    """
    array = condition.data if isinstance(condition, Tensor) else np.asarray(condition)
    if array.dtype != bool:
        raise DTypeError(
            f"where: a condition of booleans is needed, got {array.dtype}. Pass a comparison, such "
            f"as x > 0."
        )
    check_operands("where", x, y)
    check_operands("where", array, x)
    check_operands("where", array, y)
    return Where.apply(array, x, y)
