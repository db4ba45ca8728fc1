"""Winograd convolution where filters outnumber tiles, as in the last stages of a network.

Then the 36 matrices of the filters (``winograd.py``) are larger than those of the patches, and each
value of them meets few tiles. To write them to memory and read them again would take longer than
to multiply them, so the patches are made as a whole, and filters by the chunk that needs them.
Only of weights that cannot change are all filters made, once, and asked for a point ahead.

A chunk computes a block of tiles for a block of filters. Of both it takes some channels at a time,
so few that patches, filters and sums stay in the second cache, and those of one point in the first;
the sums of earlier channels are read again and added to::

    channels at a time:
        filters                 (points, pairs of vectors, channels, pair)
        points:
            sums += patches @ filters       (tiles, channels) @ (channels, pairs of vectors)
    rows of tiles:
        out = A^T sums A
"""

from typing import NamedTuple

import numpy as np

from minigrad.kernels import _pool
from minigrad.kernels._bits import NO_MASK
from minigrad.kernels._constant import Empty, is_constant, prepared
from minigrad.kernels._jit import body, chunks_of, kernel, prange
from minigrad.kernels._layout import (
    NO_VALUES,
    empty_channels_last,
    filled_up,
    flat_channels_last,
    remembered,
)
from minigrad.kernels._runs import aligned_empty, zero_run
from minigrad.kernels._simd import (
    ROWS,
    VECTORS,
    lanes,
    lanes_of,
    tile_load,
    tile_store,
    tile_zeros,
)
from minigrad.kernels.conv_finish import Other, flat_or_none
from minigrad.kernels.conv_geometry import Geometry
from minigrad.kernels.conv_pack import aligned
from minigrad.kernels.gemm import whole_vectors
from minigrad.kernels.winograd_matrices import POINTS, TAPS
from minigrad.kernels.winograd_places import LOW, cut_axis, place_tiles, places_of, zero_others
from minigrad.kernels.winograd_tiles import (
    Steps,
    sum_channels,
    transform_filters,
    transform_patches,
    write_rows,
)

# With so many tiles, channels and vectors of filters the matrices take 600 KB each, a point of them
# 16 KB.
TILES = 64
CHANNELS = 64
BLOCK = 2 * VECTORS

# Into at least how many chunks the work is cut, if need be by smaller blocks of filters.
CHUNKS = 8


class Plan(NamedTuple):
    """How the work is cut: blocks of rows of tiles, blocks of filters, some channels at a time."""

    outputs: int  # along one axis of a tile
    patch: int  # pixels along one axis of what a tile sees
    image_rows: int  # rows of tiles in an image
    full_rows: int  # those whose tiles have all their outputs
    row_tiles: int  # tiles in a row
    full_tiles: int
    rows: int
    block: int  # rows of a chunk
    blocks: int
    places: int  # for the tiles of a block, and those of registers that hang over
    depths: int  # times that channels are taken
    vectors: int  # of filters, an even number
    wide: int  # vectors of a chunk
    tile: int  # from the channels of a tile to those of the next one
    point: int  # from the patches of a point to those of the next one
    vector: int  # from a vector of channels to the next one
    filter_point: int  # from the filters of a point to those of the next one
    sum_point: int  # the same for sums


def convolve(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    g: Geometry,
    outputs: int,
    steps: Steps,
    other: np.ndarray | None,
    relu: bool,
    mask: np.ndarray | None,
) -> np.ndarray:
    """Convolve x with 3 x 3 filters, in tiles of outputs x outputs, and finish the result."""
    plan, points = _plan(g, outputs), POINTS[outputs]
    out = empty_channels_last((g.N, g.F, g.OH, g.OW), x.dtype)
    patches = _pool.empty((plan.blocks * plan.depths * plan.patch**2 * plan.point,), x.dtype)
    _patches_loop.launch(patches.size, flat_channels_last(x), points, g, plan, patches)
    biases = filled_up(bias, plan.vectors * lanes(x.dtype), x.dtype)
    ready = _filters(weight, g, steps, plan) if is_constant(weight) else NO_VALUES[x.dtype]
    _wide_loop.launch(
        g.pixels * g.depth * g.F,
        patches, np.ascontiguousarray(weight).reshape(-1), ready, biases,
        flat_or_none(other, x.dtype), NO_MASK if mask is None else mask, int(relu), points, steps,
        g, plan, flat_channels_last(out),
    )  # fmt: skip
    return out


