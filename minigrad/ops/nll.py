"""nll_loss, and how labels are read.

The classes stand on axis 1, (N, C) or (N, C, d1, ...), or on the only axis of one sample, (C,).
Inside, x is taken as R rows of C numbers, which for channels-last memory is the same memory.
"""

import functools
from typing import Any

import numpy as np

from minigrad.core.dtypes import real_dtype
from minigrad.core.errors import ArgumentError, DTypeError, ShapeError
from minigrad.core.function import Function
from minigrad.core.tensor import Tensor
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.activation import bad_floating, check_floating
from minigrad.ops.loss import (
    bad_constant,
    bad_reduction,
    check_reduction,
    constant,
    reduced,
    spread,
)

__all__ = ["nll_loss"]

_IGNORED = -1  # how kernels know a row that is left out


def class_axis(ndim: int) -> int:
    """Where the classes are: axis 1, or the only axis."""
    return 0 if ndim == 1 else 1


def without_classes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the labels that go with x."""
    axis = class_axis(len(shape))
    return shape[:axis] + shape[axis + 1 :]


def as_rows(x: np.ndarray) -> np.ndarray:
    """(N, C, d1, ...) as (N d1 ..., C)."""
    last = x if x.ndim < 3 else np.moveaxis(x, 1, -1)
    return last.reshape(-1, last.shape[-1])


def from_rows(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(N d1 ..., C) as (N, C, d1, ...): the adjoint of :func:`as_rows`."""
    if len(shape) < 3:
        return rows.reshape(shape)
    outer = rows.reshape(*without_classes(shape), rows.shape[1])
    return np.moveaxis(outer, -1, 1)


def check_classes(name: str, x: Any) -> tuple[int, ...]:
    """Return the shape of x; raise unless it has classes."""
    shape = check_floating(name, x)
    if not shape or not shape[class_axis(len(shape))]:
        raise ShapeError(
            f"{name}: one class or more is needed, x has shape {shape}. Pass x of shape (N, C), "
            f"(N, C, d1, ...) or (C,)."
        )
    return shape


def checked_labels(
    name: str, shape: tuple[int, ...], labels: np.ndarray, ignore_index: int
) -> np.ndarray:
    """The labels as one int64 a row, -1 where they are ignored; raise where one is no class."""
    expected = without_classes(shape)
    if labels.shape != expected:
        raise ShapeError(
            f"{name}: one label for each sample is needed, target has shape {labels.shape}, x has "
            f"{shape} with the classes on axis {class_axis(len(shape))}. Pass integer labels of "
            f"shape {expected}."
        )
    C = shape[class_axis(len(shape))]
    classes = labels.astype(np.int64)
    outside = classes.view(np.uint64) >= C  # without a sign, numbers below 0 are the largest
    if not (0 <= ignore_index < C or np.count_nonzero(outside)):  # in half the time of any()
        return classes.reshape(-1)
    ignored = labels == ignore_index
    wrong = outside & ~ignored
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ArgumentError(
            f"{name}: labels are from 0 to {C - 1} for {C} classes, got {labels[index]} at index "
            f"{index}. Number the classes from 0, or pass ignore_index={labels[index]} to leave "
            f"such samples out."
        )
    return np.where(ignored, _IGNORED, classes).reshape(-1)


def class_weights(name: str, weight: Any, x: Any) -> np.ndarray:
    """One number for each class, in the precision of x; ones for None."""
    C = x.shape[class_axis(x.ndim)]
    dtype = real_dtype(x.dtype)
    if weight is None:
        return _ones(C, dtype)
    array = constant(name, "weight", weight)
    if array.shape != (C,):
        raise ShapeError(
            f"{name}: weight holds one number for each of the {C} classes, got shape "
            f"{array.shape}. Pass a weight of shape ({C},)."
        )
    return array.astype(dtype)


@functools.lru_cache(maxsize=64)
def _ones(C: int, dtype: np.dtype) -> np.ndarray:
    return np.ones(C, dtype)


def counted_weight(labels: np.ndarray, weight: np.ndarray | None) -> float:
    """What the mean divides by: the weights of all labels that are not ignored, or their number."""
    if weight is None:
        return float(np.count_nonzero(labels != _IGNORED))
    return float(weight[labels[labels != _IGNORED]].sum(dtype=np.float64))


def target_array(target: Any) -> np.ndarray:
    return target.data if isinstance(target, Tensor) else np.asarray(target)


