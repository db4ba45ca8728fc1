"""What happens to a batch of pixels between the data set and the model.

A transform is called as ``transform(x, rng)``: ``x`` is a batch of logical shape (N, C, H, W) over
channels-last memory, ``rng`` the generator that this batch draws from. It returns a new batch and
leaves ``x`` alone. Geometry works on bytes, a quarter of the memory of float32; :class:`Normalize`
comes last and makes the floats.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from minigrad.core.errors import ArgumentError, DTypeError, ShapeError
from minigrad.data.dataset import ImageDataset

__all__ = ["Compose", "Normalize", "RandomCrop", "RandomFlip", "Transform", "standard", "to_float"]

Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def in_memory_order(x: np.ndarray) -> np.ndarray:
    """(N, C, H, W) seen as the (N, H, W, C) it is in memory; copied only if it is not."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def in_logical_order(x: np.ndarray) -> np.ndarray:
    """(N, H, W, C) memory seen as the logical (N, C, H, W); never copied."""
    return x.transpose(0, 3, 1, 2)


def to_float(x: np.ndarray) -> np.ndarray:
    """Bytes to float32 in 0..1: x / 255.

    Parameters
    ----------
    x : ndarray of uint8, shape (N, C, H, W)

    Returns
    -------
    ndarray of float32, shape (N, C, H, W), channels-last memory

    Raises
    ------
    DTypeError
        Where ``x`` is not uint8.

    Examples
    --------
    >>> to_float(np.array([0, 51, 255], np.uint8).reshape(1, 1, 1, 3))
    array([[[[0. , 0.2, 1. ]]]], dtype=float32)
    """
    if x.dtype != np.uint8:
        raise DTypeError(
            f"to_float: uint8 pixels are expected, got {x.dtype}. Convert to float once, "
            f"after crops and flips: Normalize does it and comes last."
        )
    pixels = in_memory_order(x).astype(np.float32)
    pixels /= 255
    return in_logical_order(pixels)


