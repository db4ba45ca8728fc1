"""Powers, the exponential and its inverses, element by element."""

from typing import Any

import numpy as np

from minigrad.core.dtypes import as_floats
from minigrad.core.errors import ArgumentError
from minigrad.core.function import Function
from minigrad.core.shapes import unbroadcast
from minigrad.core.tensor import Tensor
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.arithmetic import anything, bad_pairs, bad_single, check_operands

__all__ = ["exp", "log", "pow", "sqrt"]


class Pow(Function):
    """z = x**y."""

    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        z = x**y
        ctx.save(x, y, z)
        return z

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        x, y, z = ctx.saved
        grad_x = grad_y = None
        if ctx.needs[0]:
            # x**0 is the constant 1, also at x = 0, where y * x**(y - 1) would be 0 * Inf.
            constant = np.equal(y, 0)
            slope = np.where(constant, 0, y * x ** np.where(constant, 1, y - 1).astype(z.dtype))
            grad_x = unbroadcast(grad_out * slope, np.shape(x))
        if ctx.needs[1]:
            # 0**y is 0 for all y > 0: its slope in y is 0, not 0 * log 0.
            flat = np.equal(x, 0) & (np.real(y) >= 0)
            log = np.log(np.where(flat, 1, x)).astype(z.dtype)
            grad_y = unbroadcast(grad_out * z * log, np.shape(y))
        return grad_x, grad_y


def _powers(rng: np.random.Generator) -> list[Sample]:
    positive, normal = rng.uniform(0.5, 2, (2, 3, 5)), rng.standard_normal
    return [
        Sample(positive, normal((3, 1))),
        Sample(normal((2, 3)), 2),
        Sample(normal((2, 3)), 0),
        Sample(normal((2, 3)), -3),
        Sample(positive, 0.5),
        Sample(1.5, normal((2, 3))),
    ]


def _bad_powers(rng: np.random.Generator) -> list[Wrong]:
    return [
        *bad_pairs("pow"),
        Wrong(
            ArgumentError,
            "pow: integers to the power of integers of at least 0 are needed, got a negative one. "
            "Convert one of them, for example with x.astype('float32').",
            np.array([1, 2]),
            -1,
        ),
    ]


@operation(Pow, samples=_powers, wrong=_bad_powers)
def pow(x: Any, y: Any) -> Tensor:
    """Raise to a power, with broadcasting: z = x**y.

    Parameters
    ----------
    x, y : Tensor, ndarray or number
        Of shapes that broadcast together. A negative x with a fractional y gives NaN.

    Returns
    -------
    Tensor
        Of the broadcast shape.

    Raises
    ------
    ArgumentError
        For integers with a negative power.
    ShapeError
        If the shapes do not broadcast.

    Gradient
    --------
    grad_x = grad_out y x**(y - 1), which is 0 where y = 0, and grad_y = grad_out x**y log x, which
    is 0 where x = 0 and y >= 0; each summed over the axes along which it was broadcast. Saves both
    operands and the result.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.pow(mg.tensor([1.0, 2.0, 3.0]), 2).data
    array([1., 4., 9.], dtype=float32)
    """
    check_operands("pow", x, y)
    try:
        return Pow.apply(x, y)
    except ValueError:  # NumPy has no integer for 2**-1
        raise ArgumentError(
            "pow: integers to the power of integers of at least 0 are needed, got a negative one. "
            "Convert one of them, for example with x.astype('float32')."
        ) from None


def _positive(rng: np.random.Generator) -> list[Sample]:
    return [Sample(rng.uniform(0.5, 3, (2, 3, 5))), Sample(rng.uniform(0.5, 3, ()))]


class Exp(Function):
    """y = exp x."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        y = np.exp(as_floats(x))
        ctx.save(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        (y,) = ctx.saved
        return grad_out * y


@operation(Exp, samples=anything, wrong=lambda rng: bad_single("exp"))
def exp(x: Any) -> Tensor:
    """Exponential: y = exp(x).

    Parameters
    ----------
    x : Tensor, ndarray or number

    Returns
    -------
    Tensor
        Of the shape of x.

    Gradient
    --------
    grad_x = grad_out y. Saves the result.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.exp(mg.tensor([0.0, 1.0])).data.round(4)
    array([1.    , 2.7183], dtype=float32)
    """
    check_operands("exp", x)
    return Exp.apply(x)


class Log(Function):
    """y = log x."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        x = as_floats(x)
        ctx.save(x)
        return np.log(x)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        (x,) = ctx.saved
        return grad_out / x


@operation(Log, samples=_positive, wrong=lambda rng: bad_single("log"))
def log(x: Any) -> Tensor:
    """Natural logarithm: y = log(x).

    Parameters
    ----------
    x : Tensor, ndarray or number
        Positive; 0 gives -Inf and a negative number NaN, with NumPy's warning.

    Returns
    -------
    Tensor
        Of the shape of x.

    Gradient
    --------
    grad_x = grad_out / x. Saves x.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.log(mg.tensor([1.0, 2.0])).data.round(4)
    array([0.    , 0.6931], dtype=float32)
    """
    check_operands("log", x)
    return Log.apply(x)


class Sqrt(Function):
    """y = sqrt x."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        y = np.sqrt(as_floats(x))
        ctx.save(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        (y,) = ctx.saved
        return grad_out / (2 * y)


@operation(Sqrt, samples=_positive, wrong=lambda rng: bad_single("sqrt"))
def sqrt(x: Any) -> Tensor:
    """Square root: y = sqrt(x).

    Parameters
    ----------
    x : Tensor, ndarray or number
        Not negative; a negative number gives NaN, with NumPy's warning.

    Returns
    -------
    Tensor
        Of the shape of x.

    Gradient
    --------
    grad_x = grad_out / (2 y), infinite at x = 0. Saves the result.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.sqrt(mg.tensor([4.0, 9.0])).data
    array([2., 3.], dtype=float32)
    """
    check_operands("sqrt", x)
    return Sqrt.apply(x)
