"""Batch normalisation: two passes forward, two passes backward.

Memory is channels-last, so x is a list of pixels and the values of one channel lie C apart. A
loop over C = 16 channels is too short to be fast. So the loops run over *wide rows* of some
hundred values, a whole number of pixels; value j of every wide row belongs to channel j % C, and
sums are kept for each j and folded by channel at the end::

    wide row 0   | pixel 0: c0 c1 c2 | pixel 1: c0 c1 c2 | ... |
    wide row 1   | pixel r: c0 c1 c2 | ...                     |
                   +        +           <- one sum for each column

Chunks are runs of wide rows, fixed by the shape of x. Each leaves its sums in a slot of its own,
and the slots are merged in their order, in float64.

A relu behind the normalisation, and a sum between the two, take part in the same passes, a wide row
at a time while it is in the nearest cache. Each operation rounds as it would alone, so the bits are
those of the separate kernels.
"""

import math

import numpy as np

from minigrad.kernels._bits import keep_marked, keep_positive
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import channels_last_order, empty_in_order, flat

# Values of a wide row, or C if that is more: long enough to hide that each sum is in memory.
_WIDTH = 256

# Values of a chunk: the second pass of the statistics finds them in the cache.
_CHUNK = 32_768

# Wide rows of a chunk, at least: else the slots would be as large as x.
_ROWS = 32


def _pixels(x: np.ndarray) -> np.ndarray:
    """Return the values of x, (N, C, ...), flat with the channels last; a view if it can be."""
    return flat(x, channels_last_order(x.ndim))


def _empty_like(x: np.ndarray) -> np.ndarray:
    """Make an array, values undefined, of which ``_pixels`` is a view."""
    return empty_in_order(x.shape, x.dtype, channels_last_order(x.ndim))


