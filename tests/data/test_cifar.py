"""CIFAR-10 and CIFAR-100 in both versions, written here byte by byte, and the real CIFAR-10."""

import pickle
import struct

import numpy as np
import pytest

from minigrad.core.errors import ArgumentError, DataError
from minigrad.data import load_cifar10, load_cifar100
from minigrad.data.cifar import CIFAR10_MD5

FRESH = "Replace the file by a fresh copy."
N = 4  # images a file

# set name -> loader, number of classes, training files, test file (without .bin)
SETS = {
    "cifar10": (load_cifar10, 10, [f"data_batch_{i}" for i in range(1, 6)], "test_batch"),
    "cifar100": (load_cifar100, 100, ["train"], "test"),
}
FOLDERS = {
    ("cifar10", "binary"): "cifar-10-batches-bin",
    ("cifar10", "py2"): "cifar-10-batches-py",
    ("cifar10", "py3"): "cifar-10-batches-py",
    ("cifar100", "binary"): "cifar-100-binary",
    ("cifar100", "py2"): "cifar-100-python",
    ("cifar100", "py3"): "cifar-100-python",
}


def content(name, file):
    """Images (N, 32, 32, 3) and labels of one file, other ones for each file."""
    rng = np.random.default_rng(sum(file.encode()))
    images = rng.integers(0, 256, (N, 32, 32, 3), dtype=np.uint8)
    return images, rng.integers(0, SETS[name][1], N).tolist()


def planes(images):
    """Red, green and blue plane of each image, as the files hold them: (N, 3072)."""
    return np.concatenate([images[..., c].reshape(N, 1024) for c in range(3)], axis=1)


def binary(name, images, labels):
    coarse = b"" if name == "cifar10" else b"\x13"
    return b"".join(
        coarse + bytes([label]) + row.tobytes()
        for row, label in zip(planes(images), labels, strict=True)
    )


def python2(name, images, labels):
    """The opcodes of the published files, as Python 2 wrote them with protocol 2."""
    data = planes(images).tobytes()
    key = b"labels" if name == "cifar10" else b"fine_labels"
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87Rq\x04"
        b"(K\x01K" + bytes([N]) + b"M\x00\x0c\x86cnumpy\ndtype\nq\x05U\x02u1K\x00K\x01\x87Rq\x06"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<i", len(data))
        + data
        + b"tb"
    )
    return (
        b"\x80\x02}q\x01(U\x0bbatch_labelU\x15training batch 1 of 5"
        b"U" + bytes([len(key)]) + key + b"](" + numbers + b"eU\x04data" + array + b"u."
    )


def python3(name, images, labels):
    key = "labels" if name == "cifar10" else "fine_labels"
    return pickle.dumps({"data": planes(images), key: labels, "filenames": ["a.png"] * N})


WRITERS = {"binary": binary, "py2": python2, "py3": python3}


def write_set(folder, name, form, **changed):
    """All files of a set in one form; ``changed`` maps a file to other content."""
    _, _, train, test = SETS[name]
    folder.mkdir(parents=True, exist_ok=True)
    for file in [*train, test]:
        data = changed.get(file, WRITERS[form](name, *content(name, file)))
        (folder / (file + (".bin" if form == "binary" else ""))).write_bytes(data)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("place", ["itself", "parent", "grandparent"])
def test_every_form_from_every_place(tmp_path, name, form, place):
    below = {"itself": "", "parent": FOLDERS[name, form]}
    write_set(tmp_path / below.get(place, f"{name}/{FOLDERS[name, form]}"), name, form)
    load, classes, train, test = SETS[name]
    for split, files in (("train", train), ("test", [test])):
        dataset = load(tmp_path, split)
        parts = [content(name, file) for file in files]
        np.testing.assert_array_equal(dataset.images, np.concatenate([p[0] for p in parts]))
        assert dataset.labels.tolist() == [label for p in parts for label in p[1]]
        assert (dataset.name, len(dataset.classes)) == (name, classes)
        assert dataset.mirror


