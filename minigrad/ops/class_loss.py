"""cross_entropy: softmax and the loss of a classifier in one."""

import functools
import math
from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.core.errors import ArgumentError, DTypeError, ShapeError
from minigrad.core.function import Function
from minigrad.core.tensor import Tensor
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.loss import (
    check_reduction,
    reduced,
    spread,
)
from minigrad.ops.nll import (
    as_rows,
    bad_labels,
    check_classes,
    checked_labels,
    class_axis,
    class_weights,
    counted_weight,
    from_rows,
    target_array,
    without_classes,
)
from minigrad.ops.smooth import log_probabilities

__all__ = ["cross_entropy"]


class CrossEntropy(Function):
    """loss = -sum_c q_c log softmax(x)_c with q from labels, reduced."""

    @staticmethod
    def forward(
        ctx: Any,
        x: np.ndarray,
        *,
        labels: np.ndarray,
        base: np.ndarray,
        hit: np.ndarray,
        reduction: str,
        count: float,
    ) -> Any:
        losses, probabilities = kernels.softmax_cross_entropy_forward(as_rows(x), labels, base, hit)
        ctx.save(probabilities, labels)
        ctx.base, ctx.hit = base, hit  # made here: nobody can have changed them since
        ctx.shape, ctx.reduction, ctx.count = x.shape, reduction, count
        return reduced(losses.reshape(without_classes(x.shape)), reduction, count)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        probabilities, labels = ctx.saved
        each = spread(grad_out, without_classes(ctx.shape), ctx.reduction, ctx.count)
        grad_rows = kernels.softmax_cross_entropy_backward(
            each.reshape(-1), probabilities, labels, ctx.base, ctx.hit
        )
        return from_rows(grad_rows, ctx.shape)


class SoftCrossEntropy(Function):
    """loss = -sum_c q_c log softmax(x)_c with q from probabilities, reduced."""

    name = "cross_entropy"

    @staticmethod
    def forward(
        ctx: Any,
        x: np.ndarray,
        target: np.ndarray,
        *,
        weight: np.ndarray,
        smoothing: float,
        reduction: str,
    ) -> Any:
        axis = class_axis(x.ndim)
        log_p = log_probabilities(x, (axis,))
        q = weight * ((1 - smoothing) * target + smoothing / x.shape[axis])
        ctx.save(log_p, q, weight)
        ctx.axis, ctx.smoothing, ctx.reduction = axis, smoothing, reduction
        with np.errstate(invalid="ignore"):
            losses = -np.where(q == 0, 0, q * log_p).sum(axis=axis)  # 0 log 0 is 0
        return reduced(losses, reduction, losses.size)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        log_p, q, weight = ctx.saved
        shape = without_classes(log_p.shape)
        each = spread(grad_out, shape, ctx.reduction, math.prod(shape))
        each = np.expand_dims(each, ctx.axis)
        grad_x = grad_target = None
        if ctx.needs[0]:
            grad_x = each * (np.exp(log_p) * q.sum(axis=ctx.axis, keepdims=True) - q)
        if ctx.needs[1]:
            grad_target = -each * weight * (1 - ctx.smoothing) * log_p
        return grad_x, grad_target


def _cross_entropy_samples(rng: np.random.Generator) -> list[Sample]:
    x, image = 2 * rng.standard_normal((5, 3)), rng.standard_normal((2, 5, 3, 4))
    channels_last = rng.standard_normal((2, 3, 4, 5)).transpose(0, 3, 1, 2)
    labels, pixels = rng.integers(0, 3, 5), rng.integers(0, 5, (2, 3, 4))
    weight, soft = rng.uniform(0.5, 2, 3), rng.dirichlet(np.ones(3), 5)
    soft_pixels = np.moveaxis(rng.dirichlet(np.ones(5), (2, 3, 4)), -1, 1)
    return [
        Sample(x, labels),
        Sample(x, labels, reduction="sum"),
        Sample(x, labels, reduction="none", label_smoothing=0.1),
        Sample(x, labels, weight=weight, ignore_index=1),
        Sample(x, labels, weight=weight, ignore_index=1, label_smoothing=0.25),
        Sample(x[0], np.int32(2)),
        Sample(image, pixels, reduction="none"),
        Sample(channels_last, pixels, ignore_index=4, label_smoothing=1.0),
        Sample(x, soft),
        Sample(x, soft, reduction="sum", weight=weight, label_smoothing=0.1),
        Sample(x[0], soft[0], weight=weight),
        Sample(image, soft_pixels, reduction="none", weight=rng.uniform(0.5, 2, 5)),
        Sample(channels_last, 2 * soft_pixels),
    ]


def _bad_cross_entropy(rng: np.random.Generator) -> list[Wrong]:
    x, labels = np.ones((2, 3)), np.array([0, 2])
    return [
        *bad_labels("cross_entropy"),
        Wrong(
            DTypeError,
            "cross_entropy: target holds integer labels or class probabilities of float32 or "
            "float64, got bool. Convert it with target.astype(int).",
            x,
            labels > 0,
        ),
        Wrong(
            ShapeError,
            "cross_entropy: float targets are class probabilities of the shape of x, (2, 3), got "
            "shape (2,). Pass such probabilities, or integer labels of shape (2,).",
            x,
            np.ones(2),
        ),
        Wrong(
            ArgumentError,
            "cross_entropy: ignore_index=1 names a label, and the targets are class "
            "probabilities. Leave it out, or pass integer labels.",
            x,
            x / 3,
            ignore_index=1,
        ),
        Wrong(
            ArgumentError,
            "cross_entropy: label_smoothing is from 0 to 1, got 1.5. Pass for example 0.1.",
            x,
            labels,
            label_smoothing=1.5,
        ),
    ]


