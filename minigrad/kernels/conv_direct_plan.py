"""How direct convolution is cut: strips, tiles, chunks and windows, as far as shapes decide.

A chunk has a share of the strips and a part of the filters. The shares are as even as whole tiles
allow, and an even number, so that two threads finish together::

    290 strips, shared by 16 chunks      18 18 18 18 18 18 18 18 | 18 18 18 18 18 18 18 20
    and cut every 20 strips              20 20 20 20 20 20 20 20 | 20 20 20 20 20 20 10
"""

import dataclasses
import math

import numpy as np

from minigrad.kernels import conv_dot, conv_few, conv_lanes
from minigrad.kernels._ahead import LINE_BYTES, PAGE_BYTES, spread_lines
from minigrad.kernels._jit import chunks_of
from minigrad.kernels._layout import Shape, remembered
from minigrad.kernels._numbers import numbers_of
from minigrad.kernels._simd import VECTOR_BITS, lanes
from minigrad.kernels.conv_geometry import Geometry, Pair, Sides, geometry
from minigrad.kernels.conv_pack import Packing, packing_of
from minigrad.kernels.conv_phases import (
    NOWHERE,
    Phase,
    in_one_row,
    phases_of,
    shift,
    simplified,
    whole_of,
)
from minigrad.kernels.conv_window import (
    PIXELS,
    Places,
    Plan,
    Window,
    gap_for,
    seen_in,
    strips_in,
    tile_for,
    window_of,
)
from minigrad.kernels.gemm import whole_vectors

# A chunk's window and outputs should stay in the second cache while all filters pass. Chunks that
# copy no window need not be so large.
CHUNK_BYTES, UNCOPIED_BYTES = 256 * 1024, 24 * 1024

# Fewer pixels than this do not pay for reading weights from memory.
LEAST_PIXELS = 196

# Weights that the first and the second cache hold beside what is multiplied with them.
FIRST_BYTES, NEAR_BYTES = 16 * 1024, 512 * 1024

# So many lines are asked for at a time, or more, lest fewer values are summed in between.
ASKED, STRETCH = 8, 16

# Into how many chunks a small problem is cut.
CHUNKS = 16

# Up to so many chunks copy the same window each: a loop to copy it once takes as long.
COPIES = 2


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """A convolution, or the phases of one, worked out as far as shapes decide."""

    shape: Shape  # of the result
    groups: int
    few: Geometry | None  # if conv_few.py serves; then the rest is not needed
    dots: conv_dot.Job | None  # nor then
    in_lanes: conv_lanes.Job | None  # then most of the rest is not needed
    untapped: bool  # there are phases without taps
    work: int
    chunks: int
    tasks: np.ndarray  # the whole of what a chunk has to do, and each phase
    padded: tuple[int, ...]  # rows of a copy of x for all chunks and their size, if there is one
    packing: Packing
    biases: np.ndarray  # zeros, filled up to whole vectors


@remembered
def forward_job(
    x_shape: Shape, weight_shape: Shape, stride: Pair, padding: Sides, dilation: Pair,
    groups: int, dtype: np.dtype,
) -> Job:  # fmt: skip
    """Plan a convolution."""
    g = geometry(x_shape, weight_shape, stride, padding, dilation, groups)
    places = Places(0, g.OH * g.OW * g.F, g.OW * g.F, g.F)
    phase = Phase(g, places, np.arange(g.KH * g.KW))
    return _job(g, [phase], False, (g.N, g.F, g.OH, g.OW), dtype)


@remembered
def backward_job(
    x_shape: Shape, weight_shape: Shape, stride: Pair, padding: Sides, dilation: Pair,
    groups: int, dtype: np.dtype,
) -> Job:  # fmt: skip
    """Plan its gradient with respect to x."""
    g = geometry(x_shape, weight_shape, stride, padding, dilation, groups)
    return _job(g, phases_of(g), True, x_shape, dtype)


