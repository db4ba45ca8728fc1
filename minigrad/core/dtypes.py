"""Which dtypes a tensor may have, and what each is for."""

from typing import Any

import numpy as np

from minigrad.core.errors import DTypeError
from minigrad.core.mode import state

__all__ = ["DEFAULT", "as_array", "check_data", "is_differentiable"]

DEFAULT = np.dtype(np.float32)  # of Python floats; arrays keep theirs
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_COMPLEX = np.dtype(np.complex128)


def is_differentiable(dtype: np.dtype) -> bool:
    """Whether gradients exist for ``dtype``: float32 and float64."""
    return dtype in _FLOATS


def check_data(data: np.ndarray, requires_grad: bool) -> None:
    """Raise DTypeError unless a tensor may hold ``data``.

    float32 and float64 always; integers and booleans without gradient (labels, indices, masks);
    complex128 only inside :func:`minigrad.core.mode.complex_step`.
    """
    dtype = data.dtype
    if dtype in _FLOATS or (dtype == _COMPLEX and state.complex_allowed):
        return
    if dtype.kind in "biu":
        if requires_grad:
            raise DTypeError(
                f"tensor: a gradient was asked for, the data are {dtype}, and only float32 and "
                f"float64 have one. Convert first: tensor(x.astype('float32'), requires_grad=True)."
            )
        return
    raise DTypeError(
        f"tensor: numbers of float32, float64, an integer type or bool are needed, got dtype "
        f"{dtype}. Convert first, for example with x.astype('float32')."
    )


def as_array(value: Any, dtype: Any = None) -> np.ndarray:
    """A new array of ``value``: Python floats become float32, arrays keep their dtype.

    Raises DTypeError where NumPy could only make an object array of it (ragged lists, None).
    """
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
