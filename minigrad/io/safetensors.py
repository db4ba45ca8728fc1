"""The safetensors format for NumPy arrays, read and written by hand.

A file is three things in a row::

    8 bytes          length of the header, unsigned little-endian
    header           JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
    the rest         the arrays, C order, little-endian, each at its offsets, without holes

``__metadata__`` in the header maps strings to strings. There is nothing in it to execute, and every
number can be checked against the size of the file before a byte is allocated.

Source: https://github.com/huggingface/safetensors, section "Format".
"""

import json
import math
import os
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.core.errors import ArgumentError, DataError, DTypeError
from minigrad.io.atomic import atomic_write

__all__ = ["load_safetensors", "save_safetensors"]

_DTYPES = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
}
_DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}

_METADATA = "__metadata__"
_HEADER_LIMIT = 100_000_000  # the limit of the format's own reader
_ALIGNMENT = 8  # the widest item, so that a memory-mapped file needs no copy


def save_safetensors(
    path: str | os.PathLike[str],
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write named arrays to a safetensors file, atomically.

    The same arrays and metadata in the same order give the same bytes.

    Parameters
    ----------
    path : str or path-like
        The file to write or to replace.
    arrays : mapping of str to ndarray
        Bool, integer and float arrays of any shape and memory order; written in C order.
    metadata : mapping of str to str, optional
        Stored beside the arrays.

    Raises
    ------
    ArgumentError
        If a name is not a string or is ``__metadata__``, or metadata is not str to str.
    DTypeError
        If an array has a dtype the format does not store.

    Notes
    -----
    The header keeps the order of `arrays`; the data stand widest items first, so that each array is
    aligned to its own item size.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from minigrad.io import load_safetensors, save_safetensors
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "weights.safetensors"
    ...     save_safetensors(path, {"bias": np.arange(3.0)}, {"epoch": "7"})
    ...     load_safetensors(path)
    ({'bias': array([0., 1., 2.])}, {'epoch': '7'})
    """
    header: dict[str, Any] = {_METADATA: _checked_metadata(metadata)} if metadata else {}
    header.update({name: _entry(name, array) for name, array in arrays.items()})
    # sorted() keeps the order among equals, so the layout depends on the arguments alone.
    order = sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize)
    begin = 0
    for name in order:
        end = begin + arrays[name].nbytes
        header[name]["data_offsets"] = [begin, end]
        begin = end

    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with atomic_write(path) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name in order:
            little = arrays[name].dtype.newbyteorder("<")
            file.write(np.ascontiguousarray(arrays[name], dtype=little).data)


def _entry(name: object, array: object) -> dict[str, Any]:
    if not isinstance(name, str) or name == _METADATA:
        raise ArgumentError(
            f"save_safetensors: an array is named by a string other than {_METADATA!r}, got "
            f"{name!r}. Rename it."
        )
    if not isinstance(array, np.ndarray):
        raise DTypeError(
            f"save_safetensors: {name!r} is a {type(array).__name__}, not an array. Pass its array "
            f"(of a Tensor: tensor.data)."
        )
    dtype_name = _DTYPE_NAMES.get(array.dtype.newbyteorder("<"))
    if dtype_name is None:
        raise DTypeError(
            f"save_safetensors: {name!r} has dtype {array.dtype}, which the format does not store. "
            f"Convert it to one of bool, int8 to int64, uint8 to uint64, float16, float32, float64."
        )
    return {"dtype": dtype_name, "shape": list(array.shape)}


def _checked_metadata(metadata: Mapping[Any, Any]) -> dict[str, str]:
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ArgumentError(
                f"save_safetensors: metadata maps strings to strings, got {key!r}: {value!r}. "
                f"Turn it into text first, for example with json.dumps."
            )
    return dict(metadata)


def load_safetensors(
    path: str | os.PathLike[str],
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read a safetensors file, checking all of it.

    Parameters
    ----------
    path : str or path-like
        The file to read.

    Returns
    -------
    arrays : dict of str to ndarray
        In the header's order; each C-contiguous, writable and owning its memory.
    metadata : dict of str to str
        Empty when the file has none.

    Raises
    ------
    DataError
        If anything in the file is not as the format says; the sentence names the file, what was
        expected and what was found.

    Examples
    --------
    See :func:`save_safetensors`.
    """
    with open(path, "rb") as file:
        reader = _Reader(file, Path(path).name)
        header = reader.header()
        metadata = reader.metadata(header.pop(_METADATA, {}))
        entries = {name: reader.entry(name, entry) for name, entry in header.items()}
        reader.check_layout(entries)
        arrays = {name: reader.array(name, *entry) for name, entry in entries.items()}
    return arrays, metadata


class _Reader:
    """The checks, in the order in which the bytes come."""

    def __init__(self, file: BufferedReader, name: str) -> None:
        self.file = file
        self.name = name
        self.file_size = os.fstat(file.fileno()).st_size
        self.data_start = 0
        self.data_size = 0

    def error(self, expected: str, found: str) -> DataError:
        return DataError(f"safetensors file {self.name}: expected {expected}, found {found}.")

    def header(self) -> dict[str, Any]:
        """The header as JSON, its length held against the size of the file."""
        if self.file_size < 8:
            raise self.error("8 bytes of header length", f"a file of {self.file_size} bytes")
        length = int.from_bytes(self.file.read(8), "little")
        if length > min(self.file_size - 8, _HEADER_LIMIT):
            raise self.error(
                f"a header of at most {min(self.file_size - 8, _HEADER_LIMIT):,} bytes",
                f"a header length of {length:,}: the file is truncated or not safetensors",
            )
        self.data_start = 8 + length
        self.data_size = self.file_size - self.data_start
        text = self.file.read(length)
        if text[:1] != b"{":
            raise self.error("a JSON object as header", f"{text[:16]!r}")
        try:
            return json.loads(text.decode(), object_pairs_hook=_no_duplicates)
        except (ValueError, RecursionError) as problem:
            raise self.error("a JSON object as header", str(problem)) from problem

    def metadata(self, value: object) -> dict[str, str]:
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise self.error(f"strings by name in {_METADATA}", f"{value!r:.80}")
        return value

    def entry(self, name: str, entry: object) -> tuple[np.dtype, tuple[int, ...], int, int]:
        """One array's dtype, shape and offsets, consistent with one another."""
        if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
            raise self.error(f"dtype, shape and data_offsets for {name!r}", f"{entry!r:.80}")
        dtype_name, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype_name, str) or dtype_name not in _DTYPES:
            known = ", ".join(_DTYPES)
            raise self.error(f"a dtype among {known} for {name!r}", f"{dtype_name!r}")
        if not _is_sizes(shape) or len(shape) > 32:
            raise self.error(f"a shape of at most 32 sizes for {name!r}", f"{shape!r:.80}")
        if not _is_sizes(offsets) or len(offsets) != 2:
            raise self.error(f"two data_offsets for {name!r}", f"{offsets!r:.80}")
        dtype, (begin, end) = _DTYPES[dtype_name], offsets
        if not begin <= end <= self.data_size:
            raise self.error(
                f"{name!r} inside the {self.data_size:,} bytes of data",
                f"offsets {begin:,} to {end:,}: the file is truncated or damaged",
            )
        if math.prod(shape) * dtype.itemsize != end - begin:
            raise self.error(
                f"{math.prod(shape) * dtype.itemsize:,} bytes for {name!r}, {dtype_name} {shape}",
                f"{end - begin:,} between its offsets",
            )
        return dtype, tuple(shape), begin, end

    def check_layout(self, entries: Mapping[str, tuple[Any, Any, int, int]]) -> None:
        """The arrays follow one another without a hole or an overlap, up to the file's end."""
        reached = 0
        by_offset = sorted(entries.items(), key=lambda item: item[1][2:])
        for name, (_, _, begin, end) in by_offset:
            if begin != reached:
                raise self.error(f"{name!r} to begin at offset {reached:,}", f"{begin:,}")
            reached = end
        if reached != self.data_size:
            raise self.error(f"{reached:,} bytes of data", f"{self.data_size:,}")

    def array(
        self, name: str, dtype: np.dtype, shape: tuple[int, ...], begin: int, end: int
    ) -> np.ndarray:
        try:
            array = np.empty(shape, dtype)
        except ValueError as problem:  # sizes that NumPy cannot index, beside a size of zero
            raise self.error(f"a shape NumPy can hold for {name!r}", f"{shape}") from problem
        self.file.seek(self.data_start + begin)
        if array.size and self.file.readinto(array.reshape(-1).data) != end - begin:
            raise self.error(f"{end - begin:,} bytes for {name!r}", "the file's end")
        return array.astype(dtype.newbyteorder("="), copy=False)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} twice")
    return result


def _is_sizes(value: object) -> bool:
    # bool is an int to Python, but not to the format.
    return isinstance(value, list) and all(
        isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in value
    )
