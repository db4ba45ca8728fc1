"""Direct gradient of the weight where channels do not fill vectors, as in a network's first layer.

What a filter row sees of a pixel's surroundings is one run of KW * C neighbouring values. With
three channels that is no whole number of vectors, and ``conv_direct_weight.py`` would have to copy
the values under all taps side by side, for every pixel. Here vectors hold filters instead, and the
run lies along the other side of the tile, value by value::

                     grad_out at this pixel: a vector of filters
    KW * C values,   v
    as they lie   a  .
    in the        b  .     a tile, as tall as a run or a part of it: it is loaded once,
    window        c  .     summed over a band of pixels, and stored
                  d  .

Nothing is copied but the window, which has few channels.

With a dilation the taps of a row are no neighbours. But all pixels that one output sees have places
that leave the same remainder, so pixels are sorted by it, and there a filter row is a run again.
Outputs whose remainder is the same make one *phase*::

    row of 9 pixels, dilation 2      a b c d e f g h i
    sorted                           a c e g i|b d f h
    what 3 taps see, with stride 1   |0 2 4        |     outputs 0, 2, 4 are a phase
                                              |1 3       and 1, 3 another one

And where runs are short for a tile, all rows of a filter become one run: for each row of outputs,
pixels below each other that its filters see are *stacked*, as if they were one of KH * C values.

The order of loops, from the outside:

    chunks    slots of output rows x parts of the vectors, for threads
    bands     of rows: what they read stays in the first cache
    groups
    vectors   of filters
    runs      one a row of the filters, or one for all
    tiles     of a run
    pixels    of the band: a column of values times a vector of cotangents

Each slot has its own sums. They are added in order, and in a weight the taps of a channel are
neighbours.
"""

import math
from typing import NamedTuple

import numpy as np

from minigrad.kernels import _pool
from minigrad.kernels._ahead import AHEAD, next_lines, plan_ahead, prefetch
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import flat_channels_last, remembered
from minigrad.kernels._numbers import plain
from minigrad.kernels._runs import aligned_empty, zero_run
from minigrad.kernels._simd import (
    ROWS,
    lanes,
    lanes_of,
    tile_load,
    tile_load_columns,
    tile_outer,
    tile_store,
    tile_store_part,
    tile_zeros,
)
from minigrad.kernels._simd_transpose import tile_square, tile_transpose
from minigrad.kernels.conv_geometry import Geometry
from minigrad.kernels.conv_patch import copy_cost
from minigrad.kernels.conv_slots import Taps, sum_slots
from minigrad.kernels.conv_window import Window, fill_window, most_rows, window_of
from minigrad.kernels.gemm import NEIGHBOUR, whole_vectors

# How tall tiles are: three channels under 7 x 7 taps and 3 x 3 taps, or what the registers hold.
TALL, LOW = (21, 9) if ROWS >= 8 else (12, 9)

# What a band reads of grad_out should stay in the first cache; how few pixels are worth a tile.
BAND_BYTES = 24 * 1024
LEAST_PIXELS = 128

# Sums for threads, and how few rows' pixels are worth sums of their own.
SLOTS = 16
SLOT_PIXELS = 512

# Fewer chunks leave threads idle: a small machine has so many.
SHARES = 4

# To store a vector of sums, and to add it to the others, takes as long as so many products.
ADDING = 4

# Channels of which the sums are put in the weight's order at once: those of a vector of filters
# stay in the first cache.
GATHERED = 8


class Plan(NamedTuple):
    """How the work is cut: slots and bands of rows over (N, OH), and tiles."""

    slots: int
    parts: int  # chunks over the vectors of all groups
    band: int  # rows
    vectors: int  # of filters, in a group
    stack: int  # rows of taps in a run: 1, or KH
    runs: int  # under all taps
    run: int  # values in each
    tiles_run: int  # filled up to whole tiles
    split: int  # 1: a pixel's last vector hangs over its filters; what it finds there is not used
    phases: int  # of a row of outputs
    remainders: int  # from the remainder of a phase's pixels to the next one that occurs
    phase: int  # values of a row that leave one remainder
    row: int  # values of a row, sorted and stacked
    pixel: int  # values from what an output sees to what the next one of its phase sees
    arranged: int  # 1: rows are sorted or stacked; 0: they are those of the window


def cost(g: Geometry, dtype: np.dtype) -> int:
    """Estimate how long a pixel takes, counted in products of a value and a vector."""
    slots, parts = _chunks(g, dtype)
    return shared(_cost(g, _stack(g, dtype), parts, dtype), slots * parts)


