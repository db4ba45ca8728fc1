"""astype: between single and double precision, with a gradient."""

from typing import Any

import numpy as np

from minigrad.core.dtypes import is_differentiable
from minigrad.core.errors import DTypeError
from minigrad.core.function import Function
from minigrad.core.tensor import Tensor
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.arithmetic import bad_single, check_operands

__all__ = ["astype"]


class AsType(Function):
    """y = x in another dtype."""

    narrows = False  # float64 is asked for

    @staticmethod
    def forward(ctx: Any, x: Any, *, dtype: np.dtype) -> Any:
        x = np.asarray(x)
        ctx.dtype = x.dtype
        if x.dtype.kind == "c" and is_differentiable(dtype):
            return x  # within a complex step, complex128 stands for either precision
        return x.astype(dtype, copy=False)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        # A complex cotangent belongs to a complex step and stays.
        return grad_out if grad_out.dtype.kind == "c" else grad_out.astype(ctx.dtype, copy=False)


def _check_dtype(dtype: Any) -> np.dtype:
    try:
        # NumPy takes None for float64; here it would be a slip.
        target = np.dtype(object if dtype is None else dtype)
    except TypeError:
        target = np.dtype(object)
    if not is_differentiable(target) and target.kind not in "biu":
        raise DTypeError(
            f"astype: float32, float64, an integer type or bool is needed, got {dtype!r}. Pass for "
            f"example 'float32'."
        )
    return target


def _casts(rng: np.random.Generator) -> list[Sample]:
    # To float32 would be too coarse for the witnesses; tests/ops/test_shaping.py does that.
    return [
        Sample(rng.standard_normal((2, 3)), dtype=np.float64),
        Sample(rng.standard_normal(()), dtype="float64"),
    ]


def _bad_casts(rng: np.random.Generator) -> list[Wrong]:
    return [
        Wrong(
            DTypeError,
            f"astype: float32, float64, an integer type or bool is needed, got {dtype!r}. Pass for "
            f"example 'float32'.",
            np.ones(3),
            dtype,
        )
        for dtype in ("float16", "single-ish", None)
    ] + bad_single("astype", np.float64)


@operation(AsType, samples=_casts, wrong=_bad_casts)
def astype(x: Any, dtype: Any) -> Tensor:
    """Convert to another dtype.

    Parameters
    ----------
    x : Tensor, ndarray or number
    dtype : dtype
        float32 or float64, which have gradients, an integer type or bool, which have none.

    Returns
    -------
    Tensor
        Of that dtype; it shares memory with x if x has that dtype already.

    Raises
    ------
    DTypeError
        For any other dtype.

    Gradient
    --------
    grad_x = grad_out, in the dtype of x. Saves nothing.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.astype(mg.tensor([1.5, 2.0]), "float64").data
    array([1.5, 2. ])
    """
    check_operands("astype", x)
    return AsType.apply(x, dtype=_check_dtype(dtype))
