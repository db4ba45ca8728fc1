"""DataLoader: the same batches with and without prefetching, interrupted or not."""

import gc
import itertools
import json
import threading

import numpy as np
import pytest

from minigrad.core.errors import ArgumentError, ShapeError, StateError
from minigrad.data import (
    Compose,
    DataLoader,
    ImageDataset,
    Normalize,
    RandomCrop,
    RandomFlip,
    standard,
)

N, H, W, C = 23, 5, 7, 3


@pytest.fixture
def dataset():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (N, H, W, C), dtype=np.uint8)
    return ImageDataset(images, np.arange(N), [str(i) for i in range(N)], name="toy", mirror=True)


def workers():
    return [t for t in threading.enumerate() if t.name == "minigrad-prefetch"]


def make(dataset, **options):
    settings = {
        "batch_size": 4,
        "transform": standard(dataset, augment=True),
        "shuffle": True,
        "seed": 11,
    }
    return DataLoader(dataset, **(settings | options))


def same(first, second):
    """Whether two lists of batches are equal bit for bit."""
    return len(first) == len(second) and all(
        a.tobytes() == b.tobytes() and a.shape == b.shape and a.dtype == b.dtype
        for one, two in zip(first, second, strict=True)
        for a, b in zip(one, two, strict=True)
    )


def test_batches_are_float32_channels_last_with_int64_labels(dataset):
    for transform in (None, RandomCrop(1), standard(dataset, augment=True)):
        for x, y in DataLoader(dataset, 4, transform):
            assert x.dtype == np.float32
            assert y.dtype == np.int64
            assert x.shape == (len(y), C, H, W)
            assert x.transpose(0, 2, 3, 1).flags.c_contiguous
            assert x.flags.writeable
            assert y.flags.writeable


def test_a_transform_of_ones_own_may_return_any_float_and_any_memory_order(dataset):
    def own(x, rng):
        return np.ascontiguousarray(x).astype(np.float64) / 2

    x, _ = DataLoader(dataset, 4, own).batch(0, 0)
    assert x.dtype == np.float32
    assert x.transpose(0, 2, 3, 1).flags.c_contiguous
    np.testing.assert_array_equal(x, dataset.images[:4].transpose(0, 3, 1, 2) / np.float32(2))


def test_without_shuffling_the_order_is_the_data_sets(dataset):
    x, y = (np.concatenate(part) for part in zip(*DataLoader(dataset, 4), strict=True))
    assert y.tolist() == list(range(N))
    expected = dataset.images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(x, expected)


def test_shuffling_gives_every_image_once_in_another_order_each_epoch(dataset):
    loader = make(dataset, transform=None)
    epochs = [np.concatenate([y for _, y in loader]).tolist() for _ in range(3)]
    assert all(sorted(order) == list(range(N)) for order in epochs)
    assert len({tuple(order) for order in [*epochs, range(N)]}) == 4
    again = make(dataset, transform=None)
    assert [np.concatenate([y for _, y in again]).tolist() for _ in range(3)] == epochs
    other = make(dataset, transform=None, seed=12)
    assert np.concatenate([y for _, y in other]).tolist() != epochs[0]


def test_labels_stay_with_their_images(dataset):
    for x, y in make(dataset, transform=None):
        expected = dataset.images[y].transpose(0, 3, 1, 2) / np.float32(255)
        np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize(("batch_size", "full", "every"), [(4, 5, 6), (23, 1, 1), (1, 23, 23)])
def test_length_and_drop_last(dataset, batch_size, full, every):
    for drop_last, count in ((True, full), (False, every)):
        loader = DataLoader(dataset, batch_size, drop_last=drop_last)
        sizes = [len(y) for _, y in loader]
        assert len(loader) == len(sizes) == count
        assert sum(sizes) == (full * batch_size if drop_last else N)


@pytest.mark.parametrize("prefetch", [1, 2, 7])
def test_prefetching_changes_no_bit(dataset, prefetch):
    inline = make(dataset, prefetch=0)
    ahead = make(dataset, prefetch=prefetch)
    for _ in range(3):
        assert same(list(inline), list(ahead))


def test_augmentation_differs_between_images_batches_and_epochs(dataset):
    one = dataset.subset(np.zeros(12, int))  # twelve times the same image
    transform = Compose([RandomCrop(4), RandomFlip()])
    loader = DataLoader(one, 4, transform)
    first, second = list(loader), list(loader)
    assert len({image.tobytes() for x, _ in first for image in x}) > 8
    assert not same(first, second)


def test_batch_is_what_the_loop_hands_out_and_does_not_move_the_loader(dataset):
    loader = make(dataset)
    loops = [list(loader) for _ in range(2)]
    before = loader.state_dict()
    for epoch, loop in enumerate(loops):
        assert same([loader.batch(epoch, i) for i in range(len(loader))], loop)
    assert loader.state_dict() == before


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("stop", [0, 1, 5, 6, 8, 17])
def test_an_interrupted_run_continues_with_the_very_same_batches(dataset, prefetch, stop):
    whole = make(dataset, prefetch=prefetch)
    expected = [batch for _ in range(3) for batch in whole]

    # Stopped after `stop` batches; the worker has by then prepared some more.
    first = make(dataset, prefetch=prefetch)
    run = itertools.chain.from_iterable(first for _ in range(3))
    seen = list(itertools.islice(run, stop))
    text = json.dumps(first.state_dict())
    del run, first

    second = make(dataset, prefetch=prefetch, seed=99)  # the state brings its seed
    second.load_state_dict(json.loads(text))
    while second.epoch < 3:
        seen += list(second)
    assert same(seen, expected)


