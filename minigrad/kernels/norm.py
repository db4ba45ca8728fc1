"""Batch normalisation: two passes forward, two passes backward.

Memory is channels-last, so x is a list of pixels and the values of one channel lie C apart. A
loop over C = 16 channels is too short to be fast. So the loops run over *wide rows* of dozens or
hundreds of values, a whole number of pixels; value j of every wide row belongs to channel j % C,
and sums are kept for each j and folded by channel at the end::

    wide row 0   | pixel 0: c0 c1 c2 | pixel 1: c0 c1 c2 | ... |
    wide row 1   | pixel r: c0 c1 c2 | ...                     |
                   +        +           <- one sum for each column

Chunks are runs of wide rows, fixed by the shape of x. Each leaves its sums in a slot of its own,
and the slots are merged in their order, in float64.

A relu behind the normalisation, and a sum between the two, take part in the same passes. Each
operation rounds as it would alone, so the bits are those of the separate kernels.

Training needs both passes, and has them in one kernel: no thread has to be woken between the two.
Each thread takes a run of chunks, and in the second pass the same run; a short one from its end,
for the caches still hold what was read last. ``norm_chunks.py`` has the work on a chunk.
"""

import math

import numpy as np

from minigrad.kernels._bits import NO_MASK
from minigrad.kernels._columns import wide_row
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import (
    NO_VALUES,
    channels_last_order,
    empty_in_order,
    flat,
    remembered,
    values_or_none,
)
from minigrad.kernels._stream import end_of_stream, is_far
from minigrad.kernels._threads import get_num_threads
from minigrad.kernels.norm_chunks import (
    affine_rows,
    chunk_statistics,
    chunk_sums,
    grad_input,
    grad_rows,
    merge_statistics,
    merge_sums,
    normalise,
    settle_statistics,
    slots,
    span,
    widen,
)
from minigrad.kernels.reference.norm import Running

# Values of a wide row, or C if that is more: long enough for a loop over it to be fast,
_WIDTH = 1_024
# or, where columns are summed, as many as are summed at once.
_COLUMNS = 64

# Values of a chunk: the second pass of the statistics finds them in the cache.
_CHUNK = 65_536

# Wide rows of a chunk, at least: else the slots would be as large as x.
_ROWS = 32

# Chunks of a thread, at most, of which a good part is in its caches after the first pass.
_HELD = 16


def _pixels(x: np.ndarray) -> np.ndarray:
    """Return the values of x, (N, C, ...), flat with the channels last; a view if it can be."""
    return flat(x, channels_last_order(x.ndim))