def _width(C: int) -> int:
    unit = math.lcm(max(1, C), 16)  # whole pixels, and whole vectors of a mask's bits
    return unit * max(1, _WIDTH // unit)


def _mask(x: np.ndarray) -> np.ndarray:
    return np.empty(-(-x.size // 8), np.uint8)


# Stands for None, of which a kernel would be compiled anew.
_NO_MASK = np.empty(0, np.uint8)


def _chunks(size: int, width: int) -> int:
    return chunks_of(chunks_of(size, width), max(_ROWS, _CHUNK // width)) if size else 0


@body
def _span(chunk, chunks, size, width):
    """Return where in x a chunk starts and stops: a whole number of wide rows, but for the last."""
    start, stop = chunk_bounds(chunk, chunks, -(-size // width))
    return start * width, min(stop * width, size)


@body
def _widen(values, width):
    """Repeat the values of C channels to a wide row."""
    if values.size == width:
        return values
    wide = np.empty(width, values.dtype)
    for start in range(0, width, values.size):
        wide[start : start + values.size] = values
    return wide


@body
def _folded(wide, c, C):
    """Sum what a wide row holds for channel c."""
    total = 0.0
    for j in range(c, wide.size, C):
        total += wide[j]
    return total


# Slices, not x[at + j]: the compiler cannot tell that at + j is not negative, and an index that
# might count from the end keeps it from using vectors.


@body
def _sum_differences(x, from_value, total):
    for at in range(0, x.size, total.size):
        row = x[at : at + total.size]
        for j in range(row.size):
            total[j] += row[j] - from_value[j]


@body
def _sum_squares(x, from_value, total):
    for at in range(0, x.size, total.size):
        row = x[at : at + total.size]
        for j in range(row.size):
            difference = row[j] - from_value[j]
            total[j] += difference * difference


@body
def _chunk_statistics(x, C, width, mean, square):
    """Set the mean of each channel, and the sum of squared distances from it, over one chunk.

    The mean is summed as distances from the first pixel, so that a large common value is taken
    away before anything is rounded. The squares are of distances from the mean, rounded to x's
    dtype; the last line takes back what the rounding added: sum (x - p)**2 is
    sum (x - mean)**2 + n (mean - p)**2.
    """
    n = x.size // C
    pivot, total = _widen(x[:C], width), np.zeros(width, x.dtype)
    _sum_differences(x, pivot, total)
    rounded = np.empty(C, x.dtype)
    for c in range(C):
        mean[c] = x[c] + _folded(total, c, C) / n
        rounded[c] = mean[c]
    total[:] = 0
    _sum_squares(x, _widen(rounded, width), total)
    for c in range(C):
        square[c] = _folded(total, c, C) - n * (mean[c] - rounded[c]) ** 2


@kernel
def _statistics_loop(x, C, width, chunks, means, squares, counts):
    for chunk in prange(chunks):
        start, stop = _span(chunk, chunks, x.size, width)
        _chunk_statistics(x[start:stop], C, width, means[chunk], squares[chunk])
        counts[chunk] = (stop - start) // C


@body
def _merge_statistics(means, squares, counts, mean, square):
    """Merge the slots in order by the formula of Chan, Golub and LeVeque (1979)."""
    total = 0.0
    for chunk in range(counts.size):
        before, total = total, total + counts[chunk]
        share = counts[chunk] / total
        for c in range(mean.size):
            difference = means[chunk, c] - mean[c]
            mean[c] += difference * share
            square[c] += squares[chunk, c] + difference * difference * before * share


def batch_norm_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the biased variance of each channel."""
    C = x.shape[1]
    flat, width = _pixels(x), _width(C)
    chunks = _chunks(x.size, width)
    means, squares, counts = np.empty((chunks, C)), np.empty((chunks, C)), np.empty(chunks)
    _statistics_loop.launch(2 * x.size, flat, C, width, chunks, means, squares, counts)
    mean, square = np.zeros(C), np.zeros(C)
    _merge_statistics(means, squares, counts, mean, square)
    return mean, square / max(1, x.size // max(1, C))


@body
def _add_row(row, other):
    for j in range(row.size):
        row[j] += other[j]


@body
def _normalise(x, other, pivot, scale, shift, width, out, mask):
    pivot, scale, shift = _widen(pivot, width), _widen(scale, width), _widen(shift, width)
    for at in range(0, x.size, width):
        row, out_row = x[at : at + width], out[at : at + width]
        for j in range(row.size):
            out_row[j] = (row[j] - pivot[j]) * scale[j] + shift[j]
        if other.size:
            _add_row(out_row, other[at : at + width])
        if mask.size:
            keep_positive(out_row, out_row, mask[at // 8 : (at + row.size + 7) // 8])


@kernel
def _normalise_loop(x, other, pivot, scale, shift, width, chunks, out, mask):
    for chunk in prange(chunks):
        start, stop = _span(chunk, chunks, x.size, width)
        _normalise(
            x[start:stop], other[start:stop], pivot, scale, shift, width, out[start:stop],
            mask[start // 8 : (stop + 7) // 8],
        )  # fmt: skip


def _launch_normalise(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    mean: np.ndarray,
    inv_std: np.ndarray,
    other: np.ndarray | None,
    mask: np.ndarray,
) -> np.ndarray:
    pivot = mean.astype(x.dtype)  # x - pivot is exact where x is close to it; shift has the rest
    scale = inv_std if weight is None else inv_std * weight
    shift = (pivot - mean) * scale + (0 if bias is None else bias)
    out, width = _empty_like(x), _width(x.shape[1])
    _normalise_loop.launch(
        x.size,
        _pixels(x),
        np.empty(0, x.dtype) if other is None else _pixels(other),
        pivot,
        scale.astype(x.dtype),
        shift.astype(x.dtype),
        width,
        _chunks(x.size, width),
        _pixels(out),
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
    return _launch_normalise(x, weight, bias, mean, inv_std, None, _NO_MASK)


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


@body
def _kept_row(grad_out, mask, at, room):
    """Return a wide row of the cotangent, with 0 where a relu has stopped it, if there is one."""
    row = grad_out[at : at + room.size]
    if mask.size == 0:
        return row
    kept = room[: row.size]
    keep_marked(row, mask[at // 8 : (at + row.size + 7) // 8], kept)
    return kept


@body
def _chunk_sums(grad_out, x, mask, pivot, width, totals, moments):
    """Set the sums of grad_out, and of grad_out (x - pivot), for each channel over one chunk."""
    C, wide_pivot, room = pivot.size, _widen(pivot, width), np.empty(width, x.dtype)
    total, moment = np.zeros(width, x.dtype), np.zeros(width, x.dtype)
    for at in range(0, x.size, width):
        grad_row, row = _kept_row(grad_out, mask, at, room), x[at : at + width]
        for j in range(row.size):
            total[j] += grad_row[j]
            moment[j] += grad_row[j] * (row[j] - wide_pivot[j])
    for c in range(C):
        totals[c] = _folded(total, c, C)
        moments[c] = _folded(moment, c, C)


@kernel
def _sums_loop(grad_out, x, mask, pivot, width, chunks, totals, moments):
    for chunk in prange(chunks):
        start, stop = _span(chunk, chunks, x.size, width)
        _chunk_sums(
            grad_out[start:stop], x[start:stop], mask[start // 8 : (stop + 7) // 8], pivot, width,
            totals[chunk], moments[chunk],
        )  # fmt: skip


def batch_norm_sums(
    grad_out: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    inv_std: np.ndarray,
    mask: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums over each channel of grad_out, and of grad_out times the normalised x."""
    C = x.shape[1]
    pivot, width = mean.astype(x.dtype), _width(C)
    chunks = _chunks(x.size, width)
    totals, moments = np.empty((chunks, C)), np.empty((chunks, C))
    _sums_loop.launch(
        2 * x.size,
        _pixels(grad_out),
        _pixels(x),
        _NO_MASK if mask is None else mask,
        pivot,
        width,
        chunks,
        totals,
        moments,
    )
    sum_grad = totals.sum(axis=0)
    return sum_grad, (moments.sum(axis=0) + (pivot - mean) * sum_grad) * inv_std


@body
def _grad_input(grad_out, x, mask, pivot, scale, shift, slope, width, grad_x):
    room = np.empty(width, x.dtype)
    pivot, scale = _widen(pivot, width), _widen(scale, width)
    shift, slope = _widen(shift, width), _widen(slope, width)
    for at in range(0, x.size, width):
        grad_row, row = _kept_row(grad_out, mask, at, room), x[at : at + width]
        out_row = grad_x[at : at + width]
        for j in range(row.size):
            out_row[j] = scale[j] * grad_row[j] - shift[j] - slope[j] * (row[j] - pivot[j])


@kernel
def _grad_input_loop(grad_out, x, mask, pivot, scale, shift, slope, width, chunks, grad_x):
    for chunk in prange(chunks):
        start, stop = _span(chunk, chunks, x.size, width)
        _grad_input(
            grad_out[start:stop], x[start:stop], mask[start // 8 : (stop + 7) // 8], pivot, scale,
            shift, slope, width, grad_x[start:stop],
        )  # fmt: skip


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
    C = x.shape[1]
    P = max(1, x.size // max(1, C))
    pivot = mean.astype(x.dtype)
    scale = inv_std if weight is None else inv_std * weight
    slope = scale * inv_std * sum_grad_normal / P
    shift = scale * sum_grad / P + (pivot - mean) * slope
    grad_x, width = _empty_like(x), _width(C)
    _grad_input_loop.launch(
        2 * x.size,
        _pixels(grad_out),
        _pixels(x),
        _NO_MASK if mask is None else mask,
        pivot,
        scale.astype(x.dtype),
        shift.astype(x.dtype),
        slope.astype(x.dtype),
        width,
        _chunks(x.size, width),
        _pixels(grad_x),
    )
    return grad_x
