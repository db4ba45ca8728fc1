"""Activations with a kink at 0: relu, and its relatives that leak on the negative side.

Decisions look at real parts only, so that the complex step can differentiate each branch.
"""

import math
from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.core.decisions import decide, held
from minigrad.core.dtypes import NUMBERS, is_differentiable
from minigrad.core.errors import ArgumentError, DTypeError, ShapeError
from minigrad.core.function import Function
from minigrad.core.tensor import Tensor
from minigrad.kernels._layout import memory_order
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.arithmetic import bad_single, check_operands

__all__ = ["leaky_relu", "prelu", "relu"]


def check_floating(name: str, x: Any) -> tuple[int, ...]:
    """Return the shape of an array or a number; raise unless it is of float32 or float64."""
    check_operands(name, x)
    dtype = x.dtype if hasattr(x, "dtype") else np.dtype(type(x))
    if not is_differentiable(dtype) and dtype.kind != "c":
        raise DTypeError(
            f"{name}: float32 or float64 numbers are needed, got {dtype}. Convert first, for "
            f"example with x.astype('float32')."
        )
    return getattr(x, "shape", ())


def check_finite(name: str, what: str, value: Any, example: str) -> float:
    """The setting as a float, or an ArgumentError."""
    number = isinstance(value, NUMBERS)
    if not number or not math.isfinite(value):
        raise ArgumentError(
            f"{name}: {what} is a finite number, got {value!r}. Pass for example {example}."
        )
    return float(value)


def bad_floating(name: str, *others: Any) -> list[Wrong]:
    """Wrong calls of every operation on floats."""
    return [
        *bad_single(name, *others),
        Wrong(
            DTypeError,
            f"{name}: float32 or float64 numbers are needed, got int64. Convert first, for "
            f"example with x.astype('float32').",
            np.arange(3, dtype=np.int64),
            *others,
        ),
    ]


def off_zero(rng: np.random.Generator) -> list[Sample]:
    """Samples that keep away from the kink at 0."""
    x = rng.standard_normal((2, 3, 5))
    channels_last = rng.uniform(0.1, 1, (2, 5, 7, 3)).transpose(0, 3, 1, 2)
    signs = rng.choice([-1.0, 1.0], channels_last.shape)
    return [
        Sample(x + 0.1 * np.sign(x)),
        Sample(channels_last * signs),
        Sample(np.asarray(-1.5)),
    ]


def held_relu(name: str, x: np.ndarray) -> np.ndarray:
    """max(x, 0) within a gradient check, for the operation ``name``: its branches are held."""
    return np.where(decide(name, lambda: x.real > 0), x, 0)


# Up to so many entries NumPy is done sooner than a kernel begins.
_FEW = 128


class ReLU(Function):
    """y = max(x, 0)."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        x = np.asarray(x)
        if x.size <= _FEW and x.dtype.kind == "f":
            y = np.maximum(x, 0)
            ctx.save(np.asarray(y != 0))  # a NaN passes
        else:
            y, mask = kernels.relu_forward(x)
            ctx.save(mask)
            ctx.order = memory_order(x)
        return held_relu("relu", x) if held() else y

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        (mask,) = ctx.saved
        if mask.dtype == bool:
            return np.where(mask, grad_out, 0)
        return kernels.relu_backward(grad_out, mask, ctx.order)


@operation(ReLU, samples=off_zero, wrong=lambda rng: bad_floating("relu"))
def relu(x: Any) -> Tensor:
    """Rectified linear unit: y = max(x, 0). A NaN stays a NaN.

    Parameters
    ----------
    x : Tensor, ndarray or float

    Returns
    -------
    Tensor
        Of the shape of x.

    Raises
    ------
    DTypeError
        If x is not of float32 or float64.

    Gradient
    --------
    grad_x = grad_out where x > 0, else 0; at the kink x = 0 it is 0. Saves a mask of one bit for
    each entry: x.size / 8 bytes, a 32nd of x in float32.

    Source
    ------
    Nair and Hinton, Rectified linear units improve restricted Boltzmann machines, ICML 2010.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.relu(mg.tensor([1.0, -2.0])).data
    array([1., 0.], dtype=float32)
    """
    check_floating("relu", x)
    return ReLU.apply(x)


class LeakyReLU(Function):
    """y = x where x > 0, else slope x."""

    @staticmethod
    def forward(ctx: Any, x: Any, *, slope: float) -> Any:
        positive = decide("leaky_relu", lambda: np.real(x) > 0)
        ctx.save(positive)
        ctx.slope = slope
        return x * _factor(positive, slope, x)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        (positive,) = ctx.saved
        return grad_out * _factor(positive, ctx.slope, grad_out)


def _factor(positive: np.ndarray, slope: Any, like: Any) -> np.ndarray:
    """1 on the positive side and the slope on the other, in the precision of ``like``."""
    return np.where(positive, 1, np.asarray(slope, np.result_type(like)))


def _leaky_samples(rng: np.random.Generator) -> list[Sample]:
    x = off_zero(rng)[0].args[0]
    return [*off_zero(rng), Sample(x, negative_slope=0.25), Sample(x, -0.5), Sample(x, 1.5)]


def _bad_leaky(rng: np.random.Generator) -> list[Wrong]:
    return [
        *bad_floating("leaky_relu"),
        Wrong(
            ArgumentError,
            "leaky_relu: negative_slope is a finite number, got nan. Pass for example 0.01.",
            np.ones(3),
            negative_slope=math.nan,
        ),
    ]


@operation(LeakyReLU, samples=_leaky_samples, wrong=_bad_leaky)
def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """Leaky rectified linear unit: y = x where x > 0, else negative_slope x.

    Parameters
    ----------
    x : Tensor, ndarray or float
    negative_slope : float
        A constant; for a learned one there is :func:`prelu`.

    Returns
    -------
    Tensor
        Of the shape of x.

    Raises
    ------
    ArgumentError
        If the slope is not a finite number.
    DTypeError
        If x is not of float32 or float64.

    Gradient
    --------
    grad_x = grad_out where x > 0, else negative_slope grad_out, also at the kink x = 0. Saves a
    boolean mask: x.size bytes.

    Source
    ------
    Maas, Hannun and Ng, Rectifier nonlinearities improve neural network acoustic models, ICML
    2013.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.leaky_relu(mg.tensor([1.0, -2.0]), 0.25).data
    array([ 1. , -0.5], dtype=float32)
    """
    check_floating("leaky_relu", x)
    slope = check_finite("leaky_relu", "negative_slope", negative_slope, "0.01")
    return LeakyReLU.apply(x, slope=slope)


class PReLU(Function):
    """y = x where x > 0, else weight x, with a slope for each channel or one for all."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any) -> Any:
        ctx.save(x, weight)
        positive = decide("prelu", lambda: np.real(x) > 0)
        return x * np.where(positive, 1, _along_channels(weight, np.ndim(x)))

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        x, weight = ctx.saved
        positive, ndim = np.real(x) > 0, np.ndim(x)
        grad_x = grad_weight = None
        if ctx.needs[0]:
            grad_x = grad_out * np.where(positive, 1, _along_channels(weight, ndim))
        if ctx.needs[1]:
            per_entry = np.where(positive, 0, grad_out * x)
            summed = tuple(axis for axis in range(ndim) if axis != 1 or np.size(weight) == 1)
            grad_weight = per_entry.sum(axis=summed).reshape(np.shape(weight))
        return grad_x, grad_weight


