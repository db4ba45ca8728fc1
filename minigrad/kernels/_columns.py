"""Sums down the columns of a block of rows, four vectors of columns at a time.

A block is flat and has whole rows, of as many values as the array of sums has: a whole number of
vectors, or at least one. The sums of some columns stay in registers from the first row to the last.
They are as short as the block, so that little is rounded; who adds up many blocks does so in
float64.

The rows are *wide rows*, a whole number of pixels of C channels: the sums of a channel lie C apart.
"""

import math

import numpy as np

from minigrad.kernels._bits import tile_keep_marked
from minigrad.kernels._jit import body
from minigrad.kernels._simd import (
    lanes_of,
    tile_add,
    tile_by_lane,
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
    "sum_products",
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


@body
def _add_rows(x, at, rows, sums):
    """Add some rows of a block, which begin at ``at``, to the sums in memory."""
    width, one = sums.size, tile_zeros(1, 1, x)
    for j in range(0, width - lanes_of(x) + 1, lanes_of(x)):
        total = tile_load(one, sums, j, 0)
        for row in range(rows):
            total = tile_add(total, tile_load(one, x, at + row * width + j, 0))
        tile_store(total, sums, j, 0)


@body
def sum_values(x, sums):
    """Set the sums of each column of a block, of which there may be any number above a vector."""
    step, width = lanes_of(x), sums.size
    zeros = np.zeros(width, x.dtype)
    last, one = width - step, tile_zeros(1, 1, x)
    if width <= 8 * step:  # differences from 0, whose sums stay in registers
        sum_differences(x, zeros, False, sums)
    else:  # too many for registers: in the order of memory, which is read ahead
        sums[:] = 0
        whole = x.size // (4 * width) * (4 * width)
        for at in range(0, whole, 4 * width):
            _add_rows(x, at, 4, sums)
        for at in range(whole, x.size, width):
            _add_rows(x, at, 1, sums)
        if width % step:  # the last vector begins within the one before
            tile_store(_difference_columns(one, x, last, zeros, False), sums, last, 0)


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
