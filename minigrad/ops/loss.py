"""Losses between two tensors of one shape, and how any loss is reduced to a number."""

import math
from typing import Any

import numpy as np

from minigrad.core.errors import ArgumentError, DTypeError, ShapeError
from minigrad.core.function import Function
from minigrad.core.tensor import Tensor
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.activation import bad_floating, check_floating
from minigrad.ops.arithmetic import check_operands
from minigrad.ops.smooth import log1p_exp, logistic

__all__ = ["binary_cross_entropy_with_logits", "mse_loss"]


def reduced(losses: np.ndarray, reduction: str, count: float) -> Any:
    """The losses themselves, their sum, or their sum over ``count``; the mean of nothing is NaN."""
    if reduction == "none":
        return losses
    total = np.add.reduce(losses, axis=None)  # losses.sum() goes a longer way
    if reduction == "sum":
        return total
    return total / count if count else total * math.nan


def spread(
    grad_out: np.ndarray, shape: tuple[int, ...], reduction: str, count: float
) -> np.ndarray:
    """The adjoint of :func:`reduced`: the cotangent of each loss."""
    if reduction == "none":
        return grad_out
    if reduction == "mean":
        grad_out = grad_out / count if count else grad_out * math.nan
    return np.broadcast_to(grad_out, shape)


def check_reduction(name: str, reduction: Any) -> None:
    """Raise unless the reduction is one of the three words."""
    if reduction not in ("mean", "sum", "none"):
        raise ArgumentError(
            f"{name}: reduction is 'mean', 'sum' or 'none', got {reduction!r}. Pass one of these "
            f"words."
        )


def bad_reduction(name: str, *args: Any) -> Wrong:
    return Wrong(
        ArgumentError,
        f"{name}: reduction is 'mean', 'sum' or 'none', got 'avg'. Pass one of these words.",
        *args,
        reduction="avg",
    )


def constant(name: str, what: str, value: Any) -> np.ndarray:
    """The weights of a loss as an array; raise for a Tensor that expects a gradient."""
    if isinstance(value, Tensor):
        if value.requires_grad:
            raise ArgumentError(
                f"{name}: {what} is a constant, the one given has requires_grad=True and would "
                f"receive no gradient. Pass {what}.detach()."
            )
        return value.data
    return np.asarray(value)


def bad_constant(name: str, what: str, *args: Any, size: int) -> Wrong:
    return Wrong(
        ArgumentError,
        f"{name}: {what} is a constant, the one given has requires_grad=True and would receive no "
        f"gradient. Pass {what}.detach().",
        *args,
        **{what: Tensor(np.ones(size), requires_grad=True)},
    )


def _check_pair(name: str, x: Any, target: Any, reduction: str) -> Any:
    """Return the target, if constant in the precision of x; raise unless the two fit together."""
    shape = check_floating(name, x)
    check_operands(name, target)
    check_reduction(name, reduction)
    target_shape = getattr(target, "shape", ())
    if target_shape != shape:
        raise ShapeError(
            f"{name}: x and target have one shape, got {shape} and {target_shape}, and "
            f"broadcasting them would compare entries that do not belong together. Reshape one."
        )
    values = target.data if isinstance(target, Tensor) else np.asarray(target)
    if values.dtype.kind not in "biu":  # integers are labels 0 and 1, or counts: exact as floats
        check_floating(name, target)
        if isinstance(target, Tensor):
            return target
    return values.astype(getattr(x, "dtype", np.float64))


def _bad_pair(name: str) -> list[Wrong]:
    return [
        *bad_floating(name, np.ones(3)),
        Wrong(
            DTypeError,
            f"{name}: a Tensor, an ndarray or a number is needed, got str. Make a tensor of it "
            f"with minigrad.tensor(...).",
            np.ones(3),
            "3",
        ),
        Wrong(
            ShapeError,
            f"{name}: x and target have one shape, got (3, 1) and (3,), and broadcasting them "
            f"would compare entries that do not belong together. Reshape one.",
            np.ones((3, 1)),
            np.ones(3),
        ),
        bad_reduction(name, np.ones(3), np.ones(3)),
    ]


