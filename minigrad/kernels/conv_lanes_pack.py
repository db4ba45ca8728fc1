"""The weight of a convolution in small groups, as ``conv_lanes.py`` reads it: filters are lanes."""

import numpy as np

from minigrad.kernels._constant import Empty, prepared
from minigrad.kernels._jit import body, kernel, prange
from minigrad.kernels._simd import lanes_of, tile_gather, tile_store, tile_zeros
from minigrad.kernels.conv_pack import aligned


def pack_lanes(
    weight: np.ndarray, size: int, vectors: int, sizes: np.ndarray, taps: np.ndarray
) -> np.ndarray:
    """Bring a weight to the order of the loops; see ``Job`` there for what the numbers are."""

    def pack(empty: Empty) -> np.ndarray:
        packed = aligned(size, weight.dtype, empty)
        values = np.ascontiguousarray(weight).reshape(-1)
        _pack_loop.launch(size, values, vectors, sizes, taps, packed)
        return packed

    return prepared(weight, ("lanes", size, sizes.tobytes(), taps.tobytes()), pack)


@kernel
def _pack_loop(weight, vectors, sizes, taps, packed):
    for v in prange(vectors):
        _pack_vector(weight, sizes, taps, v, packed)


@body
def _pack_vector(weight, sizes, taps, v, packed):
    """Pack one vector of filters, with zeros for those it has too few."""
    F, step, filters, channels = sizes[0], sizes[1], sizes[2], sizes[3]
    one, first = tile_zeros(1, 1, packed), v * step
    if filters == 1 or sizes[4] == filters * sizes[5]:  # filters are equally far apart
        apart = sizes[5] if filters > 1 else sizes[4]
        for tap in range(len(taps)):
            at, to = first * apart + taps[tap, 0], taps[tap, 1] + v * taps[tap, 2]
            for c in range(channels):
                held = tile_gather(one, weight, at + c * sizes[6], apart, min(F - first, step))
                tile_store(held, packed, to + c * lanes_of(packed), 0)
        return
    for lane in range(lanes_of(packed)):
        f = first + lane
        at = f // filters * sizes[4] + f % filters * sizes[5]
        inside = lane < step and f < F
        for tap in range(len(taps)):
            to = taps[tap, 1] + v * taps[tap, 2] + lane
            for c in range(channels):
                packed[to] = weight[at + taps[tap, 0] + c * sizes[6]] if inside else 0
                to += lanes_of(packed)
