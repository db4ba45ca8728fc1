"""Data sets, what is done to their images, and the loader that makes batches of them."""

from minigrad.data.cifar import load_cifar10, load_cifar100
from minigrad.data.dataset import ImageDataset, channel_statistics
from minigrad.data.digits import load_digits
from minigrad.data.download import download
from minigrad.data.folder import load_folder
from minigrad.data.idx import load_fashion_mnist, load_mnist, read_idx
from minigrad.data.loader import DataLoader
from minigrad.data.registry import NAMES, load
from minigrad.data.transforms import (
    Compose,
    Normalize,
    RandomCrop,
    RandomFlip,
    Transform,
    standard,
    to_float,
)

__all__ = [
    "NAMES",
    "Compose",
    "DataLoader",
    "ImageDataset",
    "Normalize",
    "RandomCrop",
    "RandomFlip",
    "Transform",
    "channel_statistics",
    "download",
    "load",
    "load_cifar10",
    "load_cifar100",
    "load_digits",
    "load_fashion_mnist",
    "load_folder",
    "load_mnist",
    "read_idx",
    "standard",
    "to_float",
]