class Normalize:
    """Bytes to floats of mean 0 and deviation 1: (x / 255 - mean) / std.

    Parameters
    ----------
    mean, std : sequence of float, length C
        Of the training set, pixels being in 0..1.

    Raises
    ------
    ArgumentError
        On construction, where the lengths differ or a deviation is not positive.
    ShapeError, DTypeError
        When called with another number of channels, or with anything but bytes.

    Notes
    -----
    The same three float32 operations in the same order as torchvision's ToTensor and Normalize,
    so the same bits. The per-channel numbers are repeated along a row, so that NumPy's inner loop
    runs over W*C numbers rather than C.

    Examples
    --------
    >>> Normalize([0.5], [0.25])(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)).ravel()
    array([-2.,  2.], dtype=float32)
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        if len(mean) != len(std) or not all(s > 0 for s in std):
            raise ArgumentError(
                f"Normalize: one mean and one positive std per channel are needed, got mean "
                f"{tuple(mean)} and std {tuple(std)}. Pass dataset.mean and dataset.std."
            )
        self.mean, self.std = tuple(mean), tuple(std)

    def __call__(self, x: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        N, C, H, W = x.shape
        if len(self.mean) != C:
            raise ShapeError(
                f"Normalize: made for {len(self.mean)} channels, x has {C} and is {x.shape} as "
                f"(N, C, H, W). Pass one mean and one std per channel."
            )
        rows = in_memory_order(to_float(x)).reshape(N, H, W * C)
        rows -= np.tile(np.array(self.mean, np.float32), W)
        rows /= np.tile(np.array(self.std, np.float32), W)
        return in_logical_order(rows.reshape(N, H, W, C))

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean}, std={self.std})"


class RandomCrop:
    """Move each image by up to ``padding`` pixels up, down, left or right, at random.

    The image is framed by ``padding`` zero pixels on every side and a window of the old size is
    cut out at a place drawn uniformly, for each image its own.

    Parameters
    ----------
    padding : int
        At least 1. CIFAR's usual one is 4.

    Source
    ------
    He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition (2015), section 4.2.

    Examples
    --------
    >>> x = np.arange(1, 5, dtype=np.uint8).reshape(1, 1, 2, 2)
    >>> RandomCrop(1)(x, np.random.default_rng(0))[0, 0]
    array([[3, 4],
           [0, 0]], dtype=uint8)
    """

    def __init__(self, padding: int = 4) -> None:
        if padding < 1:
            raise ArgumentError(
                f"RandomCrop: padding must be at least 1 pixel, got {padding}. "
                f"Leave the transform out where images should stay in place."
            )
        self.padding = padding

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        N, C, H, W = x.shape
        P = self.padding
        framed = np.zeros((N, H + 2 * P, W + 2 * P, C), x.dtype)
        framed[:, P:-P, P:-P] = in_memory_order(x)
        windows = sliding_window_view(framed, (H, W), axis=(1, 2))  # (N, 2P+1, 2P+1, C, H, W)
        windows = windows.transpose(0, 1, 2, 4, 5, 3)  # (N, 2P+1, 2P+1, H, W, C): copied by rows
        top, left = rng.integers(0, 2 * P + 1, size=(2, N))
        return in_logical_order(np.ascontiguousarray(windows[np.arange(N), top, left]))

    def __repr__(self) -> str:
        return f"RandomCrop(padding={self.padding})"


class RandomFlip:
    """Mirror each image left to right with probability 1/2.

    Not for handwriting, street signs or anything else whose label a mirror changes.

    Examples
    --------
    >>> x = np.arange(6, dtype=np.uint8).reshape(3, 1, 1, 2)
    >>> RandomFlip()(x, np.random.default_rng(2)).reshape(3, 2)
    array([[1, 0],
           [3, 2],
           [4, 5]], dtype=uint8)
    """

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        pixels = in_memory_order(x)  # (N, H, W, C)
        mirrored = rng.random(len(x)) < 0.5
        out = pixels.copy()
        out[mirrored] = pixels[mirrored, :, ::-1]
        return in_logical_order(out)

    def __repr__(self) -> str:
        return "RandomFlip()"


class Compose:
    """One transform after another, all drawing from the same generator.

    Examples
    --------
    >>> Compose([RandomCrop(1), RandomFlip()])
    Compose([RandomCrop(padding=1), RandomFlip()])
    """

    def __init__(self, steps: Sequence[Transform]) -> None:
        self.steps = list(steps)

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        for step in self.steps:
            x = step(x, rng)
        return x

    def __repr__(self) -> str:
        return f"Compose({self.steps})"


def standard(dataset: ImageDataset, augment: bool) -> Compose:
    """The usual transform of a data set: normalise, after a small move and a flip if asked.

    The move is an eighth of the height: 4 pixels for CIFAR as everyone does, 3 for MNIST, 1 for
    the 8×8 digits. Images are flipped only where ``dataset.mirror`` says that a mirror keeps the
    label, so never digits: a mirrored 2 is no digit at all, a mirrored 6 is close to a 9.

    Parameters
    ----------
    dataset : ImageDataset
        Gives mean, std, height and ``mirror``.
    augment : bool
        True for training, False for evaluation.

    Examples
    --------
    >>> dataset = ImageDataset(np.zeros((1, 8, 8, 1), np.uint8), np.array([0]), ["0"], name="toy",
    ...                        mean=[0.5], std=[0.25])
    >>> standard(dataset, augment=True)
    Compose([RandomCrop(padding=1), Normalize(mean=(0.5,), std=(0.25,))])
    """
    steps: list[Transform] = []
    if augment:
        steps.append(RandomCrop(max(1, dataset.shape[1] // 8)))
        if dataset.mirror:
            steps.append(RandomFlip())
    steps.append(Normalize(dataset.mean, dataset.std))
    return Compose(steps)
