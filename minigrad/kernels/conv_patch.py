"""Copies that the gradient of the weight reads, where memory is in no good order for it.

- Patches: the values under all taps of a filter side by side, for each pixel of a band. What a
  filter row sees is a run in the window, and a patch is all of a pixel's runs in one row. It fills
  vectors where runs do not, and is read in one direction.
- Packed vectors: those that lie far apart in the window, a few at a time.
- Cotangents, where a pixel's filters fill no whole tiles, or where pixels would share a set of the
  first cache.
"""

from minigrad.kernels._jit import body
from minigrad.kernels._simd import (
    ROWS,
    lanes_of,
    tile_load,
    tile_load_columns,
    tile_store,
    tile_zeros,
)

# Filters that lie in one line of the cache: two tiles share them.
LINE = 16 if ROWS >= 8 else 8

# Patches that are filled at once, run by run: they should stay in the first cache.
FEW_PATCHES = 16

# To copy a vector takes as long as to multiply it with so many filters, when it comes from memory.
# Other chunks that copy it too find it in a cache.
COPY_COST, AGAIN_COST = 9, 1


def copy_cost(vectors: int, chunks: int) -> int:
    """Estimate what it takes that so many chunks copy some vectors, in products of a vector."""
    return vectors * (COPY_COST + (chunks - 1) * AGAIN_COST)


@body
def fill_patches(values, g, window, plan, count, scratch):
    """Copy the values under all taps side by side, for each pixel."""
    pixel = g.stride_w * window.pixel
    for i in range(count):
        at, to = scratch.seen[i], scratch.starts[i]
        for first in range(0, scratch.counts[i], FEW_PATCHES):
            few = min(scratch.counts[i] - first, FEW_PATCHES)
            _fill_few(values, at + first * pixel, few, g, window, plan, scratch.patches, to)
            to += few * plan.patch * lanes_of(values)


@body
def _fill_few(values, seen, count, g, window, plan, patches, to):
    """Copy a few patches, run by run.

    Whole vectors are copied. What hangs over the end of a run is overwritten by the next one, and
    what hangs over the end of a patch falls into the vectors between patches.
    """
    width, pixel = lanes_of(patches), g.stride_w * window.pixel
    row = plan.patch * width
    none = one = tile_zeros(1, 1, patches)
    for p in range(count):
        tile_store(none, patches, to + p * row + (plan.row_vectors - 1) * width, 0)
    for kh in range(g.KH):
        for run in range(window.runs):
            at = seen + kh * window.down + run * window.right
            for k in range(0, window.run, width):
                for p in range(count):
                    tile_store(
                        tile_load(one, values, at + k + p * pixel, 0), patches, to + k + p * row, 0
                    )
            to += window.run


@body
def pack_vectors(values, there, starts, counts, pixel, right, wide, packed):
    """Copy the next vectors of the window, pixel by pixel."""
    width = lanes_of(packed)
    one = tile_zeros(1, 1, packed)
    to = 0
    for i in range(counts.size):
        at = there + starts[i]
        for _ in range(counts[i]):
            for v in range(wide):
                tile_store(tile_load(one, values, at + v * right, 0), packed, to + v * width, 0)
            at += pixel
            to += wide * width


@body
def panel_of(pixels):
    """Return the values of a panel, in an odd number of lines: else panels would share sets."""
    return (pixels | 1) * LINE


@body
def copy_cotangents(grad_out, at, g, pixels, filters, cotangents):
    """Copy a part of a group's cotangents to panels, and fill up the last one with zeros."""
    width = lanes_of(cotangents)
    one = tile_zeros(1, 1, cotangents)
    for p in range(pixels):
        to = p * LINE
        for first in range(0, filters[1] - filters[0], LINE):
            left = g.filters - filters[0] - first
            for f in range(0, LINE, width):
                held = tile_load_columns(one, grad_out, at + first + f, 0, left - f)
                tile_store(held, cotangents, to + f, 0)
            to += panel_of(pixels)
        at += g.F
