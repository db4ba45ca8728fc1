"""Convolution in small groups, lane by lane; depthwise is a group a channel.

Direct convolution (``conv_direct.py``) multiplies one value of x by a vector of filters, all of the
same group. Where a group has fewer filters than a vector has lanes, the others idle. Here each lane
is a filter of its own group, and meets the channels of that group (see ``_simd_slide.py``).

A tile is a strip of neighbouring outputs in a row, for one vector of filters. Its taps see some
rows of a strip of the padded image, the *window* (``conv_lanes_window.py``). A strip is followed
down the image row by row, so the window takes up one new row at a time.

The order of loops, from the outside:

    chunks     rows of an image x parts of the vectors of filters, shared out to threads
    strips     of a row
    vectors    as many as have room in the window
    rows       take up what is new in the window
    vectors    one tile each
    taps       and channels of a group
"""

import collections
import dataclasses
from typing import NamedTuple

import numpy as np

from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import filled_up
from minigrad.kernels._numbers import numbers_of, tuple_of
from minigrad.kernels._runs import aligned_empty
from minigrad.kernels._simd import (
    ROWS,
    lanes,
    lanes_of,
    tile_load,
    tile_store,
    tile_store_columns,
)
from minigrad.kernels._simd_slide import (
    sizes,
    tile_outputs,
    tile_prefetch_write,
    tile_slide,
)
from minigrad.kernels.conv_axes import exchanged, thinned
from minigrad.kernels.conv_choice import dot_cost
from minigrad.kernels.conv_finish import finish
from minigrad.kernels.conv_geometry import Geometry, taps_inside
from minigrad.kernels.conv_lanes_pack import pack_lanes
from minigrad.kernels.conv_lanes_window import (
    Window,
    in_vectors,
    new_rows,
    take_rows,
    window_of,
)
from minigrad.kernels.conv_phases import Phase
from minigrad.kernels.conv_window import Places, strip_start, strips_in

# Outputs in a strip, at most: with weights and what they read they fill the registers.
HEIGHT = 14 if ROWS >= 8 else 7

# Products with one pixel that are written out one by one: more would take long to compile.
PRODUCTS = 24

# Strips of columns are taken where those of rows would take so many times as long: pixels of a row
# are neighbours in memory.
POORER = 1.3

# Pixels in a row of the window.
PIXELS = 64

# With more channels the window of groups that share vectors is too large; half that with more taps.
SHARED = 32

# For strides and dilations longer than this no estimate was fitted: so many channels are few then.
SHORT, CHANNELS = 2, 8

# A tile of direct sums, one for each group, takes as long by itself as so many products; to bring a
# channel to the lanes of several groups takes half as long as one.
ALONE = 16

# Vectors of filters in a group: larger ones make better use of what a tile reads elsewhere.
VECTORS = 2

# Into how many chunks the work is cut, and the fewest rows of one: its neighbours copy some too.
CHUNKS = 16
LEAST_ROWS = 4


class Plan(NamedTuple):
    """How the work is cut."""

    height: int  # outputs in a strip
    row_strips: int  # strips in a row
    vectors: int  # of filters
    step: int  # filters in a vector
    runs: int  # into which the taps of a row fall
    taps: int  # in a run
    channels: int  # of a plane, that are multiplied one by one
    blocks: int  # chunks over the rows of an image
    parts: int  # chunks over the vectors


# Where in the row of a task its parts begin.
_WINDOW = len(Geometry._fields)
_IMAGE = _WINDOW + len(Window._fields)
_PLACES = _IMAGE + len(Places._fields)
_PLAN = _PLACES + len(Places._fields)
_REST = _PLAN + len(Plan._fields)
_TASK = _REST + 2


