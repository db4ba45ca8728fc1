"""Sums down the columns of a block of rows, four vectors of columns at a time.

A block is flat and has whole rows, of as many values as the array of sums has: a whole number of
vectors, or at least one. The sums of some columns stay in registers from the first row to the last.
They are as short as the block, so that little is rounded; who adds up many blocks does so in
float64.

The rows are *wide rows*, a whole number of pixels of C channels: the sums of a channel lie C apart.
"""

import math

import numpy as np

from minigrad.kernels._ahead import LINE_BYTES, prefetch_lines
from minigrad.kernels._bits import tile_keep_marked
from minigrad.kernels._jit import body
from minigrad.kernels._simd import (
    lanes_of,
    tile_add,
    tile_by_lane,
    tile_load,
    tile_load_columns,
    tile_multiply,
    tile_store,
    tile_subtract,
    tile_zeros,
)

__all__ = [
    "add_row",
    "folded",
    "sum_differences",
    "sum_moments",
    "sum_products",
    "sum_values",
    "wide_row",
]

# Rows that are added up before they meet the sums in memory: a sum that is written and read again
# has to be waited for.
_TOGETHER = 8

# Rows of at most so many times four vectors are summed four vectors at a time: in longer ones these
# lie far apart, and several rows side by side are read in the order of memory.
_NARROW = 2

# Bytes from what is summed to what is asked for, in arrays of so many bytes. Sums of a channel over
# 12 to 50 MB take 0.6 of the time then on two cores of an EPYC; what is in a cache takes longer.
_AHEAD, _LARGE = 8 * 1024, 4 * 1024 * 1024


