"""Direct gradient of the weight: tiles of the gradient stay in registers while pixels pass by.

grad_weight[f, c, kh, kw] is a sum over output pixels of grad_out in filter f, times the value that
tap (kh, kw) sees in channel c. Each pixel adds an outer product to the gradient::

                     what the taps see of this pixel's
                     surroundings, in vectors
    grad_out            v0 v1 v2 ...
    at this pixel,   a  .  .  .  .
    F values         b  .  .  .  .      a tile: eight filters, up to three vectors; it is loaded
                     c  .  .  .  .      once, summed over a band of pixels, and stored
                     d  .  .  .  .

Channels come in *blocks* of one vector, if they can be cut so: what a tap sees of a block is one
vector of the window (see ``conv_window.py``), and taps side by side are neighbours in the cache.
Where vectors would be half empty, or a filter has one tap only, the values under all taps are
copied side by side into a *patch* for each pixel::

    3 channels, 3 x 3 taps:    |a a a b b b c c c d d d e e e f|f f g g g h h h i i i - - - - -|

The order of loops, from the outside:

    chunks    slots of output pixels x parts of the blocks x parts of the filters, for threads
    bands     of pixels: what a tile reads of one stays in the first cache, the rest in the second
    blocks    of channels: fill their patches
    panels    of filters that fill a vector
    vectors   up to three at a time
    filters   of the panel, eight at a time: one tile
    pixels    of the band: one column of cotangents times one row of values

Each slot has its own sum, for threads must not share one; these are added in the order of slots, so
the result has the same bits on any number of threads. A large weight has few slots or one, for
adding them takes long, and many parts.
"""

from typing import NamedTuple

import numpy as np

from minigrad.kernels import _pool, conv_lanes_weight, conv_weight_rows
from minigrad.kernels._ahead import AHEAD, ask, next_lines, plan_ahead
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import Shape, flat_channels_last
from minigrad.kernels._runs import aligned_empty, copy_run
from minigrad.kernels._simd import (
    ROWS,
    lanes,
    lanes_of,
    tile_add,
    tile_load,
    tile_load_columns,
    tile_outer,
    tile_store,
    tile_zeros,
)
from minigrad.kernels.conv_geometry import Geometry, Pair, Sides, geometry, remembered
from minigrad.kernels.conv_patch import fill_patches
from minigrad.kernels.conv_window import Window, fill_windows, most_rows, window_of
from minigrad.kernels.gemm import NEIGHBOUR, whole_vectors

# Filters and vectors of a tile: they nearly fill the registers, and most layers divide by them.
TALL, WIDE = (8, 3) if ROWS >= 8 else (4, 3)

# What a tile reads of a band should stay in the first cache while the filters of a panel pass.
BAND_BYTES = 32 * 1024

# Fewer pixels than this do not pay for loading and storing the tile.
LEAST_PIXELS = 128

# Pixels of a row that are taken at once; a longer row is cut.
STRETCH = 128

# Vectors that a pixel of a block has at least, under all taps, if the channels can be cut so.
BLOCK = 9

# To copy a vector to a patch takes as long as to multiply it with so many filters.
COPY_COST = 9

# Into how many chunks the work is cut; how much memory their sums may take, and how few pixels
# are worth sums of their own.
CHUNKS = 16
SLOT_BYTES = 4 * 1024 * 1024
SLOT_PIXELS = 512


class Plan(NamedTuple):
    """How the work is cut: stretches of pixels over (N, OH, stretches of a row), and tiles."""

    row_stretches: int  # stretches in a row
    stretches: int
    band: int  # stretches in a band
    patched: int  # 1: tiles read patches; 0: they read the window
    patch: int  # vectors from patch to patch: odd, lest many share a set of the cache
    tap_rows: int  # rows of vectors under the taps: 1, or KH
    row_vectors: int  # vectors in each
    group_blocks: int  # blocks of channels in a group
    filters: int  # in a group, filled up to whole tiles
    panel: int  # filters whose cotangents lie side by side
    split: int  # 1: cotangents are copied, each panel by itself; 0: they are grad_out itself
    slots: int
    block_parts: int
    filter_parts: int


class Scratch(NamedTuple):
    """Memory of a chunk, for one band at a time; x or grad_out itself where nothing is copied."""

    values: np.ndarray  # windows, one a block
    patches: np.ndarray
    cotangents: np.ndarray
    counts: np.ndarray  # pixels of each stretch
    seen: np.ndarray  # where in the window a stretch begins
    starts: np.ndarray  # where in the patches
    ahead: np.ndarray  # what the next band will read


