"""Smooth activations: sigmoid, tanh, softplus, softmax and its logarithm.

Exponentials are taken of numbers that are not positive, so none overflows: sigmoid and softplus
use -|x|, softmax subtracts the largest entry first, which leaves the quotient as it is.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.core.decisions import decide
from minigrad.core.errors import ArgumentError
from minigrad.core.function import Function
from minigrad.core.shapes import normalize_axes
from minigrad.core.tensor import Tensor
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.activation import bad_floating, check_finite, check_floating
from minigrad.ops.arithmetic import anything

__all__ = ["log_softmax", "sigmoid", "softmax", "softplus", "tanh"]


def logistic(x: Any) -> Any:
    """1 / (1 + exp(-x)) of an array: the exponential is of a negative number, so none overflows."""
    positive = x.real >= 0
    decayed = np.exp(np.where(positive, -x, x))
    return np.where(positive, 1, decayed) / (1 + decayed)


class Sigmoid(Function):
    """y = 1 / (1 + exp(-x))."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        y = logistic(x)
        ctx.save(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        (y,) = ctx.saved
        return grad_out * (y * (1 - y))


@operation(Sigmoid, samples=anything, wrong=lambda rng: bad_floating("sigmoid"))
def sigmoid(x: Any) -> Tensor:
    """Logistic function: y = 1 / (1 + exp(-x)), without overflow on either side.

    Parameters
    ----------
    x : Tensor, ndarray or float

    Returns
    -------
    Tensor
        Of the shape of x, from 0 to 1.

    Raises
    ------
    DTypeError
        If x is not of float32 or float64.

    Gradient
    --------
    grad_x = grad_out y (1 - y), at most grad_out / 4: what makes deep sigmoid nets vanish. Saves
    the result: x.size numbers.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.sigmoid(mg.tensor([0.0, -1e4, 1e4])).data
    array([0.5, 0. , 1. ], dtype=float32)
    """
    check_floating("sigmoid", x)
    return Sigmoid.apply(x)


class Tanh(Function):
    """y = tanh x."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        y = np.tanh(x)
        ctx.save(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        (y,) = ctx.saved
        return grad_out * (1 - y * y)


@operation(Tanh, samples=anything, wrong=lambda rng: bad_floating("tanh"))
def tanh(x: Any) -> Tensor:
    """Hyperbolic tangent: y = (exp(x) - exp(-x)) / (exp(x) + exp(-x)).

    Parameters
    ----------
    x : Tensor, ndarray or float

    Returns
    -------
    Tensor
        Of the shape of x, from -1 to 1.

    Raises
    ------
    DTypeError
        If x is not of float32 or float64.

    Gradient
    --------
    grad_x = grad_out (1 - y**2). Saves the result: x.size numbers.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.tanh(mg.tensor([0.0, 0.5, -1e4])).data.round(4)
    array([ 0.    ,  0.4621, -1.    ], dtype=float32)
    """
    check_floating("tanh", x)
    return Tanh.apply(x)


def log1p_exp(x: Any) -> Any:
    """log(1 + exp(x)) of an array: the exponential is of a negative number, so none overflows."""
    positive = np.real(x) > 0
    return np.where(positive, x, 0) + np.log1p(np.exp(np.where(positive, -x, x)))


class Softplus(Function):
    """y = log(1 + exp(beta x)) / beta, and x itself above the threshold."""

    @staticmethod
    def forward(ctx: Any, x: Any, *, beta: float, threshold: float) -> Any:
        ctx.save(x)
        ctx.beta, ctx.threshold = beta, threshold
        linear = decide("softplus", lambda: np.real(x) * beta > threshold)
        return np.where(linear, x, log1p_exp(x * beta) / beta)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        (x,) = ctx.saved
        scaled = x * ctx.beta
        return grad_out * np.where(np.real(scaled) > ctx.threshold, 1, logistic(scaled))


def _softplus_samples(rng: np.random.Generator) -> list[Sample]:
    x = 2 * rng.standard_normal((2, 3, 5))
    return [*anything(rng), Sample(x, beta=3.0), Sample(x, -2, 1.5), Sample(x, threshold=0.5)]


def _bad_softplus(rng: np.random.Generator) -> list[Wrong]:
    return [
        *bad_floating("softplus"),
        Wrong(
            ArgumentError,
            "softplus: beta is not 0, for the result is divided by it, got 0. Pass for example 1.",
            np.ones(3),
            beta=0,
        ),
        Wrong(
            ArgumentError,
            "softplus: threshold is a finite number, got inf. Pass for example 20.",
            np.ones(3),
            threshold=math.inf,
        ),
    ]


@operation(Softplus, samples=_softplus_samples, wrong=_bad_softplus)
def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """Smooth relu: y = log(1 + exp(beta x)) / beta, and y = x where beta x > threshold.

    Parameters
    ----------
    x : Tensor, ndarray or float
    beta : float
        How sharp the bend is; not 0.
    threshold : float
        Above it the function is taken as linear; at 20 the two differ by 2e-9.

    Returns
    -------
    Tensor
        Of the shape of x.

    Raises
    ------
    ArgumentError
        If beta is 0, or a setting is not a finite number.
    DTypeError
        If x is not of float32 or float64.

    Gradient
    --------
    grad_x = grad_out sigmoid(beta x), and grad_out where beta x > threshold. Saves x: its own
    bytes, no copy.

    Source
    ------
    Dugas et al., Incorporating second-order functional knowledge for better option pricing, NIPS
    2000.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.softplus(mg.tensor([0.0, -1e4, 1e4])).data.round(4)
    array([6.931e-01, 0.000e+00, 1.000e+04], dtype=float32)
    """
    check_floating("softplus", x)
    beta = check_finite("softplus", "beta", beta, "1")
    if beta == 0:
        raise ArgumentError(
            "softplus: beta is not 0, for the result is divided by it, got 0. Pass for example 1."
        )
    return Softplus.apply(
        x, beta=beta, threshold=check_finite("softplus", "threshold", threshold, "20")
    )


@functools.lru_cache(maxsize=256)
def _rows_of(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[Any, Any, Any, Any]:
    """Say how an array becomes a matrix whose rows run along some axes.

    Returns the order of axes that brings these last, the shape in that order, the shape (R, C) of
    the matrix, and the order that leads back.
    """
    order = (*(axis for axis in range(len(shape)) if axis not in axes), *axes)
    there = tuple([shape[axis] for axis in order])
    kept = len(shape) - len(axes)
    rows = math.prod(there[:kept]), math.prod(there[kept:])
    return order, there, rows, tuple([order.index(axis) for axis in range(len(shape))])


def _along(kernel: Callable[..., np.ndarray], axes: tuple[int, ...], *arrays: np.ndarray) -> Any:
    """Call a kernel that works on rows along some axes of arrays of one shape.

    The result has the memory order of the first.
    """
    order, there, rows, back = _rows_of(arrays[0].shape, axes)
    turned = [array.transpose(order) for array in arrays]
    result = kernel(*[array.reshape(rows) for array in turned]).reshape(there).transpose(back)
    if not turned[0].flags.c_contiguous:
        result, made = np.empty_like(arrays[0]), result
        result[...] = made
    return result


def log_probabilities(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """log softmax(x), without taking the logarithm of a softmax that rounds to 0."""
    return _along(kernels.log_softmax_forward, axes, np.asarray(x))


class Softmax(Function):
    """y = exp(x) / sum exp(x)."""

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, *, axes: tuple[int, ...]) -> Any:
        y = _along(kernels.softmax_forward, axes, np.asarray(x))
        ctx.save(y)
        ctx.axes = axes
        return y

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        (y,) = ctx.saved
        return _along(kernels.softmax_backward, ctx.axes, grad_out, y)


def _along_axes(rng: np.random.Generator) -> list[Sample]:
    x = 2 * rng.standard_normal((2, 3, 5))
    return [
        Sample(x),
        Sample(x, axis=1),
        Sample(x, 0),
        Sample(x, (0, 2)),
        Sample(x, None),
        Sample(x[0, 0] + 10),
        Sample(np.asarray(0.5), axis=None),
    ]


def _bad_axes(name: str) -> list[Wrong]:
    return [
        *bad_floating(name),
        Wrong(
            ArgumentError,
            f"{name}: axis 2 was asked for, x has 2 axes. Valid axes are -2 to 1.",
            np.ones((2, 3)),
            axis=2,
        ),
    ]


@operation(Softmax, samples=_along_axes, wrong=lambda rng: _bad_axes("softmax"))
def softmax(x: Any, axis: Any = -1) -> Tensor:
    """Probabilities from logits: y_i = exp(x_i) / sum_j exp(x_j), without overflow.

    Parameters
    ----------
    x : Tensor or ndarray
    axis : int, tuple of int or None
        Along which the results sum to 1; None for all axes.

    Returns
    -------
    Tensor
        Of the shape of x. Where all entries along the axis are -Inf, or one is +Inf or NaN, NaN.

    Raises
    ------
    ArgumentError
        If x has no such axis.
    DTypeError
        If x is not of float32 or float64.

    Gradient
    --------
    grad_x = y (grad_out - sum grad_out y). It sums to zero along the axis, because adding a
    constant to x changes nothing. Saves the result: x.size numbers.

    Source
    ------
    Goodfellow, Bengio and Courville, Deep Learning, 2016, eq. 4.1; the shift by the maximum:
    sec. 4.1.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.softmax(mg.tensor([1e4, 1e4, -1e4])).data
    array([0.5, 0.5, 0. ], dtype=float32)
    """
    ndim = len(check_floating("softmax", x))
    return Softmax.apply(x, axes=normalize_axes("softmax", axis, ndim))


class LogSoftmax(Function):
    """y = x - log sum exp(x)."""

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, *, axes: tuple[int, ...]) -> Any:
        y = log_probabilities(x, axes)
        ctx.save(y)
        ctx.axes = axes
        return y

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        (y,) = ctx.saved
        return _along(kernels.log_softmax_backward, ctx.axes, grad_out, y)


@operation(LogSoftmax, samples=_along_axes, wrong=lambda rng: _bad_axes("log_softmax"))
def log_softmax(x: Any, axis: Any = -1) -> Tensor:
    """Logarithm of softmax: y_i = x_i - log sum_j exp(x_j), without overflow or underflow.

    Parameters
    ----------
    x : Tensor or ndarray
    axis : int, tuple of int or None
        Along which the exponentials of the results sum to 1; None for all axes.

    Returns
    -------
    Tensor
        Of the shape of x. Where all entries along the axis are -Inf, or one is +Inf or NaN, NaN.

    Raises
    ------
    ArgumentError
        If x has no such axis.
    DTypeError
        If x is not of float32 or float64.

    Gradient
    --------
    grad_x = grad_out - exp(y) sum grad_out. Saves the result: x.size numbers.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.log_softmax(mg.tensor([1e4, 1e4])).data.round(4)
    array([-0.6931, -0.6931], dtype=float32)
    """
    ndim = len(check_floating("log_softmax", x))
    return LogSoftmax.apply(x, axes=normalize_axes("log_softmax", axis, ndim))