@operation(CrossEntropy, samples=_cross_entropy_samples, wrong=_bad_cross_entropy)
def cross_entropy(
    x: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of logits against labels or class probabilities, softmax included.

    With p = softmax(x) over the classes, the loss of a sample is::

        loss = -sum_c q_c log p_c,    q_c = weight_c ((1 - s) t_c + s / C)

    where t is one-hot at the label, or the probabilities given, and s the label smoothing.

    Parameters
    ----------
    x : Tensor or ndarray, shape (N, C), (N, C, d1, ...) or (C,)
        Logits. Any size is safe: the largest is subtracted before the exponential.
    target : Tensor, ndarray, int or list
        Integer labels from 0 to C - 1, of the shape of x without its class axis; or class
        probabilities (floats), of the shape of x.
    weight : ndarray or Tensor, shape (C,), optional
        How much each class counts; a constant.
    ignore_index : int
        Samples with this label are left out: their loss is 0. Not for probabilities.
    reduction : {"mean", "sum", "none"}
        The mean, their sum, or each loss. The mean over labels divides by the sum of weight[label],
        the mean over probabilities by the number of samples; the mean of nothing is NaN.
    label_smoothing : float
        Share of the target that is spread evenly over the classes, from 0 to 1.

    Returns
    -------
    Tensor
        Of shape (), or of the shape of x without its class axis for "none".

    Raises
    ------
    ArgumentError
        If a label is no class, or a setting is out of its range.
    DTypeError
        If x is not of float32 or float64, or the target is boolean.
    ShapeError
        If the target or the weight does not fit x.

    Gradient
    --------
    grad_x_c = grad_out (p_c sum_k q_k - q_c), which for plain labels is grad_out (p - t); divided
    like the loss for the mean; 0 for samples left out. Probabilities have a gradient too:
    grad_target_c = -grad_out weight_c (1 - s) log p_c. Labels: saves p and the labels, x.size
    numbers and 8 bytes a sample. Probabilities: saves log p and q, 2 x.size numbers.

    Notes
    -----
    A class with q_c = 0 adds 0, also where log p_c is -Inf.

    Source
    ------
    Goodfellow, Bengio and Courville, Deep Learning, 2016, sec. 6.2.2.3; label smoothing: Szegedy et
    al., Rethinking the Inception architecture for computer vision, CVPR 2016, sec. 7.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> logits = mg.tensor([[2.0, 0.0], [0.0, 1e4]])
    >>> mg.cross_entropy(logits, np.array([0, 1]), reduction="none").data.round(4)
    array([0.1269, 0.    ], dtype=float32)
    """
    name = "cross_entropy"
    shape = check_classes(name, x)
    check_reduction(name, reduction)
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(
            f"{name}: label_smoothing is from 0 to 1, got {label_smoothing!r}. Pass for example "
            f"0.1."
        )
    class_weight = class_weights(name, weight, x)
    values = target_array(target)
    if values.dtype.kind not in "iu":
        _check_probabilities(shape, values, ignore_index)
        return SoftCrossEntropy.apply(
            x,
            target if isinstance(target, Tensor) else values.astype(x.dtype),
            weight=class_weight.reshape((-1,) + (1,) * (len(shape) - 2)),
            smoothing=label_smoothing,
            reduction=reduction,
        )
    labels = checked_labels(name, shape, values, ignore_index)
    smoothing = float(label_smoothing)
    if weight is None:
        base, hit = _even_targets(len(class_weight), class_weight.dtype, smoothing)
    else:
        base, hit = _targets(class_weight, smoothing)
    count = counted_weight(labels, None if weight is None else class_weight)
    return CrossEntropy.apply(
        x, labels=labels, base=base, hit=hit, reduction=reduction, count=count
    )


def _targets(weight: np.ndarray, smoothing: float) -> tuple[np.ndarray, np.ndarray]:
    """Return what each class counts, and what it counts beyond that as a label."""
    return weight * (smoothing / len(weight)), weight * (1 - smoothing)


@functools.lru_cache(maxsize=64)
def _even_targets(C: int, dtype: np.dtype, smoothing: float) -> tuple[np.ndarray, np.ndarray]:
    return _targets(np.ones(C, dtype), smoothing)


def _check_probabilities(shape: tuple[int, ...], target: np.ndarray, ignore_index: int) -> None:
    """Raise unless the target can be the class probabilities of logits of this shape."""
    if target.dtype not in (np.float32, np.float64, np.complex128):
        raise DTypeError(
            f"cross_entropy: target holds integer labels or class probabilities of float32 or "
            f"float64, got {target.dtype}. Convert it with target.astype(int)."
        )
    if target.shape != shape:
        raise ShapeError(
            f"cross_entropy: float targets are class probabilities of the shape of x, {shape}, "
            f"got shape {target.shape}. Pass such probabilities, or integer labels of shape "
            f"{without_classes(shape)}."
        )
    if ignore_index >= 0:  # as in torch: the default is below
        raise ArgumentError(
            f"cross_entropy: ignore_index={ignore_index} names a label, and the targets are class "
            f"probabilities. Leave it out, or pass integer labels."
        )
