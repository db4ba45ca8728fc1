"""How the direct gradient of the weight is cut: blocks of channels, chunks, bands and tiles.

Where channels do not fill vectors there are two ways to cut them. Blocks may hang over the channels
of their group, so that the lanes beyond are summed in vain; or a group is one block, and what a
filter sees of it is read run by run, or copied to a patch for each pixel. Counting says what takes
less: under 5 x 5 taps 200 channels are 325 vectors in blocks and 313 in a patch, but each chunk
that has a part of the filters would make all patches again, and one that has a part of the blocks
copies these alone.
"""

from typing import NamedTuple

import numpy as np

from minigrad.kernels import conv_weight_rows
from minigrad.kernels._ahead import PAGE_BYTES
from minigrad.kernels._jit import chunks_of
from minigrad.kernels._layout import remembered
from minigrad.kernels._simd import ROWS, lanes
from minigrad.kernels.conv_geometry import Geometry, is_pointwise
from minigrad.kernels.conv_patch import COPY_COST, LINE, copy_cost
from minigrad.kernels.conv_window import Window, window_of
from minigrad.kernels.gemm import whole_vectors

# Filters and vectors of a tile: they nearly fill the registers, and most layers divide by them.
TALL, WIDE = (8, 3) if ROWS >= 8 else (4, 3)

# What a tile reads of a band should fit in the first cache, and stays while the filters pass.
BAND_BYTES = 32 * 1024

# A longer row is cut into stretches of about so many pixels. Fewer do not pay for loading and
# storing the tile.
STRETCH = 128

# Pixels that lie farther apart than this share few sets of the first cache.
FAR_BYTES = 256

# Vectors that a block has at most under a filter of one tap; under more, it has one a tap.
BLOCK = 9

# To copy a pixel to the windows of its blocks takes as long as so many vectors more.
SPREAD = 3

# To pack a vector that the tiles of one chunk will read takes so many products.
PACKING = 2

# Into how many chunks the work is cut; how much memory their sums may take, and how few pixels
# are worth sums of their own.
CHUNKS = 16
SLOT_BYTES = 2 * 1024 * 1024
SLOT_PIXELS = 512


class Plan(NamedTuple):
    """How the work is cut: stretches of pixels over (N, OH, stretches of a row), and tiles."""

    stretch: int  # pixels in a stretch, but for the last of a row
    row_stretches: int  # stretches in a row
    stretches: int
    band: int  # stretches in a band
    patched: int  # 1: tiles read patches; 0: they read the window
    patch: int  # vectors from patch to patch: odd, lest many share a set of the cache
    packed: int  # 1: tiles read copies of the window's vectors, close together
    tap_rows: int  # rows of vectors under the taps: 1, or KH
    row_vectors: int  # vectors in each
    group_blocks: int  # blocks of channels in a group
    row: int  # sums of a filter
    filters: int  # in a group, filled up to whole tiles
    copied: int  # 1: cotangents are copied to panels; 0: grad_out itself is one
    in_place: int  # 1: sums lie as weight does, but for the order within a block
    slots: int
    block_parts: int
    filter_parts: int


@remembered
def form_of(g: Geometry, whole: bool, dtype: np.dtype) -> tuple[Geometry, Window, Plan] | None:
    """Choose how to cut a convolution, or None where tiles of values by vectors of filters do.

    The blocks of the geometry stand in place of groups; all those of a group have the same filters.
    ``whole`` tells whether the weight has no other taps.
    """
    forms = [_form(g, _in_blocks(g, dtype), whole, dtype)]
    if g.channels % lanes(dtype):
        forms.append(_form(g, _in_rows(g), whole, dtype))
        costs = [_cost(*form, dtype) for form in forms]
        if conv_weight_rows.cost(g, dtype) <= min(costs):
            return None
        return forms[costs.index(min(costs))]
    return forms[0]


def _form(
    g: Geometry, cut: Geometry, whole: bool, dtype: np.dtype
) -> tuple[Geometry, Window, Plan]:
    """Work out how a convolution is computed whose groups are cut so."""
    # Vectors that hang over their channels read beyond the last pixel, which only a copy allows.
    window = window_of(cut, copied=g.channels % lanes(dtype) != 0)
    return cut, window, _plan(cut, window, g.groups, whole, dtype)