def _along_channels(weight: Any, ndim: int) -> Any:
    """The slopes in a shape that broadcasts with x: along axis 1, or one for all."""
    return np.reshape(weight, () if np.size(weight) == 1 else (-1,) + (1,) * (ndim - 2))


def _prelu_samples(rng: np.random.Generator) -> list[Sample]:
    ncl, nchw, scalar = (sample.args[0] for sample in off_zero(rng))
    return [
        Sample(ncl, rng.uniform(0.1, 0.5, 3)),
        Sample(nchw, rng.uniform(0.1, 0.5, 3)),
        Sample(ncl[0], rng.uniform(-0.5, -0.1, 5)),
        Sample(ncl, np.asarray([0.25])),
        Sample(ncl[0, 0], np.asarray(0.25)),
        Sample(scalar, np.asarray([1.5])),
    ]


def _bad_prelu(rng: np.random.Generator) -> list[Wrong]:
    return [
        *bad_floating("prelu", np.ones(1)),
        Wrong(
            ShapeError,
            "prelu: one slope, or one for each of the 3 channels on axis 1 of x, is needed; "
            "weight has shape (4,), x (2, 3, 5). Pass a weight of shape (1,) or (3,).",
            np.ones((2, 3, 5)),
            np.ones(4),
        ),
        Wrong(
            ShapeError,
            "prelu: one slope, or one for each of the 3 channels on axis 1 of x, is needed; "
            "weight has shape (3, 1), x (2, 3). Pass a weight of shape (1,) or (3,).",
            np.ones((2, 3)),
            np.ones((3, 1)),
        ),
        Wrong(
            ShapeError,
            "prelu: one slope is needed for an x without axis 1; weight has shape (3,), x (3,). "
            "Pass a weight of shape (1,).",
            np.ones(3),
            np.ones(3),
        ),
    ]


@operation(PReLU, samples=_prelu_samples, wrong=_bad_prelu)
def prelu(x: Any, weight: Any) -> Tensor:
    """Leaky rectified linear unit with learned slopes: y = x where x > 0, else weight x.

    Parameters
    ----------
    x : Tensor, ndarray or float, shape (N, C, ...)
    weight : Tensor or ndarray, shape (C,), (1,) or ()
        A slope for each channel, or one for all.

    Returns
    -------
    Tensor
        Of the shape of x.

    Raises
    ------
    DTypeError
        If x or weight is not of float32 or float64.
    ShapeError
        If the slopes do not fit the channels.

    Gradient
    --------
    grad_x = grad_out where x > 0, else weight grad_out; grad_weight is the sum of grad_out x over
    the entries of the channel where x <= 0. The kink x = 0 belongs to that side. Saves x and
    weight: their own bytes, no copy.

    Source
    ------
    He, Zhang, Ren and Sun, Delving deep into rectifiers, ICCV 2015, eq. 1; gradient of the slope:
    eqs. 2 and 3.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.prelu(mg.tensor([[1.0, -2.0]]), mg.tensor([0.5, 0.25])).data
    array([[ 1. , -0.5]], dtype=float32)
    """
    _check_slopes(check_floating("prelu", x), check_floating("prelu", weight))
    return PReLU.apply(x, weight)


def _check_slopes(x_shape: tuple[int, ...], weight_shape: tuple[int, ...]) -> None:
    C = x_shape[1] if len(x_shape) > 1 else 1
    if weight_shape in ((), (1,), (C,)):
        return
    arrived = f"weight has shape {weight_shape}, x {x_shape}."
    if len(x_shape) < 2:
        raise ShapeError(
            f"prelu: one slope is needed for an x without axis 1; {arrived} Pass a weight of "
            f"shape (1,)."
        )
    raise ShapeError(
        f"prelu: one slope, or one for each of the {C} channels on axis 1 of x, is needed; "
        f"{arrived} Pass a weight of shape (1,) or ({C},)."
    )