def test_the_hundred_classes_are_the_official_ones():
    from minigrad.data.cifar import CIFAR100_CLASSES

    assert len(set(CIFAR100_CLASSES)) == 100
    assert list(CIFAR100_CLASSES) == sorted(CIFAR100_CLASSES)  # as the official list is
    assert (CIFAR100_CLASSES[0], CIFAR100_CLASSES[99]) == ("apple", "worm")


def test_missing_files_are_listed(tmp_path):
    with pytest.raises(DataError) as caught:
        load_cifar10(tmp_path)
    assert str(caught.value) == (
        f"cifar10: expected data_batch_1.bin to data_batch_5.bin or data_batch_1 to data_batch_5 "
        f"in {tmp_path}, found neither. Put the folder cifar-10-batches-bin or "
        f"cifar-10-batches-py there, or fetch it with minigrad.data.download('cifar10', root)."
    )
    write_set(tmp_path, "cifar10", "binary")
    path = tmp_path / "data_batch_4.bin"
    path.unlink()
    with pytest.raises(DataError) as caught:
        load_cifar10(tmp_path)
    assert str(caught.value) == (
        f"{path}: expected a readable file, found none (No such file or directory). "
        f"Check path and permissions."
    )


def error_of(tmp_path, name, form, file, data):
    write_set(tmp_path, name, form, **{file: data})
    with pytest.raises(DataError) as caught:
        SETS[name][0](tmp_path, "train")
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "file", "record", "length"),
    [
        ("cifar10", "data_batch_3", 3073, 3 * 3073 + 100),
        ("cifar10", "data_batch_1", 3073, 0),
        ("cifar10", "data_batch_5", 3073, 2 * 3074),
        ("cifar100", "train", 3074, 2 * 3073),
    ],
)
def test_files_of_a_wrong_length(tmp_path, name, file, record, length):
    text = error_of(tmp_path, name, "binary", file, bytes(length))
    assert text == (
        f"{tmp_path / file}.bin: expected whole records of {record} bytes, found {length} bytes. "
        f"{FRESH}"
    )


def test_binary_labels_out_of_range(tmp_path):
    images, _ = content("cifar10", "data_batch_2")
    data = binary("cifar10", images, [0, 9, 10, 255])
    assert error_of(tmp_path, "cifar10", "binary", "data_batch_2", data) == (
        f"{tmp_path / 'data_batch_2.bin'}: expected labels 0..9, found label 10 in record 2. "
        f"{FRESH}"
    )
    images, _ = content("cifar100", "train")
    data = binary("cifar100", images, [0, 100, 99, 0])
    assert error_of(tmp_path, "cifar100", "binary", "train", data) == (
        f"{tmp_path / 'train.bin'}: expected labels 0..99, found label 100 in record 1. {FRESH}"
    )


PIXELS = planes(content("cifar10", "data_batch_1")[0])
WRONG_DICTS = [
    ([1, 2], "a pickled dict", "a list"),
    ({"labels": [0] * N}, "a dict with the entry 'data'", "the entries ['labels']"),
    ({"data": PIXELS}, "a dict with the entry 'labels'", "the entries ['data']"),
    (
        {"data": PIXELS, "fine_labels": [0] * N},
        "a dict with the entry 'labels'",
        "the entries ['data', 'fine_labels']",
    ),
    (
        {"data": PIXELS.reshape(N, 3, 32, 32), "labels": [0] * N},
        "'data' to be a uint8 array (N, 3072)",
        f"uint8 of ({N}, 3, 32, 32)",
    ),
    (
        {"data": PIXELS.astype(np.int16), "labels": [0] * N},
        "'data' to be a uint8 array (N, 3072)",
        f"int16 of ({N}, 3072)",
    ),
    (
        {"data": PIXELS.tobytes(), "labels": [0] * N},
        "'data' to be a uint8 array (N, 3072)",
        "a bytes",
    ),
    ({"data": PIXELS, "labels": [0] * 3}, f"{N} labels, one for each image", "3"),
    ({"data": PIXELS, "labels": [0, "1", 2, 3]}, "'labels' to be a list of int", "a list"),
    ({"data": PIXELS, "labels": np.zeros(N, int)}, "'labels' to be a list of int", "int64 of (4,)"),
    ({"data": PIXELS, "labels": [0, 1, 2, -1]}, "labels 0..9", "label -1 in record 3"),
    ({"data": PIXELS, "labels": [0, 2**70, 2, 1]}, "labels 0..9", f"label {2**70} in record 1"),
]


