"""Data sets by name, as the command line asks for them."""

from collections.abc import Callable
from pathlib import Path

from minigrad.core.errors import ArgumentError, DataError
from minigrad.data.cifar import load_cifar10, load_cifar100
from minigrad.data.dataset import ImageDataset
from minigrad.data.digits import load_digits
from minigrad.data.download import download
from minigrad.data.folder import load_folder
from minigrad.data.idx import load_fashion_mnist, load_mnist

__all__ = ["NAMES", "load"]

# The sets that are published as files, each with its reader.
_PUBLISHED: dict[str, Callable[[str | Path, str, bool], ImageDataset]] = {
    "mnist": load_mnist,
    "fashion-mnist": load_fashion_mnist,
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
}
NAMES = ("digits", *_PUBLISHED, "folder")


def load(
    name: str,
    root: str | Path | None = None,
    split: str = "train",
    verify: bool | None = None,
    size: int | None = None,
) -> ImageDataset:
    """A split of a data set, by the set's name.

    Parameters
    ----------
    name : str
        ``"digits"``, ``"mnist"``, ``"fashion-mnist"``, ``"cifar10"``, ``"cifar100"`` or
        ``"folder"``.
    root : str or Path, optional
        Folder with the files, or with the folder that holds them. Digits need none; for a folder
        of images it is needed. Left out for another set, the files are fetched into the user's
        cache folder if they are not there already.
    split : str
        ``"train"`` or ``"test"``.
    verify : bool, optional
        Whether files must have the official MD5 sums. By default what is fetched must, and what
        lies in ``root`` is taken as it is. False accepts everything.
    size : int, optional
        Side of the images of a folder; see :func:`load_folder`.

    Returns
    -------
    ImageDataset

    Raises
    ------
    ArgumentError
        Where the name or the split is unknown, or a setting does not go with the set.
    DataError
        Where files are missing or broken.
    MissingExtra
        Where the library that reads or fetches the set is not installed.

    Examples
    --------
    >>> load("digits", split="test")
    ImageDataset(digits: 359 images of 1x8x8, 10 classes)
    """
    if name not in NAMES:
        raise ArgumentError(
            f"load: the data set {name!r} is unknown. Pass one of {', '.join(NAMES)}."
        )
    if size is not None and name != "folder":
        raise ArgumentError(
            f"load: size={size} was asked for, but the images of {name} have a fixed size. "
            f"Leave size out, or load a folder."
        )
    if name == "digits":
        return load_digits(split)
    if name == "folder":
        if root is None:
            raise DataError(
                "folder: root is needed, none was given. Pass the folder that holds one folder of "
                "images for each class."
            )
        return load_folder(root, split, size)
    if root is None:
        root = download(name, verify=verify is not False)
    return _PUBLISHED[name](root, split, bool(verify))
