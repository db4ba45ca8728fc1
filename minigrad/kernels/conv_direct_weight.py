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
A filter of one tap takes several vectors to a block (without groups and padding, all of it is a
product of matrices: see ``conv_point_weight.py``, for few filters ``conv_weight_rows.py``, and
where grad_out stays in a cache ``conv_few.py``);
where pixels lie far apart, the vectors of a tile are *packed* before it needs them. Where channels
do not fill vectors, the last block hangs over them, or the values under all taps are copied side by
side into a *patch* for each pixel::

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

from minigrad.kernels import (
    _pool,
    conv_few,
    conv_lanes_weight,
    conv_point_weight,
    conv_scale,
    conv_weight_rows,
)
from minigrad.kernels._ahead import AHEAD, next_lines, plan_ahead, prefetch
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import Shape, flat_channels_last, remembered
from minigrad.kernels._numbers import plain
from minigrad.kernels._runs import aligned_empty
from minigrad.kernels._simd import lanes_of, tile_load, tile_outer, tile_store, tile_zeros
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
from minigrad.kernels.conv_weight_plan import TALL, WIDE, Plan, form_of
from minigrad.kernels.conv_window import Window, fill_windows, most_rows
from minigrad.kernels.gemm import NEIGHBOUR

# How far the estimate for x and its cotangent exchanged must be below that for them as they are:
# both are rough.
SURE = 1.25

# Fewer pixels are cut into parts of the channels, which lie far apart in memory.
MANY_PIXELS = 2048


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
    if conv_few.serves(g, x.dtype) and not _pays_turned(g, x.dtype):
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
    if taps.square == 1 and _pays_turned(g, x.dtype):
        turned = _pool.empty((g.C, g.F), x.dtype)
        conv_weight_rows.sum_rows(x, grad_out, _turned(g), taps, turned)
        grad_weight[:, :, 0, 0] = turned.T
        return
    if taps.square == 1 and conv_point_weight.serves(g, x.dtype):
        conv_point_weight.write_grad_weight(grad_out, x, g, grad_weight)
        return
    if conv_lanes_weight.serves(g, x.dtype):
        conv_lanes_weight.write_grad_weight(grad_out, x, g, taps, grad_weight)
        return
    form = form_of(g, taps.square == g.KH * g.KW, x.dtype)
    if form is None:
        conv_weight_rows.sum_rows(grad_out, x, g, taps, grad_weight)
        return
    groups = g.groups
    g, window, plan = form
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


def _turned(g: Geometry) -> Geometry:
    """Return the convolution whose x is the other's cotangent, and whose cotangent is its x.

    Where each output sees one pixel, that has the same gradient of the weight, transposed.
    """
    return g._replace(C=g.F, F=g.C, channels=g.F, filters=g.C, depth=g.F)


@remembered
def _pays_turned(g: Geometry, dtype: np.dtype) -> bool:
    """Tell whether few filters are summed faster as few channels are, which packs nothing."""
    if g.groups > 1 or not is_pointwise(g) or g.pixels < MANY_PIXELS:
        return False
    pixel = min(conv_weight_rows.cost(g, dtype), conv_point_weight.cost(g, dtype))
    return SURE * conv_weight_rows.total_cost(_turned(g), dtype) < g.pixels * pixel


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
        fill_windows(x, g, window, plan.group_blocks, blocks, top_row, rows, scratch.values)
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
