"""Direct convolution: tiles of sums that stay in registers while the filter passes by.

A tile holds the outputs of two strips of pixels (see ``conv_window.py``) for one or two vectors of
filters. The whole sum over taps and channels is done before the tile is written, once. In
channels-last memory each filter row meets one run of KW*C neighbouring values, so nothing is
lowered; all that is copied is a window of padded rows::

    window (pixel by pixel, C values each)         weight, one vector of filters
                                                   (KH * KW * C rows of ``lanes`` values)
    0 a b c d e 0                                  +------------+
    0 f g h i j 0     |f g h| meets filter row 1   | f0 .. f15  |  tap (0, 0), channel 0
    0 k l m n o 0                                  | f0 .. f15  |  tap (0, 0), channel 1 ...

The order of loops, from the outside:

    chunks         strips of output pixels x vectors of filters, shared out to threads
    groups         fill the window with this group's channels
    filters        as many as have their weights in the second cache together
    strips         two at a time: what they see stays in the first cache
    filters        two vectors at a time, one tile
    taps, channels one column of window values times one row of weights (``tile_outer_far``)

Where x itself is the window, it comes from memory, and so does out before it is written. Both are
asked for while the tiles before are summed, for the processor does not foresee where they go on.

The gradient with respect to x is a convolution of grad_out, or with a stride several of them, each
with some of the taps (``conv_phases.py``). They share chunks and windows, so grad_out is read once.
"""

import dataclasses

import numpy as np

from minigrad.kernels import _pool, conv_dot, conv_few, conv_lanes
from minigrad.kernels._ahead import LINE_BYTES, prefetch_lines, prefetch_write_lines, spread_lines
from minigrad.kernels._bits import NO_MASK, tile_keep_marked_part, tile_keep_positive
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import Shape, empty_channels_last, flat_channels_last, remembered
from minigrad.kernels._numbers import numbers_of
from minigrad.kernels._simd import (
    ROWS,
    VECTOR_BITS,
    lanes,
    lanes_of,
    tile_add,
    tile_load,
    tile_load_columns,
    tile_outer_far,
    tile_store_columns,
    tile_zeros,
)
from minigrad.kernels._simd_slide import tile_prefetch
from minigrad.kernels.conv_finish import Other, begin, finish_apart, flat_or_none
from minigrad.kernels.conv_geometry import Geometry, Pair, Sides, geometry
from minigrad.kernels.conv_pack import Packing, pack_weight, packing_of
from minigrad.kernels.conv_phases import (
    NOWHERE,
    Phase,
    in_one_row,
    phases_of,
    shift,
    simplified,
    strip_number,
    strip_of,
    task_of,
    whole_of,
)
from minigrad.kernels.conv_pixels import single_pixels
from minigrad.kernels.conv_window import (
    ALONE,
    LOW,
    PIXELS,
    SEEN,
    TALL,
    WRITTEN,
    Places,
    Plan,
    Window,
    fill_window,
    gap_for,
    place_strips,
    seen_by,
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


def conv2d_forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    groups: int,
    other: np.ndarray | None = None,
    relu: bool = False,
) -> np.ndarray:
    """Return the convolution of x with the filters in weight."""
    job = _forward(x.shape, weight.shape, stride, padding, dilation, groups, x.dtype)
    if job.few:
        return conv_few.forward(job.few, x, weight, bias, other, relu)
    out = empty_channels_last(job.shape, x.dtype)
    if job.dots:
        conv_dot.convolve(job.dots, x, weight, bias, out)
        return finish_apart(out, other, relu)
    _convolve(job, x, weight, False, bias, out, other, relu)
    return out


