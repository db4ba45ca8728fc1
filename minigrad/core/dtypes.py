"""Which dtypes a tensor may have, and what each is for."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from minigrad.core.errors import DTypeError
from minigrad.core.mode import state

__all__ = [
    "DEFAULT", "INTEGERS", "NUMBERS", "as_array", "as_floats", "check_data", "check_dtype",
    "check_unmasked", "is_differentiable", "narrowed", "real_dtype",
]  # fmt: skip

# Named once: the union int | np.integer, built anew at each call, takes longer than the check.
INTEGERS = (int, np.integer)
NUMBERS = (int, float, np.integer, np.floating)

DEFAULT = np.dtype(np.float32)  # of Python floats; arrays keep theirs
_FLOAT64 = np.dtype(np.float64)
_FLOATS = (np.dtype(np.float32), _FLOAT64)
_COMPLEX = np.dtype(np.complex128)


def is_differentiable(dtype: np.dtype) -> bool:
    """Whether gradients exist for ``dtype``: float32 and float64."""
    return dtype in _FLOATS


def real_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of real constants for data of ``dtype``: within a complex step float64."""
    return DEFAULT if dtype == DEFAULT else _FLOAT64


def check_data(data: np.ndarray, requires_grad: bool) -> None:
    """Raise DTypeError unless a tensor may hold ``data``.

    float32 and float64 always; integers and booleans without gradient (labels, indices, masks);
    complex128 only inside :func:`minigrad.core.mode.complex_step`.
    """
    dtype = data.dtype
    if type(data) is not np.ndarray:
        check_unmasked("tensor", data)
    if dtype in _FLOATS:
        return
    check_dtype("tensor", dtype)
    if requires_grad and dtype.kind in "biu":
        raise DTypeError(
            f"tensor: a gradient was asked for, the data are {dtype}, and only float32 and "
            f"float64 have one. Convert first: tensor(x.astype('float32'), requires_grad=True)."
        )


def check_unmasked(name: str, data: Any) -> None:
    """Raise DTypeError for a masked array, of which nothing here would heed the mask."""
    if type(data) is np.ndarray or not isinstance(data, np.ndarray):
        return  # without importing numpy.ma
    if isinstance(data, np.ma.MaskedArray):
        raise DTypeError(
            f"{name}: an array all of whose entries count is needed, got a masked array. Pass "
            f"x.filled(0), and the mask apart, as a factor."
        )


def check_dtype(name: str, dtype: np.dtype) -> None:
    """Raise DTypeError, in the name of an operation, unless a tensor may have this dtype."""
    if dtype in _FLOATS or dtype.kind in "biu":
        return
    if dtype != _COMPLEX or not state.complex_allowed:
        raise DTypeError(
            f"{name}: numbers of float32, float64, an integer type or bool are needed, got dtype "
            f"{dtype}. Convert first, for example with x.astype('float32')."
        )


def as_floats(x: Any) -> Any:
    """Integers and booleans as float64, everything else as it is.

    NumPy would take the smallest float that holds them, which of bool and int8 is float16.
    """
    return x if np.result_type(x).kind in "fc" else np.asarray(x, np.float64)


def narrowed(y: np.ndarray, operands: Iterable[Any]) -> np.ndarray:
    """A result of float64, in float32 unless an operand is an array of float64.

    NumPy makes float64 of integers, of numbers, and of float32 that meets integers, so that one
    mask of integers would widen a whole float32 network.
    """
    for value in operands:
        if isinstance(value, np.ndarray) and value.dtype == _FLOAT64:
            return y
    return y.astype(DEFAULT)


def as_array(value: Any, dtype: Any = None) -> np.ndarray:
    """A new array of ``value``: Python floats become float32, arrays keep their dtype.

    Raises DTypeError where NumPy could only make an object array of it (ragged lists, None).
    """
    check_unmasked("tensor", value)
    given = isinstance(value, np.ndarray | np.generic)
    try:
        array = np.array(value, dtype=dtype)
    except (ValueError, TypeError) as error:
        raise DTypeError(
            f"tensor: numbers in a regular array were expected, got a "
            f"{type(value).__name__} that NumPy refuses ({error}). "
            f"Pass an array, a number, or a list whose rows have equal lengths."
        ) from None
    if dtype is None and not given and array.dtype == np.float64 and not _holds_float64(value):
        array = array.astype(DEFAULT)
    return array


def _holds_float64(value: Any) -> bool:
    """Whether a nested list holds NumPy float64 numbers or arrays, whose precision is kept."""
    if isinstance(value, list | tuple):
        return any(_holds_float64(item) for item in value)
    return isinstance(value, np.ndarray | np.generic)
