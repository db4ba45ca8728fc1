"""The handwritten digits that ship inside scikit-learn: real data without a download."""

import numpy as np

from minigrad.core.errors import MissingExtra
from minigrad.data._files import check_split
from minigrad.data.dataset import ImageDataset

__all__ = ["load_digits"]

# Chooses the held-out fifth. Changing it changes every published accuracy on this set.
_SPLIT_SEED = 0


def load_digits(split: str = "train") -> ImageDataset:
    """1,797 handwritten digits of 8×8 pixels in 17 shades of grey.

    Parameters
    ----------
    split : str
        ``"test"`` is a fifth of every class, chosen once and for all; ``"train"`` is the rest.

    Returns
    -------
    ImageDataset
        Images (N, 8, 8, 1); the shades 0..16 are spread over 0..255. Mean and deviation are those
        of the training images in both splits.

    Raises
    ------
    MissingExtra
        Where scikit-learn is not installed.
    ArgumentError
        Where the split is unknown.

    Source
    ------
    E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits (1998), UCI Machine Learning
    Repository, CC BY 4.0; the part of it that scikit-learn distributes.

    Examples
    --------
    >>> load_digits("train"), load_digits("test")
    (ImageDataset(digits: 1438 images of 1x8x8, 10 classes),
     ImageDataset(digits: 359 images of 1x8x8, 10 classes))
    """
    check_split("load_digits", split)
    try:
        from sklearn import datasets
    except ImportError as error:
        raise MissingExtra(
            "load_digits: the digits come with scikit-learn, which is not installed. "
            'Run: pip install "minigrad[demos]"'
        ) from error
    bunch = datasets.load_digits()
    shades = bunch.images[..., None]  # (N, 8, 8, 1), float64 whole numbers 0..16
    images = np.round(shades * (255 / 16)).astype(np.uint8)
    classes = [str(digit) for digit in range(10)]
    everything = ImageDataset(images, bunch.target, classes, name="digits")
    train, test = everything.split(0.2, seed=_SPLIT_SEED)
    chosen = train if split == "train" else test
    # Built anew without statistics, the training images are measured.
    measured = ImageDataset(train.images, train.labels, classes, name="digits")
    return ImageDataset(
        chosen.images, chosen.labels, classes, "digits", measured.mean, measured.std
    )