def _cost(g: Geometry, window: Window, plan: Plan, dtype: np.dtype) -> int:
    """Estimate how long a pixel of a group takes, counted in products of a value and a vector.

    A tile of one vector waits for what it reads: a value a row, that vector, and a line ahead.
    """
    vectors = plan.group_blocks * plan.tap_rows * plan.row_vectors
    products = vectors * plan.filters
    if plan.row_vectors == 1:
        products = products * (TALL + 2) // TALL
    seen = plan.group_blocks * whole_vectors(g.channels, dtype)
    moved = g.stride_h * g.stride_w * (seen + SPREAD * (g.groups * g.channels > g.C))
    moved += plan.patched * (plan.patch + g.KH * window.runs)
    cost = products + copy_cost(moved, plan.filter_parts)
    cost += PACKING * plan.packed * vectors * plan.filter_parts
    return conv_weight_rows.shared(cost, plan.slots * plan.block_parts * plan.filter_parts)


def _in_rows(g: Geometry) -> Geometry:
    """Return a pointwise convolution as one row."""
    if is_pointwise(g) and g.H * g.W <= STRETCH:  # whole rows are copied for each band
        return g._replace(H=1, W=g.H * g.W, OH=1, OW=g.H * g.W)
    return g


def _in_blocks(g: Geometry, dtype: np.dtype) -> Geometry:
    """Return the convolution with blocks of channels in place of groups."""
    groups, vectors, whole = g.groups, whole_vectors(g.channels, dtype), g.channels % lanes(dtype)
    if is_pointwise(g) and not whole:  # all pixels are one row
        g = g._replace(N=1, H=1, W=g.pixels, OH=1, OW=g.pixels)
    else:
        g = _in_rows(g)
    most = BLOCK if g.KH == g.KW == 1 else 1
    channels = lanes(dtype) * max(n for n in range(1, most + 1) if vectors % n == 0)
    blocks = groups * vectors * lanes(dtype) // channels
    return g._replace(groups=blocks, channels=channels, depth=g.KH * g.KW * channels)


def _plan(g: Geometry, window: Window, groups: int, whole: bool, dtype: np.dtype) -> Plan:
    """Cut the work by its shape alone; ``whole`` tells whether the weight has no other taps."""
    patched = _should_patch(g, window, dtype)
    tap_rows, row_vectors = 1, whole_vectors(g.depth, dtype)
    if not patched and g.KW > 1:
        tap_rows, row_vectors = g.KH, window.runs * whole_vectors(window.run, dtype)
    packed = not patched and g.stride_w * window.pixel * dtype.itemsize > FAR_BYTES
    read = WIDE * lanes(dtype) if patched or packed else g.stride_h * g.stride_w * g.channels
    filters = chunks_of(g.filters, TALL) * TALL
    row_stretches = max((g.OW + STRETCH // 2) // STRETCH, 1)
    stretch = chunks_of(g.OW, row_stretches)
    stretches = g.N * g.OH * row_stretches
    pixels = max(BAND_BYTES // ((read + LINE) * dtype.itemsize), STRETCH)
    band = max((pixels + stretch // 2) // stretch, 1)
    row = g.groups // groups * tap_rows * row_vectors * lanes(dtype)
    size = groups * filters * row * dtype.itemsize
    slots = max(min(CHUNKS, SLOT_BYTES // size, stretches, g.pixels // SLOT_PIXELS), 1)
    slots = 1 << (slots.bit_length() - 1)  # a number that divides among the threads
    paged = g.F * dtype.itemsize % PAGE_BYTES == 0
    copied = paged or filters != g.filters
    in_place = whole and slots == 1 and filters == g.filters
    in_place = in_place and g.groups * g.channels == g.C  # no block hangs over
    in_place = in_place and row == g.groups // groups * g.depth
    parts = chunks_of(CHUNKS, slots)
    block_parts = _block_parts(g, parts) if paged and groups == 1 else min(g.groups, parts)
    filter_parts = min(chunks_of(filters, LINE), chunks_of(parts, block_parts))
    return Plan(
        stretch, row_stretches, stretches, band, int(patched), row_vectors + 1 | 1, int(packed),
        tap_rows, row_vectors, g.groups // groups, row, filters, int(copied), int(in_place), slots,
        block_parts, filter_parts,
    )  # fmt: skip


def _block_parts(g: Geometry, parts: int) -> int:
    """Choose the parts over the blocks such that chunks copy few values, and fewer cotangents."""

    def cost(block_parts: int) -> int:
        filter_parts = chunks_of(parts, block_parts)
        return 2 * g.filters * block_parts + g.groups * g.channels * filter_parts

    return min((1 << i for i in range(min(g.groups, parts).bit_length())), key=cost)


def _should_patch(g: Geometry, window: Window, dtype: np.dtype) -> bool:
    """Tell whether tiles save more by reading patches than it takes to copy them."""
    if g.channels % lanes(dtype) == 0:
        return False
    if g.KW == 1 or window.runs > 1:
        return True  # tiles would have one vector each
    vectors = g.KH * window.runs * whole_vectors(window.run, dtype)
    return (vectors - whole_vectors(g.depth, dtype)) * g.filters > COPY_COST * vectors
