"""Convolution to few filters: sums lie along channels, and are folded at the end.

Direct convolution (``conv_direct.py``) multiplies one value of x by a vector of filters. Where a
group has a few filters, most lanes idle. Here a vector holds channels: of a pixel as they lie in
memory, and of a filter once its taps are the outer axis, (F, KH, KW, C). Products are summed lane
by lane over all taps, and only then are the lanes folded to one output (``_simd_dot.py``)::

    channels of a pixel        x0 x1 .. x15 | x16 x17 .. x31
    those of a filter          w0 w1 .. w15 | w16 w17 .. w31
    a sum, lane by lane        x0 w0 + x16 w16,  x1 w1 + x17 w17,  ..

A tile is PIXELS pixels, from rows of whatever length, times at most FILTERS filters. Nothing is
copied: taps that see the image from all pixels of a tile go through it in runs, others one by one,
each for those pixels from which it does.

The order of loops, from the outside:

    chunks     neighbouring output pixels, shared out to threads
    tiles      PIXELS of them
    filters    of each group, at most FILTERS at a time
    taps       that see the image
    channels   a vector at a time (``tile_dot``)
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from minigrad.kernels._constant import Empty, prepared
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import filled_up, flat_channels_last
from minigrad.kernels._numbers import numbers_of, tuple_of
from minigrad.kernels._simd import (
    ROWS,
    lanes,
    lanes_of,
    tile_gather,
    tile_store,
    tile_store_columns,
    tile_zeros,
)
from minigrad.kernels._simd_dot import tile_dot, tile_dot_some, tile_totals
from minigrad.kernels.conv_choice import DOTS, dot_cost
from minigrad.kernels.conv_geometry import Geometry, taps_inside
from minigrad.kernels.conv_pack import aligned
from minigrad.kernels.conv_phases import Phase
from minigrad.kernels.conv_window import Places
from minigrad.kernels.gemm import whole_vectors

# Pixels and filters of a tile: their sums, a vector of each filter and one of x fill the registers.
PIXELS, FILTERS = ROWS // 2 + 1, DOTS

# Into how many chunks the pixels are cut, and the fewest tiles of one.
CHUNKS, LEAST_TILES = 16, 4


# Of each pixel of a tile: where in x its first tap stands, at which row and column of the image;
# and where it is written.
THERE, ROW, COLUMN, WRITTEN = range(4)


class Task(NamedTuple):
    """Where the chunks and the weight of a convolution begin, and how many chunks there are."""

    first_chunk: int
    chunks: int
    weight: int
    filter: int  # values of the weight from one filter to the next


class Seen(NamedTuple):
    """Which taps see the image from some pixel of a tile, and which from all."""

    top: int
    bottom: int
    left: int
    right: int
    all_top: int
    all_bottom: int
    all_left: int
    all_right: int
    edges: bool  # the former are more than the latter


# Where in the row of a task its parts begin.
_PLACES = len(Geometry._fields)
_REST = _PLACES + len(Places._fields)
_TASK = _REST + len(Task._fields)


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """Convolutions with the same filters, worked out as far as shapes decide.

    Attributes
    ----------
    work, chunks : int
    tasks : ndarray
        For each of them a row of a Geometry, Places and a Task.
    sizes : ndarray, shape (6,)
        Filters, those and the channels of a group; and in the weight the steps from a group, a
        filter and a channel to the next.
    taps : ndarray
        Their places in the weight, for all convolutions one after the other. The packed weight is
        (filters, taps, channels).
    how : tuple
        The same as one value.
    """

    work: int
    chunks: int
    tasks: np.ndarray
    sizes: np.ndarray
    taps: np.ndarray
    how: tuple[str, bytes, bytes]


def serves(phases: list[Phase], dtype: np.dtype) -> bool:
    """Tell whether convolutions with the same filters take less time so than by direct sums."""
    vector, dots, direct = lanes(dtype), 0.0, 0.0
    for g, _, _ in phases:
        neighbours = g.groups == g.dilation_w == 1
        dots += g.pixels * dot_cost(g.channels, g.filters, g.KH, g.KW, neighbours, vector)
        direct += g.pixels * g.depth * whole_vectors(g.filters, dtype) * vector
    return dots < direct


def job_of(phases: list[Phase], square: int, transposed: bool) -> Job:
    """Work out convolutions that filters of KH * KW = square values do."""
    taps = np.concatenate([phase.taps for phase in phases])
    tasks, chunks, at = [], 0, 0
    for g, places, numbers in phases:
        count = max(min(CHUNKS, g.pixels // (LEAST_TILES * PIXELS)), 1)
        tasks.append([*g, *places, *Task(chunks, count, at, taps.size * g.channels)])
        chunks, at = chunks + count, at + numbers.size * g.channels
    g = phases[0].g
    steps = (square, g.filters * square) if transposed else (g.channels * square, square)
    sizes = np.array((g.F, g.filters, g.channels, g.filters * g.channels * square, *steps))
    return Job(
        work=sum(phase.g.pixels * phase.g.depth * phase.g.F for phase in phases),
        chunks=chunks,
        tasks=numbers_of(tasks),
        sizes=sizes,
        taps=taps,
        how=("dots", sizes.tobytes(), taps.tobytes()),
    )


def convolve(
    job: Job, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, out: np.ndarray
) -> None:
    """Write the convolutions of x to their places in out."""
    biases = filled_up(bias, int(job.sizes[0]), x.dtype)
    _convolve_loop.launch(
        job.work, job.chunks, flat_channels_last(x), _pack(weight, job), biases, job.tasks,
        flat_channels_last(out),
    )  # fmt: skip


def _pack(weight: np.ndarray, job: Job) -> np.ndarray:
    """Bring the weight to the order of the loops."""

    def pack(empty: Empty) -> np.ndarray:
        size = int(job.sizes[0]) * job.taps.size * int(job.sizes[2])
        packed = aligned(size, weight.dtype, empty)
        values = np.ascontiguousarray(weight).reshape(-1)
        _pack_loop.launch(size, values, job.sizes, job.taps, packed)
        return packed

    return prepared(weight, job.how, pack)


@kernel
def _pack_loop(weight, sizes, taps, packed):
    for f in prange(sizes[0]):
        _pack_filter(weight, sizes, taps, f, packed)


@body
def _pack_filter(weight, sizes, taps, f, packed):
    """Pack a filter tap by tap, gathering its channels."""
    filters, channels, step = sizes[1], sizes[2], sizes[5]
    at = f // filters * sizes[3] + f % filters * sizes[4]
    one, to = tile_zeros(1, 1, packed), f * len(taps) * channels
    for tap in range(len(taps)):
        for c in range(0, channels, lanes_of(packed)):
            held = tile_gather(one, weight, at + taps[tap] + c * step, step, channels - c)
            tile_store_columns(held, packed, to + c, 0, channels - c)
        to += channels


@kernel
def _convolve_loop(chunks, x, weight, bias, tasks, out):
    for chunk in prange(chunks):
        _convolve_chunk(x, weight, bias, tasks, chunk, out)


@body
def _convolve_chunk(x, weight, bias, tasks, chunk, out):
    """Find the task of a chunk, and run through its pixels and filters."""
    number = len(tasks) - 1
    while tasks[number, _REST] > chunk:
        number -= 1
    row = tuple_of(tasks[number], _TASK)
    g, places, task = Geometry(*row[:_PLACES]), Places(*row[_PLACES:_REST]), Task(*row[_REST:])
    first, last = chunk_bounds(chunk - task.first_chunk, task.chunks, g.pixels)
    pixels, kept = np.empty((4, PIXELS), np.intp), np.empty(PIXELS, np.bool_)
    there, written = pixels[THERE], pixels[WRITTEN]
    zeros = np.zeros(g.channels, x.dtype)
    sums = np.empty(PIXELS * FILTERS + lanes_of(x), x.dtype)
    blocks = chunks_of(g.filters, FILTERS)
    for pixel in range(first, last, PIXELS):
        seen = _place_pixels(g, places, pixel, last, pixels)
        for block in range(g.groups * blocks):
            start, stop = chunk_bounds(block % blocks, blocks, g.filters)
            f, filters = block // blocks * g.filters + start, stop - start
            at, k = block // blocks * g.channels, task.weight + f * task.filter
            if filters == 1:
                _tile(
                    tile_zeros(PIXELS, 1, x), x, there, at, weight, k, task.filter, g, seen,
                    pixels, kept, zeros, sums,
                )  # fmt: skip
            elif filters == 2:
                _tile(
                    tile_zeros(PIXELS, 2, x), x, there, at, weight, k, task.filter, g, seen,
                    pixels, kept, zeros, sums,
                )  # fmt: skip
            else:
                _tile(
                    tile_zeros(PIXELS, FILTERS, x), x, there, at, weight, k, task.filter, g, seen,
                    pixels, kept, zeros, sums,
                )  # fmt: skip
            for i in range(PIXELS):
                for j in range(filters):
                    out[written[i] + f + j] = sums[i * filters + j] + bias[f + j]


@body
def _place_pixels(g, places, first, last, pixels):
    """List the pixels of a tile, and return what they see; the last one may stand there twice."""
    n, oh, ow = first // (g.OH * g.OW), first // g.OW % g.OH, first % g.OW
    low_h = high_h = oh * g.stride_h - g.top
    low_w = high_w = ow * g.stride_w - g.left
    for i in range(PIXELS):
        h, w = oh * g.stride_h - g.top, ow * g.stride_w - g.left
        low_h, high_h, low_w, high_w = min(low_h, h), max(high_h, h), min(low_w, w), max(high_w, w)
        pixels[THERE, i] = ((n * g.H + h) * g.W + w) * g.C
        pixels[WRITTEN, i] = places.start + n * places.image + oh * places.row + ow * places.pixel
        pixels[ROW, i], pixels[COLUMN, i] = h, w
        if first + i + 1 < last:
            ow += 1
            if ow == g.OW:
                ow, oh = 0, oh + 1
                if oh == g.OH:
                    oh, n = 0, n + 1
    top, bottom = taps_inside(low_h, high_h, g.dilation_h, g.KH, g.H)
    left, right = taps_inside(low_w, high_w, g.dilation_w, g.KW, g.W)
    all_top, _ = taps_inside(low_h, low_h, g.dilation_h, g.KH, g.H)
    _, all_bottom = taps_inside(high_h, high_h, g.dilation_h, g.KH, g.H)
    all_left, _ = taps_inside(low_w, low_w, g.dilation_w, g.KW, g.W)
    _, all_right = taps_inside(high_w, high_w, g.dilation_w, g.KW, g.W)
    edges = top < all_top or all_bottom < bottom or left < all_left or all_right < right
    return Seen(
        top, bottom, left, right, all_top, all_bottom, all_left, all_right, edges
    )  # fmt: skip


@body
def _tile(sums, x, there, at, weight, k, step, g, seen, pixels, kept, zeros, totals):
    """Sum over taps and channels for some pixels and filters."""
    width = lanes_of(x)
    down, right = g.dilation_h * g.W * g.C, g.dilation_w * g.C
    runs, run = max(seen.all_right - seen.all_left, 0), g.channels
    if right == run:  # neighbouring taps see neighbouring values
        runs, run = min(runs, 1), runs * run
    whole = run // width * width
    for kh in range(seen.all_top, seen.all_bottom):
        for i in range(runs):
            tap = at + kh * down + (seen.all_left + i) * right
            factors = k + (kh * g.KW + seen.all_left + i) * g.channels
            for c in range(0, whole, width):
                sums = tile_dot(sums, x, there, tap + c, weight, factors + c, step, width)
            if whole < run:
                sums = tile_dot(
                    sums, x, there, tap + whole, weight, factors + whole, step, run - whole
                )
    if seen.edges:
        for kh in range(seen.top, seen.bottom):
            inside = seen.all_top <= kh < seen.all_bottom
            for kw in range(seen.left, seen.right):
                if inside and seen.all_left <= kw < seen.all_right:
                    continue
                h, w = kh * g.dilation_h, kw * g.dilation_w
                for m in range(PIXELS):  # without a branch, for all of them at once
                    rows = (-h <= pixels[ROW, m]) & (pixels[ROW, m] < g.H - h)
                    columns = (-w <= pixels[COLUMN, m]) & (pixels[COLUMN, m] < g.W - w)
                    kept[m] = rows & columns
                tap, factors = at + kh * down + kw * right, k + (kh * g.KW + kw) * g.channels
                for c in range(0, g.channels, width):
                    sums = tile_dot_some(
                        sums, x, there, tap, weight, factors, step, c, g.channels - c, kept, zeros
                    )
    tile_store(tile_totals(sums), totals, 0, 0)
