"""A folder of images, written here with Pillow."""

import sys

import numpy as np
import pytest

from minigrad.core.errors import ArgumentError, DataError, MissingExtra
from minigrad.data import load_folder

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def picture(seed, H=5, W=7):
    return np.random.default_rng(seed).integers(0, 256, (H, W, 3), dtype=np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def make_classes(root, counts, first_seed=0):
    """``counts[name]`` pictures in ``root/name``, each from its own seed; the seeds by name."""
    seeds = {}
    for name, count in counts.items():
        seeds[name] = list(range(first_seed, first_seed + count))
        for seed in seeds[name]:
            save(root / name / f"{seed:03}.png", picture(seed))
        first_seed += count
    return seeds


def test_train_and_test_folders(tmp_path):
    seeds = make_classes(tmp_path / "train", {"dog": 2, "cat": 3})
    others = make_classes(tmp_path / "test", {"dog": 1}, first_seed=50)
    train, test = load_folder(tmp_path, "train"), load_folder(tmp_path, "test")
    assert train.classes == test.classes == ("cat", "dog")
    assert repr(train) == "ImageDataset(folder: 5 images of 3x5x7, 2 classes)"
    # They take turns: cat, dog, cat, dog, cat.
    assert train.labels.tolist() == [0, 1, 0, 1, 0]
    for i, (name, turn) in enumerate([("cat", 0), ("dog", 0), ("cat", 1), ("dog", 1), ("cat", 2)]):
        np.testing.assert_array_equal(train.images[i], picture(seeds[name][turn]))
    assert test.labels.tolist() == [1]
    np.testing.assert_array_equal(test.images[0], picture(others["dog"][0]))
    assert train.mirror
    assert not load_folder(tmp_path, mirror=False).mirror


def test_val_stands_in_for_test(tmp_path):
    make_classes(tmp_path / "train", {"a": 1})
    make_classes(tmp_path / "val", {"a": 2})
    assert len(load_folder(tmp_path, "test")) == 2


def test_a_fifth_is_held_out_where_there_is_no_test_folder(tmp_path):
    make_classes(tmp_path, {"a": 10, "b": 5})
    train, test = load_folder(tmp_path, "train"), load_folder(tmp_path, "test")
    assert np.bincount(train.labels).tolist() == [8, 4]
    assert np.bincount(test.labels).tolist() == [2, 1]
    seen = {image.tobytes() for part in (train, test) for image in part.images}
    assert seen == {picture(seed).tobytes() for seed in range(15)}


def test_formats_grey_images_and_subfolders_are_read_other_files_are_not(tmp_path):
    grey = picture(0)[..., 0]
    save(tmp_path / "train" / "a" / "deep" / "1.BMP", grey)
    save(tmp_path / "train" / "a" / "2.jpg", picture(1))
    (tmp_path / "train" / "a" / "notes.txt").write_text("not an image")
    (tmp_path / "train" / ".hidden").mkdir()
    dataset = load_folder(tmp_path)
    assert len(dataset) == 2
    grey_read = next(image for image in dataset.images if (image[..., 0] == image[..., 1]).all())
    np.testing.assert_array_equal(grey_read, np.stack([grey] * 3, axis=-1))


def test_size_scales_the_shorter_side_and_keeps_the_middle(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200  # the middle third is grey, the rest black
    save(tmp_path / "train" / "a" / "1.png", wide)
    dataset = load_folder(tmp_path, size=5)
    assert dataset.images.shape == (1, 5, 5, 3)
    assert (dataset.images[0, :, 1:4] > 190).all()
    assert dataset.images.mean() > 180


def test_mixed_sizes_become_64_in_both_splits(tmp_path):
    save(tmp_path / "train" / "a" / "1.png", picture(0, 5, 7))
    save(tmp_path / "test" / "a" / "1.png", picture(1, 80, 100))
    assert load_folder(tmp_path, "train").shape == (3, 64, 64)
    assert load_folder(tmp_path, "test").shape == (3, 64, 64)
    assert load_folder(tmp_path, "test", size=9).shape == (3, 9, 9)


@pytest.mark.parametrize("damage", ["text", "cut", "empty"])
def test_an_unreadable_image_is_named(tmp_path, damage):
    make_classes(tmp_path / "train", {"a": 3})
    path = tmp_path / "train" / "a" / "001.png"
    whole = path.read_bytes()
    damaged = {"text": b"not an image", "cut": whole[: len(whole) // 2], "empty": b""}
    path.write_bytes(damaged[damage])
    with pytest.raises(DataError) as caught:
        load_folder(tmp_path)
    text = str(caught.value)
    assert text.startswith(f"{path}: expected a readable image, found none (")
    assert text.endswith("). Replace or remove the file.")


def test_wrong_folders_are_explained(tmp_path):
    empty, missing, strange = tmp_path / "empty", tmp_path / "missing", tmp_path / "strange"
    empty.mkdir()
    make_classes(strange / "train", {"cat": 1, "dog": 1})
    cases = [
        (
            lambda: load_folder(missing),
            f"folder: expected one folder a class in {missing}, found no such folder. "
            f"Pass root, the folder that holds them.",
        ),
        (
            lambda: load_folder(empty),
            f"folder: expected one folder a class in {empty}, found none. "
            f"Sort the images into folders named after their classes.",
        ),
        (
            lambda: load_folder(strange, "test"),
            f"folder: the test images were asked for, {strange} has a folder train and neither "
            f"test nor val beside it. Add one, or put the class folders directly in {strange}.",
        ),
    ]
    for call, text in cases:
        with pytest.raises(DataError) as caught:
            call()
        assert str(caught.value) == text
    make_classes(strange / "test", {"cow": 1})
    with pytest.raises(DataError) as caught:
        load_folder(strange)
    assert str(caught.value) == (
        f"folder: expected only classes that train has (cat, dog), found "
        f"{strange / 'test' / 'cow'}. Remove it, or add training images of it."
    )
    (strange / "train" / "ant").mkdir()
    with pytest.raises(DataError) as caught:
        load_folder(strange)
    assert str(caught.value) == (
        f"folder: expected images (.bmp, .gif, .jpeg, .jpg, .pgm, .png, .ppm, .tif, .tiff, .webp) "
        f"in {strange / 'train' / 'ant'}, found none. Add some, or remove the folder."
    )


def test_wrong_size_and_split(tmp_path):
    with pytest.raises(ArgumentError) as caught:
        load_folder(tmp_path, size=0)
    assert str(caught.value) == (
        "load_folder: size must be at least 1 pixel, got 0. Pass size=64 or so."
    )
    with pytest.raises(ArgumentError, match="split 'all' is unknown"):
        load_folder(tmp_path, "all")


def test_without_pillow_the_message_says_what_to_install(tmp_path, monkeypatch):
    make_classes(tmp_path / "train", {"a": 1})
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtra) as caught:
        load_folder(tmp_path)
    assert str(caught.value) == (
        "load_folder: images are read with Pillow, which is not installed. "
        'Run: pip install "minigrad[demos]"'
    )
