"""Matrix products: matmul with NumPy's rules, and linear, the product inside a Linear layer.

Both forwards and backwards are products. NumPy hands them to its BLAS library; two large matrices
are multiplied by a kernel, whose threads are those of all other kernels.
"""

import math
from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.core.errors import ShapeError
from minigrad.core.function import Function
from minigrad.core.shapes import unbroadcast
from minigrad.core.tensor import Tensor
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.arithmetic import bad_single
from minigrad.ops.shaping import shape_of

__all__ = ["linear", "matmul"]


def _turned(x: np.ndarray) -> np.ndarray:
    """x with its last two axes swapped: each matrix transposed."""
    return x.swapaxes(-1, -2)


# Up to so many multiply-adds OpenBLAS, which NumPy comes with, stays on the calling thread: with
# matrices, and with a vector. On several threads its sums may depend on how many there are.
_SMALL, _SMALL_VECTOR = 262_144, 8192


def _product(x: np.ndarray, y: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """x y for two matrices, plus a bias for each column, by the kernel if they are large."""
    (N, K), M = x.shape, y.shape[1]
    work, limit = N * K * M, _SMALL_VECTOR if 1 in (N, M) else _SMALL
    mixed = x.dtype != y.dtype or (bias is not None and x.dtype != bias.dtype)
    if work <= limit or mixed or x.dtype.kind != "f":
        return x @ y if bias is None else x @ y + bias
    return kernels.matrix_product(x, y, bias)


class MatMul(Function):
    """z = x y."""

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, y: np.ndarray) -> Any:
        ctx.save(x, y)
        return _product(x, y) if x.ndim == y.ndim == 2 else np.matmul(x, y)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        x, y = ctx.saved
        if x.ndim == y.ndim == 2:
            grad_x = _product(grad_out, y.T) if ctx.needs[0] else None
            return grad_x, _product(x.T, grad_out) if ctx.needs[1] else None
        # As NumPy does, a vector counts as one row on the left, as one column on the right.
        rows = x[np.newaxis] if x.ndim == 1 else x  # (..., N, K)
        columns = y[:, np.newaxis] if y.ndim == 1 else y  # (..., K, M)
        if x.ndim == 1:
            grad_out = np.expand_dims(grad_out, -1 if y.ndim == 1 else -2)
        if y.ndim == 1:
            grad_out = np.expand_dims(grad_out, -1)  # (..., N, M)
        grad_x = grad_y = None
        if ctx.needs[0]:
            if rows.ndim == columns.ndim == 2:
                grad_x = _product(grad_out, columns.T)
            else:
                grad_x = unbroadcast(grad_out @ _turned(columns), rows.shape)
            grad_x = grad_x.reshape(x.shape)
        if ctx.needs[1]:
            if columns.ndim == 2:  # the sum over the batch is part of one product
                grad_y = _product(_flat_rows(rows).T, _flat_rows(grad_out))
            else:
                grad_y = unbroadcast(_turned(rows) @ grad_out, columns.shape)
            grad_y = grad_y.reshape(y.shape)
        return grad_x, grad_y


def _flat_rows(x: np.ndarray) -> np.ndarray:
    """x of shape (..., K) as (rows, K)."""
    if x.ndim == 2:
        return x
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])  # -1 would not do for empty arrays


def _products(rng: np.random.Generator) -> list[Sample]:
    normal = rng.standard_normal
    return [
        Sample(normal((2, 3)), normal((3, 5))),
        Sample(normal(3), normal(3)),
        Sample(normal(3), normal((3, 5))),
        Sample(normal((2, 3)), normal(3)),
        Sample(normal((4, 2, 3)), normal((4, 3, 5))),
        Sample(normal((4, 2, 3)), normal((3, 5))),
        Sample(normal((2, 3)), normal((4, 3, 5))),
        Sample(normal((4, 1, 2, 3)), normal((7, 3, 5))),
        Sample(normal((4, 2, 3)), normal(3)),
        Sample(normal(3), normal((4, 3, 5))),
        Sample(normal((3, 3)), normal((3, 3))),
    ]