def _empty_like(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make an array, values undefined, and what ``_pixels`` of it is."""
    return empty_in_order(x.shape, x.dtype, channels_last_order(x.ndim))


def _mask(x: np.ndarray) -> np.ndarray:
    return np.empty(-(-x.size // 8), np.uint8)


@remembered
def cut(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the width of wide rows where columns are summed, and elsewhere, and the chunks."""
    C, size = shape[1], math.prod(shape)
    width = wide_row(C, min(size, _WIDTH))  # the fewer values, the less is prepared for them
    chunks = chunks_of(chunks_of(size, width), max(_ROWS, _CHUNK // width)) if size else 0
    return wide_row(C, _COLUMNS), width, chunks


@body
def statistics_part(chunk, chunks, x, sum_width, width, means, squares, counts):
    """Write what a chunk finds of each channel to its slots, and how many pixels it has."""
    start, stop = span(chunk, chunks, x.size, width)
    C = means.shape[1]
    chunk_statistics(x[start:stop], C, sum_width, means[chunk], squares[chunk])
    counts[chunk] = (stop - start) // C


@kernel
def _statistics_loop(x, sum_width, width, chunks, mean, var):
    C = mean.size
    means, squares, counts = slots(chunks, C), slots(chunks, C), slots(1, chunks)[0]
    for chunk in prange(chunks):
        statistics_part(chunk, chunks, x, sum_width, width, means, squares, counts)
    merge_statistics(means, squares, counts, mean, var)


def batch_norm_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the biased variance of each channel."""
    mean, var = np.empty(x.shape[1]), np.empty(x.shape[1])
    _statistics_loop.launch(2 * x.size, _pixels(x), *cut(x.shape), mean, var)
    return mean, var


@body
def second_chunk(i, first, stop):
    """Return the chunk that a thread's second pass takes in the place of chunk i."""
    return first + stop - 1 - i if stop - first <= _HELD else i


@body
def _normal_part(chunk, chunks, x, other, pivot, scale, shift, out, mask):
    start, stop = span(chunk, chunks, x.size, pivot.size)
    marks = mask[start // 8 : (stop + 7) // 8]
    far = is_far(out)
    normalise(x[start:stop], other[start:stop], pivot, scale, shift, out[start:stop], marks, far)
    end_of_stream()


@kernel
def _normalise_loop(x, other, mean, inv_std, weight, bias, width, chunks, out, mask):
    pivot, scale, shift = affine_rows(mean, inv_std, weight, bias, width, x)
    for chunk in prange(chunks):
        _normal_part(chunk, chunks, x, other, pivot, scale, shift, out, mask)


def _launch_normalise(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    mean: np.ndarray,
    inv_std: np.ndarray,
    other: np.ndarray | None,
    mask: np.ndarray,
) -> np.ndarray:
    out, flat_out = _empty_like(x)
    _, width, chunks = cut(x.shape)
    _normalise_loop.launch(
        x.size,
        _pixels(x),
        NO_VALUES[x.dtype] if other is None else _pixels(other),
        mean,
        inv_std,
        values_or_none(weight, x.dtype),
        values_or_none(bias, x.dtype),
        width,
        chunks,
        flat_out,
        mask,
    )
    return out


def batch_norm_forward(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    mean: np.ndarray,
    inv_std: np.ndarray,
) -> np.ndarray:
    """Return weight (x - mean) inv_std + bias, channel by channel."""
    return _launch_normalise(x, weight, bias, mean, inv_std, None, NO_MASK)


def batch_norm_relu_forward(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    mean: np.ndarray,
    inv_std: np.ndarray,
    other: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return max(weight (x - mean) inv_std + bias + other, 0), and the bits of what passed."""
    mask = _mask(x)
    return _launch_normalise(x, weight, bias, mean, inv_std, other, mask), mask


def moving_statistics(running: Running | None, x: np.ndarray) -> Running:
    """Return running statistics as a loop moves them, no values for none.

    Those of a kind that loops do not know are copied; ``keep_moved`` brings the copies back.
    """
    if running is None or not x.size:
        return NO_VALUES[x.dtype], NO_VALUES[x.dtype]
    mean, var = [
        values if values.flags.carray and values.dtype in NO_VALUES else values.astype(np.float64)
        for values in running
    ]
    return mean, var


def keep_moved(running: Running | None, moved: Running) -> None:
    """Write copies that have moved to where they were copied from."""
    for values, copy in zip(running or (), moved, strict=False):
        if copy is not values and copy.size:
            values[...] = copy


@kernel
def _training_loop(
    x, other, weight, bias, eps, sum_width, width, chunks, threads, running_mean, running_var,
    momentum, mean, inv_std, out, mask,
):  # fmt: skip
    C = mean.size
    means, squares, counts = slots(chunks, C), slots(chunks, C), slots(1, chunks)[0]
    for thread in prange(threads):
        first, stop = chunk_bounds(thread, threads, chunks)
        for chunk in range(first, stop):
            statistics_part(chunk, chunks, x, sum_width, width, means, squares, counts)
    settle_statistics(
        means, squares, counts, eps, running_mean, running_var, momentum, mean, inv_std
    )
    pivot, scale, shift = affine_rows(mean, inv_std, weight, bias, width, x)
    for thread in prange(threads):
        first, stop = chunk_bounds(thread, threads, chunks)
        for i in range(first, stop):
            chunk = second_chunk(i, first, stop)
            _normal_part(chunk, chunks, x, other, pivot, scale, shift, out, mask)


def batch_norm_training(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    eps: float,
    relu: bool = False,
    other: np.ndarray | None = None,
    running: Running | None = None,
    momentum: float = 0.0,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
    """Return the normalised values, the bits of a relu if it is there, mean and 1 / deviation."""
    mean, inv_std = np.empty(x.shape[1]), np.empty(x.shape[1])
    moving = moving_statistics(running, x)
    (out, flat_out), mask = _empty_like(x), _mask(x) if relu else NO_MASK
    _training_loop.launch(
        3 * x.size,
        _pixels(x),
        NO_VALUES[x.dtype] if other is None else _pixels(other),
        values_or_none(weight, x.dtype),
        values_or_none(bias, x.dtype),
        float(eps),
        *cut(x.shape),
        get_num_threads(),
        *moving,
        float(momentum),
        mean,
        inv_std,
        flat_out,
        mask,
    )
    keep_moved(running, moving)
    return out, mask if relu else None, mean, inv_std


@body
def _sums_part(chunk, chunks, grad_out, x, mask, pivot, width, totals, moments):
    start, stop = span(chunk, chunks, x.size, width)
    marks = mask[start // 8 : (stop + 7) // 8]
    chunk_sums(grad_out[start:stop], x[start:stop], marks, pivot, totals[chunk], moments[chunk])


@kernel
def _sums_loop(
    grad_out, x, mask, mean, inv_std, sum_width, width, chunks, sum_grad, sum_grad_normal
):
    pivot = widen(mean, sum_width, x)
    totals, moments = slots(chunks, mean.size), slots(chunks, mean.size)
    for chunk in prange(chunks):
        _sums_part(chunk, chunks, grad_out, x, mask, pivot, width, totals, moments)
    merge_sums(totals, moments, mean, inv_std, pivot, sum_grad, sum_grad_normal)


def batch_norm_sums(
    grad_out: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    inv_std: np.ndarray,
    mask: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums over each channel of grad_out, and of grad_out times the normalised x."""
    sum_grad, sum_grad_normal = np.empty(x.shape[1]), np.empty(x.shape[1])
    _sums_loop.launch(
        2 * x.size,
        _pixels(grad_out),
        _pixels(x),
        NO_MASK if mask is None else mask,
        mean,
        inv_std,
        *cut(x.shape),
        sum_grad,
        sum_grad_normal,
    )
    return sum_grad, sum_grad_normal


@body
def _grad_part(chunk, chunks, grad_out, x, mask, pivot, scale, shift, slope, grad_x):
    start, stop = span(chunk, chunks, x.size, pivot.size)
    far = is_far(grad_x)
    grad_input(
        grad_out[start:stop], x[start:stop], mask[start // 8 : (stop + 7) // 8], pivot, scale,
        shift, slope, grad_x[start:stop], far,
    )  # fmt: skip
    end_of_stream()


@kernel
def _grad_input_loop(
    grad_out, x, mask, mean, inv_std, weight, sum_grad, sum_grad_normal, width, chunks, grad_x
):
    pivot, scale, shift, slope = grad_rows(
        mean, inv_std, weight, sum_grad, sum_grad_normal, width, x
    )
    for chunk in prange(chunks):
        _grad_part(chunk, chunks, grad_out, x, mask, pivot, scale, shift, slope, grad_x)


def batch_norm_grad_input(
    grad_out: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    inv_std: np.ndarray,
    sum_grad: np.ndarray,
    sum_grad_normal: np.ndarray,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Return the gradient of x where mean and inv_std are the statistics of x itself."""
    grad_x, flat_grad = _empty_like(x)
    _, width, chunks = cut(x.shape)
    _grad_input_loop.launch(
        2 * x.size,
        _pixels(grad_out),
        _pixels(x),
        NO_MASK if mask is None else mask,
        mean,
        inv_std,
        values_or_none(weight, x.dtype),
        sum_grad,
        sum_grad_normal,
        width,
        chunks,
        flat_grad,
    )
    return grad_x


@kernel
def _backward_loop(
    grad_out, x, mask, mean, inv_std, weight, sum_width, width, chunks, threads, sum_grad,
    sum_grad_normal, grad_x,
):  # fmt: skip
    middle = widen(mean, sum_width, x)
    totals, moments = slots(chunks, mean.size), slots(chunks, mean.size)
    for thread in prange(threads):
        first, stop = chunk_bounds(thread, threads, chunks)
        for chunk in range(first, stop):
            _sums_part(chunk, chunks, grad_out, x, mask, middle, width, totals, moments)
    merge_sums(totals, moments, mean, inv_std, middle, sum_grad, sum_grad_normal)
    pivot, scale, shift, slope = grad_rows(
        mean, inv_std, weight, sum_grad, sum_grad_normal, width, x
    )
    for thread in prange(threads):
        first, stop = chunk_bounds(thread, threads, chunks)
        for i in range(first, stop):
            chunk = second_chunk(i, first, stop)
            _grad_part(chunk, chunks, grad_out, x, mask, pivot, scale, shift, slope, grad_x)


def batch_norm_backward(
    grad_out: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    inv_std: np.ndarray,
    mask: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradient of x, and the sums that ``batch_norm_sums`` returns."""
    sum_grad, sum_grad_normal = np.empty(x.shape[1]), np.empty(x.shape[1])
    grad_x, flat_grad = _empty_like(x)
    _backward_loop.launch(
        4 * x.size,
        _pixels(grad_out),
        _pixels(x),
        NO_MASK if mask is None else mask,
        mean,
        inv_std,
        values_or_none(weight, x.dtype),
        *cut(x.shape),
        get_num_threads(),
        sum_grad,
        sum_grad_normal,
        flat_grad,
    )
    return grad_x, sum_grad, sum_grad_normal
