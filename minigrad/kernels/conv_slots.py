"""The sums of all slots become one gradient of the weight.

They are added in the order of slots. Tiles have summed them tap by tap; in a weight the taps of a
channel are neighbours. Taps that see padding alone were left out, and come back as zeros.
"""

from typing import NamedTuple

import numpy as np

from minigrad.kernels._jit import body, chunks_of, kernel, prange
from minigrad.kernels._runs import copy_run
from minigrad.kernels._simd import lanes_of, tile_add, tile_load, tile_store, tile_zeros
from minigrad.kernels.conv_geometry import Geometry
from minigrad.kernels.conv_patch import LINE


class Taps(NamedTuple):
    """Where in the weight of a filter and channel the taps of a convolution lie."""

    square: int  # taps that the weight has
    first: int
    down: int  # from one row of taps to the next
    right: int  # from a tap to the next


def among(taps: Taps, g: Geometry, grad_weight: np.ndarray) -> np.ndarray:
    """View the taps of a convolution in its weight, (F, C/groups, KH, KW)."""
    size, (of_filter, of_channel, *_) = grad_weight.itemsize, grad_weight.strides
    strides = of_filter, of_channel, taps.down * size, taps.right * size
    shape = g.F, g.channels, g.KH, g.KW
    return np.ndarray(shape, grad_weight.dtype, grad_weight, taps.first * size, strides)


@kernel
def gather_loop(sums, g, plan, taps, grad_weight):
    lines = chunks_of(plan.filters, LINE)
    for chunk in prange(g.groups * lines):
        block, line = chunk // lines, chunk % lines
        filters = line * LINE, min((line + 1) * LINE, plan.filters)
        gather(sums, g, plan, taps, (block, block + 1), filters, grad_weight)


@body
def gather(sums, g, plan, taps, blocks, filters, grad_weight):
    """Add up the slots of some blocks and filters in their order, and put channels first."""
    width = lanes_of(sums)
    size = plan.tap_rows * plan.row_vectors * width
    total, turned = np.empty(size, sums.dtype), np.zeros(g.channels * taps.square, sums.dtype)
    down = g.KW * g.channels if plan.tap_rows == 1 else plan.row_vectors * width
    of_group = g.C * plan.group_blocks // g.groups
    for block in range(blocks[0], blocks[1]):
        group, at = block // plan.group_blocks, block % plan.group_blocks
        channels = min(of_group - at * g.channels, g.channels)  # the last block may hang over
        for f in range(filters[0], min(filters[1], g.filters)):
            sum_slots(sums, (group * plan.filters + f) * plan.row + at * size, total)
            for kh in range(g.KH):
                for kw in range(g.KW):
                    tap = taps.first + kh * taps.down + kw * taps.right
                    first = kh * down + kw * g.channels
                    for channel in range(channels):
                        turned[channel * taps.square + tap] = total[first + channel]
            # In whole vectors: far more lines are on their way to memory than value by value.
            to = ((group * g.filters + f) * of_group + at * g.channels) * taps.square
            copy_run(grad_weight, to, turned, 0, channels * taps.square)


@body
def sum_slots(sums, at, total):
    """Add up the slots of some neighbours."""
    for v in range(0, total.size, lanes_of(sums)):
        held = tile_load(tile_zeros(1, 1, sums), sums[0], at + v, 0)
        for slot in range(1, sums.shape[0]):
            held = tile_add(held, tile_load(held, sums[slot], at + v, 0))
        tile_store(held, total, v, 0)
