"""The digits inside scikit-learn."""

import sys
import zlib

import numpy as np
import pytest

from minigrad.core.errors import ArgumentError, MissingExtra
from minigrad.data import channel_statistics, load_digits, standard


@pytest.fixture(scope="module")
def splits():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    return load_digits("train"), load_digits("test")


def test_every_digit_is_in_one_of_the_two(splits):
    from sklearn import datasets

    bunch = datasets.load_digits()
    whole = sorted(zip(bunch.images.reshape(-1, 64).tolist(), bunch.target.tolist(), strict=True))
    found = sorted(
        (shades, label)
        for part in splits
        for shades, label in zip(
            (part.images.reshape(-1, 64) / 255 * 16).round().tolist(),
            part.labels.tolist(),
            strict=True,
        )
    )
    assert found == whole  # spreading 17 shades over 0..255 loses nothing


def test_a_fifth_of_every_digit_is_held_out_the_same_one_for_ever(splits):
    train, test = splits
    assert (len(train), len(test)) == (1438, 359)
    assert np.bincount(test.labels).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    assert zlib.crc32(test.images.tobytes()) == 1951558177


def test_both_splits_are_normalised_by_the_training_images(splits):
    train, test = splits
    assert (train.mean, train.std) == (test.mean, test.std) == channel_statistics(train.images)


def test_digits_are_never_flipped(splits):
    assert [type(step).__name__ for step in standard(splits[0], augment=True).steps] == [
        "RandomCrop",
        "Normalize",
    ]


def test_unknown_split():
    with pytest.raises(ArgumentError, match="split 'dev' is unknown"):
        load_digits("dev")


def test_without_scikit_learn_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtra) as caught:
        load_digits()
    assert str(caught.value) == (
        "load_digits: the digits come with scikit-learn, which is not installed. "
        'Run: pip install "minigrad[demos]"'
    )
