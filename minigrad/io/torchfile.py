"""Weight files written by ``torch.save``, read without torch and without running what they say.

A torch file is a pickle, which is a program for a small stack machine and may call any function
that it can name. Here the machine is Python's own, but it can name nothing beyond the table in
:meth:`_WeightsUnpickler.find_class`: dictionaries, and the recipe "a tensor is a storage, an
offset, sizes and strides". Numbers live outside the pickle, in *storages* (flat runs of one dtype)
that the pickle refers to by key.

Two layouts exist:

zip (torch 1.6 and later)
    A zip archive of uncompressed records: ``<folder>/data.pkl`` and one ``<folder>/data/<key>`` per
    storage, perhaps ``<folder>/byteorder``.
legacy (before 1.6)
    Five pieces in a row: a magic number, a protocol version, a description of the machine, the
    object, the list of storage keys (each piece a pickle); then per storage its length as 8 bytes
    little-endian and its bytes.

Source: torch/serialization.py of PyTorch, ``_save``, ``_legacy_save`` and their readers.
"""

import math
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from minigrad.core.errors import DataError

__all__ = ["load_torch"]

_ZIP_START = b"PK\x03\x04"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

_STORAGES = {
    "BoolStorage": "?",
    "ByteStorage": "u1",
    "CharStorage": "i1",
    "ShortStorage": "<i2",
    "IntStorage": "<i4",
    "LongStorage": "<i8",
    "HalfStorage": "<f2",
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
}
# What reading untrusted bytes may raise; each becomes one sentence.
_BROKEN = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


def load_torch(path: str | os.PathLike[str]) -> Any:
    """Read a file written by ``torch.save``, tensors as arrays.

    Parameters
    ----------
    path : str or path-like
        A ``.pt``, ``.pth`` or ``.th`` file, zip or legacy; where its tensors lived (CPU, CUDA)
        does not matter.

    Returns
    -------
    tree : dict, list, ndarray, ...
        What was saved: nested dicts, lists, tuples, numbers, strings and None, with a C-contiguous
        array (bool, integer, float16, float32 or float64) in the place of each tensor.

    Raises
    ------
    DataError
        If the file is neither layout, is truncated or damaged, or names anything but tensors and
        plain containers: a whole module, bfloat16, or code to run. Nothing of it is executed.

    Examples
    --------
    >>> from minigrad.io import load_torch
    >>> tree = load_torch("resnet20-12fca82f.th")                            # doctest: +SKIP
    >>> tree["state_dict"]["module.conv1.weight"].shape                      # doctest: +SKIP
    (16, 3, 3, 3)
    """
    name = Path(path).name
    with open(path, "rb") as file:
        is_zip = file.read(len(_ZIP_START)) == _ZIP_START
        file.seek(0)
        try:
            return _load_zip(file) if is_zip else _load_legacy(file)
        except DataError as problem:
            raise DataError(f"torch file {name}: {problem}") from problem
        except _BROKEN as problem:
            raise DataError(
                f"torch file {name}: expected a whole file written by torch.save, found one that "
                f"is truncated or damaged ({type(problem).__name__}: {problem})."
            ) from problem


def _load_zip(file: BufferedReader) -> Any:
    with zipfile.ZipFile(file) as archive:
        program = next((n for n in archive.namelist() if n.endswith("/data.pkl")), None)
        if program is None:
            raise DataError("expected a record data.pkl in the zip archive, found none.")
        if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
            raise DataError("expected records as torch stores them, found compressed ones.")
        folder = program.removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist():
            _check_little_endian(archive.read(f"{folder}byteorder") == b"little")

        def read_storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
            record = archive.getinfo(f"{folder}data/{key}")
            _check_bytes(key, count * dtype.itemsize, record.file_size)
            return np.frombuffer(archive.read(record), dtype)

        with archive.open(program) as pickled:
            return _owned(_WeightsUnpickler(pickled, read_storage).load())


