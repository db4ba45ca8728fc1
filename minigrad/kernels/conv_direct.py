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
Pixels of 1024 channels lie a page apart and share one set of the first cache, which loses each one
before it is read again. So those that two strips see are copied first, a little farther apart: with
a cache of 8 lines a set, convolutions of 1 x 1 take 0.8 of the time then.

The gradient with respect to x is a convolution of grad_out, or with a stride several of them, each
with some of the taps (``conv_phases.py``). They share chunks and windows, so grad_out is read once.
"""

import numpy as np

from minigrad.kernels import _pool, conv_dot, conv_few, conv_lanes
from minigrad.kernels._ahead import prefetch_lines, prefetch_write_lines
from minigrad.kernels._bits import NO_MASK, tile_keep_marked_part, tile_keep_positive
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import Shape, empty_channels_last, flat_channels_last
from minigrad.kernels._simd import (
    ROWS,
    lanes_of,
    tile_add,
    tile_load,
    tile_load_columns,
    tile_outer_far,
    tile_store_columns,
    tile_zeros,
)
from minigrad.kernels._simd_slide import tile_prefetch
from minigrad.kernels.conv_direct_plan import Job, backward_job, forward_job
from minigrad.kernels.conv_finish import Other, begin, finish_apart, flat_or_none
from minigrad.kernels.conv_geometry import Pair, Sides
from minigrad.kernels.conv_pack import pack_weight
from minigrad.kernels.conv_phases import strip_number, strip_of, task_of
from minigrad.kernels.conv_pixels import single_pixels
from minigrad.kernels.conv_window import (
    ALONE,
    LOW,
    SEEN,
    TALL,
    WRITTEN,
    fill_window,
    place_strips,
    seen_by,
    stand_apart,
)


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
    job = forward_job(x.shape, weight.shape, stride, padding, dilation, groups, x.dtype)
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
    job = backward_job(input_shape, weight.shape, stride, padding, dilation, groups, grad_out.dtype)
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


@kernel
def _convolve_loop(chunks, x, weight, bias, other, mask, relu, tasks, out):
    for chunk in prange(chunks):
        _convolve_chunk(x, weight, bias, Other(other, mask), relu, tasks, chunk, out)


@body
def _convolve_chunk(x, weight, bias, other, relu, tasks, chunk, out):
    """Compute some strips of each phase, for one part of the filters."""
    g, window, _, plan, _, _ = task_of(tasks[0])
    units = chunks_of(plan.strips, plan.unit)
    first, last = chunk_bounds(chunk // plan.parts, plan.pieces, units)
    first, last = first * plan.unit, min(last * plan.unit, plan.strips)
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
    step, below = g.stride_w * window.pixel, plan.height * out_pixel
    pixels, apart = values, step
    if plan.room > 0:
        apart = plan.room + width
        pixels = np.empty(2 * plan.height * apart, out.dtype)
    for i in range(0, strips.shape[1], 2):
        j = min(i + 1, strips.shape[1] - 1)  # a strip without a partner is computed twice
        seen = seen_by(g, window, strips, i, 2, plan.height)
        upper_at, lower_at = strips[SEEN, i], strips[SEEN, j]
        read = np.intp(values.ctypes.data) + (lower_at + plan.height * step) * values.itemsize
        write = np.intp(out.ctypes.data) + (strips[WRITTEN, j] + below) * out.itemsize
        away = np.intp(added.ctypes.data) - np.intp(out.ctypes.data) if added.size > 0 else 0
        if plan.room > 0:
            stand_apart(values, upper_at, lower_at, step, plan, pixels, apart)
            upper_at, lower_at = 0, plan.height * apart
        for v in range(near[0], near[1], plan.wide):
            vector, columns = group * plan.vectors + v, g.filters - v * width
            at = group * g.filters + v * width
            upper_to, lower_to = strips[WRITTEN, i] + at, strips[WRITTEN, j] + at
            start = tile_load(zeros, bias, vector * width, 0)
            if added.size > 0 and plan.writes == 0:  # it comes while the tile is summed
                tile_prefetch(zeros, added, upper_to, out_pixel)
                tile_prefetch(zeros, added, lower_to, out_pixel)
            upper, lower, read, write = _two_strips(
                start, pixels, upper_at, lower_at, apart, weight, vector * g.depth * width,
                g, window, plan, seen, read, write, away, width,
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
    start, values, upper_at, lower_at, step, weight, k, g, window, plan, seen, read, write, away,
    width,
):  # fmt: skip
    """Sum over taps and channels for two strips of pixels, and ask for what the next ones need.

    What is added to a value of out lies ``away`` from it, in bytes; 0 if there is nothing.
    """
    upper = lower = start
    vector = g.depth * width
    k += seen.weight * width
    for kh in range(seen.top, seen.bottom):
        for run in range(seen.left, seen.right):
            there = kh * window.down + run * window.right
            first, stop = there + seen.first, there + seen.last
            while first < stop:
                # Here and not in the loop below, which LLVM would no longer keep in registers.
                read = prefetch_lines(read, plan.reads, plan.read_step)
                if away != 0:
                    prefetch_lines(write + away, plan.writes, plan.write_step)
                write = prefetch_write_lines(write, plan.writes, plan.write_step)
                last = min(first + plan.stretch, stop)
                for i in range(first, last):
                    upper = tile_outer_far(upper, values, upper_at + i, step, weight, k, vector)
                    lower = tile_outer_far(lower, values, lower_at + i, step, weight, k, vector)
                    k += width
                first = last
        k += seen.rest * width
    return upper, lower, read, write