def _bad_products(rng: np.random.Generator) -> list[Wrong]:
    return [
        Wrong(
            ShapeError,
            "matmul: as many columns of x as rows of y are needed, x is (2, 3) with 3 columns and "
            "y is (4, 5) with 4 rows. Transpose one of them, or exchange them.",
            np.ones((2, 3)),
            np.ones((4, 5)),
        ),
        Wrong(
            ShapeError,
            "matmul: as many columns of x as rows of y are needed, x is (2, 3) with 3 columns and "
            "y is (2,) with 2 rows. Transpose one of them, or exchange them.",
            np.ones((2, 3)),
            np.ones(2),
        ),
        Wrong(
            ShapeError,
            "matmul: batch axes that broadcast together are needed, x is (4, 2, 3) with (4,) and y "
            "is (6, 3, 5) with (6,). Make each pair of sizes equal, or one of them 1.",
            np.ones((4, 2, 3)),
            np.ones((6, 3, 5)),
        ),
        Wrong(
            ShapeError,
            "matmul: two operands with axes are needed, x is () and y is (3,). Multiply by a "
            "number with x * y.",
            2.0,
            np.ones(3),
        ),
        *bad_single("matmul", np.ones(3)),
    ]


def _check_products(x: tuple[int, ...], y: tuple[int, ...]) -> None:
    """Raise unless arrays of shapes x and y have a matrix product."""
    if not x or not y:
        raise ShapeError(
            f"matmul: two operands with axes are needed, x is {x} and y is {y}. Multiply by a "
            f"number with x * y."
        )
    columns, rows = x[-1], y[-2] if len(y) > 1 else y[0]
    if columns != rows:
        raise ShapeError(
            f"matmul: as many columns of x as rows of y are needed, x is {x} with {columns} "
            f"columns and y is {y} with {rows} rows. Transpose one of them, or exchange them."
        )
    if len(x) <= 2 or len(y) <= 2:  # at most one has batch axes
        return
    try:
        np.broadcast_shapes(x[:-2], y[:-2])
    except ValueError:
        raise ShapeError(
            f"matmul: batch axes that broadcast together are needed, x is {x} with {x[:-2]} and y "
            f"is {y} with {y[:-2]}. Make each pair of sizes equal, or one of them 1."
        ) from None


@operation(MatMul, samples=_products, wrong=_bad_products)
def matmul(x: Any, y: Any) -> Tensor:
    """Multiply matrices: z_ij = sum_k x_ik y_kj, over batch axes that broadcast; ``x @ y``.

    Parameters
    ----------
    x : Tensor or ndarray, (..., N, K) or (K,)
    y : Tensor or ndarray, (..., K, M) or (K,)
        A vector counts as a row on the left, as a column on the right, and leaves no axis in the
        result.

    Returns
    -------
    Tensor, (..., N, M)
        Without N or M where x or y is a vector.

    Raises
    ------
    ShapeError
        If the sizes K differ, the batch axes do not broadcast, or an operand has no axes.

    Gradient
    --------
    grad_x = grad_out y^T and grad_y = x^T grad_out, each summed over the batch axes along which it
    was broadcast. Saves both operands.

    Notes
    -----
    2 N K M operations forward, twice as many backward, for each pair of matrices.

    Examples
    --------
    >>> import minigrad as mg
    >>> x = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> mg.matmul(x, mg.tensor([1.0, 10.0])).data
    array([21., 43.], dtype=float32)
    """
    _check_products(shape_of("matmul", x), shape_of("matmul", y))
    return MatMul.apply(x, y)


