"""A call of an operation, described in bytes: all that decides which kernels it needs.

Of arrays that is shape, strides and dtype. Whoever reads the description gets arrays of zeros.
"""

import io
import pickle
from types import BuiltinFunctionType, FunctionType
from typing import Any, NamedTuple

import numpy as np

from minigrad.core.function import Function
from minigrad.core.tensor import Tensor

__all__ = ["LENGTH_BYTES", "Call", "described", "recreated"]

# In front of a description that is sent stands its length, in so many bytes.
LENGTH_BYTES = 4

# Bytes of all arrays of a call.
_LARGEST = 1 << 28

# What a description may name: no module of the user, for reading it would import that again.
_MODULES = {"builtins", "functools", "numpy", "numpy.dtypes", "numpy._core.multiarray"}


class Call(NamedTuple):
    """What decides which kernels an operation needs, forward and backward.

    Attributes
    ----------
    function : type
    inputs : tuple
        Of its forward.
    needs : tuple of bool
        Which of them want a gradient.
    options : dict
    algorithm : str
        That the thread asks for in convolutions.
    serial : bool
        Whether the thread may not start others.
    """

    function: type[Function]
    inputs: tuple[Any, ...]
    needs: tuple[bool, ...]
    options: dict[str, Any]
    algorithm: str
    serial: bool


def described(call: Call) -> bytes | None:
    """Describe a call; None where that cannot be done, or it is too large to be tried out."""
    file = io.BytesIO()
    try:
        _Describer(file, pickle.HIGHEST_PROTOCOL).dump(tuple(call))
    except (pickle.PicklingError, AttributeError, TypeError):  # pickle raises all three
        return None
    return file.getvalue()


def recreated(description: bytes) -> Call:
    """Return a call like the one described, on zeros."""
    return Call(*_Reader(io.BytesIO(description)).load())


class _Describer(pickle.Pickler):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._nbytes = 0

    def persistent_id(self, value: Any) -> Any:
        """Describe an array; for anything else return None, and it is pickled, or refuse it."""
        if isinstance(value, Tensor):
            value = value.data
        if isinstance(value, np.ndarray):
            self._nbytes += value.nbytes
            if value.dtype.kind not in "biuf" or self._nbytes > _LARGEST:
                raise pickle.PicklingError
            return value.shape, value.strides, value.dtype.str
        named = isinstance(value, type | FunctionType | BuiltinFunctionType)
        module = (value if named else type(value)).__module__ or ""
        if module not in _MODULES and not module.startswith("minigrad."):
            raise pickle.PicklingError
        return None


class _Reader(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> np.ndarray:
        """Make an array of zeros: the system hands out their memory when it is written to."""
        shape, strides, dtype = pid
        reach = [(n - 1) * stride for n, stride in zip(shape, strides, strict=True)]
        if 0 in shape:
            return np.zeros(shape, dtype)
        before = -sum(step for step in reach if step < 0)
        after = sum(step for step in reach if step > 0)
        memory = np.zeros(before + after + np.dtype(dtype).itemsize, np.uint8)
        return np.ndarray(shape, dtype, memory, before, strides)