def shared(cost: int, chunks: int) -> int:
    """Estimate how long work takes that too few chunks may leave to one thread."""
    return cost * SHARES // min(chunks, SHARES)


def _cost(g: Geometry, stack: int, parts: int, dtype: np.dtype) -> int:
    """Estimate the same without idle threads, with so many rows of taps in a run.

    Each tile reads a vector and a value a row, two of them in the time of two products. Each part
    of the vectors moves the pixels of its groups.
    """
    tall, low = _tiles(stack * g.KW * g.channels)
    vectors = g.KH // stack * whole_vectors(g.filters, dtype)
    moved = g.stride_h + (stack if stack > 1 else 0)
    moved *= g.stride_w * whole_vectors(g.channels, dtype)
    products = vectors * (tall * (TALL + 1) + low * (LOW + 1))
    return products + copy_cost(moved, chunks_of(parts, g.groups))


def _stack(g: Geometry, dtype: np.dtype) -> int:
    """Choose how many rows of taps make a run."""
    return min((1, g.KH), key=lambda stack: _cost(g, stack, 1, dtype))


def _tiles(run: int) -> tuple[int, int]:
    """Return how many tall and low tiles cover a run: low ones at its end, if they are enough."""
    tall, rest = divmod(run, TALL)
    return (tall, int(rest > 0)) if rest <= LOW else (tall + 1, 0)


def sum_rows(
    grad_out: np.ndarray, x: np.ndarray, g: Geometry, taps: Taps, grad_weight: np.ndarray
) -> None:
    """Write the gradient with respect to weight."""
    window = window_of(g, copied=True)  # tiles read beyond the last run
    plan = _plan(g, window, x.dtype)
    size = g.groups * plan.vectors * plan.runs * plan.tiles_run * lanes(x.dtype)
    sums = _pool.empty((plan.slots, size), x.dtype)
    _sum_rows_loop.launch(
        g.pixels * g.depth * g.F,
        flat_channels_last(grad_out),
        flat_channels_last(x),
        *plain(g, window, plan),
        sums,
    )
    _gather_loop.launch(sums.size, sums, *plain(g, plan, taps), grad_weight.reshape(-1))


