"""Gradient of the weight of 1 x 1 filters: a product of matrices, from panels packed side by side.

Each output sees one pixel, so the gradient is a product over pixels, both of whose factors lie
across the way that tiles read them::

    grad_weight (F, C) = grad_out.T (F, pixels) @ x (pixels, C)

Both are packed, a *band* of pixels at a time: cotangents in panels of a few filters, values in
strips of up to three vectors of channels. A tile of sums then reads its panel and its strip from
one end to the other::

                         strip: three vectors of channels
    panel:               v0 v1 v2
    eight filters    a   .  .  .
                     b   .  .  .     summed over the pixels of the band
                     c   .  .  .

The order of loops, from the outside:

    chunks    slots of pixels x parts of the filters x parts of the strips, for threads
    bands     of pixels: pack all panels and strips of the parts, in the second cache
    strips    stay in the first cache
    tiles     eight filters at a time: panels come from the second cache
    pixels    of the band

While tiles are summed, lines of the next band are prefetched. The tiles of sums lie one after
another, not as in the weight: the rows of a tile would have a page of memory each.
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
from minigrad.kernels.conv_geometry import Geometry
from minigrad.kernels.conv_patch import LINE, copy_cost, panel_of
from minigrad.kernels.conv_slots import sum_slots
from minigrad.kernels.conv_weight_plan import CHUNKS, SLOT_BYTES, SLOT_PIXELS, TALL, WIDE
from minigrad.kernels.gemm import NEIGHBOUR, whole_vectors

# Pixels of a band: a strip of so many fills half of the first cache, and a tile of sums is loaded
# and stored in a small part of the time.
BAND = 144

# A chunk has at least so many products of two values: each packs its panels and strips for itself.
CHUNK_WORK = 256 * 1024

# Pixels that a tile takes in one turn of its loop. Once a turn it prefetches.
TURN = 4


class Plan(NamedTuple):
    """How the work is cut."""

    slots: int  # of pixels
    filter_parts: int
    strip_parts: int
    lines: int  # of filters: LINE each
    vectors: int  # of channels
    strips: int
    bands: int  # in a slot
    asked: int  # lines that are prefetched once a turn


@remembered
def serves(g: Geometry, dtype: np.dtype) -> bool:
    """Tell whether each output sees one pixel, and tiles of vectors of channels are the fastest.

    Where channels do not fill vectors, those of filters may take less, which pack nothing.
    """
    single = g.KH == g.KW == g.groups == 1 and g.top == g.left == 0
    inside = (g.OH - 1) * g.stride_h < g.H and (g.OW - 1) * g.stride_w < g.W
    if not single or not inside or g.C % lanes(dtype) == 0:
        return single and inside
    gathered = conv_weight_rows.ADDING * whole_vectors(g.F, dtype) * g.C // g.pixels
    return cost(g, dtype) <= conv_weight_rows.cost(g, dtype) + gathered


def cost(g: Geometry, dtype: np.dtype) -> int:
    """Estimate how long a pixel takes, counted in products of a value and a vector."""
    vectors, lines = whole_vectors(g.C, dtype), chunks_of(g.F, LINE)
    packed = vectors + lines * LINE // lanes(dtype)
    return vectors * chunks_of(g.F, TALL) * TALL + copy_cost(packed, 1)


def write_grad_weight(
    grad_out: np.ndarray, x: np.ndarray, g: Geometry, grad_weight: np.ndarray
) -> None:
    """Write the gradient with respect to a weight of one tap."""
    plan = _plan(g, x.dtype)
    size = plan.lines * LINE * plan.vectors * (LINE_BYTES // x.itemsize)
    sums = NO_VALUES[x.dtype].reshape(1, -1)
    if plan.slots > 1 or plan.bands > 1:
        sums = _pool.empty((plan.slots, size), x.dtype)
    _grad_weight_loop.launch(
        g.pixels * g.C * g.F,
        flat_channels_last(grad_out),
        flat_channels_last(x),
        *plain(g, plan),
        sums,
        grad_weight.reshape(-1),
    )
    if plan.slots > 1:
        _gather_loop.launch(sums.size, sums, *plain(g, plan), grad_weight.reshape(-1))


@remembered
def _plan(g: Geometry, dtype: np.dtype) -> Plan:
    """Cut the work by its shape alone."""
    lines, vectors = chunks_of(g.F, LINE), whole_vectors(g.C, dtype)
    strips = chunks_of(vectors, WIDE)
    size = g.F * g.C * dtype.itemsize
    slots = max(min(CHUNKS, SLOT_BYTES // size, g.pixels // SLOT_PIXELS), 1)
    slots = 1 << (slots.bit_length() - 1)  # a number that divides among the threads
    parts = min(chunks_of(CHUNKS, slots), max(g.pixels * g.C * g.F // CHUNK_WORK, 1))

    def packed(strip_parts: int) -> int:
        """Count the values that all chunks pack of a pixel."""
        return g.F * strip_parts + g.C * chunks_of(parts, strip_parts)

    strip_parts = min((1 << i for i in range(min(strips, parts).bit_length())), key=packed)
    filter_parts = min(chunks_of(parts, strip_parts), lines)
    bands = chunks_of(g.pixels // slots, BAND)
    tiles = chunks_of(lines, filter_parts) * (LINE // TALL) * chunks_of(strips, strip_parts)
    moved = (g.F // filter_parts + g.C // strip_parts) * dtype.itemsize // LINE_BYTES
    asked = chunks_of(TURN * moved, tiles)
    return Plan(slots, filter_parts, strip_parts, lines, vectors, strips, bands, asked)


@kernel
def _grad_weight_loop(grad_out, x, g, plan, sums, grad_weight):
    g, plan = Geometry(*g), Plan(*plan)
    parts = plan.filter_parts * plan.strip_parts
    for chunk in prange(plan.slots * parts):
        slot, part = chunk // parts, chunk % parts
        pixels = chunk_bounds(slot, plan.slots, g.pixels)
        lines = chunk_bounds(part // plan.strip_parts, plan.filter_parts, plan.lines)
        strips = chunk_bounds(part % plan.strip_parts, plan.strip_parts, plan.strips)
        _add_chunk(grad_out, x, g, plan, pixels, lines, strips, sums[slot], grad_weight)


@body
def _add_chunk(grad_out, x, g, plan, pixels, lines, strips, sums, grad_weight):
    """Sum over the pixels of a slot, for parts of the filters and strips, in bands."""
    width, most = lanes_of(x), chunks_of(pixels[1] - pixels[0], plan.bands) + TURN
    values = aligned_empty(most * WIDE * width, x)
    cotangents = aligned_empty((lines[1] - lines[0]) * panel_of(most), x)
    ahead = np.zeros(AHEAD, np.intp)
    for i in range(plan.bands):
        start, stop = chunk_bounds(i, plan.bands, pixels[1] - pixels[0])
        band = pixels[0] + start, pixels[0] + stop
        _pack_cotangents(grad_out, g, band, lines, cotangents)
        _plan_ahead(grad_out, x, g, plan, band, pixels[1], lines, strips, ahead)
        fresh, last = i == 0, plan.slots == 1 and i == plan.bands - 1
        for strip in range(strips[0], strips[1]):
            start, stop = _strip_start(plan, strip), _strip_start(plan, strip + 1)
            if stop - start == 3:
                _pack_values(tile_zeros(1, 3, x), 3, x, g, band, start, values)
                _add_tiles(
                    tile_zeros(TALL, 3, x), 3, values, cotangents, g, plan, band, lines, start,
                    fresh, last, ahead, sums, grad_weight,
                )  # fmt: skip
            elif stop - start == 2:
                _pack_values(tile_zeros(1, 2, x), 2, x, g, band, start, values)
                _add_tiles(
                    tile_zeros(TALL, 2, x), 2, values, cotangents, g, plan, band, lines, start,
                    fresh, last, ahead, sums, grad_weight,
                )  # fmt: skip
            else:
                _pack_values(tile_zeros(1, 1, x), 1, x, g, band, start, values)
                _add_tiles(
                    tile_zeros(TALL, 1, x), 1, values, cotangents, g, plan, band, lines, start,
                    fresh, last, ahead, sums, grad_weight,
                )  # fmt: skip


@body
def _strip_start(plan, strip):
    """Return the vector that a strip begins with: strips differ by one vector at most."""
    return strip * plan.vectors // plan.strips


@body
def _turns(band):
    """Return in how many turns a tile takes the pixels of a band."""
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
def _pack_values(held, wide, x, g, band, start, values):
    """Copy some vectors of a band, and fill up the last turn and vector with zeros."""
    width = lanes_of(values)
    row, left, to = wide * width, g.C - start * width, 0
    whole = left >= row
    oh, ow = band[0] // g.OW, band[0] % g.OW  # of all images
    at = _row_start(g, oh) + ow * g.stride_w * g.C + start * width
    for _ in range(band[0], band[1]):
        held = tile_load(held, x, at, 0) if whole else tile_load_columns(held, x, at, 0, left)
        tile_store(held, values, to, 0)
        at += g.stride_w * g.C
        to += row
        ow += 1
        if ow == g.OW:
            oh, ow = oh + 1, 0
            at = _row_start(g, oh) + start * width
    zero_run(values, to, _turns(band) * TURN * row - to)


@body
def _row_start(g, oh):
    """Return where in x the first pixel lies that a row of outputs sees."""
    return (oh // g.OH * g.H + oh % g.OH * g.stride_h) * g.W * g.C


@body
def _plan_ahead(grad_out, x, g, plan, band, stop, lines, strips, ahead):
    """Ask for what the next band reads."""
    first, width = band[1], lanes_of(x)
    count = min(band[1] - band[0], stop - first)
    _plan_part(ahead, grad_out, first, count, g.F, lines[0] * LINE, lines[1] * LINE)
    if g.stride_h == g.stride_w == 1:  # else pixels are no column
        start, stop = _strip_start(plan, strips[0]), _strip_start(plan, strips[1])
        _plan_part(ahead, x, first, count, g.C, start * width, stop * width)


@body
def _plan_part(ahead, array, first, count, row, start, stop):
    """Ask for a part of some rows."""
    part = min(stop, row) - start
    if part == row:
        plan_ahead(ahead, array, first * row, (first + count) * row)
    else:
        plan_columns(ahead, array, first * row + start, row, part, count)


@body
def _add_tiles(
    zeros, wide, values, cotangents, g, plan, band, lines, start, fresh, last, ahead, sums,
    grad_weight,
):  # fmt: skip
    """Add what a band contributes to a strip, or make it; the last sums go to the gradient."""
    width, turns = lanes_of(sums), _turns(band)
    row, panel = wide * width, panel_of(turns * TURN)
    at = start * plan.lines * LINE * width
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
        if last:
            to = f * g.C + start * width
            tile_store_part(tile, grad_weight, to, g.C, g.F - f, g.C - start * width)
        else:
            tile_store(tile, sums, at + f * row, row)


@kernel
def _gather_loop(sums, g, plan, grad_weight):
    g, plan = Geometry(*g), Plan(*plan)
    for line in prange(plan.lines):
        width = lanes_of(sums)
        total = np.empty(plan.vectors * width, sums.dtype)
        for f in range(line * LINE, min((line + 1) * LINE, g.F)):
            for strip in range(plan.strips):
                start, stop = _strip_start(plan, strip), _strip_start(plan, strip + 1)
                at = (start * plan.lines * LINE + f * (stop - start)) * width
                sum_slots(sums, at, total[start * width : stop * width])
            copy_run(grad_weight, f * g.C, total, 0, g.C)
