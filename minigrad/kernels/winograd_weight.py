"""Winograd convolution: the gradient of 3 x 3 filters with up to four times fewer multiplications.

``winograd.py`` computes a tile of outputs as ``A^T [(G g G^T) * (B^T d B)] A``: for each point, a
product of what the filter and the patch become there. The gradient with respect to g is the same
sum of products seen from the filter, with y now the tile of ``grad_out``::

    grad_g = G^T [ sum over tiles of (A y A^T) * (B^T d B) ] G

Over filters and channels each point sums a product of matrices, filters by tiles times tiles by
channels::

    x        --B^T d B-->  36 matrices (tiles, C)
                                                  } 36 products, summed --G^T m G--> grad_weight
    grad_out --A y A^T-->  36 matrices (tiles, F)

The sums are 36/9 of the weight. A chunk of work makes those of a block of filters and a block of
channels, small enough for the second cache, from all tiles or from a part of them; parts are added
in order. What a chunk needs of the tiles it makes for itself, some rows of tiles at a time: they
are made again for each block, which costs less than fetching them from memory.

Source: as in ``winograd.py``; that the matrices are transposed as in any bilinear algorithm is in
Blahut, Fast algorithms for signal processing (2010), section 5.
"""

import math
from typing import NamedTuple

import numpy as np

from minigrad.kernels import _pool
from minigrad.kernels._jit import CHUNK, body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import Shape, flat_channels_last, remembered
from minigrad.kernels._runs import aligned_empty, zero_run
from minigrad.kernels._simd import (
    ROWS,
    VECTORS,
    lanes,
    lanes_of,
    tile_load,
    tile_outer,
    tile_store,
    tile_store_part,
    tile_zeros,
)
from minigrad.kernels._simd_transpose import tile_transpose
from minigrad.kernels.conv_geometry import Geometry, Pair, Sides, geometry
from minigrad.kernels.conv_slots import sum_slots
from minigrad.kernels.gemm import whole_vectors
from minigrad.kernels.winograd_matrices import POINTS, TAPS, transform
from minigrad.kernels.winograd_places import cut_axis, full_rows_of, needed
from minigrad.kernels.winograd_tiles import LANES, transform_gradients, transform_patches

OUTPUTS = 4  # along one axis of a tile

# The sums of so many filters and channels share the second cache with the patches and gradients of
# some tiles, and those of one point the first, of which patches and gradients take so much.
FILTERS = 64
CHANNELS = 64
POINT_BYTES = 16 * 1024

# Into at least how many chunks the work is cut, where there are enough rows of tiles.
CHUNKS = 8

# Rows of a tile of registers, for two vectors of channels and for a last one without a partner: a
# block of filters is a multiple of both.
HEIGHT, ALONE = (8, 16) if ROWS >= 8 else (4, 8)

# Filters whose gradients lie side by side: those of any tile of registers do.
GROUP = max(ALONE, lanes(np.float32))


class Plan(NamedTuple):
    """How the work is cut: blocks of filters, blocks of channels, parts of the rows of tiles."""

    outputs: int  # along one axis of a tile
    patch: int  # pixels along one axis of what a tile sees
    image_rows: int  # rows of tiles in an image
    full_rows: int  # those whose tiles have all their outputs
    row_tiles: int  # tiles in a row
    full_tiles: int
    rows: int
    block: int  # rows whose products are made together
    filters: int  # of a block
    channels: int
    filter_blocks: int
    channel_blocks: int
    parts: int
    tile: int  # from the channels of a tile to those of the next one
    point: int  # from the patches of a point to those of the next one
    vector: int  # from a vector of channels to the next one
    grad_point: int  # from the gradients of a point to those of the next one
    sum_point: int  # from the sums of a point to those of the next one


