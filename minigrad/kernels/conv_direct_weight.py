"""Direct gradient of the weight: tiles of the gradient stay in registers while pixels pass by.

grad_weight[kh, kw, c, f] is a sum over output pixels of the value that tap (kh, kw) sees in
channel c, times grad_out in filter f. Each pixel adds an outer product to the gradient::

                      grad_out at this pixel, F values
                      f0 f1 f2 ...
    what the       a  .  .  .  .
    filter row     b  .  .  .  .      a tile: two strips of rows, two vectors of columns;
    kh sees of     c  .  .  .  .      it is loaded once, summed over a band of pixels, stored
    the window:    d  .  .  .  .
    KW*C values    :

The order of loops, from the outside:

    chunks    slots of output pixels x parts of the filters, shared out to threads
    bands     of pixels: the window and the cotangents of a band stay in the first caches
    filters   two vectors at a time
    strips    of the KW*C values under each filter row, two at a time: one tile
    pixels    of the band: one column of window values times one row of cotangents

Each slot has its own sum, for threads must not share one; these are added in the order of slots, so
the result has the same bits on any number of threads. A large weight has few slots or one, for
adding them takes long, and many parts.
"""

from typing import NamedTuple

import numpy as np

from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import Shape, flat_channels_last
from minigrad.kernels._runs import copy_run, zero_run
from minigrad.kernels._simd import (
    lanes,
    lanes_of,
    tile_add,
    tile_load,
    tile_outer,
    tile_store,
    tile_zeros,
)
from minigrad.kernels.conv_geometry import Geometry, Pair, Sides, geometry, remembered
from minigrad.kernels.conv_window import (
    LOW,
    TALL,
    Window,
    fill_window,
    strip_rows,
    strip_start,
    strips_in,
    tile_for,
    window_of,
)
from minigrad.kernels.gemm import NEIGHBOUR, whole_vectors

# What a band of pixels reads should stay in the first caches while all tiles pass.
BAND_BYTES = 32 * 1024

# Fewer pixels than this do not pay for loading and storing the tile.
LEAST_PIXELS = 128

# Pixels of a row that are taken at once; a longer row is cut.
STRETCH = 128

# Into how many chunks the work is cut, and how much memory their sums may take.
CHUNKS = 16
SLOT_BYTES = 1024 * 1024


class Plan(NamedTuple):
    """How the work is cut: stretches of pixels over (N, OH, stretches of a row), and tiles."""

    row_stretches: int  # stretches in a row
    stretches: int
    slots: int
    band: int  # stretches in a band
    height: int  # of a strip
    wide: int  # vectors of filters in a tile
    run_strips: int  # strips that cover a run
    strips: int  # strips that cover a group's taps
    vectors: int  # of filters in a group, filled up to whole tiles
    parts: int  # chunks over the vectors
    split: int  # 1: cotangents are copied, each vector by itself; 0: they are grad_out itself


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
    if (g.KH, g.KW, g.H, g.W) == (1, 1, g.OH, g.OW) and g.top == g.left == 0:
        g = g._replace(N=1, H=1, W=g.pixels, OH=1, OW=g.pixels)  # all pixels are one row
    window = window_of(g)
    plan = _plan(g, window, x.dtype)
    padded = plan.vectors * lanes(x.dtype)
    sums = np.zeros((plan.slots, groups * plan.strips * plan.height * padded), x.dtype)
    _grad_weight_loop.launch(
        g.pixels * g.taps * g.F,
        flat_channels_last(grad_out),
        flat_channels_last(x),
        g,
        window,
        plan,
        sums,
    )
    grad_weight = np.empty(weight_shape, x.dtype)
    _gather_loop.launch(
        sums.size, sums.reshape(-1), plan.slots, g, padded, _rows_of_taps(g, window, plan),
        grad_weight.reshape(-1),
    )  # fmt: skip
    return grad_weight


@remembered
def _rows_of_taps(g: Geometry, window: Window, plan: Plan) -> np.ndarray:
    """Return in which row of the sums each tap and channel stands, (groups, KH*KW*C/groups)."""
    runs = np.arange(g.groups * g.KH * window.runs)[:, None] * plan.run_strips * plan.height
    return (runs + strip_rows(window.run, plan.height)).reshape(g.groups, g.taps)


