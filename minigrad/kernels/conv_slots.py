"""The sums of all slots become one gradient of the weight.

They are added in the order of slots. Tiles have summed them tap by tap; in a weight the taps of a
channel are neighbours.
"""

import numpy as np

from minigrad.kernels._jit import body, chunks_of, kernel, prange
from minigrad.kernels._runs import copy_run
from minigrad.kernels._simd import lanes_of, tile_add, tile_load, tile_store, tile_zeros
from minigrad.kernels.conv_patch import LINE


@kernel
def gather_loop(sums, g, plan, grad_weight):
    lines = chunks_of(plan.filters, LINE)
    for chunk in prange(g.groups * lines):
        block, line = chunk // lines, chunk % lines
        filters = line * LINE, min((line + 1) * LINE, plan.filters)
        gather(sums, g, plan, (block, block + 1), filters, grad_weight)


@body
def gather(sums, g, plan, blocks, filters, grad_weight):
    """Add up the slots of some blocks and filters in their order, and put channels first."""
    width, taps = lanes_of(sums), g.KH * g.KW
    size = plan.tap_rows * plan.row_vectors * width
    total, turned = np.empty(size, sums.dtype), np.empty(g.depth, sums.dtype)
    down = g.KW * g.channels if plan.tap_rows == 1 else plan.row_vectors * width
    for block in range(blocks[0], blocks[1]):
        group, at = block // plan.group_blocks, block % plan.group_blocks
        for f in range(filters[0], min(filters[1], g.filters)):
            _sum_slots(sums, (group * plan.filters + f) * plan.row + at * size, total)
            for kh in range(g.KH):
                for kw in range(g.KW):
                    tap = kh * g.KW + kw
                    first = kh * down + kw * g.channels
                    for channel in range(g.channels):
                        turned[channel * taps + tap] = total[first + channel]
            # In whole vectors: far more lines are on their way to memory than value by value.
            to = ((group * g.filters + f) * plan.group_blocks + at) * g.depth
            copy_run(grad_weight, to, turned, 0, g.depth)


@body
def _sum_slots(sums, at, total):
    """Add up the slots of some neighbours."""
    for v in range(0, total.size, lanes_of(sums)):
        held = tile_load(tile_zeros(1, 1, sums), sums[0], at + v, 0)
        for slot in range(1, sums.shape[0]):
            held = tile_add(held, tile_load(held, sums[slot], at + v, 0))
        tile_store(held, total, v, 0)
