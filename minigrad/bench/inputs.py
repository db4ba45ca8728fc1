"""What the cases of kernels share: arrays as networks have them, and what the naive twins say."""

from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.bench.case import Draw
from minigrad.bench.shapes import parse_shape
from minigrad.core.errors import ArgumentError
from minigrad.kernels._layout import channels_last, empty_channels_last

__all__ = ["drawn", "image_shape", "sized", "twin", "wide"]

# Bytes of an array that no second cache of a core holds, so that each pass goes to memory, or to a
# last cache that all cores share.
_LARGE = 16 << 20


def drawn(draw: Draw, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw an array; four axes are images (N, C, H, W), where networks have theirs in memory.

    That is channels-last, in memory of the pool: vectors of an array that NumPy makes lie across
    two lines of the cache each.
    """
    if len(shape) != 4:
        return draw(rng, shape)
    values = draw(rng, (shape[0], *shape[2:], shape[1]))
    images = empty_channels_last(shape, values.dtype)
    channels_last(images)[...] = values
    return images


def twin(name: str, *args: Any) -> list[np.ndarray]:
    """What the naive twin of a kernel computes in float64."""
    with kernels.use("reference"):
        result = getattr(kernels, name)(*map(wide, args))
    return list(result) if isinstance(result, tuple) else [result]


def wide(argument: Any) -> Any:
    """The same numbers in float64; what is no float32 array stays as it is."""
    is_float = isinstance(argument, np.ndarray) and argument.dtype == np.float32
    return argument.astype(np.float64) if is_float else argument


def image_shape(name: str, text: str) -> tuple[int, ...]:
    """Read the shape of images for a case of that name."""
    shape = parse_shape(text)
    if len(shape) != 4:
        raise ArgumentError(
            f"bench: {name} takes a shape NxCxHxW, got {text!r}. Write it like 128x16x32x32."
        )
    return shape


def sized(group: str, size: int) -> str:
    """The group of a case whose speed is that of memory, by the number of its float32 values."""
    return f"{group}, {'large' if 4 * size >= _LARGE else 'small'} arrays"
