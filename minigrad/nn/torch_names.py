"""Array operations under the names, arguments and conventions of ``torch.*``.

Where torch and NumPy differ (``dim`` and ``axis``, the divisor of ``var``, the parts of ``split``,
squeezing an axis that is not 1) these functions do as torch does, and :mod:`minigrad` itself as
NumPy does. Gradients, errors and examples are told by the operations they call.
"""

from typing import Any

from minigrad import ops
from minigrad.core.errors import ArgumentError
from minigrad.core.shapes import normalize_axes
from minigrad.core.tensor import Tensor
from minigrad.ops.shaping import shape_of

__all__ = [
    "abs", "add", "amax", "amin", "broadcast_to", "cat", "clamp", "div", "eq", "exp", "flatten",
    "ge", "gt", "le", "log", "logsumexp", "lt", "matmul", "maximum", "mean", "minimum", "mul", "ne",
    "neg", "permute", "pow", "reshape", "split", "sqrt", "squeeze", "stack", "sub", "sum",
    "transpose", "unsqueeze", "var", "where",
]  # fmt: skip


# Arithmetic and comparison.


def add(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """input + alpha other: :func:`minigrad.add`."""
    return ops.add(input, other if alpha == 1 else ops.mul(other, alpha))


def sub(input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    """input - alpha other: :func:`minigrad.sub`."""
    return ops.sub(input, other if alpha == 1 else ops.mul(other, alpha))


def mul(input: Any, other: Any) -> Tensor:
    """input other: :func:`minigrad.mul`."""
    return ops.mul(input, other)


def div(input: Any, other: Any) -> Tensor:
    """input / other: :func:`minigrad.div`."""
    return ops.div(input, other)


def neg(input: Any) -> Tensor:
    """-input: :func:`minigrad.neg`."""
    return ops.neg(input)


def abs(input: Any) -> Tensor:
    """|input|: :func:`minigrad.abs`."""
    return ops.abs(input)


def pow(input: Any, exponent: Any) -> Tensor:
    """input**exponent: :func:`minigrad.pow`."""
    return ops.pow(input, exponent)


def exp(input: Any) -> Tensor:
    """Exponential: :func:`minigrad.exp`."""
    return ops.exp(input)


def log(input: Any) -> Tensor:
    """Natural logarithm: :func:`minigrad.log`."""
    return ops.log(input)


def sqrt(input: Any) -> Tensor:
    """Square root: :func:`minigrad.sqrt`."""
    return ops.sqrt(input)


def maximum(input: Any, other: Any) -> Tensor:
    """Larger of two: :func:`minigrad.maximum`."""
    return ops.maximum(input, other)


def minimum(input: Any, other: Any) -> Tensor:
    """Smaller of two: :func:`minigrad.minimum`."""
    return ops.minimum(input, other)


def clamp(input: Any, min: Any = None, max: Any = None) -> Tensor:
    """Input kept between bounds: :func:`minigrad.clip`."""
    return ops.clip(input, min, max)


def where(condition: Any, input: Any, other: Any) -> Tensor:
    """Input where the condition holds, else other: :func:`minigrad.where`."""
    return ops.where(condition, input, other)


def eq(input: Any, other: Any) -> Tensor:
    """Input == other: :func:`minigrad.equal`."""
    return ops.equal(input, other)


def ne(input: Any, other: Any) -> Tensor:
    """Input != other: :func:`minigrad.not_equal`."""
    return ops.not_equal(input, other)


def lt(input: Any, other: Any) -> Tensor:
    """Input < other: :func:`minigrad.less`."""
    return ops.less(input, other)


def le(input: Any, other: Any) -> Tensor:
    """Input <= other: :func:`minigrad.less_equal`."""
    return ops.less_equal(input, other)


def gt(input: Any, other: Any) -> Tensor:
    """Input > other: :func:`minigrad.greater`."""
    return ops.greater(input, other)


def ge(input: Any, other: Any) -> Tensor:
    """Input >= other: :func:`minigrad.greater_equal`."""
    return ops.greater_equal(input, other)


# Reductions.


def dims_of(input: Any, dim: Any) -> Any:
    """``dim``, or none of a number, which in torch counts as having one dim."""
    named = tuple(dim) if isinstance(dim, tuple | list) else (dim,)
    return () if getattr(input, "ndim", 0) == 0 and named in ((0,), (-1,)) else dim


def _axes(input: Any, dim: Any) -> Any:
    """No dims named means all of them, as it does in torch; in NumPy () means none."""
    dim = dims_of(input, dim)
    return None if isinstance(dim, tuple | list) and not dim else dim


def sum(input: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Sum over dims: :func:`minigrad.sum`."""
    return ops.sum(input, _axes(input, dim), keepdims=keepdim)


def mean(input: Any, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Mean over dims: :func:`minigrad.mean`."""
    return ops.mean(input, _axes(input, dim), keepdims=keepdim)


def var(
    input: Any,
    dim: Any = None,
    *,
    unbiased: bool | None = None,
    correction: float | None = None,
    keepdim: bool = False,
) -> Tensor:
    """Variance over dims, divided by their size less the correction: :func:`minigrad.var`.

    ``unbiased`` is torch's older word: True is a correction of 1, which is the default, False 0.
    """
    if unbiased is not None and correction is not None:
        raise ArgumentError(
            f"var: either unbiased or correction is needed, got unbiased={unbiased} and "
            f"correction={correction}. Leave unbiased out."
        )
    if correction is None:
        correction = 0 if unbiased is False else 1
    return ops.var(input, _axes(input, dim), ddof=correction, keepdims=keepdim)


def amax(input: Any, dim: Any = (), keepdim: bool = False) -> Tensor:
    """Largest entry over dims; ties share the gradient: :func:`minigrad.max`."""
    return ops.max(input, _axes(input, dim), keepdims=keepdim)


def amin(input: Any, dim: Any = (), keepdim: bool = False) -> Tensor:
    """Smallest entry over dims; ties share the gradient: :func:`minigrad.min`."""
    return ops.min(input, _axes(input, dim), keepdims=keepdim)


def logsumexp(input: Any, dim: Any, keepdim: bool = False) -> Tensor:
    """log sum exp(input) over dims: :func:`minigrad.logsumexp`."""
    return ops.logsumexp(input, _axes(input, dim), keepdims=keepdim)


# Shapes.


def reshape(input: Any, shape: Any) -> Tensor:
    """The same entries in another shape: :func:`minigrad.reshape`."""
    return ops.reshape(input, shape)


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Several dims made one: :func:`minigrad.flatten`."""
    return ops.flatten(input, start_dim, end_dim)


def squeeze(input: Any, dim: Any = None) -> Tensor:
    """Dims of size 1 dropped, others left: :func:`minigrad.squeeze`."""
    shape = shape_of("squeeze", input)
    dims = normalize_axes("squeeze", dims_of(input, dim), len(shape))
    return ops.squeeze(input, tuple(d for d in dims if shape[d] == 1))


def unsqueeze(input: Any, dim: int) -> Tensor:
    """A new dim of size 1: :func:`minigrad.expand_dims`."""
    return ops.expand_dims(input, dim)


def transpose(input: Any, dim0: int, dim1: int) -> Tensor:
    """Two dims exchanged: :func:`minigrad.transpose` with all axes named."""
    order = list(range(len(shape_of("transpose", input))))
    (a,), (b,) = (normalize_axes("transpose", (dim,), len(order)) for dim in (dim0, dim1))
    order[a], order[b] = b, a
    return ops.transpose(input, tuple(order))


def permute(input: Any, dims: Any) -> Tensor:
    """All dims in another order: :func:`minigrad.permute`."""
    return ops.permute(input, dims)


def broadcast_to(input: Any, size: Any) -> Tensor:
    """Entries repeated along dims of size 1: :func:`minigrad.broadcast_to`."""
    return ops.broadcast_to(input, size)


def cat(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors joined along a dim: :func:`minigrad.concat`."""
    return ops.concat(tensors, dim)


def stack(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors joined along a new dim: :func:`minigrad.stack`."""
    return ops.stack(tensors, dim)


def split(tensor: Any, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Parts of one size, the last maybe smaller, or of the sizes given: :func:`minigrad.split`."""
    if not isinstance(split_size_or_sections, int):
        return ops.split(tensor, axis=dim, sizes=split_size_or_sections)
    shape = shape_of("split", tensor)
    (axis,) = normalize_axes("split", (dim,), len(shape))
    step, n = split_size_or_sections, shape[axis]
    if step < 1:
        raise ArgumentError(
            f"split: the size of the parts is a positive int, got {step}. Pass for example 1."
        )
    sizes = [min(step, n - start) for start in range(0, n, step)]
    return ops.split(tensor, axis=axis, sizes=sizes or [0])


def matmul(input: Any, other: Any) -> Tensor:
    """Matrix product: :func:`minigrad.matmul`."""
    return ops.matmul(input, other)