def _load_legacy(file: BufferedReader) -> Any:
    def refuse_storage(key: str, dtype: np.dtype, count: int) -> NoReturn:
        raise DataError("a storage where the legacy layout has none.")

    def read_preamble() -> Any:
        return _WeightsUnpickler(file, refuse_storage).load()

    try:
        magic = read_preamble()
    except (DataError, *_BROKEN):
        magic = None
    if magic != _LEGACY_MAGIC:
        raise DataError("expected a zip archive or torch's legacy magic number, found neither.")
    protocol = read_preamble()
    if protocol != _LEGACY_PROTOCOL:
        raise DataError(f"expected protocol version {_LEGACY_PROTOCOL}, found {protocol!r:.40}.")
    _check_little_endian(read_preamble()["little_endian"] is True)

    file_size = os.fstat(file.fileno()).st_size
    storages: dict[str, np.ndarray] = {}

    def promise_storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
        # The numbers come after the pickle: hand out the memory now, fill it below.
        if count * dtype.itemsize > file_size:
            raise DataError(f"storage {key}: expected {count:,} items, more than the file holds.")
        return storages.setdefault(key, np.zeros(count, dtype))

    tree = _WeightsUnpickler(file, promise_storage).load()
    for key in read_preamble():
        storage = storages[key]
        count = int.from_bytes(file.read(8), "little")
        if count != storage.size:
            raise DataError(f"storage {key}: expected {storage.size:,} items, found {count:,}.")
        _check_bytes(key, storage.nbytes, file.readinto(storage.data))
        del storages[key]
    if storages:
        raise DataError(f"expected data for {len(storages)} more storages, found none.")
    return _owned(tree)


# The unpickler written in Python: the one in C allocates as many slots as a memo index says, and a
# damaged index says billions.
class _WeightsUnpickler(pickle._Unpickler):
    """An unpickler that can build tensors and plain containers, and name nothing else.

    What `find_class` hands out is a string, a bound method or a built-in type, none of which the
    BUILD instruction can alter.
    """

    def __init__(self, file: Any, storage: Callable[[str, np.dtype, int], np.ndarray]) -> None:
        super().__init__(file, encoding="utf-8")
        self.storage = storage
        self.seen: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        allowed = {
            "collections.OrderedDict": OrderedDict,
            "torch.Size": tuple,
            "torch._utils._rebuild_tensor": self.rebuild_tensor,
            "torch._utils._rebuild_tensor_v2": self.rebuild_tensor,
            "torch._utils._rebuild_parameter": self.rebuild_parameter,
        }
        found = allowed.get(f"{module}.{name}")
        if found is None:
            raise DataError(
                f"expected tensors (bool, integer, float16, float32, float64) in plain containers, "
                f"found {module}.{name}, which is refused. In torch, save "
                f"model.float().state_dict() instead."
            )
        return found

    def persistent_load(self, pid: Any) -> np.ndarray:
        """The storage that the pickle refers to, read once however many tensors share it."""
        kind, dtype, key, _location, count, *view = pid
        if kind != "storage" or dtype not in _STORAGES.values() or view not in ([], [None]):
            raise DataError(f"expected a reference to a storage, found {pid!r:.80}.")
        _check_sizes((count,))
        if key not in self.seen:
            self.seen[key] = self.storage(key, np.dtype(dtype), count)
        storage = self.seen[key]
        if storage.dtype != np.dtype(dtype) or storage.size != count:
            raise DataError(f"expected storage {key} to have one type, found two.")
        return storage

    def rebuild_tensor(
        self, storage: Any, offset: int, shape: Any, strides: Any, *_unused: Any
    ) -> np.ndarray:
        """A view of the storage, once its every item is known to lie inside."""
        _check_sizes((offset, *shape, *strides))
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if math.prod(shape) == 0:
            return np.empty(shape, storage.dtype)
        if max(last + 1, math.prod(shape)) > storage.size:
            raise DataError(
                f"expected a tensor inside its {storage.size:,} items, found shape {shape} with "
                f"strides {strides} from item {offset:,}."
            )
        bytes_strides = tuple(s * storage.itemsize for s in strides)
        return np.lib.stride_tricks.as_strided(
            storage[offset:], shape, bytes_strides, writeable=False
        )

    def rebuild_parameter(self, data: np.ndarray, *_unused: Any) -> np.ndarray:
        return data


def _owned(tree: Any) -> Any:
    """The tree with plain dicts, and each view of a storage as an array of its own."""
    if isinstance(tree, np.ndarray):
        native = tree.dtype.newbyteorder("=")
        return np.array(tree, dtype=native, order="C")
    if isinstance(tree, dict):
        # dict.items, because a pickle may have put an attribute of that name on the OrderedDict.
        return {key: _owned(value) for key, value in dict.items(tree)}
    if isinstance(tree, list | tuple):
        return type(tree)(_owned(value) for value in tree)
    return tree


def _check_sizes(sizes: tuple[Any, ...]) -> None:
    if not all(type(size) is int and size >= 0 for size in sizes):
        raise DataError(f"expected sizes and strides of a tensor, found {sizes!r:.80}.")


def _check_bytes(key: str, expected: int, found: int) -> None:
    if expected != found:
        raise DataError(f"storage {key}: expected {expected:,} bytes, found {found:,}.")


def _check_little_endian(little: bool) -> None:
    if not little:
        raise DataError("expected little-endian numbers, found a file of a big-endian machine.")
