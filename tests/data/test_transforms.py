"""Each transform against a loop over single images, and what every transform promises."""

import numpy as np
import pytest

from minigrad.core.errors import ArgumentError, DTypeError, ShapeError
from minigrad.data import (
    Compose,
    ImageDataset,
    Normalize,
    RandomCrop,
    RandomFlip,
    standard,
    to_float,
)

N, C, H, W = 6, 3, 5, 7
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def batch(seed=0, shape=(N, H, W, C)):
    """Pixels of logical shape (N, C, H, W) over channels-last memory, none of them zero."""
    pixels = np.random.default_rng(seed).integers(1, 256, shape, dtype=np.uint8)
    return pixels.transpose(0, 3, 1, 2)


def rng(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def test_to_float_is_division_by_255():
    x = batch()
    out = to_float(x)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, x.astype(np.float32) / np.float32(255))


def test_normalize_has_the_bits_of_the_plain_formula():
    x = batch()
    mean, std = (np.array(v, np.float32).reshape(1, C, 1, 1) for v in (MEAN, STD))
    plain = (x.astype(np.float32) / np.float32(255) - mean) / std
    np.testing.assert_array_equal(Normalize(MEAN, STD)(x), plain)


def test_normalized_by_its_own_statistics_a_set_has_mean_0_and_deviation_1():
    x = batch(shape=(N, H, W, C))
    dataset = ImageDataset(x.transpose(0, 2, 3, 1), np.zeros(N, int), "a", name="toy")
    out = Normalize(dataset.mean, dataset.std)(x).astype(np.float64)
    np.testing.assert_allclose(out.mean(axis=(0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(out.std(axis=(0, 2, 3)), 1, rtol=1e-6)


@pytest.mark.parametrize("padding", [1, 2, 6])
def test_random_crop_moves_every_image_and_fills_with_zeros(padding):
    x, out = batch(), RandomCrop(padding)(batch(), rng())
    places = range(2 * padding + 1)
    for image, moved in zip(x, out, strict=True):
        framed = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
        found = [
            (top, left)
            for top in places
            for left in places
            if np.array_equal(framed[:, top : top + H, left : left + W], moved)
        ]
        assert found  # one of the windows, whole
        assert len(found) == 1 or not moved.any()


def test_random_crop_uses_all_places_equally():
    x = np.zeros((9000, 1, 3, 3), np.uint8)
    x[:, 0, 1, 1] = 1
    out = RandomCrop(1)(x, rng())
    seen = out.reshape(9000, 9).astype(int).sum(axis=0)  # how often the dot came to each place
    assert seen.sum() == 9000
    assert (abs(seen - 1000) < 150).all()  # five standard deviations of the binomial


def test_random_flip_mirrors_about_half_and_only_left_to_right():
    x = batch(shape=(400, H, W, C))
    out = RandomFlip()(x, rng())
    flipped = [np.array_equal(a[:, :, ::-1], b) for a, b in zip(x, out, strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(x, out, strict=True)]
    assert all(f != s for f, s in zip(flipped, same, strict=True))
    assert 150 < sum(flipped) < 250


def test_compose_draws_from_one_generator_in_order():
    x = batch()
    by_hand = rng(4)
    expected = RandomFlip()(RandomCrop(2)(x, by_hand), by_hand)
    np.testing.assert_array_equal(Compose([RandomCrop(2), RandomFlip()])(x, rng(4)), expected)


EVERY = [
    RandomCrop(2),
    RandomFlip(),
    Normalize(MEAN, STD),
    lambda x, rng: to_float(x),
    Compose([RandomCrop(1), RandomFlip(), Normalize(MEAN, STD)]),
    Compose([]),
]


@pytest.mark.parametrize("transform", EVERY)
def test_every_transform_leaves_its_input_alone_and_keeps_the_layout(transform):
    x = batch()
    before = x.copy()
    x.flags.writeable = False
    out = transform(x, rng())
    assert out.shape == x.shape
    assert out.transpose(0, 2, 3, 1).flags.c_contiguous
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("transform", EVERY)
def test_every_transform_takes_any_memory_order_and_no_images(transform):
    x = batch()
    expected = transform(x, rng(7))
    for other in (np.ascontiguousarray(x), np.asfortranarray(x), x[:, ::-1][:, ::-1]):
        np.testing.assert_array_equal(transform(other, rng(7)), expected)
    assert transform(x[:0], rng()).shape == (0, C, H, W)


@pytest.mark.parametrize("transform", EVERY)
def test_every_transform_follows_its_generator(transform):
    first, again = (transform(batch(), rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    ("height", "mirror", "text"),
    [
        (8, False, "[RandomCrop(padding=1), Normalize(mean=(0.5,), std=(0.25,))]"),
        (28, False, "[RandomCrop(padding=3), Normalize(mean=(0.5,), std=(0.25,))]"),
        (32, True, "[RandomCrop(padding=4), RandomFlip(), Normalize(mean=(0.5,), std=(0.25,))]"),
    ],
)
def test_standard_moves_by_an_eighth_and_flips_only_what_a_mirror_leaves_true(height, mirror, text):
    images = np.zeros((1, height, height, 1), np.uint8)
    dataset = ImageDataset(images, np.array([0]), "a", "toy", (0.5,), (0.25,), mirror)
    assert repr(standard(dataset, augment=True)) == f"Compose({text})"
    assert repr(standard(dataset, augment=False)) == (
        "Compose([Normalize(mean=(0.5,), std=(0.25,))])"
    )


WRONG = [
    (
        lambda: RandomCrop(0),
        ArgumentError,
        "RandomCrop: padding must be at least 1 pixel, got 0. "
        "Leave the transform out where images should stay in place.",
    ),
    (
        lambda: Normalize([0.5], [0.5, 0.5]),
        ArgumentError,
        "Normalize: one mean and one positive std per channel are needed, got mean (0.5,) and std "
        "(0.5, 0.5). Pass dataset.mean and dataset.std.",
    ),
    (
        lambda: Normalize([0.5], [0.0]),
        ArgumentError,
        "Normalize: one mean and one positive std per channel are needed, got mean (0.5,) and std "
        "(0.0,). Pass dataset.mean and dataset.std.",
    ),
    (
        lambda: Normalize([0.5], [0.5])(batch()),
        ShapeError,
        "Normalize: made for 1 channels, x has 3 and is (6, 3, 5, 7) as (N, C, H, W). "
        "Pass one mean and one std per channel.",
    ),
    (
        lambda: Normalize(MEAN, STD)(to_float(batch())),
        DTypeError,
        "to_float: uint8 pixels are expected, got float32. Convert to float once, "
        "after crops and flips: Normalize does it and comes last.",
    ),
]


@pytest.mark.parametrize(("call", "error", "text"), WRONG)
def test_wrong_settings_are_explained(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text
