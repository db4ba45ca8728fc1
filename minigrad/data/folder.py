"""A folder of images, one subfolder a class."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.core.errors import ArgumentError, DataError, MissingExtra
from minigrad.data._files import check_split, wrong_file
from minigrad.data.dataset import ImageDataset, stratified_mask

__all__ = ["load_folder"]

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_MIXED_SIZE = 64  # what images of different sizes become where no size is asked for
_SPLIT_SEED = 0

Entry = tuple[Path, int]  # an image file and its label


def load_folder(
    root: str | Path, split: str = "train", size: int | None = None, mirror: bool = True
) -> ImageDataset:
    """Images sorted into one folder a class: ``root/cat/1.jpg``, ``root/dog/a/2.png``, ...

    Parameters
    ----------
    root : str or Path
        Either the class folders themselves, a fifth of every class being held out for testing, or
        two folders ``train`` and ``test`` (or ``val``) with the class folders inside.
    split : str
        ``"train"`` or ``"test"``.
    size : int, optional
        Side in pixels: each image is scaled until its shorter side is ``size``, and the middle
        square is kept. Left out, images that all have one size stay as they are, others become
        64×64.
    mirror : bool
        Whether a mirror keeps the labels; False for letters and digits.

    Returns
    -------
    ImageDataset
        Images (N, size, size, 3) in RGB, all in memory. Classes are the folders' names in
        alphabetical order. The images come in turns, one of each class, so that ``limit(n)`` is a
        fair sample. Mean and deviation are the conventional ones of ImageNet.

    Raises
    ------
    DataError
        Where there are no class folders, one has no image, or an image cannot be read.
    MissingExtra
        Where Pillow is not installed.
    """
    check_split("load_folder", split)
    if size is not None and size < 1:
        raise ArgumentError(
            f"load_folder: size must be at least 1 pixel, got {size}. Pass size=64 or so."
        )
    classes, parts = _parts(Path(root))
    if split not in parts:
        raise DataError(
            f"folder: the test images were asked for, {root} has a folder train and neither test "
            f"nor val beside it. Add one, or put the class folders directly in {root}."
        )
    if size is None:
        size = _common_size([path for entries in parts.values() for path, _ in entries])
    entries = parts[split]
    images = [_read_image(path, size) for path, _ in entries]
    labels = np.array([label for _, label in entries])
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return ImageDataset(np.stack(images), labels, classes, "folder", mean, std, mirror=mirror)


def _parts(root: Path) -> tuple[list[str], dict[str, list[Entry]]]:
    """The classes, and the images of each split that the folder provides for."""
    if (root / "train").is_dir():
        classes = _class_names(root / "train")
        parts = {"train": _entries(root / "train", classes)}
        for name in ("val", "test"):
            if (root / name).is_dir():
                parts["test"] = _entries(root / name, classes)
        return classes, parts
    classes = _class_names(root)
    entries = _entries(root, classes)
    held_out = stratified_mask(np.array([label for _, label in entries]), 0.2, _SPLIT_SEED)
    return classes, {
        "train": [entry for entry, out in zip(entries, held_out, strict=True) if not out],
        "test": [entry for entry, out in zip(entries, held_out, strict=True) if out],
    }


def _class_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(
            f"folder: expected one folder a class in {folder}, found no such folder. "
            f"Pass root, the folder that holds them."
        )
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise DataError(
            f"folder: expected one folder a class in {folder}, found none. "
            f"Sort the images into folders named after their classes."
        )
    return names


def _entries(folder: Path, classes: list[str]) -> list[Entry]:
    """The images below ``folder``, taking turns: the first of each class, then the second, ..."""
    entries = []
    for name in _class_names(folder):
        if name not in classes:
            raise DataError(
                f"folder: expected only classes that train has ({', '.join(classes)}), found "
                f"{folder / name}. Remove it, or add training images of it."
            )
        paths = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in _SUFFIXES)
        if not paths:
            raise DataError(
                f"folder: expected images ({', '.join(sorted(_SUFFIXES))}) in {folder / name}, "
                f"found none. Add some, or remove the folder."
            )
        entries += [(turn, classes.index(name), path) for turn, path in enumerate(paths)]
    return [(path, label) for _, label, path in sorted(entries)]


def _common_size(paths: list[Path]) -> int | None:
    """None where all images have one size, else the side they are to be brought to."""
    sizes = {_open(path, lambda image: image.size) for path in paths}
    return None if len(sizes) == 1 else _MIXED_SIZE


def _read_image(path: Path, size: int | None) -> np.ndarray:
    """The image as uint8 (H, W, 3), scaled and cut to ``size`` if there is one."""
    rgb = _open(path, lambda image: image.convert("RGB"))
    if size is not None:
        scale = size / min(rgb.size)
        W, H = (max(size, round(side * scale)) for side in rgb.size)
        left, top = (W - size) // 2, (H - size) // 2
        # Pillow's default filter, bicubic, widened when shrinking so that nothing aliases.
        rgb = rgb.resize((W, H)).crop((left, top, left + size, top + size))
    return np.asarray(rgb)


def _open(path: Path, look: Callable[[Any], Any]) -> Any:
    """What ``look`` finds in the image file, or one sentence that names the file."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra(
            "load_folder: images are read with Pillow, which is not installed. "
            'Run: pip install "minigrad[demos]"'
        ) from error
    try:
        with Image.open(path) as image:
            return look(image)
    except Exception as error:  # each of Pillow's readers raises its own kinds
        raise wrong_file(
            path, "a readable image", f"none ({error})", "Replace or remove the file."
        ) from error
