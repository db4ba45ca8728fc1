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
"""

import numpy as np

from minigrad.kernels._bits import (
    MARKS,
    claim_marks,
    claims,
    keep_last_positive,
    keep_marked,
    tile_keep_marked,
    tile_mark_positive,
    tile_of_marks,
)
from minigrad.kernels._columns import (
    add_row,
    folded,
    sum_differences,
    sum_moments,
    sum_squares,
    wide_row,
)
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import channels_last_order, empty_in_order, flat
from minigrad.kernels._simd import (
    tile_add,
    tile_load,
    tile_multiply,
    tile_store,
    tile_subtract,
)

# Values of a wide row, or C if that is more: long enough for a loop over it to be fast,
_WIDTH = 1_024
# or, where columns are summed, as many as are summed at once.
_COLUMNS = 64

# Values of a chunk: the second pass of the statistics finds them in the cache.
_CHUNK = 65_536

# Wide rows of a chunk, at least: else the slots would be as large as x.
_ROWS = 32

# Values of a block of wide rows, which stay in the nearest cache while its columns are summed.
_BLOCK = 4_096


def _pixels(x: np.ndarray) -> np.ndarray:
    """Return the values of x, (N, C, ...), flat with the channels last; a view if it can be."""
    return flat(x, channels_last_order(x.ndim))


def _empty_like(x: np.ndarray) -> np.ndarray:
    """Make an array, values undefined, of which ``_pixels`` is a view."""
    return empty_in_order(x.shape, x.dtype, channels_last_order(x.ndim))


def _mask(x: np.ndarray) -> np.ndarray:
    return np.empty(-(-x.size // 8), np.uint8)


# Stands for None, of which a kernel would be compiled anew.
_NO_MASK = np.empty(0, np.uint8)
_NO_VALUES = {np.dtype(kind): np.empty(0, kind) for kind in ("f4", "f8")}


def _values(array: np.ndarray | None, x: np.ndarray) -> np.ndarray:
    """Return an array of one value a channel; none of them stand for None."""
    return _NO_VALUES[x.dtype] if array is None else np.ascontiguousarray(array)


def _chunks(size: int, width: int) -> int:
    return chunks_of(chunks_of(size, width), max(_ROWS, _CHUNK // width)) if size else 0


@body
def _span(chunk, chunks, size, width):
    """Return where in x a chunk starts and stops: a whole number of wide rows, but for the last."""
    start, stop = chunk_bounds(chunk, chunks, -(-size // width))
    return start * width, min(stop * width, size)


@body
def _widen(values, width, like):
    """Repeat the values of C channels to a wide row, in the dtype of another array."""
    wide = np.empty(width, like.dtype)
    for start in range(0, width, values.size):
        pixel = wide[start : start + values.size]
        for c in range(values.size):
            pixel[c] = values[c]
    return wide


@body
def _slots(chunks, C):
    return np.empty((chunks, C))


# Slices, not x[at + j]: the compiler cannot tell that at + j is not negative, and an index that
# might count from the end keeps it from using vectors.


@body
def _blocks(x, width):
    """Return how many values the blocks of whole wide rows have, and how many all of them."""
    return max(1, _BLOCK // width) * width, x.size // width * width


@body
def _chunk_statistics(x, C, width, mean, square):
    """Set the mean of each channel, and the sum of squared distances from it, over one chunk.

    The mean is summed as distances from the first pixel, so that a large common value is taken
    away before anything is rounded. The squares are of distances from the mean, rounded to x's
    dtype; the last line takes back what the rounding added: sum (x - p)**2 is
    sum (x - mean)**2 + n (mean - p)**2.
    """
    n = x.size // C
    block, whole = _blocks(x, width)
    pivot, total, sums = _widen(x[:C], width, x), np.zeros(width), np.empty(width, x.dtype)
    for at in range(0, whole, block):
        sum_differences(x[at : min(at + block, whole)], pivot, sums)
        add_row(total, sums)
    for j in range(x.size - whole):
        total[j] += x[whole:][j] - pivot[j]
    rounded = np.empty(C, x.dtype)
    for c in range(C):
        mean[c] = x[c] + folded(total, c, C) / n
        rounded[c] = mean[c]
    total[:] = 0
    pivot = _widen(rounded, width, x)
    for at in range(0, whole, block):
        sum_squares(x[at : min(at + block, whole)], pivot, sums)
        add_row(total, sums)
    for j in range(x.size - whole):
        difference = x[whole:][j] - pivot[j]
        total[j] += difference * difference
    for c in range(C):
        square[c] = folded(total, c, C) - n * (mean[c] - rounded[c]) ** 2


@body
def _merge_statistics(means, squares, counts, mean, var):
    """Merge the slots in order by the formula of Chan, Golub and LeVeque (1979)."""
    mean[:] = 0
    var[:] = 0
    total = 0.0
    for chunk in range(counts.size):
        before, total = total, total + counts[chunk]
        share = counts[chunk] / total
        for c in range(mean.size):
            difference = means[chunk, c] - mean[c]
            mean[c] += difference * share
            var[c] += squares[chunk, c] + difference * difference * before * share
    if total > 0:
        for c in range(mean.size):
            var[c] /= total


@kernel
def _statistics_loop(x, width, chunks, mean, var):
    C = mean.size
    means, squares, counts = _slots(chunks, C), _slots(chunks, C), _slots(1, chunks)[0]
    for chunk in prange(chunks):
        start, stop = _span(chunk, chunks, x.size, width)
        _chunk_statistics(x[start:stop], C, width, means[chunk], squares[chunk])
        counts[chunk] = (stop - start) // C
    _merge_statistics(means, squares, counts, mean, var)


def batch_norm_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the biased variance of each channel."""
    C = x.shape[1]
    mean, var = np.empty(C), np.empty(C)
    width = wide_row(C, _COLUMNS)
    _statistics_loop.launch(2 * x.size, _pixels(x), width, _chunks(x.size, width), mean, var)
    return mean, var