def bad_labels(name: str) -> list[Wrong]:
    x, labels = np.ones((2, 3)), np.array([0, 2])
    return [
        *bad_floating(name, labels),
        bad_reduction(name, x, labels),
        bad_constant(name, "weight", x, labels, size=3),
        Wrong(
            ShapeError,
            f"{name}: one class or more is needed, x has shape (2, 0). Pass x of shape (N, C), "
            f"(N, C, d1, ...) or (C,).",
            np.ones((2, 0)),
            labels,
        ),
        Wrong(
            ShapeError,
            f"{name}: one label for each sample is needed, target has shape (2, 1), x has (2, 3) "
            f"with the classes on axis 1. Pass integer labels of shape (2,).",
            x,
            labels[:, None],
        ),
        Wrong(
            ArgumentError,
            f"{name}: labels are from 0 to 2 for 3 classes, got 3 at index (1,). Number the "
            f"classes from 0, or pass ignore_index=3 to leave such samples out.",
            x,
            np.array([0, 3]),
        ),
        Wrong(
            ArgumentError,
            f"{name}: labels are from 0 to 2 for 3 classes, got -1 at index (0,). Number the "
            f"classes from 0, or pass ignore_index=-1 to leave such samples out.",
            x,
            labels - 1,
        ),
        Wrong(
            ShapeError,
            f"{name}: weight holds one number for each of the 3 classes, got shape (2,). Pass a "
            f"weight of shape (3,).",
            x,
            labels,
            weight=np.ones(2),
        ),
    ]


class NLLLoss(Function):
    """loss = -weight_y x_y at the label y, reduced."""

    @staticmethod
    def forward(
        ctx: Any,
        x: np.ndarray,
        *,
        labels: np.ndarray,
        weight: np.ndarray,
        reduction: str,
        count: float,
    ) -> Any:
        ctx.save(labels, weight)
        ctx.shape, ctx.reduction, ctx.count = x.shape, reduction, count
        picked = as_rows(x)[np.arange(len(labels)), labels]
        losses = np.where(labels == _IGNORED, 0, -weight[labels] * picked)
        return reduced(losses.reshape(without_classes(x.shape)), reduction, count)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        labels, weight = ctx.saved
        each = spread(grad_out, without_classes(ctx.shape), ctx.reduction, ctx.count).reshape(-1)
        grad_rows = np.zeros((len(labels), len(weight)), each.dtype)
        (counted,) = np.nonzero(labels != _IGNORED)
        grad_rows[counted, labels[counted]] = -(weight[labels] * each)[counted]
        return from_rows(grad_rows, ctx.shape)


def _nll_samples(rng: np.random.Generator) -> list[Sample]:
    x, image = rng.standard_normal((5, 3)), rng.standard_normal((2, 5, 3, 4))
    labels, pixels = rng.integers(0, 3, 5), rng.integers(0, 5, (2, 3, 4))
    return [
        Sample(x, labels),
        Sample(x, labels, weight=rng.uniform(0.5, 2, 3), ignore_index=1),
        Sample(x, labels, reduction="sum"),
        Sample(x[0], np.int64(1)),
        Sample(image, pixels, reduction="none", ignore_index=0),
    ]


def _bad_nll(rng: np.random.Generator) -> list[Wrong]:
    return [
        *bad_labels("nll_loss"),
        Wrong(
            DTypeError,
            "nll_loss: integer labels are needed, got float64. Convert them with "
            "target.astype(int); class probabilities are for cross_entropy.",
            np.ones((2, 3)),
            np.ones(2),
        ),
    ]


@operation(NLLLoss, samples=_nll_samples, wrong=_bad_nll)
def nll_loss(
    x: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """Negative log-likelihood: the loss of a sample is -weight_y x_y at its label y.

    After :func:`log_softmax` it is the cross-entropy; :func:`cross_entropy` is both in one.

    Parameters
    ----------
    x : Tensor or ndarray, shape (N, C), (N, C, d1, ...) or (C,)
        Logarithms of probabilities.
    target : Tensor, ndarray, int or list
        Integer labels from 0 to C - 1, of the shape of x without its class axis.
    weight : ndarray or Tensor, shape (C,), optional
        How much each class counts; a constant.
    ignore_index : int
        Samples with this label are left out: their loss is 0.
    reduction : {"mean", "sum", "none"}
        The mean, their sum, or each loss. The mean divides by the sum of weight[label]; the mean of
        nothing is NaN.

    Returns
    -------
    Tensor
        Of shape (), or of the shape of x without its class axis for "none".

    Raises
    ------
    ArgumentError
        If a label is no class, or the reduction is none of the three.
    DTypeError
        If x is not of float32 or float64, or the labels are no integers.
    ShapeError
        If the target or the weight does not fit x.

    Gradient
    --------
    grad_x is -grad_out weight_y at the label and 0 elsewhere; divided like the loss for the mean.
    Saves the labels and weights: 8 bytes a sample and C numbers.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> x = mg.log_softmax(mg.tensor([[2.0, 0.0], [0.0, 0.0]]))
    >>> round(mg.nll_loss(x, np.array([0, 1]), reduction="sum").item(), 4)
    0.8201
    """
    shape = check_classes("nll_loss", x)
    check_reduction("nll_loss", reduction)
    class_weight = class_weights("nll_loss", weight, x)
    values = target_array(target)
    if values.dtype.kind not in "iu":
        raise DTypeError(
            f"nll_loss: integer labels are needed, got {values.dtype}. Convert them with "
            f"target.astype(int); class probabilities are for cross_entropy."
        )
    labels = checked_labels("nll_loss", shape, values, ignore_index)
    count = counted_weight(labels, None if weight is None else class_weight)
    return NLLLoss.apply(x, labels=labels, weight=class_weight, reduction=reduction, count=count)
