"""Fetch the published files, with checksum and progress, when a user asks for it.

Nothing here runs on import or in the tests: the network is touched by :func:`download` alone.
"""

import sys
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigrad.core.errors import ArgumentError, DataError, MissingExtra
from minigrad.data.cifar import CIFAR10_MD5, CIFAR100_MD5
from minigrad.data.idx import FASHION_MNIST_MD5, MNIST_MD5

__all__ = ["download"]


@dataclass(frozen=True)
class _Source:
    """Where the files of one set are published."""

    address: str  # of the folder on the server
    files: dict[str, str]  # what is fetched from there, with its MD5 sum
    unpacked: tuple[str, ...] = ()  # what an archive among them holds


def _gzipped(md5: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in md5.items() if name.endswith(".gz")}


def _binary(folder: str, md5: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in md5 if name.endswith(".bin"))


_TORONTO = "https://www.cs.toronto.edu/~kriz/"
_SOURCES = {
    "mnist": _Source("https://ossci-datasets.s3.amazonaws.com/mnist/", _gzipped(MNIST_MD5)),
    "fashion-mnist": _Source(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/", _gzipped(FASHION_MNIST_MD5)
    ),
    "cifar10": _Source(
        _TORONTO,
        {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
        _binary("cifar-10-batches-bin", CIFAR10_MD5),
    ),
    "cifar100": _Source(
        _TORONTO,
        {"cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8"},
        _binary("cifar-100-binary", CIFAR100_MD5),
    ),
}


def download(name: str, root: str | Path | None = None, verify: bool = True) -> Path:
    """Fetch a data set unless it is there already, and return the folder it lies in.

    Parameters
    ----------
    name : str
        ``"mnist"``, ``"fashion-mnist"``, ``"cifar10"`` or ``"cifar100"``.
    root : str or Path, optional
        The files go to ``root/name``. Left out, ``root`` is the user's cache folder for minigrad.
    verify : bool
        Whether what is fetched must have the official MD5 sum.

    Returns
    -------
    Path
        ``root/name``, which the loader of the set takes as its root.

    Raises
    ------
    ArgumentError
        Where the name is unknown.
    MissingExtra
        Where pooch is not installed.
    DataError
        Where a file cannot be fetched or has another checksum. The message says which files to
        put where by hand.
    """
    if name not in _SOURCES:
        raise ArgumentError(
            f"download: {name!r} cannot be fetched. Pass one of {', '.join(_SOURCES)}."
        )
    source = _SOURCES[name]
    folder = (_cache() if root is None else Path(root)) / name
    files = source.unpacked or tuple(source.files)
    if all((folder / file).is_file() for file in files):
        return folder
    for file, md5 in source.files.items():
        try:
            _fetch(source.address + file, folder / file, f"md5:{md5}" if verify else None)
            if source.unpacked:
                _unpack(folder / file, source.unpacked)
        except (OSError, ValueError, EOFError, tarfile.TarError, zlib.error) as error:
            raise DataError(
                f"{name}: {source.address}{file} could not be fetched ({_first_line(error)}). "
                f"Fetch it in another way and put {', '.join(files)} in {folder}, or put them "
                f"anywhere and pass that folder as root."
            ) from error
    return folder


def _cache() -> Path:
    return Path(_pooch().os_cache("minigrad"))


def _pooch() -> Any:
    try:
        import pooch
    except ImportError as error:
        raise MissingExtra(
            "download: files are fetched with pooch, which is not installed. "
            'Run: pip install "minigrad[demos]", or pass root, a folder that holds the files.'
        ) from error
    return pooch


def _fetch(url: str, path: Path, known_hash: str | None) -> None:
    """Bring ``url`` to ``path``; a download that fails leaves no file there."""
    pooch = _pooch()
    progress = _Progress(path.name)
    pooch.retrieve(
        url,
        known_hash=known_hash,
        fname=path.name,
        path=path.parent,
        downloader=pooch.HTTPDownloader(progressbar=progress, chunk_size=1 << 16),
    )


def _unpack(archive: Path, wanted: tuple[str, ...]) -> None:
    """Write the wanted members beside the archive, then remove it.

    Members are looked up by the names that are wanted; what else an archive holds, links and paths
    that climb included, is never written.
    """
    with tarfile.open(archive) as tar:
        for name in wanted:
            try:
                member = tar.extractfile(name)
            except KeyError:
                member = None
            if member is None:
                raise ValueError(f"the archive holds no file {name}")
            target = archive.parent / name
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(target.name + ".part")
            partial.write_bytes(member.read())
            partial.replace(target)
    archive.unlink()


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


class _Progress:
    """A line on standard error, with the few methods that pooch calls on a progress bar."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.total = 0
        self.done = 0

    def update(self, amount: int) -> None:
        self.done += amount
        done, total = self.done / 1e6, self.total / 1e6
        text = f"{min(done, total):.1f} of {total:.1f} MB" if total else f"{done:.1f} MB"
        print(f"\r{self.name}: {text}", end="", file=sys.stderr)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        print(file=sys.stderr)
