"""Element-wise arithmetic, with NumPy's broadcasting.

Forwards are NumPy's own expressions; each backward is the derivative times the cotangent, summed
back over the axes that broadcasting stretched (:func:`~minigrad.core.shapes.unbroadcast`).
"""

from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.core.dtypes import check_dtype
from minigrad.core.errors import DTypeError, ShapeError
from minigrad.core.function import Function
from minigrad.core.shapes import broadcast_shape, unbroadcast
from minigrad.core.tensor import Tensor
from minigrad.ops._registry import Sample, Wrong, operation

__all__ = ["add", "div", "mul", "neg", "sub"]


# Named once: each look-up in a module, or a union built anew, counts at every operation.
_Array = np.ndarray
_ARRAYS = (np.ndarray, np.generic)
_NUMBERS = (int, float)


def check_operands(name: str, *operands: Any) -> None:
    """Raise unless one or two operands are arrays, Tensors or numbers that broadcast together."""
    shapes = []
    for value in operands:
        if isinstance(value, Tensor):  # its dtype was checked when it was made
            if value._data.ndim:
                shapes.append(value._data.shape)
        elif isinstance(value, _NUMBERS):
            continue
        elif isinstance(value, _ARRAYS):
            if value.shape:
                shapes.append(value.shape)
            check_dtype(name, value.dtype)
        elif isinstance(value, complex):
            check_dtype(name, np.dtype(complex))
        else:
            raise DTypeError(
                f"{name}: a Tensor, an ndarray or a number is needed, got "
                f"{type(value).__name__}. Make a tensor of it with minigrad.tensor(...)."
            )
    if len(shapes) > 1 and shapes[0] != shapes[1]:
        broadcast_shape(name, *shapes)


def _refuse_booleans(name: str, *operands: Any) -> None:
    """Raise for booleans alone: there is no minus among them."""
    if all(isinstance(v, bool) or getattr(v, "dtype", None) == np.bool_ for v in operands):
        raise DTypeError(
            f"{name}: numbers are needed, got booleans alone. Invert a mask with "
            f"minigrad.equal(mask, False), or convert it first with mask.astype(int)."
        )


def _bad_booleans(name: str, count: int) -> Wrong:
    return Wrong(
        DTypeError,
        f"{name}: numbers are needed, got booleans alone. Invert a mask with "
        f"minigrad.equal(mask, False), or convert it first with mask.astype(int).",
        *[np.ones(3, bool)] * count,
    )


# Samples and wrong calls that all two-operand operations share.


def _pairs(rng: np.random.Generator) -> list[Sample]:
    normal = rng.standard_normal
    return [
        Sample(normal((2, 3, 5)), normal((2, 3, 5))),
        Sample(normal((2, 3, 5)), normal((3, 1))),
        Sample(normal((5,)), normal((2, 1, 1))),
        Sample(normal((2, 3)), 1.5),
        Sample(-0.5, normal((2, 3))),
        Sample(normal(()), normal((3,))),
    ]


def bad_pairs(name: str) -> list[Wrong]:
    return [
        Wrong(
            ShapeError,
            f"{name}: shapes that broadcast together are needed, got (2, 3) and (4,). Aligned from "
            f"the last axis, each pair of sizes must be equal or contain a 1.",
            np.ones((2, 3)),
            np.ones(4),
        ),
        Wrong(
            DTypeError,
            f"{name}: a Tensor, an ndarray or a number is needed, got str. Make a tensor of it "
            f"with minigrad.tensor(...).",
            np.ones(3),
            "3",
        ),
        *_bad_dtypes(name, np.ones(3)),
    ]


def _bad_dtypes(name: str, *others: Any) -> list[Wrong]:
    """What NumPy can compute with and a tensor cannot hold."""
    return [
        Wrong(
            DTypeError,
            f"{name}: numbers of float32, float64, an integer type or bool are needed, got dtype "
            f"{dtype}. Convert first, for example with x.astype('float32').",
            value,
            *others,
        )
        for dtype, value in (("float16", np.ones(3, np.float16)), ("complex128", 2j))
    ]


def anything(rng: np.random.Generator) -> list[Sample]:
    return [Sample(rng.standard_normal((2, 3, 5))), Sample(rng.standard_normal(()))]


def bad_single(name: str, *more: Any) -> list[Wrong]:
    """The wrong operand that all operations share; ``more`` are the other arguments."""
    return [
        Wrong(
            DTypeError,
            f"{name}: a Tensor, an ndarray or a number is needed, got str. Make a tensor of it "
            f"with minigrad.tensor(...).",
            "3",
            *more,
        ),
        *_bad_dtypes(name, *more),
    ]


# Elements from which a sum is shared among threads.
_LARGE = 65_536


def added(x: Any, y: Any) -> Any:
    """Return x + y; NumPy adds large arrays on one thread and in fresh memory, the kernel does not.

    Both give the same bits.
    """
    if getattr(x, "size", 0) < _LARGE or np.shape(y) != x.shape:
        return x + y
    return kernels.add(x, y) if x.dtype == y.dtype and x.dtype.kind == "f" else x + y


class Add(Function):
    """z = x + y."""

    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        ctx.shapes = getattr(x, "shape", ()), getattr(y, "shape", ())
        return added(x, y)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        x_shape, y_shape = ctx.shapes
        # The adjoint of adding is copying: both operands receive the cotangent itself.
        grad_x = unbroadcast(grad_out, x_shape) if ctx.needs[0] else None
        grad_y = unbroadcast(grad_out, y_shape) if ctx.needs[1] else None
        return grad_x, grad_y