def wide_row(C: int, wanted: int) -> int:
    """Return how many values a wide row has: about as many as wanted, or C if that is more."""
    unit = math.lcm(max(1, C), 16)  # whole pixels, and whole vectors of a mask's bits
    return unit * max(1, wanted // unit)


@body
def folded(wide, c, C):
    """Sum what a wide row holds for channel c."""
    total = 0.0
    for j in range(c, wide.size, C):
        total += wide[j]
    return total


@body
def add_row(row, other):
    """Add one row to another."""
    for j in range(row.size):
        row[j] += other[j]


@body
def _difference_columns(sums, x, j, from_value, squared):
    """Add the differences of some columns, or their squares; the tile begins at column j."""
    value = tile_load(sums, from_value, j, 0)
    for at in range(j, x.size, from_value.size):
        difference = tile_subtract(tile_load(sums, x, at, 0), value)
        if squared:
            difference = tile_multiply(difference, difference)
        sums = tile_add(sums, difference)
    return sums


@body
def sum_differences(x, from_value, squared, sums):
    """Set the sums of the differences in each column of a block, or of their squares."""
    step, j = lanes_of(x), 0
    while j + 4 * step <= sums.size:
        tile = _difference_columns(tile_zeros(1, 4, x), x, j, from_value, squared)
        tile_store(tile, sums, j, 0)
        j += 4 * step
    while j < sums.size:
        j = min(j, sums.size - step)  # the last vector may begin within the one before
        one = _difference_columns(tile_zeros(1, 1, x), x, j, from_value, squared)
        tile_store(one, sums, j, 0)
        j += step


@body(inline=True)
def _load(x, at, count):
    """Read so many values, at most a vector of them."""
    return tile_load_columns(tile_zeros(1, 1, x), x, at, 0, count)


@body(inline=True)
def _load_four(x, at, row, count):
    """Sum the values from ``at`` on of four rows, two by two."""
    first = tile_add(_load(x, at, count), _load(x, at + row, count))
    at += 2 * row
    return tile_add(first, tile_add(_load(x, at, count), _load(x, at + row, count)))


@body(inline=True)
def _add_vector(x, at, rows, width, count, ahead, sums, j):
    """Add so many columns of one row, or of ``_TOGETHER``, to a vector of the sums in memory."""
    added = _load(x, at + j, count)
    if ahead > 0:
        line = np.intp(x.ctypes.data) + (at + j) * x.itemsize + ahead
        prefetch_lines(line, rows, width * x.itemsize)
    if rows == _TOGETHER:
        four = _load_four(x, at + j, width, count)
        added = tile_add(four, _load_four(x, at + 4 * width + j, width, count))
    tile_store(tile_add(tile_load(added, sums, j, 0), added), sums, j, 0)


@body(inline=True)
def _add_rows(x, at, rows, width, ahead, sums):
    """Add one row that begins at ``at``, or ``_TOGETHER``, to the sums in memory."""
    step, whole = lanes_of(x), width // lanes_of(x) * lanes_of(x)
    for j in range(0, whole, step):
        _add_vector(x, at, rows, width, step, ahead, sums, j)
    if whole < width:
        _add_vector(x, at, rows, width, width - whole, ahead, sums, whole)


@body
def _sum_four(x, first, last, width, ahead, sums, j):
    """Set the sums of four vectors of columns, from column j on; they stay in registers."""
    held = tile_zeros(1, 4, x)
    for at in range(first + j, last, width):
        if ahead > 0:
            line = np.intp(x.ctypes.data) + at * x.itemsize + ahead
            prefetch_lines(line, 4 * lanes_of(x) * x.itemsize // LINE_BYTES, LINE_BYTES)
        held = tile_add(held, tile_load(held, x, at, 0))
    tile_store(held, sums, j, 0)


@body
def sum_values(x, first, last, width, sums):
    """Set the sums of each column of the rows from ``first`` up to ``last``, of any width.

    Rows are read in the order of memory, which is read ahead; in large arrays farther ahead than
    the processor does of itself. The sums have room for a vector more: one that is written in part
    has to be waited for when it is read again.
    """
    ahead, four = _AHEAD if x.size * x.itemsize >= _LARGE else 0, 4 * lanes_of(x)
    if width % four == 0 and width <= _NARROW * four:
        for j in range(0, width, four):
            _sum_four(x, first, last, width, ahead, sums, j)
        return
    sums[:] = 0
    together = _TOGETHER * width
    whole = first + (last - first) // together * together
    for at in range(first, whole, together):
        _add_rows(x, at, _TOGETHER, width, ahead, sums)
    for at in range(whole, last, width):
        _add_rows(x, at, 1, width, ahead, sums)


@body
def _product_columns(sums, x, y, j, width):
    """Add the products of some columns; the tile begins at column j."""
    for at in range(j, x.size, width):
        sums = tile_by_lane(sums, x, at, 0, y, at)
    return sums


@body
def sum_products(x, y, sums):
    """Set the sums of x y in each column of a block."""
    step, width, j = lanes_of(x), sums.size, 0
    while j + 4 * step <= width:
        tile_store(_product_columns(tile_zeros(1, 4, x), x, y, j, width), sums, j, 0)
        j += 4 * step
    while j < width:
        tile_store(_product_columns(tile_zeros(1, 1, x), x, y, j, width), sums, j, 0)
        j += step


@body
def _moment_columns(sums, products, grad_out, x, mask, j, pivot):
    """Add grad_out, where it is marked, and its product with x - pivot of some columns."""
    value = tile_load(sums, pivot, j, 0)
    for at in range(j, x.size, pivot.size):
        grad = tile_load(sums, grad_out, at, 0)
        if mask.size:
            grad = tile_keep_marked(grad, mask, at)
        difference = tile_subtract(tile_load(sums, x, at, 0), value)
        sums = tile_add(sums, grad)
        products = tile_add(products, tile_multiply(grad, difference))
    return sums, products


@body
def sum_moments(grad_out, x, mask, pivot, sums, products):
    """Set the sums of grad_out, and of grad_out (x - pivot), in each column of a block."""
    step, j = lanes_of(x), 0
    while j + 4 * step <= sums.size:
        zeros = tile_zeros(1, 4, x)
        sum_, product = _moment_columns(zeros, zeros, grad_out, x, mask, j, pivot)
        tile_store(sum_, sums, j, 0)
        tile_store(product, products, j, 0)
        j += 4 * step
    while j < sums.size:
        zero = tile_zeros(1, 1, x)
        sum_one, product_one = _moment_columns(zero, zero, grad_out, x, mask, j, pivot)
        tile_store(sum_one, sums, j, 0)
        tile_store(product_one, products, j, 0)
        j += step