@remembered
def _plan(g: Geometry, outputs: int) -> Plan:
    """Cut the work by its shape alone."""
    width = lanes(np.float32)
    patch = outputs + TAPS - 1
    (image_rows, full_rows), (row_tiles, full_tiles) = (
        cut_axis(g.OH, outputs), cut_axis(g.OW, outputs)
    )  # fmt: skip
    rows = g.N * image_rows
    blocks = chunks_of(rows, max(TILES // row_tiles, 1))
    block = chunks_of(rows, blocks)
    tiles = block * row_tiles
    places = places_of(tiles, full_rows == image_rows and full_tiles == row_tiles)
    vectors = chunks_of(whole_vectors(g.F, np.dtype(np.float32)), VECTORS) * VECTORS
    wide = BLOCK if blocks * chunks_of(vectors, BLOCK) >= CHUNKS else VECTORS
    # Points are not a power of two apart: a cache holds few lines of that distance.
    return Plan(
        outputs, patch, image_rows, full_rows, row_tiles, full_tiles, rows, block, blocks, places,
        max(chunks_of(g.C, CHANNELS), 1), vectors, wide,  # an empty sum is zero
        CHANNELS, places * CHANNELS + width, width,
        CHANNELS * BLOCK * width + width, places * BLOCK * width + width,
    )  # fmt: skip


def _filters(weight: np.ndarray, g: Geometry, steps: Steps, plan: Plan) -> np.ndarray:
    """Transform all filters; those of a chunk and of channels taken together lie together."""

    def transform(empty: Empty) -> np.ndarray:
        parts = chunks_of(plan.vectors, plan.wide) * plan.depths
        size = parts * plan.patch**2 * plan.filter_point
        filters = aligned(size, weight.dtype, empty)
        values = np.ascontiguousarray(weight).reshape(-1)
        _filters_loop.launch(size, values, POINTS[plan.outputs], steps, g, plan, filters)
        return filters

    return prepared(weight, ("winograd, wide", plan.outputs, plan.wide, steps), transform)


@kernel
def _filters_loop(weight, points, steps, g, plan, filters):
    for chunk in prange(chunks_of(plan.vectors, plan.wide) * plan.depths):
        to = chunk * plan.patch**2 * plan.filter_point
        v, c = chunk // plan.depths * plan.wide, chunk % plan.depths * CHANNELS
        _some_filters(weight, points, steps, g, plan, v, c, filters[to:])


@body
def _some_filters(weight, points, steps, g, plan, v, c, filters):
    """Write G g G^T for the filters of a chunk, and the channels from c on taken together."""
    width = lanes_of(filters)
    for u in range(min(plan.wide, plan.vectors - v)):
        to = (u // VECTORS * CHANNELS * VECTORS + u % VECTORS) * width
        transform_filters(
            weight, points, steps, g, plan, (v + u) * width, c, min(c + CHANNELS, g.C), to,
            VECTORS * width, plan.filter_point, filters,
        )  # fmt: skip


@kernel
def _patches_loop(x, points, g, plan, patches):
    for chunk in prange(plan.blocks * plan.depths):
        size = plan.patch**2 * plan.point
        block, depth = chunk // plan.depths, chunk % plan.depths
        _block_of_patches(x, points, g, plan, block, depth * CHANNELS, patches[chunk * size :])


@body
def _block_of_patches(x, points, g, plan, block, c, patches):
    """Write B^T d B for a block of tiles, and the channels from c on that are taken together."""
    first = block * plan.block
    last = min(first + plan.block, plan.rows)
    transform_patches(x, points, g, plan, first, last, c, min(c + CHANNELS, g.C), patches, True)
    used = (last - first) * plan.row_tiles * CHANNELS
    for point in range(plan.patch**2):  # nobody reads what becomes of the rest
        zero_run(patches, point * plan.point + used, plan.places * CHANNELS - used)


@kernel
def _wide_loop(patches, weight, ready, bias, other, mask, relu, points, steps, g, plan, out):
    for chunk in prange(chunks_of(plan.vectors, plan.wide) * plan.blocks):
        v, block = chunk // plan.blocks * plan.wide, chunk % plan.blocks
        share = Other(other, mask)
        _block_of_filters(
            patches, weight, ready, bias, share, relu, points, steps, g, plan, v, block, out
        )


@body
def _block_of_filters(
    patches, weight, ready, bias, other, relu, points, steps, g, plan, v, block, out
):
    """Compute a block of tiles for the vectors of filters from v on that belong to a chunk."""
    square, width = plan.patch**2, lanes_of(out)
    filters = aligned_empty(square * plan.filter_point, out)
    sums = aligned_empty(square * plan.sum_point, out)
    first, wide = block * plan.block, min(plan.wide, plan.vectors - v)
    last = min(first + plan.block, plan.rows)
    places = place_tiles(plan, first, last)
    zero_others(sums, places, plan.sum_point, BLOCK * width)
    for depth in range(plan.depths):
        c, far = depth * CHANNELS, ready.size > 0
        if far:
            filters = ready[(v // plan.wide * plan.depths + depth) * square * plan.filter_point :]
        else:
            _some_filters(weight, points, steps, g, plan, v, c, filters)
        seen = patches[(block * plan.depths + depth) * square * plan.point :]
        for point in range(square):
            start, low, stop = places[point, 0], places[point, 1], places[point, 2]
            deep = min(CHANNELS, g.C - c)
            _multiply(
                depth == 0, ROWS, start, low, deep, wide, seen, filters, far, plan, point, sums
            )
            _multiply(depth == 0, LOW, low, stop, deep, wide, seen, filters, far, plan, point, sums)
    write_rows(
        sums, plan.sum_point, BLOCK * width, bias, other, relu, points, g, plan, first, last, v,
        wide, out,
    )  # fmt: skip


@body
def _multiply(
    is_first, height, start, stop, channels, wide, patches, filters, far, plan, point, sums
):
    """Add the product of the matrices of one point: tiles by channels, channels by filters."""
    width = lanes_of(sums)
    row = BLOCK * width
    # Ask for the patches of the next point, and where filters come from far, for those too.
    next_patches = np.intp(patches.ctypes.data) + (point + 1) * plan.point * patches.itemsize
    next_filters = np.intp(filters.ctypes.data) + (point + 1) * plan.filter_point * sums.itemsize
    step = np.intp(height * patches.itemsize)
    for v in range(0, wide, VECTORS):
        for first in range(start, stop, height):
            a_at = point * plan.point + first * CHANNELS
            b_at = point * plan.filter_point + v * CHANNELS * width
            to = point * plan.sum_point + first * row + v * width
            total = tile_zeros(height, VECTORS, sums)
            if not is_first:
                total = tile_load(total, sums, to, row)
            line = next_filters if far and v + VECTORS == wide else next_patches
            line += first * CHANNELS * patches.itemsize
            total = sum_channels(
                total, channels, VECTORS, patches, a_at, CHANNELS, width, filters, b_at, 0, line,
                step,
            )  # fmt: skip
            tile_store(total, sums, to, row)
