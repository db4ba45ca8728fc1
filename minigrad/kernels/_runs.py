"""Runs: neighbouring values of flat arrays, moved a vector at a time."""

import numpy as np

from minigrad.kernels._jit import body
from minigrad.kernels._simd import lanes_of, tile_add, tile_load, tile_store, tile_zeros

# Scratch of a chunk is freed when the chunk is done. malloc would give it back to the system, and
# take it again for the next one, page by page: five times as long as a small weight gradient. It
# keeps twice as much as the largest block that it was ever given back, up to 64 MiB. This one costs
# nothing, for pages that nobody touches do not exist.
np.empty(16 << 20, np.uint8)


@body
def aligned_empty(size, like):
    """Make room for values, undefined, from which every vector lies in one line of the cache.

    A vector across two lines takes twice as long to read, and longer to write.
    """
    width = lanes_of(like)
    memory = np.empty(size + width, like.dtype)
    first = -(memory.ctypes.data // memory.itemsize) % width
    return memory[first : first + size]


@body
def zero_run(to, to_at, count):
    """Write zeros."""
    width = lanes_of(to)
    zeros = tile_zeros(1, 1, to)
    i = 0
    while i + width <= count:
        tile_store(zeros, to, to_at + i, 0)
        i += width
    while i < count:
        to[to_at + i] = 0
        i += 1


@body
def copy_run(to, to_at, x, x_at, count):
    """Copy values of x."""
    width = lanes_of(to)
    one = tile_zeros(1, 1, to)
    i = 0
    while i + width <= count:
        tile_store(tile_load(one, x, x_at + i, 0), to, to_at + i, 0)
        i += width
    while i < count:
        to[to_at + i] = x[x_at + i]
        i += 1


@body
def add_run(to, to_at, x, x_at, count):
    """Add values of x."""
    width = lanes_of(to)
    one = tile_zeros(1, 1, to)
    i = 0
    while i + width <= count:
        total = tile_add(tile_load(one, to, to_at + i, 0), tile_load(one, x, x_at + i, 0))
        tile_store(total, to, to_at + i, 0)
        i += width
    while i < count:
        to[to_at + i] += x[x_at + i]
        i += 1