def serves(g: Geometry, dtype: np.dtype) -> bool:
    """Tell whether groups fill vectors, or share them and take less time than other sums.

    Two vectors of filters fill the tiles of direct sums, and few channels need no copy there. Few
    filters of many channels are summed along these (``conv_dot.py``).
    """
    width = lanes(dtype)
    if g.groups == 1 or g.pixels * g.depth * g.F == 0 or (g.KW - 1) * g.dilation_w >= PIXELS:
        return False
    if g.filters % width == 0:
        few = g.filters == width and g.channels < width
        return few or (g.channels % width == 0 and g.filters <= VECTORS * width)
    if g.filters > width or g.channels * min(g.KH * g.KW, 2) > SHARED:
        return False
    if max(g.stride_h, g.stride_w, g.dilation_h, g.dilation_w) > SHORT:
        return 2 * g.filters <= width and g.channels <= CHANNELS
    cost = chunks_of(g.F, width // g.filters * g.filters) * (3 * g.depth // 2 + 2)
    dots = g.groups * dot_cost(g.channels, g.filters, g.KH, g.KW, False, width) / width
    if dots < g.groups * g.depth:
        return cost < dots
    return cost < g.groups * (g.depth + ALONE)


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """Convolutions with the same filters, worked out as far as shapes decide.

    Attributes
    ----------
    loops : list of (known, work, chunks, tasks)
        Those whose sizes the compiler knows to be the same have one loop in common; its tasks are
        rows of a Geometry, a Window, Places of what is seen and of what is written, a Plan, and
        where weights and chunks begin.
    vectors : int
        Of filters.
    sizes : ndarray, shape (7,)
        Filters, those of a vector, and those and the channels of a group; and in the weight the
        steps from a group, a filter and a channel to the next.
    taps : ndarray, shape (taps, 3)
        Of each tap its place in the weight, that in the packed weight, and there the step from a
        vector to the next.
    packed : int
        Values of the packed weight: for each convolution (vectors, taps, channels, lanes).
    """

    loops: list[tuple[np.ndarray, int, int, np.ndarray]]
    vectors: int
    sizes: np.ndarray
    taps: np.ndarray
    packed: int


def job_of(phases: list[Phase], square: int, transposed: bool, dtype: np.dtype) -> Job:
    """Work out convolutions that filters of KH * KW = square values do."""
    tasks: dict[np.dtype, list[list[int]]] = {}
    chunks: collections.Counter[np.dtype] = collections.Counter()
    work: collections.Counter[np.dtype] = collections.Counter()
    taps, packed = [], 0
    for phase in phases:
        (g, places, numbers), image = _looked_at(phase, dtype)
        plan, window, known = _plan(g, dtype)
        row = [*g, *window, *image, *places, *plan, packed, chunks[known]]
        tasks.setdefault(known, []).append(row)
        chunks[known] += g.N * plan.blocks * plan.parts
        work[known] += g.pixels * (g.depth + 1) * g.F
        step, tap = g.depth * lanes(dtype), g.channels * lanes(dtype)
        taps += [(number, packed + i * tap, step) for i, number in enumerate(numbers.tolist())]
        packed += plan.vectors * step
    steps = (square, g.filters * square) if transposed else (g.channels * square, square)
    sizes = (g.F, plan.step, g.filters, g.channels, g.filters * g.channels * square, *steps)
    return Job(
        [(np.empty(0, known), work[known], chunks[known], numbers_of(tasks[known]))
         for known in tasks],
        plan.vectors, np.array(sizes), np.array(taps), packed,
    )  # fmt: skip


def convolve(
    job: Job,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    out: np.ndarray,
    other: np.ndarray,
    relu: int,
) -> None:
    """Write the convolutions of x, in channels-last order, to their places in out, and finish them.

    Parameters
    ----------
    job : Job
    x : ndarray, shape (N * H * W * C,)
    weight : ndarray, shape (F, C/groups, KH, KW)
    bias : ndarray, shape (F,), or None
    out : ndarray, shape (N * H * W * F,)
    other : ndarray, shape (N * F * H * W,) or (0,)
        Is added, if there is any.
    relu : int
        Whether a relu follows.
    """
    biases = filled_up(bias, job.vectors * lanes(x.dtype), x.dtype)
    packed = pack_lanes(weight, job.packed, job.vectors, job.sizes, job.taps)
    for known, work, chunks, tasks in job.loops:
        _convolve_loop.launch(work, known, chunks, x, packed, biases, other, relu, tasks, out)


def _plan(g: Geometry, dtype: np.dtype) -> tuple[Plan, Window, np.dtype]:
    """Cut the work by its shape alone, and say what the compiler must know."""
    width = lanes(dtype)
    channels, filters, groups = in_vectors(g, width)
    taps = divisor(g.KW, PRODUCTS // channels)
    height = _height(g)
    step = groups * filters
    vectors = chunks_of(g.F, step)
    blocks = blocks_of(g)
    parts = min(vectors, chunks_of(CHUNKS, g.N * blocks))
    window = window_of(g, height, chunks_of(vectors, parts), dtype)
    plan = Plan(
        height, strips_in(g.OW, height), vectors, step, g.KW // taps, taps,
        g.channels // (window.planes * channels), blocks, parts,
    )  # fmt: skip
    known = sizes(
        outputs=height, pixels=window.pixels, rows=1, taps=taps, stride=g.stride_w,
        dilation=g.dilation_w, channels=channels, filters=filters, groups=groups,
    )  # fmt: skip
    return plan, window, known.dtype


def _height(g: Geometry) -> int:
    """Choose the height of strips for the rows of a convolution."""
    heights = [height for height in range(1, min(HEIGHT, g.OW) + 1) if fits(g, height)]
    return min(heights, key=lambda height: _cost(g, height))


def _cost(g: Geometry, height: int) -> int:
    """Estimate how long rows of strips take: a low one waits for its sums, each has its weights."""
    return g.OH * strips_in(g.OW, height) * (max(height, 4) + 2)


def _looked_at(phase: Phase, dtype: np.dtype) -> tuple[Phase, Places]:
    """Leave out pixels that no tap sees, and where rows make poor strips, follow columns.

    Also returned is where in x a pixel lies.
    """
    g, image = thinned(phase.g)
    turned = exchanged(g)
    if not fits(turned, 1) or _chunks(turned, dtype) < min(_chunks(g, dtype), CHUNKS):
        return phase._replace(g=g), image
    if POORER * _cost(turned, _height(turned)) > _cost(g, _height(g)):
        return phase._replace(g=g), image
    places = phase.places
    return Phase(
        turned,
        places._replace(row=places.pixel, pixel=places.row),
        phase.taps.reshape(g.KH, g.KW).T.reshape(-1),
    ), image._replace(row=image.pixel, pixel=image.row)


def _chunks(g: Geometry, dtype: np.dtype) -> int:
    """Count the chunks into which a convolution can be cut."""
    _, filters, groups = in_vectors(g, lanes(dtype))
    return g.N * blocks_of(g) * chunks_of(g.F, groups * filters)


def divisor(number: int, most: int) -> int:
    """Return the largest divisor that is not larger than ``most``, or 1."""
    return max(n for n in range(1, max(min(number, most), 1) + 1) if number % n == 0)


def fits(g: Geometry, outputs: int) -> bool:
    """Tell whether a row of the window holds what so many outputs see."""
    return (outputs - 1) * g.stride_w + (g.KW - 1) * g.dilation_w < PIXELS


def blocks_of(g: Geometry) -> int:
    """Return into how many chunks the rows of an image are cut."""
    return max(min(chunks_of(CHUNKS, g.N), g.OH // LEAST_ROWS), 1)


@kernel
def _convolve_loop(known, chunks, x, weight, bias, other, relu, tasks, out):
    for chunk in prange(chunks):
        _convolve_chunk(known, x, weight, bias, other, relu, tasks, chunk, out)


@body
def _convolve_chunk(known, x, weight, bias, other, relu, tasks, chunk, out):
    """Find the task of a chunk, and run through its strips and vectors."""
    number = len(tasks) - 1
    while tasks[number, _REST + 1] > chunk:
        number -= 1
    row = tuple_of(tasks[number], _TASK)
    g, window = Geometry(*row[:_WINDOW]), Window(*row[_WINDOW:_IMAGE])
    image, places = Places(*row[_IMAGE:_PLACES]), Places(*row[_PLACES:_PLAN])
    plan = Plan(*row[_PLAN:_REST])
    weights, chunk = weight[row[_REST] :], chunk - row[_REST + 1]
    n, block = chunk // (plan.blocks * plan.parts), chunk // plan.parts % plan.blocks
    rows = chunk_bounds(block, plan.blocks, g.OH)
    vectors = chunk_bounds(chunk % plan.parts, plan.parts, plan.vectors)
    values = aligned_empty(window.held * window.vector, x)
    for strip in range(plan.row_strips):
        ow = strip_start(strip, plan.height, g.OW)
        for v in range(vectors[0], vectors[1], window.held):
            held = v, min(v + window.held, vectors[1])
            _follow_strip(
                tile_outputs(known, out), known, x, weights, bias, other, relu, g, window,
                image, places, plan, n, rows, ow, held, values, out,
            )  # fmt: skip


@body
def _follow_strip(
    zeros, known, x, weight, bias, other, relu, g, window, image, places, plan, n, rows, ow,
    vectors, values, out,
):  # fmt: skip
    """Compute the outputs of a strip, row by row, for some vectors of filters."""
    width = lanes_of(out)
    for oh in range(rows[0], rows[1]):
        h = oh * g.stride_h - g.top
        taps = taps_inside(h, h, g.dilation_h, g.KH, g.H)
        first, last = new_rows(g, window, oh, oh == rows[0])
        first, last = max(first, g.top), min(last, g.top + g.H)  # no tap meets the others
        take_rows(known, x, g, window, image, n, (first, last), ow, vectors, values)
        slot = oh * g.stride_h % window.ring
        start = places.start + n * places.image + oh * places.row + ow * places.pixel
        for v in range(vectors[0], vectors[1]):
            at = (v - vectors[0]) * window.vector
            if window.ahead:
                tile_prefetch_write(zeros, out, start + places.row + v * plan.step, places.pixel)
            sums = tile_load(zeros, bias, v * plan.step, 0)
            k = v * g.depth * width
            sums = _sum(sums, known, values, at, slot, taps, weight, k, g, window, plan)
            to, columns = start + v * plan.step, min(g.F - v * plan.step, plan.step)
            if other.size > 0 or relu:
                sums = finish(sums, other, to, places.pixel, plan.height, columns, relu)
            if columns >= width:
                tile_store(sums, out, to, places.pixel)
            else:
                tile_store_columns(sums, out, to, places.pixel, columns)


@body(inline=True)
def _sum(sums, known, values, at, slot, taps, weight, k, g, window, plan):
    """Sum over rows of taps and channels for a tile, whose weights begin at k."""
    width = lanes_of(values)
    tap = g.channels * width
    k += taps[0] * g.KW * tap
    slot += taps[0] * g.dilation_h
    for _ in range(taps[0], taps[1]):
        if slot >= window.ring:
            slot -= window.ring
        row = at + slot * window.row
        for run in range(plan.runs):
            here = row + run * plan.taps * g.dilation_w * width
            for plane in range(window.planes):
                for c in range(plan.channels):
                    seen, factors = here + plane * window.plane + c, k + (plane * width + c) * width
                    sums = tile_slide(sums, known, values, seen, weight, factors, tap)
            k += plan.taps * tap
        slot += g.dilation_h
    return sums
