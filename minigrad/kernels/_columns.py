"""Sums down the columns of a block of rows, four vectors of columns at a time.

A block is flat and has whole rows, of as many values as the array of sums has: a whole number of
vectors. The sums of some columns stay in registers from the first row to the last. They are as
short as the block, so that little is rounded; who adds up many blocks does so in float64.

The rows are *wide rows*, a whole number of pixels of C channels: the sums of a channel lie C apart.
"""

import math

from minigrad.kernels._bits import tile_keep_marked
from minigrad.kernels._jit import body
from minigrad.kernels._simd import (
    lanes_of,
    tile_add,
    tile_load,
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
    "sum_squares",
    "sum_values",
    "wide_row",
]


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
def _value_columns(sums, x, j, width):
    """Add the values of some columns, which are a tile beginning at column j."""
    for at in range(j, x.size, width):
        sums = tile_add(sums, tile_load(sums, x, at, 0))
    return sums


@body
def _pile(x, at, rows, sums):
    """Add some rows of a block, which begin at ``at``, to the sums."""
    width, one = sums.size, tile_zeros(1, 1, x)
    for j in range(0, width, lanes_of(x)):
        total = tile_load(one, sums, j, 0)
        for row in range(rows):
            total = tile_add(total, tile_load(one, x, at + row * width + j, 0))
        tile_store(total, sums, j, 0)


@body
def sum_values(x, sums):
    """Set the sums of each column of a block."""
    step, j, width = lanes_of(x), 0, sums.size
    if width > 8 * step:  # too many for registers: in the order of memory, which is read ahead
        sums[:] = 0
        whole = x.size // (4 * width) * (4 * width)
        for at in range(0, whole, 4 * width):
            _pile(x, at, 4, sums)
        for at in range(whole, x.size, width):
            _pile(x, at, 1, sums)
        return
    while j + 4 * step <= width:
        tile_store(_value_columns(tile_zeros(1, 4, x), x, j, width), sums, j, 0)
        j += 4 * step
    while j < width:
        tile_store(_value_columns(tile_zeros(1, 1, x), x, j, width), sums, j, 0)
        j += step


@body
def _difference_columns(sums, x, j, from_value):
    """Add the differences of some columns, which are a tile beginning at column j."""
    value = tile_load(sums, from_value, j, 0)
    for at in range(j, x.size, from_value.size):
        sums = tile_add(sums, tile_subtract(tile_load(sums, x, at, 0), value))
    return sums


@body
def _square_columns(sums, x, j, from_value):
    """Add the squared differences of some columns."""
    value = tile_load(sums, from_value, j, 0)
    for at in range(j, x.size, from_value.size):
        difference = tile_subtract(tile_load(sums, x, at, 0), value)
        sums = tile_add(sums, tile_multiply(difference, difference))
    return sums


@body
def sum_differences(x, from_value, sums):
    """Set the sums of the differences in each column of a block."""
    step, j = lanes_of(x), 0
    while j + 4 * step <= sums.size:
        tile_store(_difference_columns(tile_zeros(1, 4, x), x, j, from_value), sums, j, 0)
        j += 4 * step
    while j < sums.size:
        tile_store(_difference_columns(tile_zeros(1, 1, x), x, j, from_value), sums, j, 0)
        j += step


@body
def sum_squares(x, from_value, sums):
    """Set the sums of the squared differences in each column of a block."""
    step, j = lanes_of(x), 0
    while j + 4 * step <= sums.size:
        tile_store(_square_columns(tile_zeros(1, 4, x), x, j, from_value), sums, j, 0)
        j += 4 * step
    while j < sums.size:
        tile_store(_square_columns(tile_zeros(1, 1, x), x, j, from_value), sums, j, 0)
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
