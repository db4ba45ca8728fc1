"""IDX files, the format of MNIST and Fashion-MNIST.

An IDX file is a header and the numbers, all big-endian::

    0 0 | type code | number of axes D | D sizes of 4 bytes | the numbers, last axis fastest

The published files are gzipped; both forms are read, told apart by their first bytes.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from minigrad.core.errors import DataError
from minigrad.data._files import check_md5, check_split, folder_with, read_bytes, wrong_file
from minigrad.data.dataset import ImageDataset

__all__ = ["load_fashion_mnist", "load_mnist", "read_idx"]

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"

MNIST_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
FASHION_MNIST_MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
_STEM = {"train": "train", "test": "t10k"}


def read_idx(path: str | Path) -> np.ndarray:
    """The array in an IDX file, plain or gzipped.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    ndarray
        Of the shape and type in the header, in this machine's byte order.

    Raises
    ------
    DataError
        Where the file cannot be read, its gzip stream is broken, its header is no IDX header, or
        its length is not what the header says.

    Source
    ------
    Y. LeCun, C. Cortes, C. Burges: The MNIST database of handwritten digits, section "The IDX
    file format".

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "tiny-idx1-ubyte"
    >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
    >>> read_idx(path)
    array([7, 8, 9], dtype=uint8)
    """
    path = Path(path)
    content = _unpacked(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _DTYPES:
        begin = content[:4].hex(" ") or "nothing"
        raise wrong_file(path, "an IDX header (00 00, a type code, a number of axes)", begin)
    dtype, ndim = np.dtype(_DTYPES[content[2]]), content[3]
    begin_of_data = 4 + 4 * ndim
    if len(content) < begin_of_data:
        raise wrong_file(path, f"a header of {begin_of_data} bytes", f"a file of {len(content)}")
    shape = tuple(int(n) for n in np.frombuffer(content[4:begin_of_data], ">u4"))
    length = begin_of_data + math.prod(shape) * dtype.itemsize
    if len(content) != length:
        raise wrong_file(
            path, f"{length} bytes for {dtype.name} of shape {shape}", f"{len(content)} bytes"
        )
    numbers = np.frombuffer(content, dtype, offset=begin_of_data).reshape(shape)
    return numbers.astype(dtype.newbyteorder("="))


def load_mnist(root: str | Path, split: str = "train", verify: bool = False) -> ImageDataset:
    """MNIST: 60,000 handwritten digits for training and 10,000 for testing, 28×28, grey.

    Parameters
    ----------
    root : str or Path
        The folder with the four IDX files, or one that holds them in ``mnist`` or ``MNIST/raw``.
    split : str
        ``"train"`` or ``"test"``.
    verify : bool
        Whether the files must have the official MD5 sums.

    Returns
    -------
    ImageDataset
        Images (N, 28, 28, 1), with the conventional mean 0.1307 and deviation 0.3081.

    Raises
    ------
    DataError
        Where a file is missing, broken, or not what its name says.

    Source
    ------
    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-Based Learning Applied to Document
    Recognition (1998).
    """
    check_split("load_mnist", split)
    images, labels = _images_and_labels(
        "mnist", root, ("", "mnist", "MNIST/raw"), split, MNIST_MD5 if verify else None
    )
    classes = [str(digit) for digit in range(10)]
    return ImageDataset(images, labels, classes, "mnist", (0.1307,), (0.3081,))


def load_fashion_mnist(
    root: str | Path, split: str = "train", verify: bool = False
) -> ImageDataset:
    """Fashion-MNIST: 60,000 pictures of clothing for training and 10,000 for testing, 28×28, grey.

    Parameters
    ----------
    root : str or Path
        The folder with the four IDX files, or one that holds them in ``fashion-mnist`` or
        ``FashionMNIST/raw``.
    split : str
        ``"train"`` or ``"test"``.
    verify : bool
        Whether the files must have the official MD5 sums; known for the gzipped form only.

    Returns
    -------
    ImageDataset
        Images (N, 28, 28, 1), with the conventional mean 0.2860 and deviation 0.3530.

    Raises
    ------
    DataError
        Where a file is missing, broken, or not what its name says.

    Source
    ------
    H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST, a Novel Image Dataset (2017), MIT licence.
    """
    check_split("load_fashion_mnist", split)
    folders = ("", "fashion-mnist", "FashionMNIST/raw")
    images, labels = _images_and_labels(
        "fashion-mnist", root, folders, split, FASHION_MNIST_MD5 if verify else None
    )
    classes = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    return ImageDataset(images, labels, classes, "fashion-mnist", (0.2860,), (0.3530,), mirror=True)


def _unpacked(path: Path) -> bytes:
    content = read_bytes(path)
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise wrong_file(path, "a whole gzip stream", f"a broken one ({error})") from error


def _images_and_labels(
    name: str, root: str | Path, folders: tuple[str, ...], split: str, md5: dict[str, str] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 28, 28, 1) and labels (N,) of a split, checked against each other."""
    images_path, labels_path = _find(name, Path(root), folders, _STEM[split])
    if md5 is not None:
        check_md5(images_path, md5)
        check_md5(labels_path, md5)
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28):
        raise wrong_file(
            images_path, "uint8 images of shape (N, 28, 28)", f"{images.dtype} of {images.shape}"
        )
    if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise wrong_file(
            labels_path,
            f"uint8 labels of shape ({len(images)},), one for each image",
            f"{labels.dtype} of {labels.shape}",
        )
    if labels.max(initial=0) > 9:
        where = int(np.argmax(labels > 9))
        raise wrong_file(labels_path, "labels 0..9", f"label {labels[where]} at position {where}")
    return images[..., None], labels


def _find(name: str, root: Path, folders: tuple[str, ...], stem: str) -> list[Path]:
    """The images' and the labels' file below ``root``, plain or gzipped."""
    wanted = [f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte"]
    folder = folder_with(root, folders, [file + end for file in wanted for end in ("", ".gz")])
    folder = folder or root
    paths = []
    for file in wanted:
        forms = [folder / (file + end) for end in ("", ".gz") if (folder / (file + end)).is_file()]
        if not forms:
            raise DataError(
                f"{name}: expected {wanted[0]} and {wanted[1]}, plain or with .gz, in {folder}, "
                f"found no {file}. Put both there, or fetch them with "
                f"minigrad.data.download({name!r}, root)."
            )
        paths.append(forms[0])
    return paths
