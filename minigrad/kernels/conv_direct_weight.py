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
A filter of one tap takes several vectors to a block; where pixels lie far apart, the vectors of a
tile are *packed* before it needs them. Where channels do not fill vectors, the values under all
taps are copied side by side into a *patch* for each pixel::

    3 channels, 3 x 3 taps:    |a a a b b b c c c d d d e e e f|f f g g g h h h i i i - - - - -|

The order of loops, from the outside:

    chunks    slots of output pixels x parts of the blocks x parts of the filters, for threads
    bands     of pixels
    blocks    of channels: fill their patches
    vectors   up to three at a time: what they see in a band stays in the first cache
    filters   eight at a time: one tile; their cotangents come from the second cache
    pixels    of the band: one column of cotangents times one row of values

Each slot has its own sum, for threads must not share one; these are added in the order of slots, so
the result has the same bits on any number of threads. A large weight has few slots or one, for
adding them takes long, and many parts.
"""

from typing import NamedTuple

import numpy as np

from minigrad.kernels import _pool, conv_few, conv_lanes_weight, conv_scale, conv_weight_rows
from minigrad.kernels._ahead import AHEAD, next_lines, plan_ahead, prefetch
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import Shape, flat_channels_last, remembered
from minigrad.kernels._numbers import plain
from minigrad.kernels._runs import aligned_empty
from minigrad.kernels._simd import (
    ROWS,
    lanes,
    lanes_of,
    tile_load,
    tile_outer,
    tile_store,
    tile_zeros,
)
from minigrad.kernels.conv_geometry import (
    Geometry,
    Pair,
    Sides,
    as_row,
    geometry,
    is_column,
    is_pointwise,
    seeing,
)
from minigrad.kernels.conv_patch import LINE, copy_cotangents, fill_patches, pack_vectors, panel_of
from minigrad.kernels.conv_slots import Taps, gather, gather_loop
from minigrad.kernels.conv_window import Window, fill_windows, most_rows, window_of
from minigrad.kernels.gemm import NEIGHBOUR, whole_vectors

# Filters and vectors of a tile: they nearly fill the registers, and most layers divide by them.
TALL, WIDE = (8, 3) if ROWS >= 8 else (4, 3)

# What a tile reads of a band should fit in the first cache, and stays while the filters pass.
BAND_BYTES = 32 * 1024

# A longer row is cut into stretches of about so many pixels. Fewer do not pay for loading and
# storing the tile.
STRETCH = 128

# Pixels that lie farther apart than this share few sets of the first cache.
FAR_BYTES = 256

# Pixels a multiple of this apart share one set of the first cache, and each has a page of its own.
PAGE_BYTES = 4096

# Vectors that a block has at most under a filter of one tap; under more, it has one a tap.
BLOCK = 9

# To copy a vector to a patch takes as long as to multiply it with so many filters.
COPY_COST = 9

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


class Scratch(NamedTuple):
    """Memory of a chunk, for one band at a time; x or grad_out itself where nothing is copied."""

    values: np.ndarray  # windows, one a block
    patches: np.ndarray
    packed: np.ndarray
    cotangents: np.ndarray
    counts: np.ndarray  # pixels of each stretch
    seen: np.ndarray  # where in the window a stretch begins
    starts: np.ndarray  # where in the patches
    none: np.ndarray  # where all pixels begin as one stretch
    whole: np.ndarray  # how many they are
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
    if conv_few.serves(g):
        return conv_few.grad_weight(g, grad_out, x, weight_shape)
    g, rows, columns = seeing(g)
    if g.pixels * g.depth * g.F == 0:
        return np.zeros(weight_shape, x.dtype)
    KH, KW = weight_shape[2:]
    taps = Taps(KH * KW, rows.start * KW + columns.start, KW, 1)
    grad_weight = _pool.empty(weight_shape, x.dtype)
    if is_column(g):
        g, taps = as_row(g), taps._replace(right=KW)
    _write_grad_weight(grad_out, x, g, taps, grad_weight)
    return grad_weight


def _write_grad_weight(
    grad_out: np.ndarray, x: np.ndarray, g: Geometry, taps: Taps, grad_weight: np.ndarray
) -> None:
    """Choose the loop, and write the gradient."""
    if conv_scale.serves(g):
        conv_scale.write_grad_weight(grad_out, x, g, taps, grad_weight)
        return
    if conv_lanes_weight.serves(g, x.dtype):
        conv_lanes_weight.write_grad_weight(grad_out, x, g, taps, grad_weight)
        return
    if _should_sum_rows(g, x.dtype):
        conv_weight_rows.sum_rows(grad_out, x, g, taps, grad_weight)
        return
    groups, whole = g.groups, taps.square == g.KH * g.KW
    g = _in_blocks(g, x.dtype)
    # Runs that are no whole vectors are read beyond their end, which only a copy allows.
    window = window_of(g, copied=g.channels % lanes(x.dtype) != 0)
    plan = _plan(g, window, groups, whole, x.dtype)
    sums = grad_weight.reshape(1, -1)
    if not plan.in_place:
        sums = _pool.empty((plan.slots, groups * plan.filters * plan.row), x.dtype)
    _grad_weight_loop.launch(
        g.pixels * g.depth * g.groups * g.filters,
        flat_channels_last(grad_out),
        flat_channels_last(x),
        *plain(g, window, plan, taps),
        sums,
        grad_weight.reshape(-1),
    )
    if plan.slots > 1:
        gather_loop.launch(sums.size, sums, g, plan, taps, grad_weight.reshape(-1))


@remembered
def _should_sum_rows(g: Geometry, dtype: np.dtype) -> bool:
    """Tell whether tiles of values by vectors of filters take less than patches."""
    if g.channels % lanes(dtype) == 0:
        return False
    patch = whole_vectors(g.depth, dtype)
    runs, run = (1, g.KW * g.channels) if g.dilation_w == 1 else (g.KW, g.channels)
    copies = g.KH * runs * (whole_vectors(run, dtype) + 1)
    cost = patch * chunks_of(g.filters, TALL) * TALL + COPY_COST * copies
    return conv_weight_rows.cost(g, dtype) < cost


@remembered
def _in_blocks(g: Geometry, dtype: np.dtype) -> Geometry:
    """Return the convolution with blocks of channels in place of groups.

    All blocks of a group have the same filters.
    """
    vectors, rest = divmod(g.channels, lanes(dtype))
    if is_pointwise(g):
        if not rest:  # all pixels are one row
            g = g._replace(N=1, H=1, W=g.pixels, OH=1, OW=g.pixels)
        elif g.H * g.W <= STRETCH:  # whole rows are copied for each band
            g = g._replace(H=1, W=g.H * g.W, OH=1, OW=g.H * g.W)
    if rest:
        return g
    most = BLOCK if g.KH == g.KW == 1 else 1
    channels = lanes(dtype) * max(n for n in range(1, most + 1) if vectors % n == 0)
    return g._replace(groups=g.C // channels, channels=channels, depth=g.KH * g.KW * channels)


@remembered
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


@kernel
def _grad_weight_loop(grad_out, x, g, window, plan, taps, sums, grad_weight):
    g, window, plan = Geometry(*g), Window(*window), Plan(*plan)
    taps = Taps(*taps)
    parts = plan.block_parts * plan.filter_parts
    for chunk in prange(plan.slots * parts):
        slot, part = chunk // parts, chunk % parts
        stretches = chunk_bounds(slot, plan.slots, plan.stretches)
        blocks = chunk_bounds(part // plan.filter_parts, plan.block_parts, g.groups)
        lines = chunk_bounds(
            part % plan.filter_parts, plan.filter_parts, chunks_of(plan.filters, LINE)
        )
        filters = lines[0] * LINE, min(lines[1] * LINE, plan.filters)
        _add_chunk(grad_out, x, g, window, plan, stretches, blocks, filters, sums[slot])
        # One slot is still in the cache.
        if plan.slots == 1 and (not plan.in_place or g.KH * g.KW > 1):
            gather(sums, g, plan, taps, blocks, filters, grad_weight)


@body
def _add_chunk(grad_out, x, g, window, plan, stretches, blocks, filters, sums):
    """Sum over the stretches of a slot, for a part of the blocks and filters, in bands."""
    bands = chunks_of(stretches[1] - stretches[0], plan.band)
    band = chunks_of(stretches[1] - stretches[0], bands)
    pixels, width = band * plan.stretch, lanes_of(x)
    values, patches, packed, cotangents = x, x, x, grad_out
    if window.copied:
        rows = most_rows(g, window, chunks_of(band - 1, plan.row_stretches) + 1)
        size = (blocks[1] - blocks[0]) * rows * window.width * window.pixel
        values = aligned_empty(size + width, x)
    if plan.patched:
        patches = aligned_empty(pixels * plan.patch * width, x)
    if plan.packed:
        packed = aligned_empty(pixels * WIDE * width, x)
    if plan.copied:
        panels = chunks_of(filters[1] - filters[0], LINE)
        cotangents = aligned_empty(panels * panel_of(pixels), x)
    places = np.empty((3, band), np.intp)
    scratch = Scratch(
        values, patches, packed, cotangents, places[0], places[1], places[2],
        np.zeros(1, np.intp), np.zeros(1, np.intp), np.zeros(AHEAD, np.intp),
    )  # fmt: skip
    for i in range(bands):
        first, last = chunk_bounds(i, bands, stretches[1] - stretches[0])
        _add_band(
            grad_out, x, g, window, plan, stretches[0] + first, last - first, blocks, filters,
            i == 0, scratch, sums,
        )  # fmt: skip


@body
def _add_band(grad_out, x, g, window, plan, first, count, blocks, filters, fresh, scratch, sums):
    """Add what so many stretches contribute to a part of the sums, or make it if it is fresh."""
    top_row, rows = _place_stretches(g, window, plan, first, count, scratch)
    first_pixel = _pixels_before(g, plan, first)
    counts = scratch.counts[:count]
    pixels = counts.sum()
    scratch.whole[0] = pixels
    size = rows * window.width * window.pixel
    if window.copied:
        fill_windows(x, g, window, blocks, top_row, rows, scratch.values)
    _plan_ahead(grad_out, x, g, plan, first + count, count, blocks, filters, scratch.ahead)
    held = -1  # the group whose cotangents are copied
    for block in range(blocks[0], blocks[1]):
        group = block // plan.group_blocks
        k, step, panel = first_pixel * g.F + group * g.filters + filters[0], g.F, LINE
        if plan.copied:
            if group != held:
                copy_cotangents(grad_out, k, g, pixels, filters, scratch.cotangents)
                held = group
            k, step, panel = 0, LINE, panel_of(pixels)
        there = top_row * window.width * window.pixel + block * g.channels
        if window.copied:
            there = (block - blocks[0]) * size
        values, starts, pixel = scratch.values, scratch.seen, g.stride_w * window.pixel
        down, right = window.down, lanes_of(x) if window.runs == 1 else window.right
        if g.KW == 1 and g.KH > 1:  # one tap below the other: a row of them
            right = window.down
        if plan.patched:
            fill_patches(values[there:], g, window, plan, count, scratch)
            values, there, starts = scratch.patches, 0, scratch.starts
            pixel, right = plan.patch * lanes_of(x), lanes_of(x)
        _add_block(
            values, there, starts, counts, pixel, down, right, (k, step, panel), plan, block,
            filters, fresh, scratch, sums,
        )  # fmt: skip


@body
def _plan_ahead(grad_out, x, g, plan, first, count, blocks, filters, ahead):
    """Ask for what the next stretches read, where it is most of what lies there."""
    last = min(first + count, plan.stretches)
    start, stop = _values_before(g, plan, first), _values_before(g, plan, last)
    if g.stride_h > g.KH or 2 * (blocks[1] - blocks[0]) < g.groups:
        stop = start
    plan_ahead(ahead, x, start, stop)
    start, stop = _pixels_before(g, plan, first) * g.F, _pixels_before(g, plan, last) * g.F
    if 2 * (filters[1] - filters[0]) < g.F:
        stop = start
    plan_ahead(ahead, grad_out, start, stop)


@body
def _pixels_before(g, plan, stretch):
    """Return the pixel of the output that a stretch begins with."""
    return stretch // plan.row_stretches * g.OW + stretch % plan.row_stretches * plan.stretch


@body
def _values_before(g, plan, stretch):
    """Return where in x are the values that a stretch reads as the first one."""
    row, ow = stretch // plan.row_stretches, stretch % plan.row_stretches * plan.stretch
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
        ow = stretch * plan.stretch
        scratch.seen[i] = ((row - top_row) * window.width + ow * g.stride_w) * window.pixel
        scratch.counts[i] = min(plan.stretch, g.OW - ow)
        scratch.starts[i] = start
        start += scratch.counts[i] * plan.patch * lanes_of(scratch.values)
        stretch += 1
        if stretch == plan.row_stretches:
            stretch, oh = 0, oh + 1
            if oh == g.OH:
                oh, n = 0, n + 1
    return top_row, row - top_row + (g.KH - 1) * g.dilation_h + 1


@body
def _tile_width(vectors):
    """Return how many of so many vectors the next tile takes: two and two, not three and one."""
    return 3 if vectors == 3 or vectors > 4 else min(vectors, 2)


@body
def _add_block(
    values, there, starts, counts, pixel, down, right, lines, plan, block, filters, fresh, scratch,
    sums,
):  # fmt: skip
    """Run through the vectors under the taps."""
    width = lanes_of(sums)
    at = block // plan.group_blocks * plan.filters * plan.row
    at += block % plan.group_blocks * plan.tap_rows * plan.row_vectors * width
    read, read_starts, read_counts = values, starts, counts
    if plan.packed:
        read, read_starts, read_counts = scratch.packed, scratch.none, scratch.whole
    for tap_row in range(plan.tap_rows):
        v = 0
        while v < plan.row_vectors:
            wide = _tile_width(plan.row_vectors - v)
            first, pixel_step, vector_step = there + tap_row * down + v * right, pixel, right
            if plan.packed:
                pack_vectors(values, first, starts, counts, pixel, right, wide, read)
                first, pixel_step, vector_step = 0, wide * width, width
            _add_vectors(
                wide, read, first, read_starts, read_counts, pixel_step, vector_step, lines, plan,
                filters, fresh, scratch, sums, at,
            )  # fmt: skip
            v += wide
            at += wide * width


@body
def _add_vectors(
    wide, values, there, starts, counts, pixel, right, lines, plan, filters, fresh, scratch,
    sums, at,
):  # fmt: skip
    """Add to the sums of all filters, for one to three vectors."""
    cotangents, pixels, row, ahead = scratch.cotangents, scratch.whole[0], plan.row, scratch.ahead
    if wide == 3:
        _add_tiles(
            tile_zeros(TALL, 3, sums), values, there, starts, counts, pixel, right, cotangents,
            lines, pixels, filters, fresh, sums, at, row, ahead,
        )  # fmt: skip
    elif wide == 2:
        _add_tiles(
            tile_zeros(TALL, 2, sums), values, there, starts, counts, pixel, right, cotangents,
            lines, pixels, filters, fresh, sums, at, row, ahead,
        )  # fmt: skip
    else:
        _add_tiles(
            tile_zeros(TALL, 1, sums), values, there, starts, counts, pixel, right, cotangents,
            lines, pixels, filters, fresh, sums, at, row, ahead,
        )  # fmt: skip


@body
def _add_tiles(
    zeros, values, there, starts, counts, pixel, right, cotangents, lines, pixels,
    filters, fresh, sums, at, row, ahead,
):  # fmt: skip
    """Add to the sums of all filters, eight at a time, for the vectors of a tile."""
    first_line, step, panel = lines
    for f in range(filters[0], filters[1], TALL):
        tile = zeros if fresh else tile_load(zeros, sums, at + f * row, row)
        line, line_step = next_lines(ahead, pixels)
        here = first_line + (f - filters[0]) // LINE * panel + f % LINE
        for i in range(counts.size):
            v = there + starts[i]
            for _ in range(counts[i]):
                prefetch(line)
                line += line_step
                tile = tile_outer(tile, cotangents, here, NEIGHBOUR, values, v, right)
                v += pixel
                here += step
        tile_store(tile, sums, at + f * row, row)
