"""CIFAR-10 and CIFAR-100, in the binary and in the python version.

A record of the binary version is the label bytes (CIFAR-10: one; CIFAR-100: coarse, fine) and 3072
pixel bytes: the red, the green and the blue plane, each 32 rows of 32. The python version is a
pickled dict with ``data``, an array (N, 3072) of the same pixel bytes, and a list of labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.core.errors import DataError
from minigrad.data._files import check_md5, check_split, folder_with, read_bytes, wrong_file
from minigrad.data._pickle import read_pickle
from minigrad.data.dataset import ImageDataset

__all__ = ["load_cifar10", "load_cifar100"]

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class _Version:
    """One of the two forms in which one of the two sets is published."""

    folder: str
    files: dict[str, tuple[str, ...]]  # split -> file names
    label_bytes: int = 0  # of a binary record; the label that counts is the last of them
    labels_key: str = ""  # of a pickled dict

    @property
    def binary(self) -> bool:
        return self.label_bytes > 0


_CIFAR10 = (
    _Version(
        "cifar-10-batches-bin",
        {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
        label_bytes=1,
    ),
    _Version(
        "cifar-10-batches-py",
        {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
        labels_key="labels",
    ),
)
_CIFAR100 = (
    _Version("cifar-100-binary", {"train": ("train.bin",), "test": ("test.bin",)}, label_bytes=2),
    _Version(
        "cifar-100-python", {"train": ("train",), "test": ("test",)}, labels_key="fine_labels"
    ),
)

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_CIFAR100_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab
crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse
mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy
porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper
snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television
tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR100_CLASSES = tuple(_CIFAR100_NAMES.split())

CIFAR10_MD5 = {
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
CIFAR100_MD5 = {
    "train.bin": "6172c7755cfe09b2fe270c85cebc1b15",
    "test.bin": "4499cfba6c016c1be1438163640a0898",
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
}


def load_cifar10(root: str | Path, split: str = "train", verify: bool = False) -> ImageDataset:
    """CIFAR-10: 50,000 colour photographs for training and 10,000 for testing, 32×32, 10 classes.

    Parameters
    ----------
    root : str or Path
        ``cifar-10-batches-bin`` or ``cifar-10-batches-py``, a folder that holds one of them, or
        one that holds it in ``cifar10``. The binary version is taken where both are there.
    split : str
        ``"train"`` (``data_batch_1`` to ``5``, in order) or ``"test"``.
    verify : bool
        Whether the files must have the official MD5 sums.

    Returns
    -------
    ImageDataset
        Images (N, 32, 32, 3), with the training set's mean and deviation to four digits.

    Raises
    ------
    DataError
        Where a file is missing, is cut short, or holds a label or a shape that cannot be. A file
        may have any whole number of records; the official number only ``verify`` insists on.

    Source
    ------
    A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images (2009).
    """
    check_split("load_cifar10", split)
    md5 = CIFAR10_MD5 if verify else None
    images, labels = _load("cifar10", _CIFAR10, root, split, 10, md5)
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    return ImageDataset(images, labels, CIFAR10_CLASSES, "cifar10", mean, std, mirror=True)


def load_cifar100(root: str | Path, split: str = "train", verify: bool = False) -> ImageDataset:
    """CIFAR-100: as CIFAR-10, with 100 classes (the fine labels).

    Parameters
    ----------
    root : str or Path
        ``cifar-100-binary`` or ``cifar-100-python``, a folder that holds one of them, or one that
        holds it in ``cifar100``. The binary version is taken where both are there.
    split : str
        ``"train"`` or ``"test"``.
    verify : bool
        Whether the files must have the official MD5 sums.

    Returns
    -------
    ImageDataset
        Images (N, 32, 32, 3), with the training set's mean and deviation to four digits.

    Raises
    ------
    DataError
        As :func:`load_cifar10`.

    Source
    ------
    A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images (2009).
    """
    check_split("load_cifar100", split)
    md5 = CIFAR100_MD5 if verify else None
    images, labels = _load("cifar100", _CIFAR100, root, split, 100, md5)
    mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    return ImageDataset(images, labels, CIFAR100_CLASSES, "cifar100", mean, std, mirror=True)


def _load(
    name: str,
    versions: Sequence[_Version],
    root: str | Path,
    split: str,
    classes: int,
    md5: dict[str, str] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 32, 32, 3) and labels (N,) of a split, in the files' order."""
    version, folder = _find(name, versions, Path(root), split)
    images, labels = [], []
    for file in version.files[split]:
        path = folder / file
        if md5 is not None:
            check_md5(path, md5)
        pixels, label = _read_binary(path, version) if version.binary else _read_py(path, version)
        bad = (label < 0) | (label >= classes)
        if bad.any():
            i = int(np.argmax(bad))
            raise wrong_file(path, f"labels 0..{classes - 1}", f"label {label[i]} in record {i}")
        images.append(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))  # (N, H, W, C)
        labels.append(label.astype(np.int64))
    return np.concatenate(images), np.concatenate(labels)


def _find(name: str, versions: Sequence[_Version], root: Path, split: str) -> tuple[_Version, Path]:
    """The version whose files lie below ``root``, and the folder they lie in."""
    for version in versions:
        folders = ("", version.folder, f"{name}/{version.folder}")
        folder = folder_with(root, folders, version.files[split])
        if folder is not None:
            return version, folder
    raise DataError(
        f"{name}: expected {_listed(versions[0].files[split])} or "
        f"{_listed(versions[1].files[split])} in {root}, found neither. Put the folder "
        f"{versions[0].folder} or {versions[1].folder} there, or fetch it with "
        f"minigrad.data.download({name!r}, root)."
    )


def _listed(files: Sequence[str]) -> str:
    return files[0] if len(files) == 1 else f"{files[0]} to {files[-1]}"


def _read_binary(path: Path, version: _Version) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 3072) and labels (N,) of a file of records."""
    content = read_bytes(path)
    record = version.label_bytes + _PIXELS
    if not content or len(content) % record:
        raise wrong_file(path, f"whole records of {record} bytes", f"{len(content)} bytes")
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    return records[:, version.label_bytes :], records[:, version.label_bytes - 1]


def _read_py(path: Path, version: _Version) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 3072) and labels (N,) of a pickled dict, its keys being text or bytes."""
    batch = read_pickle(path)
    if not isinstance(batch, dict):
        raise wrong_file(path, "a pickled dict", f"a {type(batch).__name__}")
    pixels = _entry(path, batch, "data")
    if not (
        isinstance(pixels, np.ndarray)
        and pixels.dtype == np.uint8
        and pixels.ndim == 2
        and pixels.shape[1] == _PIXELS
    ):
        raise wrong_file(path, f"'data' to be a uint8 array (N, {_PIXELS})", _described(pixels))
    labels = _entry(path, batch, version.labels_key)
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise wrong_file(path, f"{version.labels_key!r} to be a list of int", _described(labels))
    if len(labels) != len(pixels):
        raise wrong_file(path, f"{len(pixels)} labels, one for each image", f"{len(labels)}")
    # Integers of any size until the caller has checked their range.
    return np.asarray(pixels), np.array(labels, dtype=object)


def _entry(path: Path, batch: dict, key: str) -> Any:
    for form in (key, key.encode()):
        if form in batch:
            return batch[form]
    raise wrong_file(path, f"a dict with the entry {key!r}", f"the entries {list(batch)}")


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of {value.shape}"
    return f"a {type(value).__name__}"
