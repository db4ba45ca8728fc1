"""Checks of arguments that the operations on images share."""

from typing import Any

import numpy as np

from minigrad.core.dtypes import INTEGERS
from minigrad.core.errors import ArgumentError, DTypeError, ShapeError
from minigrad.core.tensor import Tensor
from minigrad.ops._registry import Wrong

__all__ = ["bad_images", "check_floats", "check_images", "pair"]

Pair = tuple[int, int]

# Named once: a union built anew at each call takes as long as the check itself.
_ARRAYS = (Tensor, np.ndarray)
_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

# What each dtype counts as: within a complex step complex128 stands for float64.
_FLOATS = {_FLOAT32: _FLOAT32, _FLOAT64: _FLOAT64, np.dtype(np.complex128): _FLOAT64}


def check_floats(name: str, **inputs: Any) -> None:
    """Raise unless all inputs but None are Tensors or ndarrays of one floating dtype."""
    first, dtype = "", None  # the first input, and its dtype
    for argument, value in inputs.items():
        if value is None:
            continue
        if not isinstance(value, _ARRAYS):
            raise DTypeError(
                f"{name}: {argument} is a Tensor or an ndarray of float32 or float64, got "
                f"{type(value).__name__}. Make one with minigrad.tensor(...)."
            )
        own = _FLOATS.get(value.dtype)
        if own is None:
            raise DTypeError(
                f"{name}: {argument} is a Tensor or an ndarray of float32 or float64, got one of "
                f"{value.dtype}. Convert it with {argument}.astype('float32')."
            )
        if dtype is None:
            first, dtype = argument, own
        if own is not dtype:
            raise DTypeError(
                f"{name}: one dtype is needed, {first} is {dtype} and {argument} is {own}. "
                f"Convert one of them, for example with {argument}.astype('{dtype}')."
            )


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
    if type(h) is int and type(w) is int and h >= least and w >= least:
        return h, w  # nearly always, and what follows takes ten times as long
    values = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(values) != 2 or not all(_is_int(v) and v >= least for v in values):
        raise ArgumentError(
            f"{name}: {argument} is an int or a pair of ints, each at least {least}, got "
            f"{value!r}. Pass for example {argument}={least + 1} or "
            f"{argument}=({least + 1}, {least})."
        )
    return int(values[0]), int(values[1])


def _is_int(value: Any) -> bool:
    return isinstance(value, INTEGERS) and not isinstance(value, bool | np.bool_)


def bad_images(name: str, *rest: Any, **options: Any) -> list[Wrong]:
    """Wrong x for every operation on images; ``rest`` and ``options`` are good other arguments."""
    floats = f"{name}: x is a Tensor or an ndarray of float32 or float64, got"
    shape = f"{name}: x of shape (N, C, H, W)"
    rows: list[tuple[type[Exception], str, Any]] = [
        (DTypeError, f"{floats} str. Make one with minigrad.tensor(...).", "x"),
        (
            DTypeError,
            f"{floats} one of int64. Convert it with x.astype('float32').",
            np.ones((2, 3, 5, 7), np.int64),
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
