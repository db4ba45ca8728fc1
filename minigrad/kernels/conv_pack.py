"""The weight of a convolution as tiles read it: vectors of filters, tap by tap."""

import ctypes
import dataclasses

import numpy as np

from minigrad.kernels._ahead import LINE_BYTES
from minigrad.kernels._constant import Empty, prepared
from minigrad.kernels._jit import body, kernel, prange
from minigrad.kernels._simd import (
    lanes_of,
    tile_gather,
    tile_load_columns,
    tile_load_part,
    tile_store,
    tile_zeros,
)
from minigrad.kernels._simd_transpose import tile_square, tile_transpose
from minigrad.kernels.conv_phases import Phase

_BYTE = np.dtype(np.uint8)


@dataclasses.dataclass(frozen=True, eq=False)
class Packing:
    """Where the values of a weight go; it follows from shapes alone.

    The packed weight is a block for each phase, (groups, vectors, taps, channels, lanes).

    Attributes
    ----------
    size : int
        Values of the packed weight.
    starts : list of int
        Where in it the block of each phase begins.
    sizes : ndarray, shape (7,)
        Groups, vectors of filters in a group, filters and channels of a group; and in the weight
        the steps from a group, a filter and a channel to the next.
    taps : ndarray, shape (taps, 3)
        Of each tap its place in the weight, that in the packed weight, and there the step from a
        vector to the next.
    how : tuple
        The same as one value: packings that put everything in the same place have the same.
    """

    size: int
    starts: list[int]
    sizes: np.ndarray
    taps: np.ndarray
    how: tuple[int, bytes, bytes]


def packing_of(
    phases: list[Phase], square: int, vectors: int, transposed: bool, lanes: int
) -> Packing:
    """Lay out the packed weight.

    Parameters
    ----------
    phases : list of Phase
        The convolutions to be done, with their own filters and channels.
    square : int
        KH * KW of the weight.
    vectors : int
        How many for each group.
    transposed : bool
        Filters become channels and channels filters, as the gradient with respect to x needs.
    lanes : int
        Of a vector.
    """
    g = phases[0].g
    steps = (square, g.filters * square) if transposed else (g.channels * square, square)
    starts, taps, start = [], [], 0
    for phase in phases:
        starts.append(start)
        step, tap = phase.g.depth * lanes, g.channels * lanes
        taps += [(at, start + i * tap, step) for i, at in enumerate(phase.taps.tolist())]
        start += g.groups * vectors * step
    sizes = np.array(
        (g.groups, vectors, g.filters, g.channels, g.filters * g.channels * square, *steps)
    )
    places = np.array(taps, np.int64).reshape(-1, 3)
    return Packing(start, starts, sizes, places, (start, sizes.tobytes(), places.tobytes()))


def pack_weight(weight: np.ndarray, packing: Packing) -> np.ndarray:
    """Bring a weight of shape (F, C/groups, KH, KW) to the form that tiles read."""

    def pack(empty: Empty) -> np.ndarray:
        packed = aligned(packing.size, weight.dtype, empty)
        values = np.ascontiguousarray(weight).reshape(-1)
        _pack_loop.launch(packing.size, values, packing.sizes, packing.taps, packed)
        return packed

    return prepared(weight, packing.how, pack)


def aligned(size: int, dtype: np.dtype, empty: Empty) -> np.ndarray:
    """Make an array, values undefined, whose vectors do not straddle two lines of the cache."""
    memory = empty((size * dtype.itemsize + LINE_BYTES,), _BYTE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory.data))  # the shortest way to it
    start = -address % LINE_BYTES
    return memory[start : start + size * dtype.itemsize].view(dtype)


@kernel
def _pack_loop(weight, sizes, taps, packed):
    for chunk in prange(sizes[0] * sizes[1]):
        _pack_vector(weight, sizes, taps, chunk, packed)


@body
def _pack_vector(weight, sizes, taps, chunk, packed):
    """Pack one vector of filters, with zeros for those it has too few, reading each line once."""
    width = lanes_of(packed)
    one = tile_zeros(1, 1, packed)
    group, first = chunk // sizes[1], chunk % sizes[1] * width
    filters, channels, filter_step, channel_step = sizes[2] - first, sizes[3], sizes[5], sizes[6]
    start, done = group * sizes[4] + first * filter_step, 0
    if len(taps) == 1 and channel_step == 1:
        to = taps[0, 1] + chunk * taps[0, 2]
        done = _turn_squares(weight, start + taps[0, 0], filter_step, filters, channels, packed, to)
    for c in range(done, channels):
        at = start + c * channel_step
        for tap in range(len(taps)):
            if filter_step == 1:
                held = tile_load_columns(one, weight, at + taps[tap, 0], 0, filters)
            else:
                held = tile_gather(one, weight, at + taps[tap, 0], filter_step, filters)
            tile_store(held, packed, taps[tap, 1] + chunk * taps[tap, 2] + c * width, 0)


@body
def _turn_squares(weight, at, filter_step, filters, channels, packed, to):
    """Pack whole vectors of neighbouring channels, and return how many channels these are.

    They are read as they lie and exchanged with filters in registers: gathering reads a line of
    each filter for every channel, and has lost them before the next where filters lie pages apart.
    """
    width, square = lanes_of(packed), tile_square(packed)
    whole = channels // width * width
    for c in range(0, whole, width):
        held = tile_load_part(square, weight, at + c, filter_step, 0, filters, width)
        tile_store(tile_transpose(held), packed, to + c * width, width)
    return whole
