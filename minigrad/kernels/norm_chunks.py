"""What one chunk of a batch norm computes, and how the slots of all chunks are merged.

``norm.py`` says what wide rows are, and in which order the chunks go by.
"""

import numpy as np

from minigrad.kernels._bits import (
    MARKS,
    keep_last_positive,
    keep_marked,
    line_ahead,
    tile_keep_marked,
    tile_mark_positive,
    tile_of_marks,
    write_marks,
)
from minigrad.kernels._columns import add_row, folded, sum_differences, sum_moments
from minigrad.kernels._jit import body, chunk_bounds
from minigrad.kernels._runs import aligned_empty
from minigrad.kernels._simd import tile_add, tile_load, tile_multiply, tile_subtract

__all__ = [
    "affine_rows",
    "chunk_statistics",
    "chunk_sums",
    "grad_input",
    "grad_rows",
    "merge_statistics",
    "merge_sums",
    "normalise",
    "settle_statistics",
    "slots",
    "span",
    "widen",
]

# Values of a block of wide rows, which stay in the nearest cache while its columns are summed.
_BLOCK = 4_096


@body
def span(chunk, chunks, size, width):
    """Return where in x a chunk starts and stops: a whole number of wide rows, but for the last."""
    start, stop = chunk_bounds(chunk, chunks, -(-size // width))
    return start * width, min(stop * width, size)


@body
def widen(values, width, like):
    """Repeat the values of C channels to a wide row, in the dtype of another array."""
    wide = aligned_empty(width, like)
    for start in range(0, width, values.size):
        pixel = wide[start : start + values.size]
        for c in range(values.size):
            pixel[c] = values[c]
    return wide


@body
def slots(chunks, C):
    """Make room for what each chunk finds of each channel; float64, and undefined."""
    return np.empty((chunks, C))


# Slices, not x[at + j]: the compiler cannot tell that at + j is not negative, and an index that
# might count from the end keeps it from using vectors.


@body
def _blocks(x, width):
    """Return how many values the blocks of whole wide rows have, and how many all of them."""
    return max(1, _BLOCK // width) * width, x.size // width * width


@body
def chunk_statistics(x, C, width, mean, square):
    """Set the mean of each channel, and the sum of squared distances from it, over one chunk.

    The mean is summed as distances from the first pixel, so that a large common value is taken
    away before anything is rounded. The squares are of distances from the mean, rounded to x's
    dtype; the last line takes back what the rounding added: sum (x - p)**2 is
    sum (x - mean)**2 + n (mean - p)**2.
    """
    n = x.size // C
    block, whole = _blocks(x, width)
    pivot, total, sums = widen(x[:C], width, x), np.zeros(width), np.empty(width, x.dtype)
    for at in range(0, whole, block):
        sum_differences(x[at : min(at + block, whole)], pivot, False, sums)
        add_row(total, sums)
    for j in range(x.size - whole):
        total[j] += x[whole:][j] - pivot[j]
    rounded = np.empty(C, x.dtype)
    for c in range(C):
        mean[c] = x[c] + folded(total, c, C) / n
        rounded[c] = mean[c]
    total[:] = 0
    pivot = widen(rounded, width, x)
    for at in range(0, whole, block):
        sum_differences(x[at : min(at + block, whole)], pivot, True, sums)
        add_row(total, sums)
    for j in range(x.size - whole):
        difference = x[whole:][j] - pivot[j]
        total[j] += difference * difference
    for c in range(C):
        square[c] = folded(total, c, C) - n * (mean[c] - rounded[c]) ** 2


@body
def merge_statistics(means, squares, counts, mean, var):
    """Merge the slots in order by the formula of Chan, Golub and LeVeque (1979).

    Returns how many pixels there are.
    """
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
    return total


@body
def settle_statistics(
    means, squares, counts, eps, running_mean, running_var, momentum, mean, inv_std
):
    """Set mean and 1 / sqrt(var + eps) of each channel, and move the running statistics if any.

    The running variance is to estimate that of unseen data, so it takes P - 1 for P pixels.
    """
    var = np.empty(mean.size)
    P = merge_statistics(means, squares, counts, mean, var)
    for c in range(mean.size):
        inv_std[c] = 1 / np.sqrt(var[c] + eps)
    for c in range(running_mean.size):
        running_mean[c] += momentum * (mean[c] - running_mean[c])
        running_var[c] += momentum * (var[c] * P / (P - 1) - running_var[c])


@body
def affine_rows(mean, inv_std, weight, bias, width, like):
    """Return wide rows: weight (x - mean) inv_std + bias is (x - pivot) scale + shift.

    x - pivot is exact where x is close to it; shift has what rounding the mean took away.
    """
    pivot, scale, shift = (
        aligned_empty(width, like), aligned_empty(width, like), aligned_empty(width, like)
    )  # fmt: skip
    for c in range(mean.size):
        pivot[c] = mean[c]
        factor = inv_std[c] * weight[c] if weight.size else inv_std[c]
        term = (pivot[c] - mean[c]) * factor
        if bias.size:
            term += bias[c]
        for at in range(c, width, mean.size):
            pivot[at], scale[at], shift[at] = pivot[c], factor, term
    return pivot, scale, shift


@body
def _normal_row(x, other, pivot, scale, shift, at, stop, out, mask, far):
    """Write what belongs to one wide row."""
    some, j, line = tile_of_marks(x), 0, line_ahead(out[at:])
    for i in range(at, stop, MARKS):
        value = tile_subtract(tile_load(some, x, i, 0), tile_load(some, pivot, j, 0))
        value = tile_multiply(value, tile_load(some, scale, j, 0))
        value = tile_add(value, tile_load(some, shift, j, 0))
        if other.size:
            value = tile_add(value, tile_load(some, other, i, 0))
        if mask.size:
            value = tile_mark_positive(value, mask, i)
        line = write_marks(value, out, i, far, line)
        j += MARKS


@body
def normalise(x, other, pivot, scale, shift, out, mask, far):
    """Write (x - pivot) scale + shift of one chunk, and other if it is there; with a mask its relu.

    What no vector has room for comes last, and one by one.
    """
    width, whole = pivot.size, x.size // MARKS * MARKS
    for at in range(0, whole, width):
        _normal_row(x, other, pivot, scale, shift, at, min(at + width, whole), out, mask, far)
    j = whole % width - whole
    for i in range(whole, x.size):
        out[i] = (x[i] - pivot[j + i]) * scale[j + i] + shift[j + i]
        if other.size:
            out[i] += other[i]
    if mask.size:
        keep_last_positive(out, out, mask, whole)


@body
def _kept(grad_out, mask, at, stop, room):
    """Return a part of the cotangent, with 0 where a relu has stopped it, if there is one."""
    part = grad_out[at:stop]
    if mask.size == 0:
        return part
    kept = room[: part.size]
    keep_marked(part, mask[at // 8 : (stop + 7) // 8], kept, False)
    return kept


@body
def chunk_sums(grad_out, x, mask, pivot, totals, moments):
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
def merge_sums(totals, moments, mean, inv_std, pivot, sum_grad, sum_grad_normal):
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


@body
def grad_rows(mean, inv_std, weight, sum_grad, sum_grad_normal, width, x):
    """Return wide rows: grad_x is scale grad_out - shift - slope (x - pivot)."""
    P = max(1, x.size // max(1, mean.size))
    pivot, scale = mean.astype(x.dtype), inv_std.copy()
    shift, slope = np.empty(mean.size), np.empty(mean.size)
    for c in range(mean.size):
        if weight.size:
            scale[c] *= weight[c]
        slope[c] = scale[c] * inv_std[c] * sum_grad_normal[c] / P
        shift[c] = scale[c] * sum_grad[c] / P + (pivot[c] - mean[c]) * slope[c]
    return (
        widen(pivot, width, x), widen(scale, width, x), widen(shift, width, x),
        widen(slope, width, x),
    )  # fmt: skip


@body
def _grad_row(grad_out, x, mask, pivot, scale, shift, slope, at, stop, grad_x, far):
    """Write what belongs to one wide row."""
    some, j, line = tile_of_marks(x), 0, line_ahead(grad_x[at:])
    for i in range(at, stop, MARKS):
        grad = tile_load(some, grad_out, i, 0)
        if mask.size:
            grad = tile_keep_marked(grad, mask, i)
        difference = tile_subtract(tile_load(some, x, i, 0), tile_load(some, pivot, j, 0))
        difference = tile_multiply(tile_load(some, slope, j, 0), difference)
        grad = tile_multiply(tile_load(some, scale, j, 0), grad)
        grad = tile_subtract(grad, tile_load(some, shift, j, 0))
        line = write_marks(tile_subtract(grad, difference), grad_x, i, far, line)
        j += MARKS


@body
def grad_input(grad_out, x, mask, pivot, scale, shift, slope, grad_x, far):
    """Write scale grad_out - shift - slope (x - pivot) of one chunk, what a mask stops taken as 0.

    What no vector has room for comes last, and one by one.
    """
    width, whole = pivot.size, x.size // MARKS * MARKS
    for at in range(0, whole, width):
        stop = min(at + width, whole)
        _grad_row(grad_out, x, mask, pivot, scale, shift, slope, at, stop, grad_x, far)
    j = whole % width
    row, out_row = x[whole:], grad_x[whole:]
    grad_row = _kept(grad_out, mask, whole, x.size, np.empty_like(row))
    for i in range(row.size):
        difference = slope[j + i] * (row[i] - pivot[j + i])
        out_row[i] = scale[j + i] * grad_row[i] - shift[j + i] - difference
