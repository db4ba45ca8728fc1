"""Checks of arguments that the operations on images share."""

from typing import Any

import numpy as np

from minigrad.core.dtypes import INTEGERS, check_unmasked
from minigrad.core.errors import ArgumentError, DTypeError, ShapeError
from minigrad.core.mode import state
from minigrad.core.tensor import Tensor
from minigrad.ops._registry import Wrong

__all__ = ["bad_images", "check_floats", "check_images", "is_int", "pair"]

Pair = tuple[int, int]

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

# What each dtype counts as: within a complex step complex128 stands for float64.
_FLOATS = {_FLOAT32: _FLOAT32, _FLOAT64: _FLOAT64, np.dtype(np.complex128): _FLOAT64}

# No image has so many pixels a side; with settings far beyond, places in it would overflow.
_MOST = 2**24


def check_floats(name: str, optional: tuple[str, ...] = ("bias",), /, **inputs: Any) -> None:
    """Raise unless all inputs are Tensors or ndarrays of one floating dtype.

    Those named in ``optional`` may be None.
    """
    first, dtype = "", None  # the first input, and its dtype
    for argument, value in inputs.items():
        if value is None and argument in optional:
            continue
        if type(value) is not np.ndarray and not isinstance(value, Tensor):
            _check_kind(name, argument, value)
        given = value.dtype
        own = _FLOATS.get(given)
        if own is None or (given.kind == "c" and not state.complex_allowed):
            raise DTypeError(
                f"{name}: {argument} is a Tensor or an ndarray of float32 or float64, got one of "
                f"{given}. Convert it with {argument}.astype('float32')."
            )
        if dtype is None:
            first, dtype = argument, own
        if own is not dtype:
            raise DTypeError(
                f"{name}: one dtype is needed, {first} is {dtype} and {argument} is {own}. "
                f"Convert one of them, for example with {argument}.astype('{dtype}')."
            )


def _check_kind(name: str, argument: str, value: Any) -> None:
    """Raise unless an input that is no Tensor is an array of a kind that can be computed with."""
    if not isinstance(value, np.ndarray):
        raise DTypeError(
            f"{name}: {argument} is a Tensor or an ndarray of float32 or float64, got "
            f"{type(value).__name__}. Make one with minigrad.tensor(...)."
        )
    check_unmasked(name, value)


def check_images(name: str, x: Any) -> None:
    """Raise unless x is a batch of images of floats, (N, C, H, W), of which only N may be 0."""
    check_floats(name, x=x)
    if x.ndim != 4:
        cure = "Give one image a batch axis: x[None]" if x.ndim == 3 else "Reshape it to four axes"
        raise ShapeError(f"{name}: x of shape (N, C, H, W) is needed, got {x.shape}. {cure}.")
    if 0 in x.shape[1:]:
        raise ShapeError(
            f"{name}: x of shape (N, C, H, W), where only N may be 0, is needed, got {x.shape}. "
            f"Pass images with at least one channel and one pixel."
        )


def pair(name: str, argument: str, value: Any, least: int) -> Pair:
    """Return an int twice, and a pair of ints as it is; raise for everything else.

    Examples
    --------
    >>> pair("conv2d", "stride", 2, least=1), pair("conv2d", "stride", (2, 1), least=1)
    ((2, 2), (2, 1))
    """
    h, w = value if type(value) is tuple and len(value) == 2 else (value, value)
    if type(h) is int and type(w) is int and least <= h <= _MOST and least <= w <= _MOST:
        return h, w  # nearly always, and what follows takes ten times as long
    values = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(values) != 2 or not all(is_int(v) and v >= least for v in values):
        raise ArgumentError(
            f"{name}: {argument} is an int or a pair of ints, each at least {least}, got "
            f"{value!r}. Pass for example {argument}={least + 1} or "
            f"{argument}=({least + 1}, {least})."
        )
    if max(values) > _MOST:
        raise ArgumentError(
            f"{name}: {argument} is an int or a pair of ints, each at most {_MOST}, got "
            f"{value!r}. Pass for example {argument}={least + 1}."
        )
    return int(values[0]), int(values[1])


def is_int(value: Any) -> bool:
    """Whether a value is a whole number, of Python's or NumPy's, and no truth value."""
    return isinstance(value, INTEGERS) and not isinstance(value, bool | np.bool_)


def bad_images(name: str, *rest: Any, **options: Any) -> list[Wrong]:
    """Wrong x for every operation on images; ``rest`` and ``options`` are good other arguments."""
    floats = f"{name}: x is a Tensor or an ndarray of float32 or float64, got"
    shape = f"{name}: x of shape (N, C, H, W)"
    rows: list[tuple[type[Exception], str, Any]] = [
        (DTypeError, f"{floats} str. Make one with minigrad.tensor(...).", "x"),
        (DTypeError, f"{floats} NoneType. Make one with minigrad.tensor(...).", None),
        (
            DTypeError,
            f"{floats} one of int64. Convert it with x.astype('float32').",
            np.ones((2, 3, 5, 7), np.int64),
        ),
        (
            DTypeError,
            f"{floats} one of complex128. Convert it with x.astype('float32').",
            np.ones((2, 3, 5, 7), np.complex128),
        ),
        (
            ShapeError,
            f"{shape} is needed, got (3, 5, 7). Give one image a batch axis: x[None].",
            np.ones((3, 5, 7)),
        ),
        (
            ShapeError,
            f"{shape} is needed, got (3, 5). Reshape it to four axes.",
            np.ones((3, 5)),
        ),
        (
            ShapeError,
            f"{shape}, where only N may be 0, is needed, got (2, 3, 0, 7). Pass images with at "
            f"least one channel and one pixel.",
            np.ones((2, 3, 0, 7)),
        ),
    ]
    return [Wrong(error, text, x, *rest, **options) for error, text, x in rows]
