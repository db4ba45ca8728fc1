"""What every file format needs: find files, read bytes, compare checksums, name what is wrong."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from minigrad.core.errors import ArgumentError, DataError

SPLITS = ("train", "test")
FRESH_COPY = "Replace the file by a fresh copy."


def wrong_file(path: Path, expected: str, found: str, cure: str = FRESH_COPY) -> DataError:
    """The one sentence every broken file gets, ready to be raised."""
    return DataError(f"{path}: expected {expected}, found {found}. {cure}")


def check_split(name: str, split: str) -> None:
    """Raise ArgumentError unless ``split`` is one of the two."""
    if split not in SPLITS:
        raise ArgumentError(f"{name}: split {split!r} is unknown. Pass split='train' or 'test'.")


def read_bytes(path: Path) -> bytes:
    """The whole file, or one sentence that says why it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise wrong_file(
            path, "a readable file", f"none ({error.strerror})", "Check path and permissions."
        ) from error


def check_md5(path: Path, official: Mapping[str, str]) -> None:
    """Raise DataError unless the MD5 sum of ``path`` is the official one for a file of its name."""
    cure = "Fetch the official file, or pass verify=False to use this one as it is."
    expected = official.get(path.name)
    if expected is None:
        raise wrong_file(path, "a file whose official MD5 sum is known", "one without", cure)
    found = hashlib.md5(read_bytes(path), usedforsecurity=False).hexdigest()
    if found != expected:
        raise wrong_file(path, f"MD5 sum {expected}", found, cure)


def folder_with(root: Path, folders: Iterable[str], names: Iterable[str]) -> Path | None:
    """The first of ``root/folder`` that holds any file of these names."""
    names = list(names)
    for folder in folders:
        if any((root / folder / name).is_file() for name in names):
            return root / folder
    return None
