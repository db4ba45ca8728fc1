"""Gradient of the weight as a product of matrices, from panels packed side by side.

The gradient is a product over pixels, both of whose factors lie across the way that tiles read
them. The columns of the second are what the taps see of the channels::

    grad_weight (F, KH * KW * C) = grad_out.T (F, pixels) @ seen (pixels, KH * KW * C)

Both are packed, a *band* of pixels at a time: cotangents in panels of a few filters, which serve
all taps, and what is seen in *strips* of up to three vectors, with zeros where taps see padding. A
tile of sums then reads its panel and its strip from one end to the other::

                         strip: three vectors
    panel:               v0 v1 v2
    eight filters    a   .  .  .
                     b   .  .  .     summed over the pixels of the band
                     c   .  .  .

The vectors of a strip lie evenly spaced in x: one vector of channels under neighbouring taps of a
row, or where that leaves fewer strips, neighbouring vectors under one tap.

The order of loops, from the outside:

    chunks    slots of pixels x parts of the filters x parts of the columns, for threads
    bands     of pixels: pack all panels of the part, in the second cache
    columns   of channels, one vector or up to three
    strips    under each row of taps: packed, they stay in the first cache
    tiles     eight filters at a time: panels come from the second cache
    pixels    of the band

While tiles are summed, lines of the next band are prefetched, and after the last those that will be
written. The tiles of sums lie one after another, not as in the weight: the rows of a tile would
have a page of memory each. At the end all slots are added, and taps become the innermost.
"""

from typing import NamedTuple

import numpy as np

from minigrad.kernels import _pool, conv_weight_rows
from minigrad.kernels._ahead import (
    AHEAD,
    LINE_BYTES,
    next_lines,
    plan_ahead,
    plan_columns,
    prefetch_lines,
)
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import NO_VALUES, flat_channels_last, remembered
from minigrad.kernels._numbers import plain
from minigrad.kernels._runs import aligned_empty, copy_run, zero_run
from minigrad.kernels._simd import (
    lanes,
    lanes_of,
    tile_load,
    tile_load_columns,
    tile_outer,
    tile_store,
    tile_store_part,
    tile_zeros,
)
from minigrad.kernels.conv_geometry import Geometry, is_pointwise
from minigrad.kernels.conv_patch import LINE, panel_of
from minigrad.kernels.conv_slots import Taps, summed
from minigrad.kernels.conv_weight_plan import CHUNKS, TALL, WIDE, form_cost, form_of
from minigrad.kernels.gemm import NEIGHBOUR, whole_vectors

# Pixels of a band: a strip of so many fills half of the first cache, and a tile of sums is loaded
# and stored in a small part of the time.
BAND = 144

# A chunk has at least so many products of two values: each packs its panels and strips for itself.
CHUNK_WORK = 256 * 1024
# To pack a vector takes as long as so many products; to add up one of a slot, from memory.
PACKING, ADDING = 7, 40
# What the sums of several slots may take of memory.
SUMS_BYTES = 4 * 1024 * 1024

# Pixels that a tile takes in one turn of its loop. Once a turn it prefetches.
TURN = 4


class Plan(NamedTuple):
    """How the work is cut."""

    slots: int  # of pixels
    filter_parts: int
    column_parts: int
    lines: int  # of filters: LINE each
    vectors: int  # of channels
    columns: int  # of channels: some vectors each
    taps: int
    row_strips: int  # in a column, under a row of taps
    bands: int  # in a slot
    asked: int  # lines that are prefetched once a turn


class Strip(NamedTuple):
    """Vectors that a tile takes: under some taps of a row, or neighbours under one."""

    start: int  # of all vectors, the first
    wide: int  # how many they are
    down: int  # where the first tap stands for the first output, from the first pixel
    right: int
    channel: int
    tap_step: int  # from a vector to the next: pixels to the right
    step: int  # and values


@remembered
def serves(g: Geometry, whole: bool, dtype: np.dtype) -> bool:
    """Tell whether packing panels pays; ``whole`` tells whether the weight has no other taps."""
    if g.groups > 1:
        return False
    if g.KH == g.KW == 1 and g.C % lanes(dtype) == 0:
        return True
    form = form_of(g, whole, dtype)
    if form is None:
        other, slots = conv_weight_rows.cost(g, dtype), conv_weight_rows.chunks(g, dtype)[0]
    else:
        other, slots = form_cost(*form, dtype), form[-1].slots
    # Windows take longer than is counted by an eighth: what a tile reads lies apart in them.
    other = 9 * (g.pixels * other + _gathered(g, slots, dtype))
    return 8 * _cost(g, _cut(g, dtype), dtype) <= other