@body
def _affine(mean, inv_std, weight, bias, width, like):
    """Return wide rows: weight (x - mean) inv_std + bias is (x - pivot) scale + shift.

    x - pivot is exact where x is close to it; shift has what rounding the mean took away.
    """
    pivot, scale, shift = mean.astype(like.dtype), inv_std.copy(), np.empty(mean.size)
    for c in range(mean.size):
        if weight.size:
            scale[c] *= weight[c]
        shift[c] = (pivot[c] - mean[c]) * scale[c]
        if bias.size:
            shift[c] += bias[c]
    return _widen(pivot, width, like), _widen(scale, width, like), _widen(shift, width, like)


@body
def _normal_row(x, other, pivot, scale, shift, at, stop, out, mask):
    """Write what belongs to one wide row."""
    some, j, line = tile_of_marks(x), 0, claims(out[at:])
    for i in range(at, stop, MARKS):
        line = claim_marks(line, out)
        value = tile_subtract(tile_load(some, x, i, 0), tile_load(some, pivot, j, 0))
        value = tile_multiply(value, tile_load(some, scale, j, 0))
        value = tile_add(value, tile_load(some, shift, j, 0))
        if other.size:
            value = tile_add(value, tile_load(some, other, i, 0))
        if mask.size:
            value = tile_mark_positive(value, mask, i)
        tile_store(value, out, i, 0)
        j += MARKS


@body
def _normalise(x, other, pivot, scale, shift, out, mask):
    width, whole = pivot.size, x.size // MARKS * MARKS
    for at in range(0, whole, width):
        _normal_row(x, other, pivot, scale, shift, at, min(at + width, whole), out, mask)
    j = whole % width - whole
    for i in range(whole, x.size):
        out[i] = (x[i] - pivot[j + i]) * scale[j + i] + shift[j + i]
        if other.size:
            out[i] += other[i]
    if mask.size:
        keep_last_positive(out, out, mask, whole)


