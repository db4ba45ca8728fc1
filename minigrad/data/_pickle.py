"""Read a pickle that holds arrays, bytes, text, numbers, lists, tuples and dicts, and nothing else.

A pickle is a program: it may name any function of any module and have it called. Here every name
is refused but the handful by which NumPy writes an array, and even those do not lead to NumPy's
own functions: they lead to the stand-ins below, which build plain numeric arrays from checked
arguments.

Python 2 wrote the published CIFAR files, as ``numpy.core.multiarray._reconstruct``; NumPy 2 writes
``numpy._core``; protocol 5 writes ``_frombuffer``. All three are read.
"""

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.data._files import read_bytes, wrong_file

__all__ = ["read_pickle"]

_DTYPES = {"b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8"}


def read_pickle(path: Path) -> Any:
    """What the pickle in ``path`` holds; text that Python 2 wrote comes as bytes.

    Raises
    ------
    DataError
        Where the file is no pickle, is cut short, or names anything but arrays. Nothing that it
        names is imported or called.
    """
    content = read_bytes(path)
    try:
        _check_places(content)
        return _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a broken pickle may raise anything, as the pickle module documents
        reason = str(error) or type(error).__name__
        raise wrong_file(
            path,
            "a pickle of arrays, bytes, numbers, lists and dicts alone",
            reason,
            "Nothing in it was run. Fetch the file from where you trust it.",
        ) from error


def _check_places(content: bytes) -> None:
    """Refuse a place in the memo beyond the file's length; the unpickler allocates up to it."""
    for opcode, place, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (place or 0) > len(content):
            raise pickle.UnpicklingError(f"place {place} of the memo in {len(content)} bytes")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        stand_in = _STAND_INS.get((module.replace("numpy.core.", "numpy._core."), name))
        if stand_in is None:
            raise pickle.UnpicklingError(f"the name {module}.{name}")
        return stand_in


class _StandIn:
    """What a permitted name stands for: can be called, cannot be changed by the pickle."""

    __slots__ = ("_build",)

    def __init__(self, build: Callable[..., Any]) -> None:
        self._build = build

    def __call__(self, *arguments: Any) -> Any:
        return self._build(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("an attempt to change a function")


class _DType:
    """A dtype under construction: the code comes first, the byte order with the state."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *flags: Any) -> None:
        self.code, self.order = _text(code), "="
        if self.code not in _DTYPES:
            raise pickle.UnpicklingError(f"an array of dtype {self.code!r}")

    def __setstate__(self, state: tuple) -> None:
        order = _text(state[1])
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"the byte order {order!r}")
        self.order = order

    def dtype(self) -> np.dtype:
        return np.dtype(self.order + self.code)


class _Array(np.ndarray):
    """An array under construction: empty at first, filled by its state."""

    def __setstate__(self, state: Any) -> None:
        _version, shape, kind, fortran, content = state
        filled: Any = (1, shape, _checked(shape, kind, content), bool(fortran), content)
        super().__setstate__(filled)


def _checked(shape: Any, kind: Any, content: Any) -> np.dtype:
    """The dtype of an array of ``content``, if shape, kind and length go together."""
    if not (isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)):
        raise pickle.UnpicklingError(f"an array of shape {shape!r}")
    if not isinstance(kind, _DType) or not isinstance(content, bytes):
        raise pickle.UnpicklingError("an array that is not made of bytes")
    dtype = kind.dtype()
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise pickle.UnpicklingError(f"{len(content)} bytes for {dtype} of shape {shape}")
    return dtype


def _reconstruct(subtype: Any, shape: Any, kind: Any) -> _Array:
    """An empty array; whatever was asked for, the state that follows decides."""
    return _Array((0,), np.uint8)


def _frombuffer(content: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    content = bytes(content) if isinstance(content, bytearray) else content
    dtype = _checked(shape, kind, content)
    return np.frombuffer(content, dtype).reshape(shape, order="F" if order == "F" else "C")


def _encode(text: Any, encoding: Any) -> bytes:
    """How protocols 0 to 2 write bytes from Python 3."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"text to be encoded as {encoding!r}")
    return text.encode("latin1")


def _text(value: Any) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


def _no_bytes() -> bytes:
    """How protocols 0 to 2 write empty bytes."""
    return b""


def _no_call(*arguments: Any) -> Any:
    raise pickle.UnpicklingError("a call of numpy.ndarray")


_STAND_INS = {
    ("numpy._core.multiarray", "_reconstruct"): _StandIn(_reconstruct),
    ("numpy._core.numeric", "_frombuffer"): _StandIn(_frombuffer),
    ("numpy", "ndarray"): _StandIn(_no_call),  # an argument of _reconstruct, never called
    ("numpy", "dtype"): _StandIn(_DType),
    ("_codecs", "encode"): _StandIn(_encode),
    ("__builtin__", "bytes"): _StandIn(_no_bytes),
}