def conv2d_grad_weight(
    grad_out: np.ndarray,
    x: np.ndarray,
    weight_shape: Shape,
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """Return the gradient with respect to weight, given the one with respect to the output."""
    g = geometry(x.shape, weight_shape, stride, padding, dilation, groups)
    if g.pixels * g.taps * g.F == 0:
        return np.zeros(weight_shape, x.dtype)
    if conv_lanes_weight.serves(g, x.dtype):
        return conv_lanes_weight.grad_weight(grad_out, x, g)
    if _should_sum_rows(g, x.dtype):
        return conv_weight_rows.sum_rows(grad_out, x, weight_shape, g)
    g = _in_blocks(g, x.dtype)
    # Runs that are no whole vectors are read beyond their end, which only a copy allows.
    window = window_of(g, copied=g.channels % lanes(x.dtype) != 0)
    plan = _plan(g, window, groups, x.dtype)
    sums = _pool.empty((plan.slots, g.groups * _block_size(g, plan, x.dtype)), x.dtype)
    grad_weight = _pool.empty(weight_shape, x.dtype)
    _grad_weight_loop.launch(
        g.pixels * g.taps * g.groups * g.filters,
        flat_channels_last(grad_out),
        flat_channels_last(x),
        g,
        window,
        plan,
        sums,
        grad_weight.reshape(-1),
    )
    if plan.slots > 1:
        _gather_loop.launch(sums.size, sums, g, plan, grad_weight.reshape(-1))
    return grad_weight


@remembered
def _should_sum_rows(g: Geometry, dtype: np.dtype) -> bool:
    """Tell whether tiles of values by vectors of filters take less than patches."""
    if g.groups > 1 or g.dilation_w > 1 or g.channels % lanes(dtype) == 0:
        return False
    patch = whole_vectors(g.taps, dtype)
    copies = g.KH * (whole_vectors(g.KW * g.channels, dtype) + 1)
    cost = patch * chunks_of(g.filters, TALL) * TALL + COPY_COST * copies
    return conv_weight_rows.cost(g, dtype) < cost


@remembered
def _in_blocks(g: Geometry, dtype: np.dtype) -> Geometry:
    """Return the convolution with blocks of channels in place of groups.

    All blocks of a group have the same filters.
    """
    if (g.KH, g.KW, g.H, g.W) == (1, 1, g.OH, g.OW) and g.top == g.left == 0:
        g = g._replace(N=1, H=1, W=g.pixels, OH=1, OW=g.pixels)  # all pixels are one row
    vectors, rest = divmod(g.channels, lanes(dtype))
    if rest:
        return g
    most = max(BLOCK // (g.KH * g.KW), 1)
    channels = lanes(dtype) * max(n for n in range(1, most + 1) if vectors % n == 0)
    return g._replace(groups=g.C // channels, channels=channels, taps=g.KH * g.KW * channels)


@remembered
def _plan(g: Geometry, window: Window, groups: int, dtype: np.dtype) -> Plan:
    """Cut the work by its shape alone."""
    width = lanes(dtype)
    patched = _should_patch(g, window, dtype)
    tap_rows, row_vectors = 1, whole_vectors(g.taps, dtype)
    if not patched:
        tap_rows, row_vectors = g.KH, window.runs * whole_vectors(window.run, dtype)
    panel = max(width, TALL)
    filters = chunks_of(g.filters, TALL) * TALL
    # As grad_out is, its panels must be whole, and few, lest many pixels share a set of the cache.
    split = g.filters % panel != 0 or g.F * dtype.itemsize >= 256
    row_stretches = chunks_of(g.OW, STRETCH)
    stretches = g.N * g.OH * row_stretches
    read = WIDE * width if patched else g.stride_h * g.stride_w * g.channels
    pixels = max(BAND_BYTES // ((read + panel) * dtype.itemsize), LEAST_PIXELS)
    band = chunks_of(pixels, min(g.OW, STRETCH))
    size = g.groups * tap_rows * row_vectors * filters * width * dtype.itemsize
    slots = max(min(CHUNKS, SLOT_BYTES // size, stretches, g.pixels // SLOT_PIXELS), 1)
    slots = 1 << (slots.bit_length() - 1)  # a number that divides among the threads
    block_parts = min(g.groups, chunks_of(CHUNKS, slots))
    filter_parts = min(chunks_of(filters, panel), chunks_of(CHUNKS, slots * block_parts))
    return Plan(
        row_stretches, stretches, band, int(patched), row_vectors + 1 | 1, tap_rows, row_vectors,
        g.groups // groups, filters, panel, int(split), slots, block_parts, filter_parts,
    )  # fmt: skip


def _should_patch(g: Geometry, window: Window, dtype: np.dtype) -> bool:
    """Tell whether tiles save more by reading patches than it takes to copy them."""
    if g.KW == 1 or (window.runs > 1 and window.run != lanes(dtype)):
        return True  # tiles would have one vector each
    vectors = g.KH * window.runs * whole_vectors(window.run, dtype)
    return (vectors - whole_vectors(g.taps, dtype)) * g.filters > COPY_COST * vectors


def _block_size(g: Geometry, plan: Plan, dtype: np.dtype) -> int:
    """Return how many sums a block has: for each vector under the taps, one row a filter."""
    return plan.tap_rows * plan.row_vectors * plan.filters * lanes(dtype)


@kernel
def _grad_weight_loop(grad_out, x, g, window, plan, sums, grad_weight):
    parts = plan.block_parts * plan.filter_parts
    for chunk in prange(plan.slots * parts):
        slot, part = chunk // parts, chunk % parts
        stretches = chunk_bounds(slot, plan.slots, plan.stretches)
        blocks = chunk_bounds(part // plan.filter_parts, plan.block_parts, g.groups)
        panels = chunk_bounds(
            part % plan.filter_parts, plan.filter_parts, chunks_of(plan.filters, plan.panel)
        )
        _add_chunk(grad_out, x, g, window, plan, stretches, blocks, panels, sums[slot])
        if plan.slots == 1:  # the sums are still in the cache
            _gather(sums, g, plan, blocks, panels, grad_weight)


@body
def _add_chunk(grad_out, x, g, window, plan, stretches, blocks, panels, sums):
    """Sum over the stretches of a slot, for a part of the blocks and filters, in bands."""
    band = min(plan.band, stretches[1] - stretches[0])
    pixels = band * min(g.OW, STRETCH)
    values, patches, cotangents = x, x, grad_out
    if window.copied:
        rows = most_rows(g, window, chunks_of(band - 1, plan.row_stretches) + 1)
        size = (blocks[1] - blocks[0]) * rows * window.width * window.pixel
        values = aligned_empty(size + lanes_of(x), x)
    if plan.patched:
        patches = aligned_empty(pixels * plan.patch * lanes_of(x), x)
    if plan.split:
        cotangents = aligned_empty((panels[1] - panels[0]) * pixels * plan.panel, x)
    places = np.empty((3, band), np.intp)
    ahead = np.zeros(AHEAD, np.intp)
    scratch = Scratch(values, patches, cotangents, places[0], places[1], places[2], ahead)
    for first in range(stretches[0], stretches[1], band):
        count = min(band, stretches[1] - first)
        fresh = first == stretches[0]
        _add_band(grad_out, x, g, window, plan, first, count, blocks, panels, fresh, scratch, sums)


@body
def _add_band(grad_out, x, g, window, plan, first, count, blocks, panels, fresh, scratch, sums):
    """Add what so many stretches contribute to a part of the sums, or make it if it is fresh."""
    width = lanes_of(x)
    top_row, rows = _place_stretches(g, window, plan, first, count, scratch)
    first_pixel = _pixels_before(g, plan, first)
    counts = scratch.counts[:count]
    pixels = counts.sum()
    size = rows * window.width * window.pixel
    if window.copied:
        fill_windows(x, g, window, blocks, top_row, rows, scratch.values)
    _plan_ahead(grad_out, x, g, plan, first + count, count, blocks, panels, scratch.ahead)
    held = -1  # the group whose cotangents are copied
    for block in range(blocks[0], blocks[1]):
        group = block // plan.group_blocks
        at = first_pixel * g.F + group * g.filters + panels[0] * plan.panel
        cotangents, step, vector = scratch.cotangents, plan.panel, pixels * plan.panel
        if not plan.split:
            cotangents, step, vector = grad_out[at:], g.F, plan.panel
        elif group != held:
            _split_panels(grad_out, at, g, pixels, panels, plan.panel, cotangents)
            held = group
        if window.copied:
            values = scratch.values[(block - blocks[0]) * size :]
        else:
            values = x[top_row * window.width * window.pixel + block * g.channels :]
        starts, pixel = scratch.seen, g.stride_w * window.pixel
        down, right = window.down, width if window.runs == 1 else window.right
        if plan.patched:
            fill_patches(values, g, window, plan, count, scratch)
            values, starts, pixel = scratch.patches, scratch.starts, plan.patch * width
            down, right = 0, width
        _add_block(
            values, starts, pixel, down, right, cotangents, step, vector, counts, plan, block,
            panels, fresh, sums, scratch.ahead,
        )  # fmt: skip


@body
def _plan_ahead(grad_out, x, g, plan, first, count, blocks, panels, ahead):
    """Ask for what the next stretches read, where it is most of what lies there."""
    last = min(first + count, plan.stretches)
    start, stop = _values_before(g, plan, first), _values_before(g, plan, last)
    if g.stride_h > g.KH or 2 * (blocks[1] - blocks[0]) < g.groups:
        stop = start
    plan_ahead(ahead, x, start, stop)
    start, stop = _pixels_before(g, plan, first) * g.F, _pixels_before(g, plan, last) * g.F
    if 2 * (panels[1] - panels[0]) * plan.panel < g.F:
        stop = start
    plan_ahead(ahead, grad_out, start, stop)


@body
def _pixels_before(g, plan, stretch):
    """Return the pixel of the output that a stretch begins with."""
    return stretch // plan.row_stretches * g.OW + stretch % plan.row_stretches * STRETCH


@body
def _values_before(g, plan, stretch):
    """Return where in x are the values that a stretch reads as the first one."""
    row, ow = stretch // plan.row_stretches, stretch % plan.row_stretches * STRETCH
    h = row % g.OH * g.stride_h - g.top + max((g.KH - 1) * g.dilation_h + 1 - g.stride_h, 0)
    return ((row // g.OH * g.H + min(max(h, 0), g.H)) * g.W + ow * g.stride_w) * g.C


@body
def _place_stretches(g, window, plan, first, count, scratch):
    """List where stretches begin, and their pixels; return which rows of the window they see."""
    n = first // (g.OH * plan.row_stretches)
    oh, stretch = first // plan.row_stretches % g.OH, first % plan.row_stretches
    top_row = row = n * window.height + oh * g.stride_h
    start = 0
    for i in range(count):
        row = n * window.height + oh * g.stride_h
        ow = stretch * STRETCH
        scratch.seen[i] = ((row - top_row) * window.width + ow * g.stride_w) * window.pixel
        scratch.counts[i] = min(STRETCH, g.OW - ow)
        scratch.starts[i] = start
        start += scratch.counts[i] * plan.patch * lanes_of(scratch.values)
        stretch += 1
        if stretch == plan.row_stretches:
            stretch, oh = 0, oh + 1
            if oh == g.OH:
                oh, n = 0, n + 1
    return top_row, row - top_row + (g.KH - 1) * g.dilation_h + 1


@body
def _split_panels(grad_out, at, g, pixels, panels, panel, cotangents):
    """Copy cotangents from ``at`` on, panel by panel, and fill up the last with zeros."""
    width = lanes_of(cotangents)
    one = tile_zeros(1, 1, cotangents)
    whole = min(g.filters // panel, panels[1]) - panels[0]  # panels
    rest = g.filters - (panels[0] + whole) * panel
    for p in range(pixels):
        to = p * panel
        for k in range(0, whole * panel, panel):
            for i in range(0, panel, width):
                tile_store(tile_load(one, grad_out, at + k + i, 0), cotangents, to + i, 0)
            to += pixels * panel
        if whole < panels[1] - panels[0]:
            for i in range(0, panel, width):
                held = tile_load_columns(one, grad_out, at + whole * panel + i, 0, rest - i)
                tile_store(held, cotangents, to + i, 0)
        at += g.F


@body
def _tile_width(vectors):
    """Return how many of so many vectors the next tile takes: two and two, not three and one."""
    return 3 if vectors == 3 or vectors > 4 else min(vectors, 2)


@body
def _add_block(
    values, starts, pixel, down, right, cotangents, step, vector, counts, plan, block, panels,
    fresh, sums, ahead,
):  # fmt: skip
    """Run through the filters and the vectors under the taps, in tiles."""
    size = plan.filters * lanes_of(sums)  # of the sums of one vector
    for index in range(panels[0], panels[1]):
        filters = index * plan.panel, min((index + 1) * plan.panel, plan.filters)
        here = cotangents[(index - panels[0]) * vector :]
        at = block * plan.tap_rows * plan.row_vectors * size
        for row in range(plan.tap_rows):
            v = 0
            while v < plan.row_vectors:
                there = values[row * down + v * right :]
                wide = _tile_width(plan.row_vectors - v)
                if wide == 3:
                    _add_panel(
                        tile_zeros(TALL, 3, sums), 3 * lanes_of(sums), there, starts, pixel, right,
                        here, step, counts, filters, fresh, sums, at, ahead,
                    )  # fmt: skip
                elif wide == 2:
                    _add_panel(
                        tile_zeros(TALL, 2, sums), 2 * lanes_of(sums), there, starts, pixel, right,
                        here, step, counts, filters, fresh, sums, at, ahead,
                    )  # fmt: skip
                else:
                    _add_panel(
                        tile_zeros(TALL, 1, sums), lanes_of(sums), there, starts, pixel, right,
                        here, step, counts, filters, fresh, sums, at, ahead,
                    )  # fmt: skip
                v += wide
                at += wide * size


@body
def _add_panel(
    zeros, row, values, starts, pixel, right, cotangents, step, counts, filters, fresh, sums, at,
    ahead,
):  # fmt: skip
    """Add to the sums of a panel of filters, for one to three vectors: a few tiles."""
    pixels = counts.sum()
    for f in range(filters[0], filters[1], TALL):
        tile = zeros if fresh else tile_load(zeros, sums, at + f * row, row)
        k = f - filters[0]
        line, line_step = next_lines(ahead, pixels)
        for i in range(counts.size):
            v = starts[i]
            for _ in range(counts[i]):
                ask(line)
                line += line_step
                tile = tile_outer(tile, cotangents, k, NEIGHBOUR, values, v, right)
                v += pixel
                k += step
        tile_store(tile, sums, at + f * row, row)


@kernel
def _gather_loop(sums, g, plan, grad_weight):
    panels = chunks_of(plan.filters, plan.panel)
    for chunk in prange(g.groups * panels):
        block, panel = chunk // panels, chunk % panels
        _gather(sums, g, plan, (block, block + 1), (panel, panel + 1), grad_weight)


@body
def _gather(sums, g, plan, blocks, panels, grad_weight):
    """Add up the slots of some blocks and filters in their order, and put channels first."""
    patch = np.empty(plan.tap_rows * plan.row_vectors * lanes_of(sums), sums.dtype)
    turned = np.empty(g.taps, sums.dtype)
    down = g.KW * g.channels if plan.tap_rows == 1 else plan.row_vectors * lanes_of(sums)
    for block in range(blocks[0], blocks[1]):
        group, c = block // plan.group_blocks, block % plan.group_blocks * g.channels
        for f in range(panels[0] * plan.panel, min(panels[1] * plan.panel, g.filters)):
            _sum_slots(sums, plan, block, f, patch)
            to = (group * g.filters + f) * plan.group_blocks * g.channels + c
            to *= g.KH * g.KW
            for kh in range(g.KH):
                for kw in range(g.KW):
                    at, tap = kh * down + kw * g.channels, kh * g.KW + kw
                    for channel in range(g.channels):
                        turned[channel * g.KH * g.KW + tap] = patch[at + channel]
            # In whole vectors: far more lines are on their way to memory than value by value.
            copy_run(grad_weight, to, turned, 0, g.taps)


@body
def _sum_slots(sums, plan, block, f, patch):
    """Add up the slots for one filter and block."""
    width = lanes_of(sums)
    vectors = plan.tap_rows * plan.row_vectors
    at, v = block * vectors * plan.filters * width, 0
    while v < vectors:
        wide = _tile_width(plan.row_vectors - v % plan.row_vectors)
        for i in range(wide):
            there = at + (f * wide + i) * width
            total = tile_load(tile_zeros(1, 1, sums), sums[0], there, 0)
            for slot in range(1, plan.slots):
                total = tile_add(total, tile_load(total, sums[slot], there, 0))
            tile_store(total, patch, (v + i) * width, 0)
        v += wide
        at += wide * plan.filters * width
