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

The order of loops, from the outside:

    slots     of output rows, for threads: each has its own sums, added in order at the end
    bands     of rows: what they read stays in the first cache
    vectors   of filters
    runs      one a row of the filters
    parts     of a run: one tile
    pixels    of the band: a column of values times a vector of cotangents
"""

from typing import NamedTuple

import numpy as np

from minigrad.kernels import _pool
from minigrad.kernels._ahead import AHEAD, next_lines, plan_ahead, prefetch
from minigrad.kernels._jit import body, chunk_bounds, kernel, prange
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
    tile_zeros,
)
from minigrad.kernels.conv_geometry import Geometry
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


class Plan(NamedTuple):
    """How the work is cut: slots and bands of rows over (N, OH), and tiles."""

    slots: int
    band: int  # rows
    vectors: int  # of filters
    run: int  # values that a filter row sees
    tiles_run: int  # filled up to whole tiles
    split: int  # 1: cotangents are copied and filled up to whole vectors; 0: they are grad_out


def cost(g: Geometry, dtype: np.dtype) -> int:
    """Estimate how long a pixel takes, counted in products of a value and a vector.

    Each tile reads a vector and a value a row, two of them in the time of two products.
    """
    tall, low = _tiles(g.KW * g.channels)
    return g.KH * (tall * (TALL + 1) + low * (LOW + 1)) * whole_vectors(g.filters, dtype)


def _tiles(run: int) -> tuple[int, int]:
    """Return how many tall and low tiles cover a run: low ones at its end, if they are enough."""
    tall, rest = divmod(run, TALL)
    return (tall, int(rest > 0)) if rest <= LOW else (tall + 1, 0)


def sum_rows(grad_out: np.ndarray, x: np.ndarray, g: Geometry) -> np.ndarray:
    """Return the gradient with respect to weight, of a convolution in one group."""
    window = window_of(g, copied=True)  # tiles read beyond the last run
    plan = _plan(g, x.dtype)
    shape = plan.slots, plan.vectors, g.KH, plan.tiles_run, lanes(x.dtype)
    sums = _pool.empty(shape, x.dtype)
    _sum_rows_loop.launch(
        g.pixels * g.depth * g.filters,
        flat_channels_last(grad_out),
        flat_channels_last(x),
        *plain(g, window, plan),
        sums.reshape(plan.slots, -1),
    )
    total = sums.sum(axis=0)[:, :, : plan.run]  # in the order of slots
    by_filter = total.transpose(0, 3, 1, 2).reshape(-1, g.KH, g.KW, g.channels)[: g.filters]
    return np.ascontiguousarray(by_filter.transpose(0, 3, 1, 2))


@remembered
def _plan(g: Geometry, dtype: np.dtype) -> Plan:
    """Cut the work by its shape alone."""
    run = g.KW * g.channels
    tall, low = _tiles(run)
    slots = max(min(SLOTS, g.N * g.OH, g.pixels // SLOT_PIXELS), 1)
    slots = 1 << (slots.bit_length() - 1)  # a number that divides among the threads
    pixels = max(BAND_BYTES // (g.F * dtype.itemsize), LEAST_PIXELS)
    return Plan(
        slots, -(-pixels // g.OW), whole_vectors(g.F, dtype), run, tall * TALL + low * LOW,
        int(g.F % lanes(dtype) != 0),
    )  # fmt: skip


@kernel
def _sum_rows_loop(grad_out, x, g, window, plan, sums):
    g, window, plan = Geometry(*g), Window(*window), Plan(*plan)
    for slot in prange(plan.slots):
        rows = chunk_bounds(slot, plan.slots, g.N * g.OH)
        _add_slot(grad_out, x, g, window, plan, rows, sums[slot])


@body
def _add_slot(grad_out, x, g, window, plan, rows, sums):
    """Sum over some rows of the output, in bands."""
    band, row = min(plan.band, rows[1] - rows[0]), window.width * window.pixel
    values = aligned_empty(most_rows(g, window, band) * row + TALL, x)
    padded = plan.vectors * lanes_of(x)
    cotangents, step = grad_out, g.F
    if plan.split:
        cotangents, step = aligned_empty(band * g.OW * padded, x), padded
    seen, ahead = np.empty(band, np.intp), np.zeros(AHEAD, np.intp)
    for first in range(rows[0], rows[1], band):
        count = min(band, rows[1] - first)
        top_row = _row_of(g, window, first)
        for i in range(count):
            seen[i] = (_row_of(g, window, first + i) - top_row) * row
        high = seen[count - 1] // row + (g.KH - 1) * g.dilation_h + 1
        fill_window(x, g, window, 0, top_row, high, values)
        zero_run(values, high * row, TALL)  # the last tiles read beyond the last run
        at = first * g.OW * g.F
        there = grad_out[at:]
        if plan.split:
            _fill_up(there, g, count * g.OW, padded, cotangents)
            there = cotangents
        _plan_ahead(grad_out, x, g, first + count, min(first + 2 * count, rows[1]), ahead)
        _add_band(values, seen[:count], there, step, g, window, plan, first == rows[0], ahead, sums)


@body
def _row_of(g, window, row):
    """Return the first row of the window that a row of the output sees."""
    return row // g.OH * window.height + row % g.OH * g.stride_h


@body
def _fill_up(grad_out, g, pixels, padded, cotangents):
    """Copy cotangents, and fill up each pixel's last vector with zeros."""
    width = lanes_of(cotangents)
    one = tile_zeros(1, 1, cotangents)
    for p in range(pixels):
        for f in range(0, padded, width):
            held = tile_load_columns(one, grad_out, p * g.F + f, 0, g.F - f)
            tile_store(held, cotangents, p * padded + f, 0)


@body
def _plan_ahead(grad_out, x, g, first, last, ahead):
    """Ask for what the next rows read."""
    row = g.W * g.C
    plan_ahead(ahead, x, first * g.H // g.OH * row, last * g.H // g.OH * row)  # roughly
    plan_ahead(ahead, grad_out, first * g.OW * g.F, last * g.OW * g.F)


@body
def _add_band(values, seen, cotangents, step, g, window, plan, fresh, ahead, sums):
    """Run through the filters and the runs, in tiles."""
    width, at = lanes_of(sums), 0
    for v in range(plan.vectors):
        there = cotangents[v * width :]
        for kh in range(g.KH):
            k = 0
            while k < plan.run:
                run = values[kh * window.down + k :]
                if plan.run - k > LOW:
                    _add_tile(
                        tile_zeros(TALL, 1, sums), run, seen, there, step, g, window, fresh,
                        ahead, sums, at,
                    )  # fmt: skip
                    rows = TALL
                else:
                    _add_tile(
                        tile_zeros(LOW, 1, sums), run, seen, there, step, g, window, fresh,
                        ahead, sums, at,
                    )  # fmt: skip
                    rows = LOW
                k += rows
                at += rows * width


@body
def _add_tile(zeros, values, seen, cotangents, step, g, window, fresh, ahead, sums, at):
    """Add to the sums of a part of a run, for a vector of filters."""
    width, pixel = lanes_of(sums), g.stride_w * window.pixel
    tile = zeros if fresh else tile_load(zeros, sums, at, width)
    line, line_step = next_lines(ahead, seen.size * g.OW)
    k = 0
    for i in range(seen.size):
        v = seen[i]
        for _ in range(g.OW):
            prefetch(line)
            line += line_step
            tile = tile_outer(tile, values, v, NEIGHBOUR, cotangents, k, 0)
            v += pixel
            k += step
    tile_store(tile, sums, at, width)
