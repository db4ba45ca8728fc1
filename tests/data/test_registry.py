"""Data sets by name."""

import subprocess
import sys

import numpy as np
import pytest

from minigrad import data
from minigrad.core.errors import ArgumentError, DataError


def test_every_name_is_documented():
    assert data.NAMES == ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "folder")
    for name in data.NAMES:
        assert f'``"{name}"``' in data.load.__doc__


def test_names_lead_to_their_readers(shared):
    root = shared / "data"
    assert repr(data.load("mnist", root, "test", verify=True)) == (
        "ImageDataset(mnist: 10000 images of 1x28x28, 10 classes)"
    )
    assert repr(data.load("cifar10", root, "test")) == (
        "ImageDataset(cifar10: 10000 images of 3x32x32, 10 classes)"
    )


def test_a_folder_takes_a_size(tmp_path):
    Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    (tmp_path / "train" / "a").mkdir(parents=True)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "train" / "a" / "1.png")
    assert data.load("folder", tmp_path, size=4).shape == (3, 4, 4)


WRONG = [
    (
        {"name": "imagenet"},
        ArgumentError,
        "load: the data set 'imagenet' is unknown. "
        "Pass one of digits, mnist, fashion-mnist, cifar10, cifar100, folder.",
    ),
    (
        {"name": "digits", "size": 16},
        ArgumentError,
        "load: size=16 was asked for, but the images of digits have a fixed size. "
        "Leave size out, or load a folder.",
    ),
    (
        {"name": "folder"},
        DataError,
        "folder: root is needed, none was given. "
        "Pass the folder that holds one folder of images for each class.",
    ),
    (
        {"name": "digits", "split": "dev"},
        ArgumentError,
        "load_digits: split 'dev' is unknown. Pass split='train' or 'test'.",
    ),
]


@pytest.mark.parametrize(("arguments", "error", "text"), WRONG)
def test_wrong_arguments_are_explained(arguments, error, text):
    with pytest.raises(error) as caught:
        data.load(**arguments)
    assert str(caught.value) == text


def test_importing_the_package_needs_no_extra():
    """A fresh interpreter, since this one has long imported them for other tests."""
    code = (
        "import sys, minigrad.data\n"
        "print([m for m in ('PIL', 'numba', 'pooch', 'requests', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