def conv2d_grad_weight(
    grad_out: np.ndarray,
    x: np.ndarray,
    weight_shape: Shape,
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """Return the gradient with respect to 3 x 3 filters, stride 1, one group."""
    g = geometry(x.shape, weight_shape, stride, padding, dilation, groups)
    if 0 in (grad_out.size, x.size):
        return np.zeros(weight_shape, x.dtype)
    plan = _plan(g)
    size = math.prod(weight_shape)
    whole = whole_vectors(size, x.dtype) * lanes(x.dtype)
    partial = _pool.empty((plan.parts, whole), x.dtype)
    _grad_weight_loop.launch(
        g.pixels * g.depth * g.F, flat_channels_last(x), flat_channels_last(grad_out),
        POINTS[OUTPUTS], g, plan, partial,
    )  # fmt: skip
    total = partial[0]
    if plan.parts > 1:
        total = _pool.empty((whole,), x.dtype)
        _add_loop.launch(partial.size, partial, total)
    return total[:size].reshape(weight_shape)


@remembered
def _plan(g: Geometry) -> Plan:
    """Cut the work by its shape alone."""
    width = lanes(np.float32)
    patch = OUTPUTS + TAPS - 1
    (image_rows, full_rows), (row_tiles, full_tiles) = (
        cut_axis(g.OH, OUTPUTS), cut_axis(g.OW, OUTPUTS)
    )  # fmt: skip
    rows = g.N * image_rows
    filters = _block(g.F, FILTERS, GROUP)
    channels = _block(g.C, CHANNELS, width)
    block = max(POINT_BYTES // (4 * (filters + channels)) // row_tiles, 1)
    filter_blocks, channel_blocks = chunks_of(g.F, filters), chunks_of(g.C, channels)
    parts = min(chunks_of(CHUNKS, filter_blocks * channel_blocks), rows)
    tiles = min(block, rows) * row_tiles | 1  # not a power of two, of which a cache holds few
    return Plan(
        OUTPUTS, patch, image_rows, full_rows, row_tiles, full_tiles, rows, block,
        filters, channels, filter_blocks, channel_blocks, parts,
        width, tiles * width, patch * patch * tiles * width, tiles * GROUP,
        filters * channels + width,
    )  # fmt: skip


def _block(size: int, most: int, step: int) -> int:
    """Cut size into equal blocks of about ``most``, and return theirs, a multiple of step."""
    blocks = chunks_of(size, most)
    return chunks_of(chunks_of(size, blocks), step) * step


@kernel
def _grad_weight_loop(x, grad_out, points, g, plan, partial):
    for chunk in prange(plan.filter_blocks * plan.channel_blocks * plan.parts):
        block, part = chunk // plan.parts, chunk % plan.parts
        f = block // plan.channel_blocks * plan.filters
        c = block % plan.channel_blocks * plan.channels
        _block_of_weight(x, grad_out, points, g, plan, part, f, c, partial)


@body
def _block_of_weight(x, grad_out, points, g, plan, part, f, c, partial):
    """Compute a block of filters and channels from a part of the rows of tiles."""
    square = plan.patch**2
    width = lanes_of(x)
    patches = aligned_empty(plan.channels // width * plan.vector, x)
    gradients = aligned_empty(plan.filters // GROUP * square * plan.grad_point, x)
    sums = aligned_empty(square * plan.sum_point, x)
    start, stop = chunk_bounds(part, plan.parts, plan.rows)
    for first in range(start, stop, plan.block):
        last = min(first + plan.block, stop)
        transform_patches(x, points, g, plan, first, last, c, c + plan.channels, patches, False)
        transform_gradients(
            grad_out, points, g, plan, GROUP, first, last, f, f + plan.filters, gradients
        )
        full = full_rows_of(plan, first, last)
        for i in range(plan.patch):
            for j in range(plan.patch):
                tiles, point = needed(plan, last - first, full, i, j), i * plan.patch + j
                _multiply(first == start, tiles, point, gradients, patches, plan, sums)
    _write_weight(sums, points, g, plan, f, c, partial[part])


@body
def _multiply(is_first, tiles, point, gradients, patches, plan, sums):
    """Add the product of the matrices of one point, summed over the tiles that need it."""
    pair = VECTORS * lanes_of(sums)
    pairs = plan.channels // pair * pair
    for c in range(0, pairs, pair):
        for f in range(0, plan.filters, HEIGHT):
            _add_tiles(
                tile_zeros(HEIGHT, VECTORS, sums), is_first, tiles, point, f, c,
                gradients, patches, plan, sums,
            )  # fmt: skip
    if pairs < plan.channels:
        for f in range(0, plan.filters, ALONE):
            _add_tiles(
                tile_zeros(ALONE, 1, sums), is_first, tiles, point, f, pairs,
                gradients, patches, plan, sums,
            )  # fmt: skip


@body(inline=True)
def _add_tiles(total, is_first, tiles, point, f, c, gradients, patches, plan, sums):
    """Add up what the tiles give to the filters and channels of one tile of registers."""
    width = lanes_of(sums)
    to = point * plan.sum_point + f * plan.channels + c
    if not is_first:
        total = tile_load(total, sums, to, plan.channels)
    a_at = (f // GROUP * plan.patch**2 + point) * plan.grad_point + f % GROUP + tiles[0] * GROUP
    b_at = c // width * plan.vector + point * plan.point + tiles[0] * width
    for _ in range(tiles[0], tiles[1]):
        total = tile_outer(total, gradients, a_at, 1, patches, b_at, plan.vector)
        a_at += GROUP
        b_at += width
    tile_store(total, sums, to, plan.channels)


@body
def _write_weight(sums, points, g, plan, f_first, c_first, weight):
    """Write G^T m G for a block of filters and channels, a vector of channels at a time."""
    width = lanes_of(sums)
    patch = transform("filter", points, tile_zeros(TAPS, 1, sums))  # zeros; it says how many
    half = aligned_empty(TAPS * plan.patch * width, sums)
    square = tile_zeros(LANES, 1, sums)
    taps = aligned_empty((TAPS * TAPS + width) * width, sums)
    zero_run(taps, TAPS * TAPS * width, width * width)
    for f in range(f_first, min(f_first + plan.filters, g.F)):
        for c in range(c_first, min(c_first + plan.channels, g.C), width):
            at = (f - f_first) * plan.channels + c - c_first
            for j in range(plan.patch):
                column = tile_load(
                    patch, sums, at + j * plan.sum_point, plan.patch * plan.sum_point
                )
                tile_store(transform("weight", points, column), half, j * width, plan.patch * width)
            for i in range(TAPS):
                row = tile_load(patch, half, i * plan.patch * width, width)
                tile_store(transform("weight", points, row), taps, i * TAPS * width, width)
            to = (f * g.C + c) * TAPS * TAPS
            for tap in range(0, TAPS * TAPS, width):
                values = tile_transpose(tile_load(square, taps, tap * width, width))
                rest = TAPS * TAPS - tap
                tile_store_part(values, weight, to + tap, TAPS * TAPS, g.C - c, rest)


@kernel
def _add_loop(partial, total):
    for chunk in prange(chunks_of(total.size)):
        start, stop = chunk * CHUNK, min((chunk + 1) * CHUNK, total.size)
        sum_slots(partial, start, total[start:stop])