class MSELoss(Function):
    """loss = (x - target)**2, reduced."""

    @staticmethod
    def forward(ctx: Any, x: Any, target: Any, *, reduction: str) -> Any:
        difference = np.asarray(x - target)
        ctx.save(difference)
        ctx.reduction = reduction
        return reduced(difference * difference, reduction, difference.size)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        (difference,) = ctx.saved
        each = spread(grad_out, difference.shape, ctx.reduction, difference.size)
        grad_x = 2 * each * difference
        return (grad_x if ctx.needs[0] else None), (-grad_x if ctx.needs[1] else None)


def _mse_samples(rng: np.random.Generator) -> list[Sample]:
    normal = rng.standard_normal
    return [
        Sample(normal((2, 3, 5)), normal((2, 3, 5))),
        Sample(normal((2, 3)), normal((2, 3)), reduction="sum"),
        Sample(normal((2, 3)), normal((2, 3)), "none"),
        Sample(normal((2, 3)), rng.integers(0, 5, (2, 3))),
        Sample(normal(()), normal(())),
    ]


@operation(MSELoss, samples=_mse_samples, wrong=lambda rng: _bad_pair("mse_loss"))
def mse_loss(x: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Mean squared error: the mean of (x - target)**2.

    Parameters
    ----------
    x : Tensor, ndarray or float
    target : Tensor, ndarray or number, shape of x
        An array is taken in the precision of x; it may hold integers.
    reduction : {"mean", "sum", "none"}
        The mean over all entries (NaN if there is none), their sum, or each loss.

    Returns
    -------
    Tensor
        Of shape (), or of the shape of x for "none".

    Raises
    ------
    ArgumentError
        If the reduction is none of the three.
    DTypeError
        If x is not of float32 or float64.
    ShapeError
        If the shapes differ; nothing is broadcast.

    Gradient
    --------
    grad_x = 2 grad_out (x - target), divided by x.size for the mean, and grad_target = -grad_x.
    Saves x - target: x.size numbers.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.mse_loss(mg.tensor([1.0, 2.0]), mg.tensor([1.0, 4.0])).item()
    2.0
    """
    target = _check_pair("mse_loss", x, target, reduction)
    return MSELoss.apply(x, target, reduction=reduction)


class BinaryCrossEntropyWithLogits(Function):
    """loss = weight (pos_weight t softplus(-x) + (1 - t) softplus(x)), reduced."""

    @staticmethod
    def forward(
        ctx: Any, x: Any, target: Any, *, weight: Any, pos_weight: Any, reduction: str
    ) -> Any:
        ctx.save(x, target, weight, pos_weight)
        ctx.reduction = reduction
        # -log sigmoid(x) = softplus(-x), and -log(1 - sigmoid(x)) = softplus(x).
        losses = pos_weight * target * log1p_exp(-x) + (1 - target) * log1p_exp(x)
        return reduced(weight * losses, reduction, losses.size)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        x, target, weight, pos_weight = ctx.saved
        each = weight * spread(grad_out, np.shape(x), ctx.reduction, np.size(x))
        grad_x = grad_target = None
        if ctx.needs[0]:
            grad_x = each * ((1 - target) * logistic(x) - pos_weight * target * logistic(-x))
        if ctx.needs[1]:
            grad_target = each * (pos_weight * log1p_exp(-x) - log1p_exp(x))
        return grad_x, grad_target


def _binary_samples(rng: np.random.Generator) -> list[Sample]:
    x, target = 3 * rng.standard_normal((2, 3, 5)), rng.uniform(0, 1, (2, 3, 5))
    weight, pos_weight = rng.uniform(0.5, 2, (2, 1, 5)), rng.uniform(0.5, 2, 5)
    return [
        Sample(x, target),
        Sample(x, target, weight=weight),
        Sample(x, target, pos_weight=pos_weight, reduction="sum"),
        Sample(x, target, weight=weight, pos_weight=pos_weight, reduction="none"),
        Sample(x, rng.integers(0, 2, x.shape), weight=weight, pos_weight=pos_weight),
        Sample(x[0, 0], target[0, 0], reduction="sum"),
        Sample(x[0, 0, :1].reshape(()), target[0, 0, :1].reshape(())),
    ]


def _bad_binary(rng: np.random.Generator) -> list[Wrong]:
    name, x = "binary_cross_entropy_with_logits", np.ones((2, 3))
    return [
        *_bad_pair(name),
        Wrong(
            ShapeError,
            f"{name}: pos_weight broadcasts to the shape of x, got (2,) and (2, 3). Pass one "
            f"number for each entry along the last axis, or a shape with ones.",
            x,
            x,
            pos_weight=np.ones(2),
        ),
        bad_constant(name, "weight", x, x, size=3),
        bad_constant(name, "pos_weight", x, x, size=3),
    ]


@operation(BinaryCrossEntropyWithLogits, samples=_binary_samples, wrong=_bad_binary)
def binary_cross_entropy_with_logits(
    x: Any, target: Any, weight: Any = None, pos_weight: Any = None, reduction: str = "mean"
) -> Tensor:
    """Cross-entropy of yes-or-no answers given as logits, without overflow.

    loss = -w (P t log sigmoid(x) + (1 - t) log(1 - sigmoid(x)))
         = w (P t softplus(-x) + (1 - t) softplus(x))

    Parameters
    ----------
    x : Tensor, ndarray or float
        Logits.
    target : Tensor, ndarray or number, shape of x
        Probabilities of yes, or labels 0 and 1.
    weight : ndarray or Tensor, optional
        w, broadcasts to the shape of x; a constant.
    pos_weight : ndarray or Tensor, optional
        P, how much a yes counts, broadcasts to the shape of x; a constant.
    reduction : {"mean", "sum", "none"}
        The mean over all entries (NaN if there is none), their sum, or each loss.

    Returns
    -------
    Tensor
        Of shape (), or of the shape of x for "none".

    Raises
    ------
    ArgumentError
        If the reduction is none of the three, or a weight expects a gradient.
    DTypeError
        If x is not of float32 or float64.
    ShapeError
        If x and target differ in shape, or a weight does not broadcast to it.

    Gradient
    --------
    grad_x = grad_out w ((1 - t) sigmoid(x) - P t sigmoid(-x)), which is w (sigmoid(x) - t) where
    P = 1; grad_target = grad_out w (P softplus(-x) - softplus(x)); both divided by x.size for the
    mean. Saves x, target and the weights: their own bytes, no copies.

    Examples
    --------
    >>> import minigrad as mg
    >>> logits, answers = mg.tensor([0.0, 1e4, -1e4]), mg.tensor([1.0, 1.0, 1.0])
    >>> mg.binary_cross_entropy_with_logits(logits, answers, reduction="none").data.round(4)
    array([6.931e-01, 0.000e+00, 1.000e+04], dtype=float32)
    """
    name = "binary_cross_entropy_with_logits"
    target = _check_pair(name, x, target, reduction)
    weights = {"weight": weight, "pos_weight": pos_weight}
    weights = {what: _binary_weight(name, what, value, x) for what, value in weights.items()}
    return BinaryCrossEntropyWithLogits.apply(x, target, reduction=reduction, **weights)


def _binary_weight(name: str, what: str, value: Any, x: Any) -> np.ndarray | float:
    """The weights in the precision of x; 1 for None."""
    if value is None:
        return 1.0
    array, shape = constant(name, what, value), getattr(x, "shape", ())
    fits = len(array.shape) <= len(shape) and all(
        n in (1, m) for n, m in zip(array.shape[::-1], shape[::-1], strict=False)
    )
    if not fits:
        raise ShapeError(
            f"{name}: {what} broadcasts to the shape of x, got {array.shape} and {shape}. Pass one "
            f"number for each entry along the last axis, or a shape with ones."
        )
    return array.astype(getattr(x, "dtype", np.float64))
