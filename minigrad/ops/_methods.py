"""The one table that gives Tensor its operators, its methods and its NumPy functions.

Tensor stands on floor 1 and the operations on floor 2, so the operations are bound to it here, when
``minigrad.ops`` is imported.
"""

from typing import Any

import numpy as np

from minigrad.core.tensor import Tensor
from minigrad.ops import activation, arithmetic, comparison, power, select, smooth

__all__: list[str] = []


def _reflected(op: Any) -> Any:
    """``2 - x`` calls ``x.__rsub__(2)``: the operands arrive swapped."""
    return lambda self, other: op(other, self)


_OPERATORS = {
    "__add__": arithmetic.add,
    "__radd__": _reflected(arithmetic.add),
    "__sub__": arithmetic.sub,
    "__rsub__": _reflected(arithmetic.sub),
    "__mul__": arithmetic.mul,
    "__rmul__": _reflected(arithmetic.mul),
    "__truediv__": arithmetic.div,
    "__rtruediv__": _reflected(arithmetic.div),
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
}

_NUMPY = {
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
}

for _name, _op in {**_OPERATORS, **_METHODS}.items():
    setattr(Tensor, _name, _op)
Tensor._numpy_table.update(_NUMPY)