def test_a_state_may_be_loaded_while_a_loop_runs(dataset):
    loader = make(dataset)
    state = loader.state_dict() | {"epoch": 0, "position": 4}
    running = iter(loader)
    next(running)
    loader.load_state_dict(state)
    next(running)  # the old loop goes on, but no longer speaks for the loader
    assert loader.state_dict() == state
    assert same(list(loader), [loader.batch(0, i) for i in (4, 5)])


def test_the_state_counts_batches_handed_out_not_those_made_ahead(dataset):
    loader = make(dataset, prefetch=5)
    for count, _ in enumerate(loader, start=1):
        state = loader.state_dict()
        assert (state["epoch"], state["position"]) == (0, count)
    assert loader.state_dict() == {
        "seed": 11,
        "epoch": 1,
        "position": 0,
        "images": N,
        "batch_size": 4,
        "shuffle": True,
        "drop_last": False,
    }


def test_a_loop_left_early_counts_as_an_epoch(dataset):
    loader = make(dataset)
    for _ in loader:
        break
    assert (loader.epoch, loader.position) == (0, 1)
    assert same(list(loader), [loader.batch(1, i) for i in range(len(loader))])
    assert (loader.epoch, loader.position) == (2, 0)


def test_loops_may_be_nested(dataset):
    loader = make(dataset)
    expected = [[loader.batch(epoch, i) for i in range(len(loader))] for epoch in range(4)]
    outer = []
    for number, batch in enumerate(loader):
        outer.append(batch)
        if number < 3:
            assert same(list(loader), expected[1 + number])
    assert same(outer, expected[0])
    assert (loader.epoch, loader.position) == (4, 0)


def test_no_thread_is_left(dataset):
    loader = make(dataset)
    list(loader)
    for _ in loader:
        break
    iterator = iter(loader)
    next(iterator)
    assert len(workers()) == 1
    del iterator
    gc.collect()
    assert not workers()


def test_a_failing_transform_reaches_the_loop_where_it_happens(dataset):
    def failing(x, rng):
        if x[0, 0, 0, 0] == dataset.images[8, 0, 0, 0]:
            raise OSError("the disk is on fire")
        return x

    loader = DataLoader(dataset, 4, failing)
    seen = []
    with pytest.raises(OSError, match="the disk is on fire"):
        seen.extend(y[0] for _, y in loader)
    assert seen == [0, 4]
    assert loader.position == 2
    assert not workers()


WRONG = [
    (
        {"batch_size": 0},
        "DataLoader: batch_size must be at least 1, got 0. Pass batch_size=1 or more.",
    ),
    ({"seed": -1}, "DataLoader: seed must be at least 0, got -1. Pass seed=0 or more."),
    ({"prefetch": -1}, "DataLoader: prefetch must be at least 0, got -1. Pass prefetch=0 or more."),
    (
        {"batch_size": 24, "drop_last": True},
        "DataLoader: 23 images in batches of 24 with drop_last=True leave no batch. "
        "Pass more images or a smaller batch_size.",
    ),
]


@pytest.mark.parametrize(("options", "text"), WRONG)
def test_wrong_settings_are_explained(dataset, options, text):
    with pytest.raises(ArgumentError) as caught:
        make(dataset, **options)
    assert str(caught.value) == text


def test_no_images_at_all_are_refused(dataset):
    with pytest.raises(ArgumentError, match="0 images in batches of 4"):
        make(dataset.subset([]))


def test_wrong_batch_numbers_are_explained(dataset):
    with pytest.raises(ArgumentError) as caught:
        make(dataset).batch(0, 6)
    assert str(caught.value) == (
        "DataLoader: epoch 0 has no batch 6. Pass epoch >= 0 and an index from 0 to 5."
    )


def test_a_transform_that_loses_images_is_explained(dataset):
    with pytest.raises(ShapeError) as caught:
        list(DataLoader(dataset, 4, lambda x, rng: x[1:]))
    assert str(caught.value) == (
        "DataLoader: the transform was given 4 images and returned shape (3, 3, 5, 7). "
        "Return an array (N, C, H, W) with N=4."
    )


def test_a_state_of_other_batches_is_refused(dataset):
    loader = make(dataset)
    state = loader.state_dict()
    cases = [
        (
            state | {"batch_size": 8},
            "DataLoader: the state was taken with batch_size=8, this loader has batch_size=4, so "
            "its batches differ. Make the loader with the same data and settings as in the run to "
            "be continued.",
        ),
        (
            {"seed": 0},
            "DataLoader: a state has the entries seed, epoch, position, images, batch_size, "
            "shuffle, drop_last, got seed. Pass what state_dict() returned.",
        ),
        (
            state | {"position": 7},
            "DataLoader: a state has seed >= 0, epoch >= 0 and position in 0..6, got 11, 0 and 7. "
            "Pass what state_dict() returned.",
        ),
    ]
    for wrong, text in cases:
        with pytest.raises(StateError) as caught:
            loader.load_state_dict(wrong)
        assert str(caught.value) == text


def test_evaluation_needs_no_generator(dataset):
    plain = DataLoader(dataset, 4, Normalize(dataset.mean, dataset.std))
    assert same(list(plain), list(plain))