def _job(g: Geometry, phases: list[Phase], transposed: bool, shape: Shape, dtype: np.dtype) -> Job:
    """Work out what the loop must know; all phases share its chunks, windows and packed weight."""
    square = g.KH * g.KW
    phases = simplified(phases)
    tapped = [phase for phase in phases if phase.g.depth]
    if len(phases) == 1:
        phases = [in_one_row(phases[0])]
    whole = whole_of(phases)
    window = window_of(whole, gap=gap_for(whole, dtype.itemsize))
    plan = plan_of(whole, window, dtype.itemsize, len(phases))
    padded: tuple[int, ...] = ()
    if window.copied and plan.parts > COPIES and whole.groups == 1:
        padded = (whole.N * window.height, window.width * window.pixel)
        window = window._replace(copied=0)
    if len(phases) > 1:
        plan = _whole_rows(whole, plan)
    plans = [plan_of(phase.g, window, dtype.itemsize) for phase in phases]
    vectors = max(its.vectors for its in plans)
    packing = packing_of(phases, square, vectors, transposed, lanes(dtype))
    tasks = [[*whole, *window, *NOWHERE, *plan, 0, 0]]
    for phase, its, start in zip(phases, plans, packing.starts, strict=True):
        seen = seen_in(phase.g, *window[:4])
        its = its._replace(vectors=vectors, parts=plan.parts)
        its = _ahead(phase.g, seen, phase.places, its, dtype.itemsize)
        tasks.append([*phase.g, *seen, *phase.places, *its, start, shift(whole, phase.g, window)])
    in_lanes = dots = None
    if tapped and all(conv_lanes.serves(phase.g, dtype) for phase in tapped):
        in_lanes = conv_lanes.job_of(tapped, square, transposed, dtype)
    elif conv_dot.serves(tapped, dtype):
        dots = conv_dot.job_of(tapped, square, transposed)
    few = conv_few.adds(g, dtype) if transposed else conv_few.packs_longer(g, dtype, bool(dots))
    return Job(
        shape=shape,
        groups=whole.groups,
        few=g if few else None,
        dots=dots,
        in_lanes=in_lanes,
        untapped=len(tapped) < len(phases),
        work=sum(phase.g.pixels * (phase.g.depth + 1) * phase.g.F for phase in phases),
        chunks=plan.pieces * plan.parts,
        tasks=numbers_of(tasks),
        padded=padded,
        packing=packing,
        biases=np.zeros(whole.groups * vectors * lanes(dtype), dtype),
    )


def _whole_rows(whole: Geometry, plan: Plan) -> Plan:
    """Let chunks be whole rows of each phase, so many that no strip lacks a partner."""
    unit = PIXELS if plan.height == 1 else 1 + plan.row_strips % 2
    rows = whole.N * whole.OH
    pieces = min(plan.pieces, chunks_of(rows, unit))
    return plan._replace(row_strips=1, strips=rows, unit=unit, pieces=pieces)


def plan_of(g: Geometry, window: Window, itemsize: int, phases: int = 1) -> Plan:
    """Cut the work by its shape alone, for as many phases."""
    vectors = whole_vectors(g.filters, np.dtype(f"f{itemsize}"))
    height, wide = tile_for(g.OW, vectors)
    row_strips = strips_in(g.OW, height)
    strips = g.N * g.OH * row_strips
    pixel_bytes = (g.stride_h * g.stride_w * g.channels + phases * g.filters) * itemsize
    pixels = max(CHUNK_BYTES // max(pixel_bytes, 1), LEAST_PIXELS)
    if not window.copied:
        pixels = max(UNCOPIED_BYTES // max(g.channels * itemsize, 1), LEAST_PIXELS)
    tiles = strips_in(vectors, wide)
    # Rather chunks over the filters than chunks of few pixels that all read many weights.
    few = LEAST_PIXELS // height if vectors * g.depth * VECTOR_BITS // 8 > FIRST_BYTES else 0
    fair = min(few, chunks_of(strips, chunks_of(CHUNKS, max(tiles, 1))))
    block = max(min(pixels // height, max(chunks_of(strips, CHUNKS), fair)), 1)
    unit = PIXELS if height == 1 else 2  # strips of a tile
    rows = math.lcm(unit, max(row_strips, 1))
    if window.copied and strips >= CHUNKS * rows:  # a row that two chunks share is copied twice
        unit = rows
    pieces = chunks_of(strips, block)
    pieces = min(pieces + pieces % 2, chunks_of(strips, unit))
    parts = max(min(tiles, CHUNKS // max(pieces, 1)), 1)
    near = max(NEAR_BYTES // max(g.depth * VECTOR_BITS // 8, 1) // wide, 1) * wide
    return Plan(height, wide, row_strips, strips, unit, pieces, tiles * wide, parts, near)


def _ahead(g: Geometry, window: Window, places: Places, plan: Plan, itemsize: int) -> Plan:
    """Spread what the next two strips need over the tiles of these two."""
    if window.copied:  # a copy runs along the rows of x, which the processor foresees
        return plan._replace(stretch=max(window.run, 1))
    tiles = plan.vectors // plan.wide
    near = min(plan.near // plan.wide, chunks_of(tiles, plan.parts))
    pair = 2 * plan.height * itemsize
    read = pair * g.stride_w * window.pixel
    # Only where one chunk writes whole pixels: else two threads would fetch the same lines.
    written = pair * places.pixel if near == tiles and places.pixel == g.filters else 0
    rows = near * g.KH * window.runs
    stretch = max(rows * window.run * ASKED * LINE_BYTES // max(read + written, 1), STRETCH)
    times = rows * chunks_of(window.run, stretch)
    reads, writes = spread_lines(read, times), spread_lines(written, times)
    collide = g.stride_w * window.pixel * itemsize % PAGE_BYTES == 0 and g.KH * g.KW == 1
    return plan._replace(
        stretch=stretch, reads=reads[0], read_step=reads[1], writes=writes[0],
        write_step=writes[1], room=window.run if collide else 0,
    )  # fmt: skip
