"""Gradient of the weight of a depthwise convolution of a single tap: a factor for each channel.

It is the sum of grad_out * x over all pixels. Nothing is used twice, so memory sets the pace, and
both arrays are read in its order, as wide rows (see ``_columns.py``).
"""

import numpy as np

from minigrad.kernels._columns import add_row, folded, sum_products, wide_row
from minigrad.kernels._jit import body, kernel, prange
from minigrad.kernels._layout import flat_channels_last, remembered
from minigrad.kernels.conv_geometry import Geometry, is_pointwise
from minigrad.kernels.conv_slots import Taps, among
from minigrad.kernels.norm_chunks import span

# Values of a block of wide rows, which stay in the first cache while their columns are summed.
BLOCK = 4096

# Values of a wide row, for sums that do not wait for each other; and chunks for threads.
WIDE = 64
CHUNKS = 16


@remembered
def serves(g: Geometry) -> bool:
    """Tell whether a convolution multiplies each channel."""
    return g.channels == g.filters == 1 and is_pointwise(g)


def write_grad_weight(
    grad_out: np.ndarray, x: np.ndarray, g: Geometry, taps: Taps, grad_weight: np.ndarray
) -> None:
    """Write the gradient with respect to weight, given the one with respect to the output."""
    chunks = max(min(CHUNKS, x.size // BLOCK), 1)
    partial = np.empty((chunks, g.C))
    _sum_loop.launch(
        x.size, flat_channels_last(grad_out), flat_channels_last(x), wide_row(g.C, WIDE), partial
    )
    if taps.square > 1:
        grad_weight[...] = 0
    among(taps, g, grad_weight)[:, 0, 0, 0] = np.add.reduce(partial)  # in the order of chunks


@kernel
def _sum_loop(grad_out, x, width, partial):
    chunks = len(partial)
    for chunk in prange(chunks):
        start, stop = span(chunk, chunks, x.size, width)
        _sum_chunk(grad_out[start:stop], x[start:stop], width, partial[chunk])


@body
def _sum_chunk(grad_out, x, width, sums):
    """Set the sums of the products in each channel over one chunk, in float64 between blocks."""
    block, whole = max(1, BLOCK // width) * width, x.size // width * width
    total, some = np.zeros(width), np.empty(width, x.dtype)
    for at in range(0, whole, block):
        stop = min(at + block, whole)
        sum_products(grad_out[at:stop], x[at:stop], some)
        add_row(total, some)
    for j in range(x.size - whole):
        total[j] += grad_out[whole:][j] * x[whole:][j]
    for c in range(sums.size):
        sums[c] = folded(total, c, sums.size)
