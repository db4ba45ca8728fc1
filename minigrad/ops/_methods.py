"""The one table that gives Tensor its operators, its methods and its NumPy functions.

Tensor stands on floor 1 and the operations on floor 2, so the operations are bound to it here, when
``minigrad.ops`` is imported.
"""

import functools
from typing import Any

import numpy as np

from minigrad.core.tensor import Tensor
from minigrad.ops import (
    activation,
    arithmetic,
    broadcasting,
    casting,
    comparison,
    indexing,
    joining,
    matmul,
    power,
    reduce,
    select,
    shaping,
    smooth,
)

__all__: list[str] = []


def _reflected(op: Any) -> Any:
    """``2 - x`` calls ``x.__rsub__(2)``: the operands arrive swapped."""
    return lambda self, other: op(other, self)


def _spread(op: Any) -> Any:
    """``x.reshape(2, 3)`` and ``x.reshape((2, 3))`` mean the same."""

    @functools.wraps(op)
    def method(self: Tensor, *sizes: Any) -> Tensor:
        alone = len(sizes) == 1 and isinstance(sizes[0], tuple | list | None)
        return op(self, sizes[0] if alone else sizes)

    return method


@functools.wraps(shaping.transpose)
def _transpose(self: Tensor, *axes: Any) -> Tensor:
    return _spread(shaping.transpose)(self, *axes) if axes else shaping.transpose(self)


def _float(self: Tensor) -> Tensor:
    """The tensor in float32; see :func:`minigrad.astype`."""
    return casting.astype(self, np.float32)


def _double(self: Tensor) -> Tensor:
    """The tensor in float64; see :func:`minigrad.astype`."""
    return casting.astype(self, np.float64)


_OPERATORS = {
    "__add__": arithmetic.add,
    "__radd__": _reflected(arithmetic.add),
    "__sub__": arithmetic.sub,
    "__rsub__": _reflected(arithmetic.sub),
    "__mul__": arithmetic.mul,
    "__rmul__": _reflected(arithmetic.mul),
    "__truediv__": arithmetic.div,
    "__rtruediv__": _reflected(arithmetic.div),
    "__matmul__": matmul.matmul,
    "__rmatmul__": _reflected(matmul.matmul),
    "__pow__": power.pow,
    "__rpow__": _reflected(power.pow),
    "__neg__": arithmetic.neg,
    "__abs__": select.abs,
    "__eq__": comparison.equal,
    "__ne__": comparison.not_equal,
    "__lt__": comparison.less,
    "__le__": comparison.less_equal,
    "__gt__": comparison.greater,
    "__ge__": comparison.greater_equal,
    "__getitem__": indexing.getitem,
}

_METHODS = {
    "exp": power.exp,
    "log": power.log,
    "sqrt": power.sqrt,
    "pow": power.pow,
    "abs": select.abs,
    "clip": select.clip,
    "maximum": select.maximum,
    "minimum": select.minimum,
    "relu": activation.relu,
    "sigmoid": smooth.sigmoid,
    "tanh": smooth.tanh,
    "softmax": smooth.softmax,
    "log_softmax": smooth.log_softmax,
    "sum": reduce.sum,
    "mean": reduce.mean,
    "var": reduce.var,
    "max": reduce.max,
    "min": reduce.min,
    "logsumexp": reduce.logsumexp,
    "reshape": _spread(shaping.reshape),
    "transpose": _transpose,
    "permute": _spread(shaping.permute),
    "flatten": shaping.flatten,
    "squeeze": shaping.squeeze,
    "expand": _spread(broadcasting.expand),
    "astype": casting.astype,
    "float": _float,
    "double": _double,
    "T": property(shaping.transpose),
}

_NUMPY: dict[Any, Any] = {
    np.add: arithmetic.add,
    np.subtract: arithmetic.sub,
    np.multiply: arithmetic.mul,
    np.divide: arithmetic.div,
    np.negative: arithmetic.neg,
    np.power: power.pow,
    np.exp: power.exp,
    np.log: power.log,
    np.sqrt: power.sqrt,
    np.tanh: smooth.tanh,
    np.absolute: select.abs,
    np.maximum: select.maximum,
    np.minimum: select.minimum,
    np.clip: select.clip,
    np.where: select.where,
    np.equal: comparison.equal,
    np.not_equal: comparison.not_equal,
    np.less: comparison.less,
    np.less_equal: comparison.less_equal,
    np.greater: comparison.greater,
    np.greater_equal: comparison.greater_equal,
    np.sum: reduce.sum,
    np.mean: reduce.mean,
    np.var: reduce.var,
    np.max: reduce.max,
    np.amax: reduce.max,
    np.min: reduce.min,
    np.amin: reduce.min,
    np.reshape: shaping.reshape,
    np.transpose: shaping.transpose,
    np.squeeze: shaping.squeeze,
    np.expand_dims: shaping.expand_dims,
    np.broadcast_to: broadcasting.broadcast_to,
    np.concatenate: joining.concat,
    np.stack: joining.stack,
    np.split: joining.split,
    np.pad: indexing.pad,
    np.matmul: matmul.matmul,
}

for _name, _op in {**_OPERATORS, **_METHODS}.items():
    setattr(Tensor, _name, _op)
Tensor._numpy_table.update(_NUMPY)