@remembered
def _plan(g: Geometry, window: Window, dtype: np.dtype) -> Plan:
    """Cut the work by its shape alone."""
    row_stretches = chunks_of(g.OW, STRETCH)
    stretches = g.N * g.OH * row_stretches
    vectors = whole_vectors(g.filters, dtype)
    height, wide = tile_for(window.run, vectors)
    tiles = strips_in(vectors, wide)
    run_strips = strips_in(window.run, height)
    strips = g.KH * window.runs * run_strips
    size = g.groups * strips * height * tiles * wide * lanes(dtype) * dtype.itemsize
    slots = max(min(CHUNKS, SLOT_BYTES // max(size, 1), stretches), 1)
    parts = max(min(tiles, chunks_of(CHUNKS, slots)), 1)
    pixel_bytes = (g.stride_h * g.stride_w * g.channels + g.filters) * dtype.itemsize
    pixels = max(BAND_BYTES // max(pixel_bytes, 1), LEAST_PIXELS)
    band = chunks_of(pixels, max(min(g.OW, STRETCH), 1))
    # As grad_out is, its vectors must be whole, and few, lest many pixels share a set of the cache.
    split = int(g.filters != tiles * wide * lanes(dtype) or g.F * dtype.itemsize >= 256)
    return Plan(
        row_stretches, stretches, slots, band, height, wide, run_strips, strips, tiles * wide,
        parts, split,
    )  # fmt: skip


@kernel
def _grad_weight_loop(grad_out, x, g, window, plan, sums):
    for chunk in prange(plan.slots * plan.parts):
        slot, part = chunk // plan.parts, chunk % plan.parts
        first, last = chunk_bounds(slot, plan.slots, plan.stretches)
        for start in range(first, last, plan.band):
            stop = min(start + plan.band, last)
            _add_band(grad_out, x, g, window, plan, start, stop, part, sums[slot])


@body
def _add_band(grad_out, x, g, window, plan, first, last, part, sums):
    """Add what the stretches from ``first`` up to ``last`` contribute, for one part of filters."""
    seen, counts = np.empty(last - first, np.intp), np.empty(last - first, np.intp)
    top_row, rows = _place_stretches(g, window, plan, first, last, seen, counts)
    first_pixel = first // plan.row_stretches * g.OW + first % plan.row_stretches * STRETCH
    pixels = counts.sum()
    first_tile, last_tile = chunk_bounds(part, plan.parts, plan.vectors // plan.wide)
    v_first, v_last = first_tile * plan.wide, last_tile * plan.wide
    values, cotangents = x, grad_out
    step, vector = g.F, lanes_of(x)  # from pixel to pixel, from vector to vector
    if window.copied:
        values = np.empty(rows * window.width * window.pixel, x.dtype)
    if plan.split:
        cotangents = np.empty((v_last - v_first) * pixels * lanes_of(x), x.dtype)
        step, vector = lanes_of(x), pixels * lanes_of(x)
    for group in range(g.groups):
        if window.copied:
            fill_window(x, g, window, group, top_row, rows, values)
        else:
            values = x[top_row * window.width * window.pixel + group * g.channels :]
        at = first_pixel * g.F + group * g.filters + v_first * lanes_of(x)
        if plan.split:
            _split_vectors(grad_out, at, g, pixels, v_first, v_last, cotangents)
        else:
            cotangents = grad_out[at:]
        _add_group(
            values, cotangents, step, vector, g, window, plan, group, v_first, v_last,
            seen, counts, sums,
        )  # fmt: skip


@body
def _split_vectors(grad_out, at, g, pixels, v_first, v_last, cotangents):
    """Copy cotangents from ``at`` on, vector by vector, and fill up the last with zeros."""
    width = lanes_of(cotangents)
    one = tile_zeros(1, 1, cotangents)
    to = 0
    for v in range(v_first, v_last):
        filters = max(min(g.filters - v * width, width), 0)
        for p in range(pixels):
            if filters == width:
                tile_store(tile_load(one, grad_out, at + p * g.F, 0), cotangents, to, 0)
            else:
                copy_run(cotangents, to, grad_out, at + p * g.F, filters)
                zero_run(cotangents, to + filters, width - filters)
            to += width
        at += width


@body
def _place_stretches(g, window, plan, first, last, seen, counts):
    """List where stretches begin in the window, and their pixels; return the window's rows."""
    n = first // (g.OH * plan.row_stretches)
    oh, stretch = first // plan.row_stretches % g.OH, first % plan.row_stretches
    top_row = n * window.height + oh * g.stride_h
    row = top_row
    for i in range(last - first):
        row = n * window.height + oh * g.stride_h
        ow = stretch * STRETCH
        seen[i] = ((row - top_row) * window.width + ow * g.stride_w) * window.pixel
        counts[i] = min(STRETCH, g.OW - ow)
        stretch += 1
        if stretch == plan.row_stretches:
            stretch, oh = 0, oh + 1
            if oh == g.OH:
                oh, n = 0, n + 1
    return top_row, row - top_row + (g.KH - 1) * g.dilation_h + 1


@body
def _add_group(
    values, cotangents, step, vector, g, window, plan, group, v_first, v_last, seen, counts, sums
):
    """Run through the filters of one part, in tiles of the planned size."""
    for v in range(v_first, v_last, plan.wide):
        here = cotangents[(v - v_first) * vector :]
        if plan.wide == 2 and plan.height == TALL:
            _add_strips(
                tile_zeros(TALL, 2, sums),
                values, here, step, vector, g, window, plan, group, v, seen, counts, sums,
            )  # fmt: skip
        elif plan.wide == 2:
            _add_strips(
                tile_zeros(LOW, 2, sums),
                values, here, step, vector, g, window, plan, group, v, seen, counts, sums,
            )  # fmt: skip
        elif plan.height == TALL:
            _add_strips(
                tile_zeros(TALL, 1, sums),
                values, here, step, vector, g, window, plan, group, v, seen, counts, sums,
            )  # fmt: skip
        else:
            _add_strips(
                tile_zeros(1, 1, sums),
                values, here, step, vector, g, window, plan, group, v, seen, counts, sums,
            )  # fmt: skip


@body
def _place_strip(strip, plan, g, window):
    """Return where in the window a strip of taps begins."""
    run, strip = strip // plan.run_strips, strip % plan.run_strips
    place = run // window.runs * window.down + run % window.runs * window.right
    return place + strip_start(strip, plan.height, window.run)


@body
def _add_strips(
    zeros, values, cotangents, step, vector, g, window, plan, group, v, seen, counts, sums
):
    """Add to the sums of all taps, for the one or two vectors of filters in a tile."""
    row = plan.vectors * lanes_of(sums)
    base = group * plan.strips * plan.height * row + v * lanes_of(sums)
    pixel = g.stride_w * window.pixel
    for i in range(0, plan.strips, 2):
        j = min(i + 1, plan.strips - 1)  # a strip without a partner is computed twice
        upper_at, lower_at = base + i * plan.height * row, base + j * plan.height * row
        upper, lower = _two_strips(
            tile_load(zeros, sums, upper_at, row), tile_load(zeros, sums, lower_at, row),
            values, _place_strip(i, plan, g, window), _place_strip(j, plan, g, window), pixel,
            cotangents, step, vector, seen, counts,
        )  # fmt: skip
        tile_store(upper, sums, upper_at, row)
        tile_store(lower, sums, lower_at, row)


@body
def _two_strips(
    upper, lower, values, upper_at, lower_at, pixel, cotangents, step, vector, seen, counts
):
    """Sum over the pixels of a band for two strips of taps."""
    k = 0
    for i in range(counts.size):
        at = seen[i]
        for _ in range(counts[i]):
            upper = tile_outer(upper, values, at + upper_at, NEIGHBOUR, cotangents, k, vector)
            lower = tile_outer(lower, values, at + lower_at, NEIGHBOUR, cotangents, k, vector)
            at += pixel
            k += step
    return upper, lower


@kernel
def _gather_loop(sums, slots, g, padded, rows, grad_weight):
    """Add the slots up in their order, and put the filters first: (F, C/groups, KH, KW)."""
    vectors = chunks_of(g.filters, lanes_of(sums))
    for chunk in prange(g.groups * vectors):
        _gather_vector(
            sums, slots, g, padded, rows[chunk // vectors], chunk // vectors, chunk % vectors,
            grad_weight,
        )  # fmt: skip


@body
def _gather_vector(sums, slots, g, padded, rows, group, v, grad_weight):
    """Gather one vector of filters."""
    width, taps, size = lanes_of(sums), g.KH * g.KW, sums.size // slots
    filters = min(g.filters - v * width, width)
    first = (group * g.filters + v * width) * g.channels * taps
    total = np.empty(width, sums.dtype)
    for c in range(g.channels):
        for tap in range(taps):
            at = rows[tap * g.channels + c] * padded + v * width
            tile = tile_load(tile_zeros(1, 1, sums), sums, at, 0)
            for slot in range(1, slots):
                tile = tile_add(tile, tile_load(tile, sums, slot * size + at, 0))
            tile_store(tile, total, 0, 0)
            for f in range(filters):
                grad_weight[first + (f * g.channels + c) * taps + tap] = total[f]
