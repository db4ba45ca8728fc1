"""Gradient of the weight in small groups, lane by lane.

Each lane is a filter, as in ``conv_lanes.py``, and the window holds what its taps see. A tile has
the sums of some taps for one vector of filters: each neighbouring output adds its cotangents times
a vector of the window to each of them.

The rows of all images are cut into *slots*, each with sums of its own, for threads must not share
them. They are added in the order of slots, so the result has the same bits on any number of
threads.
"""

from typing import NamedTuple

import numpy as np

from minigrad.kernels import _pool
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import flat_channels_last, remembered
from minigrad.kernels._numbers import plain
from minigrad.kernels._runs import aligned_empty
from minigrad.kernels._simd import (
    ROWS,
    lanes,
    lanes_of,
    tile_load,
    tile_load_columns,
    tile_store,
)
from minigrad.kernels._simd_slide import (
    alone,
    sizes,
    tile_outputs,
    tile_prefetch,
    tile_slide_back,
    tile_taps,
)
from minigrad.kernels.conv_axes import thinned
from minigrad.kernels.conv_geometry import Geometry, taps_inside
from minigrad.kernels.conv_lanes import CHANNELS, CHUNKS, HEIGHT, PIXELS, blocks_of, divisor, fits
from minigrad.kernels.conv_lanes_window import Window, in_vectors, new_rows, take_rows, window_of
from minigrad.kernels.conv_slots import Taps, among
from minigrad.kernels.conv_window import Places

# Sums of a tile: with a cotangent and a vector of the window they fill the registers.
SUMS = 26 if ROWS >= 8 else 12

# How much memory the sums of all slots may take.
SLOT_BYTES = 1024 * 1024


class Plan(NamedTuple):
    """How the work is cut."""

    height: int  # outputs in a strip
    strips: int  # in a row
    rest: int  # outputs that are left of a row
    vectors: int  # of filters
    step: int  # filters in a vector
    taps: int  # of a row that a tile has
    rows: int  # of taps that a tile has
    tile: int  # values of a tile
    tiles: int  # of a vector of filters
    blocks: int  # of the rows of an image
    slots: int
    parts: int  # chunks over the vectors


def serves(g: Geometry, dtype: np.dtype) -> bool:
    """Tell whether several groups fill vectors."""
    width = lanes(dtype)
    if g.groups == 1 or g.pixels * g.depth * g.F == 0 or g.channels > CHANNELS:
        return False
    if (g.KW - 1) * g.dilation_w >= PIXELS:
        return False
    return g.channels == g.filters == 1 or 2 * g.filters <= width


def write_grad_weight(
    grad_out: np.ndarray, x: np.ndarray, g: Geometry, taps: Taps, grad_weight: np.ndarray
) -> None:
    """Write the gradient with respect to weight, given the one with respect to the output."""
    g, image = thinned(g)
    plan, window, strip, single = _plan(g, x.dtype)
    width = lanes(x.dtype)
    sums = _pool.empty((plan.slots, plan.vectors * plan.tiles * plan.tile), x.dtype)
    _grad_weight_loop.launch(
        g.pixels * g.depth * g.F,
        strip,
        single,
        flat_channels_last(grad_out),
        flat_channels_last(x),
        *plain(g, window, image, plan),
        sums,
    )
    total = sums.sum(axis=0).reshape(
        plan.vectors, g.KH // plan.rows, g.KW // plan.taps, plan.rows, plan.taps, g.channels, width
    )
    filters = total[..., : plan.step].transpose(0, 6, 5, 1, 3, 2, 4)
    filters = filters.reshape(-1, g.channels, g.KH, g.KW)
    if taps.square > g.KH * g.KW:
        grad_weight[...] = 0
    among(taps, g, grad_weight)[...] = filters[: g.F]


