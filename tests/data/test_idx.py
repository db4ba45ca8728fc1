"""IDX files: what is read, and the sentence for each thing that can be wrong with one."""

import gzip
import struct

import numpy as np
import pytest

from minigrad.core.errors import ArgumentError, DataError
from minigrad.data import load_fashion_mnist, load_mnist, read_idx
from minigrad.data.idx import MNIST_MD5

CODES = {"u1": 8, "i1": 9, ">i2": 11, ">i4": 12, ">f4": 13, ">f8": 14}
FRESH = "Replace the file by a fresh copy."


def idx_bytes(array, code="u1"):
    header = bytes([0, 0, CODES[code], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(code).tobytes()


def images(n=6):
    return np.random.default_rng(0).integers(0, 256, (n, 28, 28), dtype=np.uint8)


def labels(n=6):
    return np.arange(n, dtype=np.uint8) % 10


def write_set(folder, packed=False, image_bytes=None, label_bytes=None, stem="train"):
    """The two files of a split; what is not given is six proper images and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (
        (f"{stem}-images-idx3-ubyte", image_bytes or idx_bytes(images())),
        (f"{stem}-labels-idx1-ubyte", label_bytes or idx_bytes(labels())),
    ):
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (0, 3), ()])
@pytest.mark.parametrize("packed", [False, True])
def test_every_type_and_number_of_axes(tmp_path, code, shape, packed):
    array = np.array(np.random.default_rng(0).standard_normal(shape) * 50).astype(code)
    content = idx_bytes(array, code)
    (tmp_path / "file").write_bytes(gzip.compress(content) if packed else content)
    read = read_idx(tmp_path / "file")
    assert read.shape == shape
    assert read.dtype == np.dtype(code).newbyteorder("=")
    np.testing.assert_array_equal(read, array)


def test_one_file_for_all_values_of_the_header():
    """The example of the format's description: 3 integers, big-endian, written out by hand."""
    assert idx_bytes(np.array([1, -2, 256]), ">i4") == bytes.fromhex(
        "00000c01 00000003 00000001 fffffffe 00000100"
    )


HEADER = "an IDX header (00 00, a type code, a number of axes)"
WRONG = [
    (b"\x89PNG", HEADER, "89 50 4e 47"),
    (b"\0\0\x0a\x01\0\0\0\0", HEADER, "00 00 0a 01"),
    (b"", HEADER, "nothing"),
    (b"\0\0\x08\x03\0\0\0\x01", "a header of 16 bytes", "a file of 8"),
    (
        idx_bytes(np.zeros((2, 3, 4)))[:-1],
        "40 bytes for uint8 of shape (2, 3, 4)",
        "39 bytes",
    ),
    (
        idx_bytes(np.zeros((2, 3)), ">f8") + b"\0",
        "60 bytes for float64 of shape (2, 3)",
        "61 bytes",
    ),
    (
        b"\0\0\x08\x02\xff\xff\xff\xff\xff\xff\xff\xff",
        "18446744065119617037 bytes for uint8 of shape (4294967295, 4294967295)",
        "12 bytes",
    ),
]


@pytest.mark.parametrize(("content", "expected", "found"), WRONG)
@pytest.mark.parametrize("packed", [False, True])
def test_broken_files_are_explained(tmp_path, content, expected, found, packed):
    path = tmp_path / "broken-idx"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError) as caught:
        read_idx(path)
    assert str(caught.value) == f"{path}: expected {expected}, found {found}. {FRESH}"


def test_a_gzip_stream_cut_short_is_explained(tmp_path):
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(idx_bytes(images()))[:-9])
    with pytest.raises(DataError) as caught:
        read_idx(path)
    assert str(caught.value) == (
        f"{path}: expected a whole gzip stream, found a broken one (Compressed file ended before "
        f"the end-of-stream marker was reached). {FRESH}"
    )


@pytest.mark.parametrize("place", [12, 300, -6])
def test_a_gzip_stream_with_a_changed_byte_is_explained(tmp_path, place):
    content = bytearray(gzip.compress(idx_bytes(images())))
    content[place] ^= 0x55
    path = tmp_path / "changed.gz"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_idx(path)
    assert str(caught.value).startswith(
        f"{path}: expected a whole gzip stream, found a broken one ("
    )


def test_a_missing_file_is_explained(tmp_path):
    with pytest.raises(DataError) as caught:
        read_idx(tmp_path / "none")
    assert str(caught.value) == (
        f"{tmp_path / 'none'}: expected a readable file, found none (No such file or directory). "
        f"Check path and permissions."
    )


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("below", ["", "mnist", "MNIST/raw"])
def test_mnist_is_found_in_root_or_below(tmp_path, packed, below):
    write_set(tmp_path / below, packed)
    dataset = load_mnist(tmp_path)
    assert repr(dataset) == "ImageDataset(mnist: 6 images of 1x28x28, 10 classes)"
    np.testing.assert_array_equal(dataset.images[..., 0], images())
    np.testing.assert_array_equal(dataset.labels, labels())
    assert (dataset.mean, dataset.std, dataset.mirror) == ((0.1307,), (0.3081,), False)


