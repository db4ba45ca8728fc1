"""Sums down the columns of a block of rows, four vectors of columns at a time.

A block is flat and has whole rows, of as many values as the array of sums has: a whole number of
vectors. The sums of some columns stay in registers from the first row to the last. They are as
short as the block, so that little is rounded; who adds up many blocks does so in float64.
"""

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

__all__ = ["sum_differences", "sum_moments", "sum_squares"]


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