def conv2d_grad_input(
    grad_out: np.ndarray,
    weight: np.ndarray,
    input_shape: Shape,
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    groups: int,
    other: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Return the gradient with respect to x, given the one with respect to the output."""
    if 0 in input_shape:
        return empty_channels_last(input_shape, grad_out.dtype)
    job = _backward(input_shape, weight.shape, stride, padding, dilation, groups, grad_out.dtype)
    if job.few:
        return conv_few.grad_input(job.few, grad_out, weight, other, mask)
    grad_x = empty_channels_last(input_shape, grad_out.dtype)
    if job.dots:
        if job.untapped:
            begin(flat_or_none(None, grad_out.dtype), flat_channels_last(grad_x))
        conv_dot.convolve(job.dots, grad_out, weight, None, grad_x)
        return finish_apart(grad_x, other, False, mask)
    _convolve(job, grad_out, weight, True, None, grad_x, other, False, mask)
    return grad_x


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
def _forward(
    x_shape: Shape, weight_shape: Shape, stride: Pair, padding: Sides, dilation: Pair,
    groups: int, dtype: np.dtype,
) -> Job:  # fmt: skip
    g = geometry(x_shape, weight_shape, stride, padding, dilation, groups)
    places = Places(0, g.OH * g.OW * g.F, g.OW * g.F, g.F)
    phase = Phase(g, places, np.arange(g.KH * g.KW))
    return _job(g, [phase], False, (g.N, g.F, g.OH, g.OW), dtype)


@remembered
def _backward(
    x_shape: Shape, weight_shape: Shape, stride: Pair, padding: Sides, dilation: Pair,
    groups: int, dtype: np.dtype,
) -> Job:  # fmt: skip
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
    plan = _plan(whole, window, dtype.itemsize, len(phases))
    padded: tuple[int, ...] = ()
    if window.copied and plan.parts > COPIES and whole.groups == 1:
        padded = (whole.N * window.height, window.width * window.pixel)
        window = window._replace(copied=0)
    if len(phases) > 1:
        plan = _whole_rows(whole, plan)
    plans = [_plan(phase.g, window, dtype.itemsize) for phase in phases]
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
        chunks=chunks_of(plan.strips, plan.block) * plan.parts,
        tasks=numbers_of(tasks),
        padded=padded,
        packing=packing,
        biases=np.zeros(whole.groups * vectors * lanes(dtype), dtype),
    )


def _whole_rows(whole: Geometry, plan: Plan) -> Plan:
    """Let chunks be whole rows of each phase, so many that no strip lacks a partner."""
    rows = max(plan.block // plan.row_strips, 1)
    rows += -rows % PIXELS if plan.height == 1 else rows * plan.row_strips % 2
    return plan._replace(row_strips=1, strips=whole.N * whole.OH, block=rows)


def _convolve(
    job: Job,
    x: np.ndarray,
    weight: np.ndarray,
    transposed: bool,
    bias: np.ndarray | None,
    out: np.ndarray,
    other: np.ndarray | None,
    relu: bool,
    mask: np.ndarray | None = None,
) -> None:
    """Write the convolution of x to out, and finish it."""
    values, results = flat_channels_last(x), flat_channels_last(out)
    added = flat_or_none(other, x.dtype)
    if job.in_lanes and job.untapped:
        begin(added, results)
    if job.in_lanes:  # without a mask: conv.py has applied it where there are groups
        conv_lanes.convolve(job.in_lanes, values, weight, bias, results, added, int(relu))
        return
    if job.padded:
        values = _padded(job, values)
    biases = job.biases if bias is None else bias.copy()
    if bias is not None and bias.size < job.biases.size:
        biases = job.biases.copy()
        biases.reshape(job.groups, -1)[:, : bias.size // job.groups] = bias.reshape(job.groups, -1)
    _convolve_loop.launch(
        job.work,
        job.chunks,
        values,
        pack_weight(weight, job.packing),
        biases,
        added,
        NO_MASK if mask is None else mask,
        int(relu),
        job.tasks,
        results,
    )


def _padded(job: Job, x: np.ndarray) -> np.ndarray:
    """Copy all windows at once, where chunks over the filters would each copy the same ones."""
    padded = _pool.empty(job.padded, x.dtype)
    _pad_loop.launch(padded.size, x, job.tasks, padded)
    return padded.reshape(-1)


@kernel
def _pad_loop(x, tasks, padded):
    for row in prange(len(padded)):
        _pad_row(x, tasks, row, padded[row])


@body
def _pad_row(x, tasks, row, padded):
    g, window, _, _, _, _ = task_of(tasks[0])
    fill_window(x, g, window, 0, row, 1, padded)


def _plan(g: Geometry, window: Window, itemsize: int, phases: int = 1) -> Plan:
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
    block = min(pixels // height, max(chunks_of(strips, CHUNKS), fair))
    if window.copied:  # whole rows, for a row that two chunks share is copied twice
        block = chunks_of(block, max(row_strips, 1)) * row_strips
    partners = PIXELS if height == 1 else 2
    block = max(chunks_of(block, partners), 1) * partners
    parts = max(min(tiles, CHUNKS // max(chunks_of(strips, block), 1)), 1)
    near = max(NEAR_BYTES // max(g.depth * VECTOR_BITS // 8, 1) // wide, 1) * wide
    return Plan(height, wide, row_strips, strips, block, tiles * wide, parts, near)


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
    return plan._replace(
        stretch=stretch, reads=reads[0], read_step=reads[1], writes=writes[0], write_step=writes[1]
    )


@kernel
def _convolve_loop(chunks, x, weight, bias, other, mask, relu, tasks, out):
    for chunk in prange(chunks):
        _convolve_chunk(x, weight, bias, Other(other, mask), relu, tasks, chunk, out)


@body
def _convolve_chunk(x, weight, bias, other, relu, tasks, chunk, out):
    """Compute some strips of each phase, for one part of the filters."""
    g, window, _, plan, _, _ = task_of(tasks[0])
    first = chunk // plan.parts * plan.block
    last = min(first + plan.block, plan.strips)
    start, stop = strip_of(g, plan, first), strip_of(g, plan, last)
    n, oh, _ = strip_of(g, plan, last - 1)
    top_row = start[0] * window.height + start[1] * g.stride_h
    rows = n * window.height + oh * g.stride_h - top_row + (g.KH - 1) * g.dilation_h + 1
    values = x
    if window.copied:
        values = np.empty(rows * window.width * window.pixel, x.dtype)
    for group in range(g.groups):
        if window.copied:
            fill_window(x, g, window, group, top_row, rows, values)
        else:
            values = x[top_row * window.width * window.pixel + group * g.channels :]
        for phase in range(1, len(tasks)):
            _convolve_phase(
                values, weight, bias, other, relu, tasks[phase], group, chunk % plan.parts,
                start, stop, top_row, out,
            )  # fmt: skip


@body
def _convolve_phase(
    values, weight, bias, other, relu, task, group, part, start, stop, top_row, out
):
    """Compute the strips of a phase from one (n, oh, strip) up to another."""
    g, window, places, plan, weight_at, shift = task_of(task)
    first, last = strip_number(g, plan, start), strip_number(g, plan, stop)
    strips = np.empty((4, last - first), np.intp)
    place_strips(g, window, places, plan, first, top_row, strips)
    _convolve_group(
        values[shift:], weight[weight_at:], bias, other, relu, g, window, plan, group, part,
        strips, places.pixel, out,
    )  # fmt: skip


@body
def _convolve_group(
    values, weight, bias, other, relu, g, window, plan, group, part, strips, out_pixel, out
):
    """Run through the filters of one part, in tiles of the planned size."""
    first, last = chunk_bounds(part, plan.parts, plan.vectors // plan.wide)
    for v in range(first * plan.wide, last * plan.wide, plan.near):
        near = v, min(v + plan.near, last * plan.wide)
        if plan.height == 1:
            single_pixels(
                tile_zeros(1, 2, out),
                values, weight, bias, other, relu, g, window, plan, group, near, strips, out,
            )  # fmt: skip
        elif plan.wide == 2 and plan.height == TALL:
            _strips(
                tile_zeros(TALL, 2, out),
                values, weight, bias, other, relu, g, window, plan, group, near, strips,
                out_pixel, out,
            )  # fmt: skip
        elif plan.wide == 2:
            _strips(
                tile_zeros(LOW, 2, out),
                values, weight, bias, other, relu, g, window, plan, group, near, strips,
                out_pixel, out,
            )  # fmt: skip
        else:
            _strips(
                tile_zeros(ALONE, 1, out),
                values, weight, bias, other, relu, g, window, plan, group, near, strips,
                out_pixel, out,
            )  # fmt: skip


@body
def _strips(
    zeros, values, weight, bias, other, relu, g, window, plan, group, near, strips, out_pixel, out
):  # fmt: skip
    """Compute tiles for all strips, from vector near[0] up to near[1]."""
    width = lanes_of(out)
    added, mask = other.values, other.mask  # here, not in the loop: each look counts references
    tall, below = plan.height * g.stride_w * window.pixel, plan.height * out_pixel
    for i in range(0, strips.shape[1], 2):
        j = min(i + 1, strips.shape[1] - 1)  # a strip without a partner is computed twice
        seen = seen_by(g, window, strips, i, 2, plan.height)
        read = np.intp(values.ctypes.data) + (strips[SEEN, j] + tall) * values.itemsize
        write = np.intp(out.ctypes.data) + (strips[WRITTEN, j] + below) * out.itemsize
        for v in range(near[0], near[1], plan.wide):
            vector, columns = group * plan.vectors + v, g.filters - v * width
            at = group * g.filters + v * width
            upper_to, lower_to = strips[WRITTEN, i] + at, strips[WRITTEN, j] + at
            start = tile_load(zeros, bias, vector * width, 0)
            if added.size > 0:  # it comes from memory, while the tile is summed
                tile_prefetch(zeros, added, upper_to, out_pixel)
                tile_prefetch(zeros, added, lower_to, out_pixel)
            upper, lower, read, write = _two_strips(
                start, values, strips[SEEN, i], strips[SEEN, j], weight, vector * g.depth * width,
                g, window, plan, seen, read, write, width,
            )  # fmt: skip
            # What follows stands here and in no body: that would get the sums by way of memory.
            if mask.size > 0:  # bits of all rows, ROWS at most: strips are as tall as their tiles
                share = tile_load_columns(upper, added, upper_to, out_pixel, columns)
                share = tile_keep_marked_part(share, mask, upper_to, out_pixel, ROWS, columns)
                upper = tile_add(upper, share)
                share = tile_load_columns(lower, added, lower_to, out_pixel, columns)
                share = tile_keep_marked_part(share, mask, lower_to, out_pixel, ROWS, columns)
                lower = tile_add(lower, share)
            elif added.size > 0:
                share = tile_load_columns(upper, added, upper_to, out_pixel, columns)
                upper = tile_add(upper, share)
                share = tile_load_columns(lower, added, lower_to, out_pixel, columns)
                lower = tile_add(lower, share)
            if relu:
                upper, lower = tile_keep_positive(upper), tile_keep_positive(lower)
            tile_store_columns(upper, out, upper_to, out_pixel, columns)
            tile_store_columns(lower, out, lower_to, out_pixel, columns)


@body
def _two_strips(
    start, values, upper_at, lower_at, weight, k, g, window, plan, seen, read, write, width
):  # fmt: skip
    """Sum over taps and channels for two strips of pixels, and ask for what the next ones need."""
    upper = lower = start
    step, vector = g.stride_w * window.pixel, g.depth * width
    k += seen.weight * width
    for kh in range(seen.top, seen.bottom):
        for run in range(seen.left, seen.right):
            there = kh * window.down + run * window.right
            first, stop = there + seen.first, there + seen.last
            while first < stop:
                # Here and not in the loop below, which LLVM would no longer keep in registers.
                read = prefetch_lines(read, plan.reads, plan.read_step)
                write = prefetch_write_lines(write, plan.writes, plan.write_step)
                last = min(first + plan.stretch, stop)
                for i in range(first, last):
                    upper = tile_outer_far(upper, values, upper_at + i, step, weight, k, vector)
                    lower = tile_outer_far(lower, values, lower_at + i, step, weight, k, vector)
                    k += width
                first = last
        k += seen.rest * width
    return upper, lower, read, write