def test_each_split_has_its_files(tmp_path):
    write_set(tmp_path)
    write_set(
        tmp_path,
        packed=True,
        stem="t10k",
        image_bytes=idx_bytes(images(3)),
        label_bytes=idx_bytes(labels(3)),
    )
    assert len(load_mnist(tmp_path, "train")) == 6
    assert len(load_mnist(tmp_path, "test")) == 3


def test_fashion_mnist_has_its_own_folder_and_classes(tmp_path):
    write_set(tmp_path / "fashion-mnist")
    dataset = load_fashion_mnist(tmp_path)
    assert dataset.name == "fashion-mnist"
    assert dataset.classes[9] == "Ankle boot"
    assert len(dataset.classes) == 10
    assert dataset.mirror


def test_missing_files_are_listed(tmp_path):
    with pytest.raises(DataError) as caught:
        load_mnist(tmp_path, "test")
    assert str(caught.value) == (
        f"mnist: expected t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, plain or with .gz, in "
        f"{tmp_path}, found no t10k-images-idx3-ubyte. Put both there, or fetch them with "
        f"minigrad.data.download('mnist', root)."
    )
    write_set(tmp_path / "mnist")
    (tmp_path / "mnist" / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError) as caught:
        load_mnist(tmp_path)
    assert f"in {tmp_path / 'mnist'}, found no train-labels-idx1-ubyte." in str(caught.value)


MISLABELLED = [
    (
        {"image_bytes": idx_bytes(labels())},
        "images-idx3",
        "uint8 images of shape (N, 28, 28)",
        "uint8 of (6,)",
    ),
    (
        {"image_bytes": idx_bytes(images()[:, :14])},
        "images-idx3",
        "uint8 images of shape (N, 28, 28)",
        "uint8 of (6, 14, 28)",
    ),
    (
        {"image_bytes": idx_bytes(images(), ">i2")},
        "images-idx3",
        "uint8 images of shape (N, 28, 28)",
        "int16 of (6, 28, 28)",
    ),
    (
        {"label_bytes": idx_bytes(labels(5))},
        "labels-idx1",
        "uint8 labels of shape (6,), one for each image",
        "uint8 of (5,)",
    ),
    (
        {"label_bytes": idx_bytes(images())},
        "labels-idx1",
        "uint8 labels of shape (6,), one for each image",
        "uint8 of (6, 28, 28)",
    ),
    (
        {"label_bytes": idx_bytes(np.array([0, 1, 2, 3, 10, 9]))},
        "labels-idx1",
        "labels 0..9",
        "label 10 at position 4",
    ),
]


@pytest.mark.parametrize(("content", "file", "expected", "found"), MISLABELLED)
def test_files_that_are_not_what_their_name_says(tmp_path, content, file, expected, found):
    write_set(tmp_path, **content)
    path = tmp_path / f"train-{file}-ubyte"
    with pytest.raises(DataError) as caught:
        load_mnist(tmp_path)
    assert str(caught.value) == f"{path}: expected {expected}, found {found}. {FRESH}"


def test_checksums_are_compared_only_if_asked(tmp_path):
    write_set(tmp_path, packed=True)
    assert len(load_mnist(tmp_path, verify=False)) == 6
    with pytest.raises(DataError) as caught:
        load_mnist(tmp_path, verify=True)
    text = str(caught.value)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    assert text.startswith(f"{path}: expected MD5 sum {MNIST_MD5[path.name]}, found ")
    assert text.endswith(
        ". Fetch the official file, or pass verify=False to use this one as it is."
    )


def test_no_checksum_is_invented(tmp_path):
    write_set(tmp_path)
    with pytest.raises(DataError) as caught:
        load_fashion_mnist(tmp_path, verify=True)
    assert str(caught.value) == (
        f"{tmp_path / 'train-images-idx3-ubyte'}: expected a file whose official MD5 sum is known, "
        f"found one without. Fetch the official file, or pass verify=False to use this one as it "
        f"is."
    )


def test_unknown_split(tmp_path):
    with pytest.raises(ArgumentError) as caught:
        load_mnist(tmp_path, "val")
    assert str(caught.value) == (
        "load_mnist: split 'val' is unknown. Pass split='train' or 'test'."
    )


@pytest.mark.parametrize(
    ("split", "count", "first"),
    [
        ("train", 60000, [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]),
        ("test", 10000, [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]),
    ],
)
def test_the_real_mnist(shared, split, count, first):
    dataset = load_mnist(shared / "data", split, verify=True)
    assert dataset.images.shape == (count, 28, 28, 1)
    assert dataset.labels[:10].tolist() == first
    if split == "train":  # the conventional numbers are the training set's own
        scaled = dataset.images / np.float32(255)
        assert (round(float(scaled.mean()), 4), round(float(scaled.std()), 4)) == (0.1307, 0.3081)