def write_grad_weight(
    grad_out: np.ndarray, x: np.ndarray, g: Geometry, taps: Taps, grad_weight: np.ndarray
) -> None:
    """Write the gradient with respect to a weight."""
    if is_pointwise(g):  # all pixels are one row
        g = g._replace(N=1, H=1, W=g.pixels, OH=1, OW=g.pixels)
    plan = _plan(g, x.dtype)
    size = plan.lines * LINE * plan.vectors * plan.taps * lanes(x.dtype)
    sums = NO_VALUES[x.dtype].reshape(1, -1)
    if plan.slots > 1 or plan.bands > 1 or taps.square > 1:
        sums = _pool.empty((plan.slots, size), x.dtype)
    _grad_weight_loop.launch(
        g.pixels * g.depth * g.F,
        flat_channels_last(grad_out),
        flat_channels_last(x),
        *plain(g, plan, taps),
        sums,
        grad_weight.reshape(-1),
    )
    if plan.slots > 1:
        _gather_loop.launch(sums.size, sums, *plain(g, plan, taps), grad_weight.reshape(-1))


@remembered
def _plan(g: Geometry, dtype: np.dtype) -> Plan:
    """Cut the work by its shape alone."""
    lines, vectors = chunks_of(g.F, LINE), whole_vectors(g.C, dtype)
    columns, row_strips = _columns(g, dtype)
    slots, filter_parts, column_parts = _cut(g, dtype)
    bands = chunks_of(g.pixels // slots, BAND)
    tiles = chunks_of(lines, filter_parts) * (LINE // TALL)
    tiles *= chunks_of(columns, column_parts) * g.KH * row_strips
    moved = g.F // filter_parts * g.pixels
    if _sees_most(g):
        moved += g.C // column_parts * g.N * g.H * g.W
    asked = chunks_of(TURN * (moved * dtype.itemsize // (LINE_BYTES * g.pixels)), tiles)
    return Plan(
        slots, filter_parts, column_parts, lines, vectors, columns, g.KH * g.KW, row_strips, bands,
        asked,
    )  # fmt: skip


def _columns(g: Geometry, dtype: np.dtype) -> tuple[int, int]:
    """Return into how many columns channels are cut, and into how many strips a row of taps."""
    vectors = whole_vectors(g.C, dtype)
    cuts = (vectors, chunks_of(g.KW, WIDE)), (chunks_of(vectors, WIDE), g.KW)
    return min(cuts, key=lambda cut: cut[0] * cut[1])


def _cut(g: Geometry, dtype: np.dtype) -> tuple[int, int, int]:
    """Choose into how many slots, parts of the filters and parts of the columns work is cut."""
    lines, columns = chunks_of(g.F, LINE), _columns(g, dtype)[0]
    chunks = min(CHUNKS, max(g.pixels * g.depth * g.F // CHUNK_WORK, 1))
    cuts = []
    for slots in _powers(min(chunks, g.pixels, SUMS_BYTES // (g.depth * g.F * dtype.itemsize))):
        parts = chunks_of(chunks, slots)
        for column_parts in _powers(min(parts, columns)):
            cuts.append((slots, min(chunks_of(parts, column_parts), lines), column_parts))
    return min(cuts, key=lambda cut: _cost(g, cut, dtype))


def _powers(most: int) -> list[int]:
    """List the powers of two up to a number, or one: they divide among the threads."""
    return [1 << i for i in range(max(most, 1).bit_length())]


def _cost(g: Geometry, cut: tuple[int, int, int], dtype: np.dtype) -> int:
    """Estimate how long all takes, counted in products of a value and a vector."""
    slots, filter_parts, column_parts = cut
    vectors, filters = g.KH * g.KW * whole_vectors(g.C, dtype), chunks_of(g.F, LINE) * LINE
    packed = vectors * filter_parts + filters // lanes(dtype) * column_parts
    work = g.pixels * (vectors * filters + PACKING * packed)
    work = conv_weight_rows.shared(work, slots * filter_parts * column_parts)
    return work + _gathered(g, slots, dtype)


def _gathered(g: Geometry, slots: int, dtype: np.dtype) -> int:
    """Estimate how long it takes to add up the slots; a single one is still in the cache."""
    return ADDING * (slots if slots > 1 else 0) * whole_vectors(g.depth, dtype) * g.F


@kernel
def _grad_weight_loop(grad_out, x, g, plan, taps, sums, grad_weight):
    g, plan, taps = Geometry(*g), Plan(*plan), Taps(*taps)
    parts = plan.filter_parts * plan.column_parts
    for chunk in prange(plan.slots * parts):
        slot, part = chunk // parts, chunk % parts
        pixels = chunk_bounds(slot, plan.slots, g.pixels)
        lines = chunk_bounds(part // plan.column_parts, plan.filter_parts, plan.lines)
        columns = chunk_bounds(part % plan.column_parts, plan.column_parts, plan.columns)
        _add_chunk(grad_out, x, g, plan, taps, pixels, lines, columns, sums[slot], grad_weight)
        if plan.slots == 1 and taps.square > 1:  # these sums are still in the cache
            _gather(sums, g, plan, taps, lines, columns, grad_weight)


@body
def _add_chunk(grad_out, x, g, plan, taps, pixels, lines, columns, sums, grad_weight):
    """Sum over the pixels of a slot, for parts of the filters and columns, in bands."""
    width, most = lanes_of(x), chunks_of(pixels[1] - pixels[0], plan.bands) + TURN
    values = aligned_empty(most * WIDE * width, x)
    cotangents = aligned_empty((lines[1] - lines[0]) * panel_of(most), x)
    ahead = np.zeros(AHEAD, np.intp)
    for i in range(plan.bands):
        start, stop = chunk_bounds(i, plan.bands, pixels[1] - pixels[0])
        band, last = (pixels[0] + start, pixels[0] + stop), i == plan.bands - 1
        _pack_cotangents(grad_out, g, band, lines, cotangents)
        _plan_ahead(grad_out, x, g, plan, taps, band, pixels[1], lines, columns, ahead, grad_weight)
        fresh, ends = i == 0, last and plan.slots == taps.square == 1
        for column in range(columns[0], columns[1]):
            for j in range(g.KH * plan.row_strips):
                _add_strip(
                    grad_out, x, g, plan, band, lines, _strip_of(g, plan, column, j, width),
                    values, cotangents, fresh, ends, ahead, sums, grad_weight,
                )  # fmt: skip


@body
def _add_strip(
    grad_out, x, g, plan, band, lines, strip, values, cotangents, fresh, ends, ahead, sums,
    grad_weight,
):  # fmt: skip
    """Add what a band contributes to a strip, or make it; the last sums go to the gradient."""
    _pack_values(x, g, band, strip, values)
    if strip.wide == 3:
        _add_tiles(
            tile_zeros(TALL, 3, x), 3, values, cotangents, g, plan, band, lines, strip,
            fresh, ends, ahead, sums, grad_weight,
        )  # fmt: skip
    elif strip.wide == 2:
        _add_tiles(
            tile_zeros(TALL, 2, x), 2, values, cotangents, g, plan, band, lines, strip,
            fresh, ends, ahead, sums, grad_weight,
        )  # fmt: skip
    else:
        _add_tiles(
            tile_zeros(TALL, 1, x), 1, values, cotangents, g, plan, band, lines, strip,
            fresh, ends, ahead, sums, grad_weight,
        )  # fmt: skip


@body
def _column_start(plan, column):
    """Return the vector of channels that a column begins with: they differ by one at most."""
    return column * plan.vectors // plan.columns


@body
def _strip_of(g, plan, column, i, width):
    """Describe a strip of a column."""
    vector, kh, j = _column_start(plan, column), i // plan.row_strips, i % plan.row_strips
    high = _column_start(plan, column + 1) - vector
    row = g.KW * high
    start, stop = j * row // plan.row_strips, (j + 1) * row // plan.row_strips
    tap_step = g.dilation_w if plan.columns == plan.vectors else 0
    step = tap_step * g.C if tap_step > 0 else width
    return Strip(
        vector * plan.taps + kh * row + start, stop - start, kh * g.dilation_h - g.top,
        start // high * g.dilation_w - g.left, vector * width, tap_step, step,
    )  # fmt: skip


@body
def _turns(band):
    """Return in how many turns a tile takes a band."""
    return chunks_of(band[1] - band[0], TURN)


@body
def _pack_cotangents(grad_out, g, band, lines, cotangents):
    """Copy some filters of a band to panels, and fill up the last turn and line with zeros."""
    width, panel = lanes_of(cotangents), panel_of(_turns(band) * TURN)
    count, one = band[1] - band[0], tile_zeros(1, 1, cotangents)
    whole = min(lines[1], g.F // LINE)
    for p in range(count):
        at, to = (band[0] + p) * g.F + lines[0] * LINE, p * LINE
        for _ in range(lines[0], whole):
            for f in range(0, LINE, width):
                tile_store(tile_load(one, grad_out, at + f, 0), cotangents, to + f, 0)
            at += LINE
            to += panel
        for _ in range(whole, lines[1]):
            for f in range(0, LINE, width):
                held = tile_load_columns(one, grad_out, at + f, 0, g.F % LINE - f)
                tile_store(held, cotangents, to + f, 0)
    for line in range(lines[1] - lines[0]):
        zero_run(cotangents, line * panel + count * LINE, (_turns(band) * TURN - count) * LINE)


@body
def _pack_values(x, g, band, strip, values):
    """Copy what a strip sees of a band, row by row, and fill up the last turn with zeros."""
    width, right = lanes_of(x), g.stride_w * g.C
    row, left, to = strip.wide * width, band[1] - band[0], 0
    # Outputs of a row all of whose taps see the image, from the first up to the last.
    low = chunks_of(max(-strip.right, 0), g.stride_w)
    high = chunks_of(max(g.W - strip.right - (strip.wide - 1) * strip.tap_step, 0), g.stride_w)
    # Whole vectors are read; what hangs over the channels is summed in vain. But x is not left.
    end = x.size - (strip.wide - 1) * strip.step - width
    n, oh, ow = band[0] // (g.OW * g.OH), band[0] // g.OW % g.OH, band[0] % g.OW
    while left > 0:
        count, h = min(left, g.OW - ow), oh * g.stride_h + strip.down
        at = ((n * g.H + h) * g.W + ow * g.stride_w + strip.right) * g.C + strip.channel
        first = last = count
        if 0 <= h < g.H:
            first = min(max(low - ow, 0), count)
            last = max(min(high - ow, count), first)
            while last > first and at + (last - 1) * right > end:
                last -= 1
        if last - first < count:
            _pack_edges(x, g, strip, h, ow, at, first, last, count, values, to)
        _copy_pixels(x, at + first * right, right, last - first, strip, values, to + first * row)
        to += count * row
        left -= count
        ow, oh = 0, oh + 1
        if oh == g.OH:
            oh, n = 0, n + 1
    zero_run(values, to, -(band[1] - band[0]) % TURN * row)


@body
def _copy_pixels(x, at, right, count, strip, values, to):
    """Copy the vectors of a strip in some outputs of a row."""
    width = lanes_of(x)
    one, two, three = tile_zeros(1, 1, x), tile_zeros(2, 1, x), tile_zeros(3, 1, x)
    if strip.wide == 3:
        for _ in range(count):
            tile_store(tile_load(three, x, at, strip.step), values, to, width)
            at += right
            to += 3 * width
    elif strip.wide == 2:
        for _ in range(count):
            tile_store(tile_load(two, x, at, strip.step), values, to, width)
            at += right
            to += 2 * width
    else:
        for _ in range(count):
            tile_store(tile_load(one, x, at, 0), values, to, 0)
            at += right
            to += width


@body
def _pack_edges(x, g, strip, h, ow, at, first, last, count, values, to):
    """Copy what a strip sees of the image in outputs but for some, vector by vector, and zeros."""
    width, one = lanes_of(x), tile_zeros(1, 1, x)
    for i in range(count - last + first):
        p = i if i < first else i + last - first
        w, left = (ow + p) * g.stride_w + strip.right, g.C - strip.channel
        for v in range(strip.wide):
            seen = left if 0 <= h < g.H and 0 <= w < g.W else 0
            held = tile_load_columns(one, x, at + p * g.stride_w * g.C + v * strip.step, 0, seen)
            tile_store(held, values, to + (p * strip.wide + v) * width, 0)
            w += strip.tap_step
            left -= (strip.tap_step == 0) * width


@body
def _plan_ahead(grad_out, x, g, plan, taps, band, stop, lines, columns, ahead, grad_weight):
    """Ask for what the next band reads, or after the last one for what will be written."""
    first, width = band[1], lanes_of(x)
    last = first + min(band[1] - band[0], stop - first)
    left, right = _column_start(plan, columns[0]) * width, _column_start(plan, columns[1]) * width
    if first < stop:
        _plan_part(ahead, grad_out, first, last, g.F, lines[0] * LINE, lines[1] * LINE)
        if _sees_most(g):
            first, last = _seen_before(g, first), _seen_before(g, last)
            _plan_part(ahead, x, first, last, g.C, left, right)
    elif plan.slots == 1 and taps.square > 1:
        first, last = lines[0] * LINE, min(lines[1] * LINE, g.F)
        square = taps.square
        _plan_part(ahead, grad_weight, first, last, g.C * square, left * square, right * square)


@body
def _sees_most(g):
    """Tell whether outputs see most of the pixels that lie between them."""
    return g.stride_h <= g.KH and g.stride_w <= g.KW


@body
def _seen_before(g, p):
    """Return how many pixels of x the outputs before one have seen."""
    row, ow = p // g.OW, p % g.OW
    h = row % g.OH * g.stride_h - g.top + max((g.KH - 1) * g.dilation_h + 1 - g.stride_h, 0)
    return (row // g.OH * g.H + min(max(h, 0), g.H)) * g.W + ow * g.stride_w


@body
def _plan_part(ahead, array, first, last, row, start, stop):
    """Ask for a part of some rows."""
    part = min(stop, row) - start
    if part == row:
        plan_ahead(ahead, array, first * row, last * row)
    else:
        plan_columns(ahead, array, first * row + start, row, part, last - first)


@body
def _add_tiles(
    zeros, wide, values, cotangents, g, plan, band, lines, strip, fresh, ends, ahead, sums,
    grad_weight,
):  # fmt: skip
    """Add what a band contributes to a strip, or make it; the last sums go to the gradient."""
    width, turns = lanes_of(sums), _turns(band)
    row, panel = wide * width, panel_of(turns * TURN)
    at = strip.start * plan.lines * LINE * width
    for f in range(lines[0] * LINE, lines[1] * LINE, TALL):
        tile = zeros if fresh else tile_load(zeros, sums, at + f * row, row)
        line, down = next_lines(ahead, turns * plan.asked)
        a, b = (f // LINE - lines[0]) * panel + f % LINE, 0
        for _ in range(turns):
            line = prefetch_lines(line, plan.asked, down)
            for _ in range(TURN):
                tile = tile_outer(tile, cotangents, a, NEIGHBOUR, values, b, width)
                a += LINE
                b += row
        if ends:
            to = f * g.C + strip.channel
            tile_store_part(tile, grad_weight, to, g.C, g.F - f, g.C - strip.channel)
        else:
            tile_store(tile, sums, at + f * row, row)


@kernel
def _gather_loop(sums, g, plan, taps, grad_weight):
    g, plan, taps = Geometry(*g), Plan(*plan), Taps(*taps)
    for line in prange(plan.lines):
        _gather(sums, g, plan, taps, (line, line + 1), (0, plan.columns), grad_weight)


@body
def _gather(sums, g, plan, taps, lines, columns, grad_weight):
    """Add up the slots of some filters and columns in their order, and put channels first."""
    width, square = lanes_of(sums), taps.square
    some = columns[1] - columns[0] if square == 1 else 1  # columns at a time
    turned = np.zeros((chunks_of(plan.vectors, plan.columns) * width, square), sums.dtype)
    for column in range(columns[0], columns[1], some):
        first, last = _column_start(plan, column), _column_start(plan, column + some)
        total = np.empty((LINE, plan.taps, (last - first) * width), sums.dtype)
        count = (min(last * width, g.C) - first * width) * square
        for line in range(lines[0], lines[1]):
            _sum_columns(sums, g, plan, line, column, some, total)
            for i in range(min(LINE, g.F - line * LINE)):
                # In whole vectors: far more lines are on their way than value by value.
                to = ((line * LINE + i) * g.C + first * width) * square
                if square == 1:
                    copy_run(grad_weight, to, total.reshape(-1), i * total.shape[2], count)
                else:
                    _turn(total[i], g, taps, turned)
                    copy_run(grad_weight, to, turned.reshape(-1), 0, count)


@body
def _turn(total, g, taps, turned):
    """Put channels first, with their taps side by side."""
    for tap in range(total.shape[0]):
        place = taps.first + tap // g.KW * taps.down + tap % g.KW * taps.right
        for channel in range(total.shape[1]):
            turned[channel, place] = total[tap, channel]


@body
def _sum_columns(sums, g, plan, line, column, some, total):
    """Add up the slots of some columns, for a line of filters."""
    width, totals, strips = lanes_of(sums), total.reshape(-1), g.KH * plan.row_strips
    row, before = total.shape[1] * total.shape[2], 0
    for j in range(some * strips):
        strip = _strip_of(g, plan, column + j // strips, j % strips, width)
        at = (strip.start * plan.lines + line * strip.wide) * LINE * width
        for i in range(LINE):
            for v in range(0, strip.wide * width, width):
                tile_store(summed(sums, at), totals, i * row + before + v, 0)
                at += width
        before += strip.wide * width
