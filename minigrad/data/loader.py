"""Batches in an order that a seed decides and that a checkpoint can continue.

Which images a batch holds, and how they are cropped and flipped, follows from three numbers alone:
the seed, the epoch and the number of the batch. Nothing is drawn from a generator that lives on
from batch to batch, so it does not matter who makes a batch, when, or whether the ones before it
were ever made. Prefetching cannot disturb the result, and resuming needs no generator state.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from minigrad.core.errors import ArgumentError, ShapeError, StateError
from minigrad.data.dataset import ImageDataset
from minigrad.data.prefetch import prefetch
from minigrad.data.transforms import Transform, in_logical_order, in_memory_order, to_float

__all__ = ["DataLoader"]

Batch = tuple[np.ndarray, np.ndarray]


class DataLoader:
    """Iterate over a data set in batches ``(x, y)``.

    Parameters
    ----------
    dataset : ImageDataset
    batch_size : int
    transform : callable, optional
        Called as ``transform(x, rng)`` with a batch of bytes (N, C, H, W). Left out, pixels are
        scaled to 0..1.
    shuffle : bool
        Whether each epoch has its own random order.
    seed : int
        Of the order and of the transform's randomness; non-negative.
    drop_last : bool
        Whether to leave out a last batch that is not full.
    prefetch : int
        How many batches a worker thread prepares ahead. 0 makes each one when it is asked for;
        the bits are the same.

    Yields
    ------
    x : ndarray of float32, shape (N, C, H, W), channels-last memory
    y : ndarray of int64, shape (N,)

    Raises
    ------
    ArgumentError
        Where a setting is out of range, or leaves no batch at all.

    Notes
    -----
    Each ``for`` loop over the loader is one epoch, and the next loop is the next epoch, whether the
    first was finished, left by ``break`` or is still running (loops may be nested). Only after
    :meth:`load_state_dict` does a loop begin in the middle.

    Examples
    --------
    >>> dataset = ImageDataset(np.zeros((5, 2, 2, 1), np.uint8), np.arange(5), "abcde", name="toy")
    >>> loader = DataLoader(dataset, batch_size=2, shuffle=True, seed=3)
    >>> [y.tolist() for x, y in loader]
    [[3, 2], [1, 0], [4]]
    >>> [y.tolist() for x, y in loader]
    [[2, 4], [3, 1], [0]]
    >>> len(loader), loader.epoch
    (3, 2)
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int,
        transform: Transform | None = None,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        prefetch: int = 2,
    ) -> None:
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("seed", seed, 0),
            ("prefetch", prefetch, 0),
        ):
            if value < least:
                raise ArgumentError(
                    f"DataLoader: {name} must be at least {least}, got {value}. "
                    f"Pass {name}={least} or more."
                )
        self.dataset = dataset
        self.batch_size = batch_size
        self.transform = transform
        self.shuffle = shuffle
        self.seed = int(seed)
        self.drop_last = drop_last
        self.prefetch = prefetch
        self.epoch = 0
        self.position = 0
        self._running: object | None = None  # stands for the loop opened last, until it ends
        if len(self) == 0:
            raise ArgumentError(
                f"DataLoader: {len(dataset)} images in batches of {batch_size} with "
                f"drop_last={drop_last} leave no batch. Pass more images or a smaller batch_size."
            )

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        if self._running is not None:
            self.epoch, self.position = self.epoch + 1, 0
        self._running = me = object()
        return self._loop(me, self.epoch, self.position)

    def batch(self, epoch: int, index: int) -> Batch:
        """Batch ``index`` of ``epoch``, the very one a loop hands out; the loader does not move."""
        if not (epoch >= 0 and 0 <= index < len(self)):
            raise ArgumentError(
                f"DataLoader: epoch {epoch} has no batch {index}. "
                f"Pass epoch >= 0 and an index from 0 to {len(self) - 1}."
            )
        return self._make(self._order(epoch), epoch, index)

    def state_dict(self) -> dict[str, Any]:
        """Where the loop stands, as numbers that JSON can hold.

        ``position`` counts the batches handed out in ``epoch``, not those prepared ahead. The last
        four entries describe the loader and are there to be compared on loading.
        """
        return {
            "seed": self.seed,
            "epoch": self.epoch,
            "position": self.position,
            **self._description(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next loop continue where the state was taken, with the very same batches.

        Parameters
        ----------
        state : dict
            From :meth:`state_dict` of a loader over the same images with the same settings. Its
            seed replaces this loader's.

        Raises
        ------
        StateError
            Where an entry is missing, or the state belongs to a loader with other batches.
        """
        mine = self.state_dict()
        if state.keys() != mine.keys():
            raise StateError(
                f"DataLoader: a state has the entries {', '.join(mine)}, got "
                f"{', '.join(map(str, state)) or 'none'}. Pass what state_dict() returned."
            )
        for name, value in self._description().items():
            if state[name] != value:
                raise StateError(
                    f"DataLoader: the state was taken with {name}={state[name]}, this loader has "
                    f"{name}={value}, so its batches differ. Make the loader with the same data "
                    f"and settings as in the run to be continued."
                )
        seed, epoch, position = state["seed"], state["epoch"], state["position"]
        if not (seed >= 0 and epoch >= 0 and 0 <= position <= len(self)):
            raise StateError(
                f"DataLoader: a state has seed >= 0, epoch >= 0 and position in 0..{len(self)}, "
                f"got {seed}, {epoch} and {position}. Pass what state_dict() returned."
            )
        self.seed, self.epoch, self.position = seed, epoch, position
        self._running = None

    def _description(self) -> dict[str, Any]:
        """What decides, besides the seed, which images a batch holds."""
        return {
            "images": len(self.dataset),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
        }

    def _loop(self, me: object, epoch: int, start: int) -> Iterator[Batch]:
        make = partial(self._make, self._order(epoch), epoch)
        indices = range(start, len(self))
        batches = prefetch(make, indices, self.prefetch) if self.prefetch else map(make, indices)
        for index, batch in zip(indices, batches, strict=True):
            if self._running is me:
                self.position = index + 1
            yield batch
        if self._running is me:
            self.epoch, self.position, self._running = epoch + 1, 0, None

    def _generator(self, epoch: int, purpose: int) -> np.random.Generator:
        """A fresh generator for the order (purpose 0) or for batch ``purpose - 1``."""
        sequence = np.random.SeedSequence(self.seed, spawn_key=(epoch, purpose))
        return np.random.Generator(np.random.PCG64(sequence))

    def _order(self, epoch: int) -> np.ndarray:
        """Positions in the data set, in the order of ``epoch``."""
        if not self.shuffle:
            return np.arange(len(self.dataset))
        return self._generator(epoch, 0).permutation(len(self.dataset))

    def _make(self, order: np.ndarray, epoch: int, index: int) -> Batch:
        chosen = order[index * self.batch_size : (index + 1) * self.batch_size]
        x = in_logical_order(self.dataset.images[chosen])  # (N, C, H, W)
        if self.transform is not None:
            x = self.transform(x, self._generator(epoch, 1 + index))
        if x.ndim != 4 or len(x) != len(chosen):
            raise ShapeError(
                f"DataLoader: the transform was given {len(chosen)} images and returned shape "
                f"{x.shape}. Return an array (N, C, H, W) with N={len(chosen)}."
            )
        x = to_float(x) if x.dtype == np.uint8 else x.astype(np.float32, copy=False)
        return in_logical_order(in_memory_order(x)), self.dataset.labels[chosen]
