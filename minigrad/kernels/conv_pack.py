"""The weight of a convolution as tiles read it: vectors of filters, tap by tap."""

import numpy as np

from minigrad.kernels._ahead import LINE_BYTES
from minigrad.kernels._jit import body, kernel, prange
from minigrad.kernels._simd import (
    lanes,
    lanes_of,
    tile_gather,
    tile_load_columns,
    tile_store,
    tile_zeros,
)
from minigrad.kernels.conv_geometry import Geometry


def pack_weight(
    weight: np.ndarray, g: Geometry, vectors: int, taps: np.ndarray, transposed: bool
) -> np.ndarray:
    """Bring the weight to the form that tiles read: (groups, vectors, taps, channels, lanes).

    Parameters
    ----------
    weight : ndarray, shape (F, C/groups, KH, KW)
    g : Geometry
        Of the convolution to be done, with its own filters and channels.
    vectors : int
        How many for each group.
    taps : ndarray of intp
        Which taps, counted over (KH, KW).
    transposed : bool
        Filters become channels and channels filters, as the gradient with respect to x needs.
    """
    weight = np.ascontiguousarray(weight)
    rows, columns, KH, KW = weight.shape
    strides = (KH * KW, columns * KH * KW) if transposed else (columns * KH * KW, KH * KW)
    group = rows // g.groups * columns * KH * KW
    packed = aligned(g.groups * vectors * g.taps * lanes(weight.dtype), weight.dtype)
    _pack_loop.launch(packed.size, weight.reshape(-1), g, group, *strides, taps, vectors, packed)
    return packed


def aligned(size: int, dtype: np.dtype) -> np.ndarray:
    """Make an array, values undefined, whose vectors do not straddle two lines of the cache."""
    memory = np.empty(size * dtype.itemsize + LINE_BYTES, np.uint8)
    start = -memory.ctypes.data % LINE_BYTES
    return memory[start : start + size * dtype.itemsize].view(dtype)


@kernel
def _pack_loop(weight, g, group, filter_step, channel_step, taps, vectors, packed):
    size = g.taps * lanes_of(packed)  # of one vector of filters
    for chunk in prange(packed.size // max(size, 1)):
        first = chunk % vectors * lanes_of(packed)
        start = chunk // vectors * group + first * filter_step
        _pack_vector(
            weight, start, g.filters - first, g.channels, filter_step, channel_step, taps,
            packed, chunk * size,
        )  # fmt: skip


@body
def _pack_vector(
    weight, start, filters, channels, filter_step, channel_step, taps, packed, packed_at
):
    """Pack one vector of filters, with zeros for those it has too few."""
    width = lanes_of(packed)
    one = tile_zeros(1, 1, packed)
    for c in range(channels):
        at, to = start + c * channel_step, packed_at + c * width
        for tap in range(taps.size):
            if filter_step == 1:
                held = tile_load_columns(one, weight, at + taps[tap], 0, filters)
            else:
                held = tile_gather(one, weight, at + taps[tap], filter_step, filters)
            tile_store(held, packed, to + tap * channels * width, 0)