class Linear(Function):
    """y = x W^T + b."""

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> Any:
        ctx.save(x, weight)
        # One product of all rows at once; NumPy would run one for each batch axis.
        y = _product(_flat_rows(x), weight.T, bias)
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        x, weight = ctx.saved
        grad_rows = _flat_rows(grad_out)  # (rows, out)
        grad_x = _product(grad_rows, weight).reshape(x.shape) if ctx.needs[0] else None
        grad_weight = _product(grad_rows.T, _flat_rows(x)) if ctx.needs[1] else None
        grad_bias = grad_rows.sum(axis=0) if ctx.needs[2] else None
        return grad_x, grad_weight, grad_bias


def _linears(rng: np.random.Generator) -> list[Sample]:
    normal = rng.standard_normal
    return [
        Sample(normal((2, 3)), normal((5, 3)), normal(5)),
        Sample(normal((2, 3)), normal((5, 3))),
        Sample(normal((4, 2, 3)), normal((5, 3)), normal(5)),
        Sample(normal(3), normal((5, 3)), normal(5)),
    ]


def _bad_linears(rng: np.random.Generator) -> list[Wrong]:
    return [
        Wrong(
            ShapeError,
            "linear: weight expects 4 input features, x has 3. x is (2, 3) as (..., in); weight "
            "is (5, 4) as (out, in). Pass an x with 4 features, or a weight of shape (5, 3).",
            np.ones((2, 3)),
            np.ones((5, 4)),
        ),
        Wrong(
            ShapeError,
            "linear: an x of shape (..., in) and a weight of shape (out, in) are needed, x is "
            "(2, 3) and weight is (3,). Make a vector a row with weight[None].",
            np.ones((2, 3)),
            np.ones(3),
        ),
        Wrong(
            ShapeError,
            "linear: a bias of shape (5,) is needed for weight (5, 3) as (out, in), bias is (3,). "
            "Pass one number for each output feature, or None.",
            np.ones((2, 3)),
            np.ones((5, 3)),
            np.ones(3),
        ),
        *bad_single("linear", np.ones((5, 3))),
    ]


def _check_linear(x: tuple[int, ...], weight: tuple[int, ...], bias: tuple[int, ...]) -> None:
    if not x or len(weight) != 2:
        raise ShapeError(
            f"linear: an x of shape (..., in) and a weight of shape (out, in) are needed, x is "
            f"{x} and weight is {weight}. Make a vector a row with weight[None]."
        )
    if x[-1] != weight[1]:
        raise ShapeError(
            f"linear: weight expects {weight[1]} input features, x has {x[-1]}. x is {x} as "
            f"(..., in); weight is {weight} as (out, in). Pass an x with {weight[1]} features, or "
            f"a weight of shape {(weight[0], x[-1])}."
        )
    if bias != weight[:1]:
        raise ShapeError(
            f"linear: a bias of shape {weight[:1]} is needed for weight {weight} as (out, in), "
            f"bias is {bias}. Pass one number for each output feature, or None."
        )


@operation(Linear, samples=_linears, wrong=_bad_linears)
def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """Map features linearly: y = x W^T + b.

    Parameters
    ----------
    x : Tensor or ndarray, (..., in)
    weight : Tensor or ndarray, (out, in)
    bias : Tensor or ndarray, (out,), or None

    Returns
    -------
    Tensor, (..., out)

    Raises
    ------
    ShapeError
        If the numbers of features do not agree.

    Gradient
    --------
    With all leading axes of x and grad_out taken as rows: grad_x = grad_out W,
    grad_weight = grad_out^T x, grad_bias = the sum of the rows of grad_out. Saves x and weight.

    Notes
    -----
    2 rows in out operations forward, twice as many backward.

    Examples
    --------
    >>> import numpy as np
    >>> from minigrad.ops import linear
    >>> linear(np.ones((2, 3)), np.full((1, 3), 2.0), np.ones(1)).data
    array([[7.],
           [7.]])
    """
    shape = shape_of("linear", weight)
    _check_linear(
        shape_of("linear", x), shape, shape[:1] if bias is None else shape_of("linear", bias)
    )
    return Linear.apply(x, weight, bias)