@pytest.mark.parametrize(("value", "expected", "found"), WRONG_DICTS)
def test_pickles_of_something_else(tmp_path, value, expected, found):
    data = pickle.dumps(value, 2 if isinstance(value, list) else 4)
    assert error_of(tmp_path, "cifar10", "py3", "data_batch_2", data) == (
        f"{tmp_path / 'data_batch_2'}: expected {expected}, found {found}. {FRESH}"
    )


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_batch_is_refused_and_does_nothing(tmp_path, protocol):
    target = tmp_path / "trap"
    data = pickle.dumps({"data": Trap(target), "labels": [0] * N}, protocol)
    text = error_of(tmp_path, "cifar10", "py3", "data_batch_1", data)
    assert text.startswith(
        f"{tmp_path / 'data_batch_1'}: expected a pickle of arrays, bytes, numbers, lists and "
        f"dicts alone, found the name "
    )
    assert text.endswith("open. Nothing in it was run. Fetch the file from where you trust it.")
    assert not target.exists()


def test_a_pickle_cut_short(tmp_path):
    data = python2("cifar10", *content("cifar10", "data_batch_1"))[:5000]
    text = error_of(tmp_path, "cifar10", "py2", "data_batch_1", data)
    assert text.startswith(f"{tmp_path / 'data_batch_1'}: expected a pickle of arrays, bytes, ")


def test_checksums_are_compared_only_if_asked(tmp_path):
    write_set(tmp_path, "cifar10", "binary")
    assert len(load_cifar10(tmp_path, "test", verify=False)) == N
    with pytest.raises(DataError) as caught:
        load_cifar10(tmp_path, "test", verify=True)
    assert str(caught.value).startswith(
        f"{tmp_path / 'test_batch.bin'}: expected MD5 sum {CIFAR10_MD5['test_batch.bin']}, found "
    )


def test_unknown_split(tmp_path):
    for load in (load_cifar10, load_cifar100):
        with pytest.raises(ArgumentError, match="split 'valid' is unknown"):
            load(tmp_path, "valid")


@pytest.mark.parametrize(
    ("split", "count", "first"),
    [
        ("train", 50000, [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]),
        ("test", 10000, [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]),
    ],
)
def test_the_real_cifar10(shared, split, count, first):
    dataset = load_cifar10(shared / "data" / "cifar10", split)
    assert dataset.images.shape == (count, 32, 32, 3)
    assert dataset.labels[:10].tolist() == first
    assert np.bincount(dataset.labels).tolist() == [count // 10] * 10
    names = (shared / "data/cifar10/cifar-10-batches-bin/batches.meta.txt").read_text().split()
    assert list(dataset.classes) == names
    if split == "train":  # the conventional numbers are the training set's own
        np.testing.assert_allclose(
            dataset.images.mean(axis=(0, 1, 2)) / 255, dataset.mean, atol=1e-4
        )


def test_the_real_cifar10_has_no_official_checksum(shared):
    with pytest.raises(DataError, match="expected MD5 sum 803d5f7f4d78ea53de84dbe85f74fb6d, found"):
        load_cifar10(shared / "data" / "cifar10", "test", verify=True)