@kernel
def _normalise_loop(x, other, mean, inv_std, weight, bias, width, chunks, out, mask):
    pivot, scale, shift = _affine(mean, inv_std, weight, bias, width, x)
    for chunk in prange(chunks):
        start, stop = _span(chunk, chunks, x.size, width)
        _normalise(
            x[start:stop], other[start:stop], pivot, scale, shift, out[start:stop],
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
    out, width = _empty_like(x), wide_row(x.shape[1], _WIDTH)
    _normalise_loop.launch(
        x.size,
        _pixels(x),
        _NO_VALUES[x.dtype] if other is None else _pixels(other),
        mean,
        inv_std,
        _values(weight, x),
        _values(bias, x),
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
def _kept(grad_out, mask, at, stop, room):
    """Return a part of the cotangent, with 0 where a relu has stopped it, if there is one."""
    part = grad_out[at:stop]
    if mask.size == 0:
        return part
    kept = room[: part.size]
    keep_marked(part, mask[at // 8 : (stop + 7) // 8], kept)
    return kept


@body
def _chunk_sums(grad_out, x, mask, pivot, totals, moments):
    """Set the sums of grad_out, and of grad_out (x - pivot), for each channel over one chunk."""
    C, width = totals.size, pivot.size
    block, whole = _blocks(x, width)
    sums, products = np.empty(width, x.dtype), np.empty(width, x.dtype)
    total, moment = np.zeros(width), np.zeros(width)
    for at in range(0, whole, block):
        stop = min(at + block, whole)
        marks = mask[at // 8 : stop // 8]
        sum_moments(grad_out[at:stop], x[at:stop], marks, pivot, sums, products)
        add_row(total, sums)
        add_row(moment, products)
    last = x[whole:]
    grad_last = _kept(grad_out, mask, whole, x.size, np.empty_like(last))
    for j in range(last.size):
        total[j] += grad_last[j]
        moment[j] += grad_last[j] * (last[j] - pivot[j])
    for c in range(C):
        totals[c] = folded(total, c, C)
        moments[c] = folded(moment, c, C)


@body
def _merge_sums(totals, moments, mean, inv_std, pivot, sum_grad, sum_grad_normal):
    """Add up the slots in order."""
    sum_grad[:] = 0
    sum_grad_normal[:] = 0
    for chunk in range(len(totals)):
        for c in range(mean.size):
            sum_grad[c] += totals[chunk, c]
            sum_grad_normal[c] += moments[chunk, c]
    for c in range(mean.size):
        sum_grad_normal[c] += (pivot[c] - mean[c]) * sum_grad[c]
        sum_grad_normal[c] *= inv_std[c]


@kernel
def _sums_loop(grad_out, x, mask, mean, inv_std, width, chunks, sum_grad, sum_grad_normal):
    pivot = _widen(mean, width, x)
    totals, moments = _slots(chunks, mean.size), _slots(chunks, mean.size)
    for chunk in prange(chunks):
        start, stop = _span(chunk, chunks, x.size, width)
        _chunk_sums(
            grad_out[start:stop], x[start:stop], mask[start // 8 : (stop + 7) // 8], pivot,
            totals[chunk], moments[chunk],
        )  # fmt: skip
    _merge_sums(totals, moments, mean, inv_std, pivot, sum_grad, sum_grad_normal)


def batch_norm_sums(
    grad_out: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    inv_std: np.ndarray,
    mask: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums over each channel of grad_out, and of grad_out times the normalised x."""
    C = x.shape[1]
    sum_grad, sum_grad_normal = np.empty(C), np.empty(C)
    width = wide_row(C, _COLUMNS)
    _sums_loop.launch(
        2 * x.size,
        _pixels(grad_out),
        _pixels(x),
        _NO_MASK if mask is None else mask,
        mean,
        inv_std,
        width,
        _chunks(x.size, width),
        sum_grad,
        sum_grad_normal,
    )
    return sum_grad, sum_grad_normal


@body
def _grad_rows(mean, inv_std, weight, sum_grad, sum_grad_normal, P, width, like):
    """Return wide rows: grad_x is scale grad_out - shift - slope (x - pivot)."""
    pivot, scale = mean.astype(like.dtype), inv_std.copy()
    shift, slope = np.empty(mean.size), np.empty(mean.size)
    for c in range(mean.size):
        if weight.size:
            scale[c] *= weight[c]
        slope[c] = scale[c] * inv_std[c] * sum_grad_normal[c] / P
        shift[c] = scale[c] * sum_grad[c] / P + (pivot[c] - mean[c]) * slope[c]
    return (
        _widen(pivot, width, like), _widen(scale, width, like), _widen(shift, width, like),
        _widen(slope, width, like),
    )  # fmt: skip


@body
def _grad_row(grad_out, x, mask, pivot, scale, shift, slope, at, stop, grad_x):
    """Write what belongs to one wide row."""
    some, j, line = tile_of_marks(x), 0, claims(grad_x[at:])
    for i in range(at, stop, MARKS):
        line = claim_marks(line, grad_x)
        grad = tile_load(some, grad_out, i, 0)
        if mask.size:
            grad = tile_keep_marked(grad, mask, i)
        difference = tile_subtract(tile_load(some, x, i, 0), tile_load(some, pivot, j, 0))
        difference = tile_multiply(tile_load(some, slope, j, 0), difference)
        grad = tile_multiply(tile_load(some, scale, j, 0), grad)
        grad = tile_subtract(grad, tile_load(some, shift, j, 0))
        tile_store(tile_subtract(grad, difference), grad_x, i, 0)
        j += MARKS


@body
def _grad_input(grad_out, x, mask, pivot, scale, shift, slope, grad_x):
    width, whole = pivot.size, x.size // MARKS * MARKS
    for at in range(0, whole, width):
        stop = min(at + width, whole)
        _grad_row(grad_out, x, mask, pivot, scale, shift, slope, at, stop, grad_x)
    j = whole % width
    row, out_row = x[whole:], grad_x[whole:]
    grad_row = _kept(grad_out, mask, whole, x.size, np.empty_like(row))
    for i in range(row.size):
        difference = slope[j + i] * (row[i] - pivot[j + i])
        out_row[i] = scale[j + i] * grad_row[i] - shift[j + i] - difference


@kernel
def _grad_input_loop(
    grad_out, x, mask, mean, inv_std, weight, sum_grad, sum_grad_normal, width, chunks, grad_x
):
    P = max(1, x.size // max(1, mean.size))
    pivot, scale, shift, slope = _grad_rows(
        mean, inv_std, weight, sum_grad, sum_grad_normal, P, width, x
    )
    for chunk in prange(chunks):
        start, stop = _span(chunk, chunks, x.size, width)
        _grad_input(
            grad_out[start:stop], x[start:stop], mask[start // 8 : (stop + 7) // 8], pivot, scale,
            shift, slope, grad_x[start:stop],
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
    grad_x, width = _empty_like(x), wide_row(x.shape[1], _WIDTH)
    _grad_input_loop.launch(
        2 * x.size,
        _pixels(grad_out),
        _pixels(x),
        _NO_MASK if mask is None else mask,
        mean,
        inv_std,
        _values(weight, x),
        sum_grad,
        sum_grad_normal,
        width,
        _chunks(x.size, width),
        _pixels(grad_x),
    )
    return grad_x