@remembered
def _plan(g: Geometry, window: Window, dtype: np.dtype) -> Plan:
    """Cut the work by its shape alone."""
    stack = _stack(g, dtype)
    values = stack * g.channels  # of a pixel
    tall, low = _tiles(g.KW * values)
    slots, parts = _chunks(g, dtype)
    vectors = whole_vectors(g.filters, dtype)
    pixels = max(BAND_BYTES // (g.F * dtype.itemsize), LEAST_PIXELS)
    common = math.gcd(g.stride_w, g.dilation_w)
    phases, phase = g.dilation_w // common, chunks_of(window.width, g.dilation_w) * values
    return Plan(
        slots, parts, -(-pixels // g.OW), vectors, stack, g.KH // stack, g.KW * values,
        tall * TALL + low * LOW,
        int(g.filters % lanes(dtype) != 0), phases, common, phase, phases * phase,
        g.stride_w // common * values, int(stack > 1 or g.dilation_w > 1),
    )  # fmt: skip


@remembered
def _chunks(g: Geometry, dtype: np.dtype) -> tuple[int, int]:
    """Return into how many slots the pixels are cut, and into how many parts the vectors.

    Parts copy the same pixels, slots have to be added: few pixels of a small weight have more slots
    than their number asks for.
    """
    most = min(SLOTS, g.N * g.OH)
    least = max(min(most, g.pixels // SLOT_PIXELS), 1)
    # Powers of two divide among the threads: these begin with the greatest one up to the least.
    some = [1 << i for i in range(most.bit_length()) if least < 2 << i]
    slots = min(some, key=lambda slots: _total(g, slots, dtype))
    return slots, _parts(g, slots, dtype)


def _parts(g: Geometry, slots: int, dtype: np.dtype) -> int:
    """Return into how many parts the vectors are cut, for so many slots."""
    return min(g.groups * whole_vectors(g.filters, dtype), chunks_of(SLOTS, slots))


def total_cost(g: Geometry, dtype: np.dtype) -> int:
    """Estimate how long all pixels take, and to add up their slots."""
    return _total(g, _chunks(g, dtype)[0], dtype)


def _total(g: Geometry, slots: int, dtype: np.dtype) -> int:
    """Estimate the same for a number of slots."""
    vectors, stack = g.groups * whole_vectors(g.filters, dtype), _stack(g, dtype)
    sums = vectors * g.KH // stack * sum(_tiles(stack * g.KW * g.channels)) * TALL
    parts = _parts(g, slots, dtype)
    pixel = _cost(g, stack, parts, dtype)
    return shared(g.groups * g.pixels * pixel, slots * parts) + ADDING * slots * sums


@kernel
def _sum_rows_loop(grad_out, x, g, window, plan, sums):
    g, window, plan = Geometry(*g), Window(*window), Plan(*plan)
    for chunk in prange(plan.slots * plan.parts):
        slot, part = chunk // plan.parts, chunk % plan.parts
        rows = chunk_bounds(slot, plan.slots, g.N * g.OH)
        vectors = chunk_bounds(part, plan.parts, g.groups * plan.vectors)
        _add_chunk(grad_out, x, g, window, plan, rows, vectors, sums[slot])


@body
def _add_chunk(grad_out, x, g, window, plan, rows, vectors, sums):
    """Sum over some rows of the output for some vectors of filters, in bands."""
    band, width = min(plan.band, rows[1] - rows[0]), lanes_of(x)
    high = most_rows(g, window, band)
    values = aligned_empty((band if plan.stack > 1 else high) * plan.row + TALL + width, x)
    seen_rows = values
    if plan.arranged:
        seen_rows = aligned_empty(high * window.width * g.channels + width, x)
    padded = min(vectors[1] - vectors[0], plan.vectors) * width
    filled = aligned_empty(band * g.OW * padded if plan.split else 0, x)
    seen, ahead = np.empty(band * plan.phases, np.intp), np.zeros(AHEAD, np.intp)
    starts, counts = np.empty(plan.phases, np.intp), np.empty(plan.phases, np.intp)
    _place_phases(g, plan, starts, counts)
    for first in range(rows[0], rows[1], band):
        count = min(band, rows[1] - first)
        top_row, high = _place_rows(g, window, plan, first, count, starts, seen)
        _plan_ahead(grad_out, x, g, first + count, min(first + 2 * count, rows[1]), ahead)
        for group in range(vectors[0] // plan.vectors, chunks_of(vectors[1], plan.vectors)):
            start = max(vectors[0] - group * plan.vectors, 0)
            stop = min(vectors[1] - group * plan.vectors, plan.vectors)
            fill_window(x, g, window, group, top_row, high, seen_rows)
            used = count if plan.stack > 1 else high
            if plan.arranged:
                _arrange(seen_rows, g, window, plan, first, top_row, used, values)
            zero_run(values, used * plan.row, TALL)  # the last tiles read beyond the last run
            there, step = grad_out[first * g.OW * g.F + group * g.filters + start * width :], g.F
            if (count * g.OW - 1) * g.F + (stop - start) * width > there.size:
                columns = min(stop * width, g.filters) - start * width
                _fill_up(there, g, count * g.OW, columns, padded, filled)
                there, step = filled, padded
            to = (group * plan.vectors + start) * plan.runs * plan.tiles_run * width
            _add_band(
                values, seen[: count * plan.phases], counts, there, step, g, plan, stop - start,
                first == rows[0], ahead, sums[to:],
            )  # fmt: skip


@body
def _row_of(g, window, row):
    """Return the first row of the window that a row of the output sees."""
    return row // g.OH * window.height + row % g.OH * g.stride_h


@body
def _place_phases(g, plan, starts, counts):
    """List where in a row each phase starts and how many outputs it has.

    Once for all rows, for a division takes as long as some pixels.
    """
    for phase in range(plan.phases):
        place, remainder = divmod(phase * g.stride_w, g.dilation_w)
        starts[phase] = remainder // plan.remainders * plan.phase + place * plan.stack * g.channels
        counts[phase] = chunks_of(g.OW - phase, plan.phases)


@body
def _place_rows(g, window, plan, first, count, starts, seen):
    """List what the first output of each phase sees; return which rows of the window are seen."""
    top_row = row = _row_of(g, window, first)
    for i in range(count):
        row = _row_of(g, window, first + i)
        down = i if plan.stack > 1 else row - top_row
        for phase in range(plan.phases):
            seen[i * plan.phases + phase] = down * plan.row + starts[phase]
    return top_row, row - top_row + (g.KH - 1) * g.dilation_h + 1


@body
def _arrange(seen_rows, g, window, plan, first, top_row, rows, values):
    """Bring pixels together whose places leave the same remainder, and stack those of some rows.

    Whole vectors are copied. What hangs over the end of a pixel is overwritten by the next one.
    """
    one = tile_zeros(1, 1, values)
    down = g.dilation_h * window.width * g.channels
    for i in range(rows):
        q = _row_of(g, window, first + i) - top_row if plan.stack > 1 else i
        for phase in range(plan.phases):
            to = i * plan.row + phase * plan.phase
            for w in range(phase * plan.remainders, window.width, g.dilation_w):
                at = (q * window.width + w) * g.channels
                for _ in range(plan.stack):
                    for c in range(0, g.channels, lanes_of(values)):
                        tile_store(tile_load(one, seen_rows, at + c, 0), values, to + c, 0)
                    at += down
                    to += g.channels


@body
def _fill_up(grad_out, g, pixels, columns, padded, cotangents):
    """Copy some columns of the last cotangents, and fill up each pixel's last vector with zeros."""
    width = lanes_of(cotangents)
    one = tile_zeros(1, 1, cotangents)
    for p in range(pixels):
        for f in range(0, columns, width):
            held = tile_load_columns(one, grad_out, p * g.F + f, 0, columns - f)
            tile_store(held, cotangents, p * padded + f, 0)


@body
def _plan_ahead(grad_out, x, g, first, last, ahead):
    """Ask for what the next rows read."""
    row = g.W * g.C
    plan_ahead(ahead, x, first * g.H // g.OH * row, last * g.H // g.OH * row)  # roughly
    plan_ahead(ahead, grad_out, first * g.OW * g.F, last * g.OW * g.F)


@body
def _add_band(values, seen, counts, cotangents, step, g, plan, vectors, fresh, ahead, sums):
    """Run through some vectors of filters and the runs, in tiles."""
    width, at = lanes_of(sums), 0
    for v in range(vectors):
        there = cotangents[v * width :]
        for tap_row in range(plan.runs):
            k = 0
            while k < plan.run:
                run = values[tap_row * g.dilation_h * plan.row + k :]
                if plan.run - k > LOW:
                    _add_tile(
                        tile_zeros(TALL, 1, sums), run, seen, counts, there, step, g, plan, fresh,
                        ahead, sums, at,
                    )  # fmt: skip
                    rows = TALL
                else:
                    _add_tile(
                        tile_zeros(LOW, 1, sums), run, seen, counts, there, step, g, plan, fresh,
                        ahead, sums, at,
                    )  # fmt: skip
                    rows = LOW
                k += rows
                at += rows * width


@body
def _add_tile(zeros, values, seen, counts, cotangents, step, g, plan, fresh, ahead, sums, at):
    """Add to the sums of a part of a run, for a vector of filters."""
    width, phases = lanes_of(sums), counts.size
    rows = seen.size // phases
    tile = zeros if fresh else tile_load(zeros, sums, at, width)
    line, line_step = next_lines(ahead, rows * g.OW)
    for i in range(rows):
        for phase in range(phases):
            v, k = seen[i * phases + phase], (i * g.OW + phase) * step
            for _ in range(counts[phase]):
                prefetch(line)
                line += line_step
                tile = tile_outer(tile, values, v, NEIGHBOUR, cotangents, k, 0)
                v += plan.pixel
                k += step * phases
    tile_store(tile, sums, at, width)


@kernel
def _gather_loop(sums, g, plan, taps, grad_weight):
    g, plan, taps = Geometry(*g), Plan(*plan), Taps(*taps)
    blocks = chunks_of(g.channels, GATHERED)
    for chunk in prange(g.groups * plan.vectors * blocks):
        block = chunk % blocks
        channels = block * GATHERED, min((block + 1) * GATHERED, g.channels)
        _gather(sums, g, plan, taps, chunk // blocks, channels, grad_weight)


@body
def _gather(sums, g, plan, taps, vector, channels, grad_weight):
    """Add up the slots of a vector of filters in their order, and put channels first.

    What was summed has a row for each channel and tap, and a value of each filter in it.
    """
    width, square = lanes_of(sums), tile_square(sums)
    count = channels[1] - channels[0]
    size = count * taps.square
    rows = np.zeros((size + width) * width, sums.dtype)  # zeros where a tap sees nothing
    down = g.channels if plan.stack > 1 else plan.tiles_run
    for kh in range(g.KH):
        for kw in range(g.KW):
            row = vector * plan.runs * plan.tiles_run + kh * down + channels[0]
            row += kw * plan.stack * g.channels
            to = (taps.first + kh * taps.down + kw * taps.right) * width
            for c in range(count):
                sum_slots(sums, (row + c) * width, rows[to : to + width])
                to += taps.square * width
    group, first = vector // plan.vectors, vector % plan.vectors * width
    f = group * g.filters + first
    at, step = (f * g.channels + channels[0]) * taps.square, g.channels * taps.square
    for i in range(0, size, width):
        values = tile_transpose(tile_load(square, rows, i * width, width))
        tile_store_part(values, grad_weight, at + i, step, g.filters - first, size - i)