@remembered
def _plan(g: Geometry, dtype: np.dtype) -> tuple[Plan, Window, np.ndarray, np.ndarray]:
    """Cut the work by its shape alone, and say what the compiler must know.

    What is left of a row behind its strips is taken one by one.
    """
    width = lanes(dtype)
    channels, filters, groups = in_vectors(g, width)
    taps = divisor(g.KW, SUMS // channels)
    rows = divisor(g.KH, SUMS // (taps * channels))
    height = min(
        (height for height in range(1, min(HEIGHT, g.OW) + 1) if fits(g, height)),
        key=lambda height: g.OW // height * (height + 2) + g.OW % height * 6,
    )
    step = groups * filters
    vectors, tile = chunks_of(g.F, step), rows * taps * channels * width
    tiles = g.depth * width // tile
    blocks = blocks_of(g)
    room = SLOT_BYTES // (vectors * tiles * tile * dtype.itemsize)
    slots = max(min(CHUNKS, g.N * blocks, room), 1)
    parts = min(vectors, chunks_of(CHUNKS, slots))
    window = window_of(g, height, chunks_of(vectors, parts), dtype)
    plan = Plan(
        height, g.OW // height, g.OW % height, vectors, step, taps, rows, tile, tiles, blocks,
        slots, parts,
    )  # fmt: skip
    strip = sizes(
        outputs=height, pixels=window.pixels, rows=rows, taps=taps, stride=g.stride_w,
        dilation=g.dilation_w, channels=channels, filters=filters, groups=groups,
    )  # fmt: skip
    return plan, window, strip, alone(strip) if plan.rest else strip


@kernel
def _grad_weight_loop(strip, single, grad_out, x, g, window, image, plan, sums):
    g, window = Geometry(*g), Window(*window)
    image, plan = Places(*image), Plan(*plan)
    for chunk in prange(plan.slots * plan.parts):
        slot, part = chunk // plan.parts, chunk % plan.parts
        blocks = chunk_bounds(slot, plan.slots, g.N * plan.blocks)
        vectors = chunk_bounds(part, plan.parts, plan.vectors)
        size = plan.tiles * plan.tile
        sums[slot, vectors[0] * size : vectors[1] * size] = 0
        values = aligned_empty(window.held * window.vector, x)
        for v in range(vectors[0], vectors[1], window.held):
            held = v, min(v + window.held, vectors[1])
            for block in range(blocks[0], blocks[1]):
                n, rows = block // plan.blocks, block % plan.blocks
                rows = chunk_bounds(rows, plan.blocks, g.OH)
                for s in range(plan.strips):
                    _follow_strip(
                        strip, grad_out, x, g, window, image, plan, n, rows, s * plan.height,
                        held, values, sums[slot],
                    )  # fmt: skip
                for ow in range(g.OW - plan.rest, g.OW):
                    _follow_strip(
                        single, grad_out, x, g, window, image, plan, n, rows, ow, held, values,
                        sums[slot],
                    )  # fmt: skip


@body
def _follow_strip(
    known, grad_out, x, g, window, image, plan, n, rows, ow, vectors, values, sums
):  # fmt: skip
    """Add what the outputs of a strip contribute, row by row, for some vectors of filters."""
    width = lanes_of(x)
    outputs = tile_outputs(known, x)
    ends = aligned_empty(plan.height * width, x)
    behind = np.empty(g.KH, np.intp)
    for oh in range(rows[0], rows[1]):
        new = new_rows(g, window, oh, oh == rows[0])
        take_rows(known, x, g, window, image, n, new, ow, vectors, values)
        h = oh * g.stride_h - g.top
        taps = taps_inside(h, h, g.dilation_h, g.KH, g.H)
        for kh in range(g.KH):
            behind[kh] = (oh * g.stride_h + kh * g.dilation_h) % window.ring * window.row
        start = ((n * g.OH + oh) * g.OW + ow) * g.F
        for v in range(vectors[0], vectors[1]):
            at, f = (v - vectors[0]) * window.vector, v * plan.step
            columns = min(g.F - f, plan.step)
            tile_prefetch(outputs, grad_out, start + f + g.OW * g.F, g.F)  # of the next row
            if columns >= width:
                _add(
                    known, values, at, behind, taps, grad_out, start + f, g.F, g, plan,
                    sums, v,
                )  # fmt: skip
            else:
                held = tile_load_columns(outputs, grad_out, start + f, g.F, columns)
                tile_store(held, ends, 0, width)
                _add(known, values, at, behind, taps, ends, 0, width, g, plan, sums, v)


@body(inline=True)
def _add(known, values, at, behind, taps, grad, grad_at, grad_step, g, plan, sums, v):
    """Add to the tiles of one vector of filters, but for rows of taps that see padding."""
    right, runs = plan.taps * g.dilation_w * lanes_of(values), g.KW // plan.taps
    for kh in range(taps[0] // plan.rows * plan.rows, taps[1], plan.rows):
        to = (v * plan.tiles + kh // plan.rows * runs) * plan.tile
        for run in range(runs):
            tile = tile_load(tile_taps(known, sums), sums, to, lanes_of(sums))
            tile = tile_slide_back(
                tile, known, values, at + run * right, behind, kh, grad, grad_at, grad_step
            )
            tile_store(tile, sums, to, lanes_of(sums))
            to += plan.tile