@operation(Add, samples=_pairs, wrong=lambda rng: bad_pairs("add"))
def add(x: Any, y: Any) -> Tensor:
    """Add, with broadcasting: z = x + y.

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
    grad_x = grad_out and grad_y = grad_out, each summed over the axes along which it was
    broadcast. Saves nothing.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.add(mg.tensor([1.0, 2.0]), 10).data
    array([11., 12.], dtype=float32)
    """
    check_operands("add", x, y)
    return Add.apply(x, y)


class Sub(Function):
    """z = x - y."""

    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        ctx.shapes = getattr(x, "shape", ()), getattr(y, "shape", ())
        return x - y

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        x_shape, y_shape = ctx.shapes
        grad_x = unbroadcast(grad_out, x_shape) if ctx.needs[0] else None
        grad_y = -unbroadcast(grad_out, y_shape) if ctx.needs[1] else None
        return grad_x, grad_y


@operation(Sub, samples=_pairs, wrong=lambda rng: [*bad_pairs("sub"), _bad_booleans("sub", 2)])
def sub(x: Any, y: Any) -> Tensor:
    """Subtract, with broadcasting: z = x - y.

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
    DTypeError
        If both are booleans.
    ShapeError
        If the shapes do not broadcast.

    Gradient
    --------
    grad_x = grad_out and grad_y = -grad_out, each summed over the axes along which it was
    broadcast. Saves nothing.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.sub(10, mg.tensor([1.0, 2.0])).data
    array([9., 8.], dtype=float32)
    """
    check_operands("sub", x, y)
    _refuse_booleans("sub", x, y)
    return Sub.apply(x, y)


def _number(x: Any) -> Any:
    """An array without axes as a NumPy number, with which NumPy computes ten times faster."""
    return x[()] if isinstance(x, _Array) and not x.ndim and x.dtype.kind == "f" else x


class Mul(Function):
    """z = x y."""

    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        ctx.save(x, y)
        return _number(x) * _number(y)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        x, y = ctx.saved
        grad_out = _number(grad_out)
        grad_x = unbroadcast(grad_out * y, x.shape) if ctx.needs[0] else None
        grad_y = unbroadcast(grad_out * x, y.shape) if ctx.needs[1] else None
        return grad_x, grad_y


@operation(Mul, samples=_pairs, wrong=lambda rng: bad_pairs("mul"))
def mul(x: Any, y: Any) -> Tensor:
    """Multiply element by element, with broadcasting: z = x y.

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
    grad_x = grad_out y and grad_y = grad_out x, each summed over the axes along which it was
    broadcast. Saves both operands.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.mul(mg.tensor([1.0, 2.0]), 3).data
    array([3., 6.], dtype=float32)
    """
    check_operands("mul", x, y)
    return Mul.apply(x, y)


class Div(Function):
    """z = x / y."""

    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        ctx.save(x, y)
        return x / y

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        x, y = ctx.saved
        grad_x = grad_y = None
        if ctx.needs[0]:
            grad_x = unbroadcast(grad_out / y, x.shape)
        if ctx.needs[1]:
            # x / y again rather than y * y below: y * y overflows where the quotient does not.
            grad_y = unbroadcast(-grad_out * ((x / y) / y), y.shape)
        return grad_x, grad_y


def _quotients(rng: np.random.Generator) -> list[Sample]:
    def away_from_zero(*shape: int) -> np.ndarray:
        return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 2, shape)

    return [
        Sample(rng.standard_normal((2, 3, 5)), away_from_zero(2, 3, 5)),
        Sample(rng.standard_normal((5,)), away_from_zero(3, 1)),
        Sample(rng.standard_normal((2, 3)), -1.5),
        Sample(2.0, away_from_zero(2, 3)),
    ]


@operation(Div, samples=_quotients, wrong=lambda rng: bad_pairs("div"))
def div(x: Any, y: Any) -> Tensor:
    """Divide, with broadcasting: z = x / y.

    Parameters
    ----------
    x, y : Tensor, ndarray or number
        Of shapes that broadcast together. Division by zero gives Inf or NaN with NumPy's warning.

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
    grad_x = grad_out / y and grad_y = -grad_out x / y**2, each summed over the axes along which it
    was broadcast. Saves both operands.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.div(1, mg.tensor([2.0, 4.0])).data
    array([0.5 , 0.25], dtype=float32)
    """
    check_operands("div", x, y)
    return Div.apply(x, y)


class Neg(Function):
    """y = -x."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return -x

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        return -grad_out


@operation(Neg, samples=anything, wrong=lambda rng: [*bad_single("neg"), _bad_booleans("neg", 1)])
def neg(x: Any) -> Tensor:
    """Negate: y = -x.

    Parameters
    ----------
    x : Tensor, ndarray or number

    Returns
    -------
    Tensor
        Of the shape of x.

    Raises
    ------
    DTypeError
        If x is of booleans.

    Gradient
    --------
    grad_x = -grad_out. Saves nothing.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.neg(mg.tensor([1.0, -2.0])).data
    array([-1.,  2.], dtype=float32)
    """
    check_operands("neg", x)
    _refuse_booleans("neg", x)
    return Neg.apply(x)
