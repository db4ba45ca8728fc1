"""Images and labels in memory, with the few things that models and transforms ask about them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from minigrad.core.errors import ArgumentError, DTypeError, ShapeError

__all__ = ["ImageDataset", "channel_statistics"]


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, pixels being scaled to 0..1.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, H, W, C)

    Returns
    -------
    mean, std : tuple of float, length C
        A constant channel gets the deviation 1, so that dividing by it is harmless.

    Notes
    -----
    Counts how often each of the 256 values occurs, so the result is exact to float64 and does not
    depend on the order of the images.

    Examples
    --------
    >>> channel_statistics(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1))
    ((0.5,), (0.5,))
    """
    value = np.arange(256) / 255
    means, stds = [], []
    for c in range(images.shape[-1]):
        count = np.bincount(images[..., c].ravel(), minlength=256)
        share = count / max(count.sum(), 1)
        mean = float(share @ value)
        means.append(mean)
        stds.append(float(np.sqrt(share @ (value - mean) ** 2)) or 1.0)
    return tuple(means), tuple(stds)


@dataclass(frozen=True, eq=False, repr=False)
class ImageDataset:
    """Labelled images of one size, held in memory as bytes.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, H, W, C)
        As they lie in memory and as ``matplotlib.pyplot.imshow`` takes them. The loader turns
        them into float32 batches of logical shape (N, C, H, W) over the same channels-last memory.
    labels : ndarray of int, shape (N,)
        Positions in ``classes``; kept as int64.
    classes : sequence of str
        The name of each class; kept as a tuple.
    name : str
        What the data set is called in tables and messages.
    mean, std : sequence of float, length C, optional
        What normalisation subtracts and divides by, for pixels in 0..1. They belong to the
        training set, so a test set must be given those of its training set. Measured on
        ``images`` where left out.
    mirror : bool
        Whether an image seen in a mirror keeps its label. True for photographs, False for
        handwriting; augmentation flips images only where it is True.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        Where the parts do not fit together.

    Notes
    -----
    The arrays are read-only views: nothing that holds a data set can change it for another.

    Examples
    --------
    >>> images = np.zeros((4, 2, 3, 1), np.uint8)
    >>> dataset = ImageDataset(images, np.array([0, 1, 1, 0]), ("cat", "dog"), name="pets")
    >>> dataset
    ImageDataset(pets: 4 images of 1x2x3, 2 classes)
    >>> len(dataset.limit(3)), dataset.subset([1, 2]).labels
    (3, array([1, 1]))
    """

    images: np.ndarray
    labels: np.ndarray
    classes: Sequence[str]
    name: str
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    mirror: bool = False

    def __post_init__(self) -> None:
        images, labels = np.asarray(self.images), np.asarray(self.labels)
        _check(images, labels, self.classes)
        mean, std = self.mean, self.std
        if not (mean and std):
            measured = channel_statistics(images)
            mean, std = mean or measured[0], std or measured[1]
        _check_statistics(mean, std, images.shape[-1])
        # A frozen dataclass sets its own fields this way.
        for field, value in (
            ("images", _read_only(np.ascontiguousarray(images))),
            ("labels", _read_only(labels.astype(np.int64))),
            ("classes", tuple(self.classes)),
            ("mean", tuple(float(m) for m in mean)),
            ("std", tuple(float(s) for s in std)),
        ):
            object.__setattr__(self, field, value)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        size = "x".join(map(str, self.shape))
        return (
            f"ImageDataset({self.name}: {len(self)} images of {size}, {len(self.classes)} classes)"
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of one image."""
        _, H, W, C = self.images.shape
        return C, H, W

    def subset(self, indices: Sequence[int] | np.ndarray) -> "ImageDataset":
        """The images at ``indices``, in that order, with this set's mean and deviation.

        Raises
        ------
        ArgumentError
            Where an index is not an integer in -N..N-1.
        """
        index = np.asarray(indices, dtype=None if len(indices) else np.int64)
        if index.ndim != 1 or index.dtype.kind not in "iu":
            raise ArgumentError(
                f"subset: indices must be a one-dimensional list of integers, got {index.dtype} of "
                f"shape {index.shape}. For a mask, pass np.flatnonzero(mask)."
            )
        if index.size and not (-len(self) <= index.min() and index.max() < len(self)):
            raise ArgumentError(
                f"subset: {self.name} has {len(self)} images, indices run from {index.min()} to "
                f"{index.max()}. Pass indices from 0 to {len(self) - 1}."
            )
        return replace(self, images=self.images[index], labels=self.labels[index])

    def limit(self, n: int) -> "ImageDataset":
        """The first ``n`` images, or all where there are fewer.

        Nothing is shuffled or balanced: of files sorted by class it would be the first classes.
        The sets of this package are in mixed order. For a balanced sample take :meth:`split`.
        """
        if n < 1:
            raise ArgumentError(f"limit: at least one image is needed, got n={n}. Pass n >= 1.")
        return self if n >= len(self) else self.subset(np.arange(n))

    def split(self, fraction: float, seed: int = 0) -> tuple["ImageDataset", "ImageDataset"]:
        """Part the images in two: most of them, and a held-out ``fraction`` of every class.

        Parameters
        ----------
        fraction : float
            Share to hold out, between 0 and 1, rounded to whole images class by class.
        seed : int
            Chooses which ones; the same seed gives the same two sets on every machine and with
            every version of NumPy.

        Returns
        -------
        kept, held_out : ImageDataset
            Each in the original order. Both keep this set's mean and deviation.

        Examples
        --------
        >>> labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
        >>> dataset = ImageDataset(np.zeros((8, 2, 2, 1), np.uint8), labels, "ab", name="toy")
        >>> kept, held_out = dataset.split(0.25, seed=1)
        >>> kept.labels, held_out.labels
        (array([0, 0, 0, 1, 1, 1]), array([0, 1]))
        """
        if not 0 < fraction < 1:
            raise ArgumentError(
                f"split: fraction must lie between 0 and 1, got {fraction}. "
                f"Pass 0.2 to hold out a fifth."
            )
        held_out = stratified_mask(self.labels, fraction, seed)
        return self.subset(np.flatnonzero(~held_out)), self.subset(np.flatnonzero(held_out))


def stratified_mask(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """True for ``fraction`` of the members of every class, chosen by ``seed``."""
    # Of NumPy's generators this one alone promises the same numbers in every version.
    rng = np.random.RandomState(seed)
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        mask[members[: round(fraction * len(members))]] = True
    return mask


def _check(images: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> None:
    if images.dtype != np.uint8:
        raise DTypeError(
            f"ImageDataset: images must be uint8 pixels in 0..255, got {images.dtype}. "
            f"Scale and convert first, for example (255 * x).round().astype('uint8')."
        )
    if images.ndim != 4:
        raise ShapeError(
            f"ImageDataset: images must be (N, H, W, C), got shape {images.shape}. "
            f"Grey images of shape (N, H, W) become x[..., None]."
        )
    if labels.dtype.kind not in "iu":
        raise DTypeError(
            f"ImageDataset: labels must be integers, got {labels.dtype}. "
            f"Pass positions in classes, for example labels.astype('int64')."
        )
    if labels.shape != images.shape[:1]:
        raise ShapeError(
            f"ImageDataset: one label per image is needed, {len(images)} images came with labels "
            f"of shape {labels.shape}. Pass labels of shape ({len(images)},)."
        )
    if labels.size and not (labels.min() >= 0 and labels.max() < len(classes)):
        raise ArgumentError(
            f"ImageDataset: labels must be 0..{len(classes) - 1} for {len(classes)} classes, got "
            f"{labels.min()}..{labels.max()}. Name every class, or renumber the labels."
        )


def _check_statistics(mean: Sequence[float], std: Sequence[float], C: int) -> None:
    if len(mean) != C or len(std) != C or not all(s > 0 for s in std):
        raise ArgumentError(
            f"ImageDataset: images have {C} channels, got mean {tuple(mean)} and std {tuple(std)}. "
            f"Pass one mean and one positive std per channel, or leave both out."
        )


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view
