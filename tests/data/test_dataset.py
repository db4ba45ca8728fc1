"""ImageDataset: what it holds, what it refuses, how it is cut."""

import numpy as np
import pytest

from minigrad.core.errors import ArgumentError, DTypeError, ShapeError
from minigrad.data import ImageDataset, channel_statistics

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 5, 7, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 1])


def make(images=IMAGES, labels=LABELS, classes=("even", "odd"), **options):
    return ImageDataset(images, labels, classes, name="toy", **options)


def test_holds_what_it_was_given_read_only():
    dataset = make()
    assert len(dataset) == 10
    assert dataset.shape == (3, 5, 7)
    assert dataset.classes == ("even", "odd")
    assert dataset.labels.dtype == np.int64
    assert repr(dataset) == "ImageDataset(toy: 10 images of 3x5x7, 2 classes)"
    with pytest.raises(ValueError, match="read-only"):
        dataset.images[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        dataset.labels[0] = 0
    assert IMAGES.flags.writeable  # the caller's own array stays as it was


def test_statistics_are_those_of_the_scaled_pixels():
    mean, std = channel_statistics(IMAGES)
    scaled = IMAGES.reshape(-1, 3) / 255
    np.testing.assert_allclose(mean, scaled.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(std, scaled.std(axis=0), rtol=1e-13)
    assert (make().mean, make().std) == (mean, std)


def test_a_constant_channel_has_deviation_one():
    assert channel_statistics(np.full((2, 3, 4, 1), 51, np.uint8)) == ((0.2,), (1.0,))


def test_given_statistics_are_kept_by_every_cut():
    dataset = make(mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6], mirror=True)
    for part in (dataset, dataset.limit(2), dataset.subset([1]), *dataset.split(0.4)):
        assert (part.mean, part.std, part.mirror) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), True)


def test_subset_and_limit():
    dataset = make()
    part = dataset.subset([7, -10, 2])
    np.testing.assert_array_equal(part.images, IMAGES[[7, 0, 2]])
    assert part.labels.tolist() == [1, 0, 0]
    assert len(dataset.subset([])) == 0
    np.testing.assert_array_equal(dataset.limit(4).images, IMAGES[:4])
    assert dataset.limit(11) is dataset


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.61])
def test_split_is_stratified_disjoint_and_complete(fraction):
    numbered = np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1)
    labels = np.random.default_rng(1).integers(0, 3, 100)
    dataset = ImageDataset(numbered, labels, "abc", name="toy")
    kept, held_out = dataset.split(fraction, seed=5)
    for label in range(3):
        total = int((labels == label).sum())
        assert (held_out.labels == label).sum() == round(fraction * total)
    positions = [part.images.ravel().tolist() for part in (kept, held_out)]
    assert sorted(positions[0] + positions[1]) == list(range(100))
    assert all(p == sorted(p) for p in positions)
    for part, position in zip((kept, held_out), positions, strict=True):
        np.testing.assert_array_equal(part.labels, labels[position])


def test_split_follows_its_seed():
    labels = np.zeros(50, int)
    dataset = ImageDataset(
        np.arange(50, dtype=np.uint8).reshape(-1, 1, 1, 1), labels, "a", name="toy"
    )
    held_out = [dataset.split(0.2, seed=s)[1].images.ravel().tolist() for s in (0, 0, 1)]
    assert held_out[0] == held_out[1] != held_out[2]
    # The very images, so that a change of generator cannot pass unseen.
    assert held_out[0] == [2, 4, 10, 11, 22, 27, 28, 31, 38, 41]


WRONG = [
    (
        lambda: make(images=IMAGES / 255),
        DTypeError,
        "ImageDataset: images must be uint8 pixels in 0..255, got float64. "
        "Scale and convert first, for example (255 * x).round().astype('uint8').",
    ),
    (
        lambda: make(images=IMAGES[..., 0]),
        ShapeError,
        "ImageDataset: images must be (N, H, W, C), got shape (10, 5, 7). "
        "Grey images of shape (N, H, W) become x[..., None].",
    ),
    (
        lambda: make(labels=LABELS / 2),
        DTypeError,
        "ImageDataset: labels must be integers, got float64. "
        "Pass positions in classes, for example labels.astype('int64').",
    ),
    (
        lambda: make(labels=LABELS[:9]),
        ShapeError,
        "ImageDataset: one label per image is needed, 10 images came with labels of shape (9,). "
        "Pass labels of shape (10,).",
    ),
    (
        lambda: make(labels=LABELS + 1),
        ArgumentError,
        "ImageDataset: labels must be 0..1 for 2 classes, got 1..2. "
        "Name every class, or renumber the labels.",
    ),
    (
        lambda: make(mean=[0.5], std=[0.5]),
        ArgumentError,
        "ImageDataset: images have 3 channels, got mean (0.5,) and std (0.5,). "
        "Pass one mean and one positive std per channel, or leave both out.",
    ),
    (
        lambda: make().limit(0),
        ArgumentError,
        "limit: at least one image is needed, got n=0. Pass n >= 1.",
    ),
    (
        lambda: make().split(1.0),
        ArgumentError,
        "split: fraction must lie between 0 and 1, got 1.0. Pass 0.2 to hold out a fifth.",
    ),
    (
        lambda: make().subset([0, 10]),
        ArgumentError,
        "subset: toy has 10 images, indices run from 0 to 10. Pass indices from 0 to 9.",
    ),
    (
        lambda: make().subset(LABELS == 1),
        ArgumentError,
        "subset: indices must be a one-dimensional list of integers, got bool of shape (10,). "
        "For a mask, pass np.flatnonzero(mask).",
    ),
]


@pytest.mark.parametrize(("call", "error", "text"), WRONG)
def test_wrong_parts_are_explained(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text
