"""Winograd convolution: 3 x 3 filters with up to four times fewer multiplications.

The product of two polynomials can be had from their values at enough points. So can a short
convolution: four outputs of a filter of three taps need six products, not twelve, and in two
dimensions a tile of 4 x 4 outputs needs 36, not 144. For each pair of a channel and a filter,

    tile of outputs = A^T [ (G g G^T) * (B^T d B) ] A

where d is the 6 x 6 patch of the input that the tile sees, g the filter, and * goes number by
number. Summed over channels, each of the 36 numbers is a product of matrices, tiles by channels
times channels by filters, and there the time is spent::

    x --B^T d B-->  36 matrices (tiles, C)                  36 matrices (tiles, F) --A^T m A--> y
                                            } 36 products -->
    weight --G g G^T-->  36 matrices (C, F)

Each of the three transforms is a small matrix applied to the columns and then to the rows of a
patch, for a vector of channels or filters at a time (``winograd_matrices.py``). Tiles at the end of
an image may have one output less, and fewer points (``winograd_places.py``). Tiles of 2 x 2 outputs
need 16 products, not 36; they are used where larger ones would hang farther over the edge.

Transformed patches are 36/16 of the input, transformed filters 36/9 of the weight: far more than a
cache holds. Here only the filters are made as a whole; patches are made piece by piece, by the
chunk of work that needs them, some rows of tiles at a time. The sums that a chunk makes never leave
the cache either. Where filters outnumber tiles it is the other way round (``winograd_wide.py``).

The matrices amplify rounding errors, and the points decide how much. With 0, 1, -1, 2, -2 and
infinity, the usual ones, the largest errors are eight times those of direct sums in float32; with
0, 3/4, -3/4, 3/2, -3/2 and infinity, used here, two to four times (``tests/kernels/test_conv.py``
holds them to that); those of 2 x 2 outputs are no larger than those of direct sums. Whole numbers
do not stay whole, and a NaN reaches all outputs of a tile that sees it. float64, in which
gradients are checked, is never computed like this.

Source: Lavin and Gray, Fast algorithms for convolutional neural networks (2016), section 4; on
points, Barabasz et al., Error analysis and improving the accuracy of Winograd convolution (2020).
"""

from typing import NamedTuple

import numpy as np

from minigrad.kernels import winograd_wide
from minigrad.kernels._ahead import AHEAD, BLOCK, next_lines, plan_ahead
from minigrad.kernels._bits import NO_MASK
from minigrad.kernels._constant import Empty, prepared
from minigrad.kernels._jit import body, chunks_of, kernel, prange
from minigrad.kernels._layout import (
    Shape,
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
    tile_store,
    tile_zeros,
)
from minigrad.kernels.conv_choice import few_tiles, winograd_outputs
from minigrad.kernels.conv_finish import Other, flat_or_none
from minigrad.kernels.conv_geometry import Geometry, Pair, Sides, geometry
from minigrad.kernels.conv_pack import aligned
from minigrad.kernels.gemm import whole_vectors
from minigrad.kernels.winograd_matrices import POINTS, TAPS
from minigrad.kernels.winograd_places import (
    LOW,
    cut_axis,
    cut_tiles,
    place_tiles,
    places_of,
    seen,
    zero_others,
)
from minigrad.kernels.winograd_tiles import (
    Steps,
    sum_channels,
    transform_filters,
    transform_patches,
    write_rows,
)

# Patches and sums of a block of tiles should stay in the second cache, beside the filters. They
# take more of it where else a block had less than so many tiles: each block reads all filters.
BLOCK_BYTES, MOST_BYTES = 768 * 1024, 1280 * 1024
BLOCK_TILES = 2 * LOW

# Blocks come in multiples of this, so that threads have the same number of them.
CHUNKS = 8

# What a block costs by itself, in rows of registers.
BLOCK_COST = 8

# Channels in a chunk of filters.
CHANNELS = 16

# For a vector of filters without a partner a tile of registers is higher than a full one: the fewer
# times is that vector read.
ALONE = 2 * LOW


class Plan(NamedTuple):
    """How the work is cut: rows of tiles over (N, rows of an image)."""

    outputs: int  # along one axis of a tile
    patch: int  # pixels along one axis of what a tile sees
    image_rows: int  # rows of tiles in an image
    full_rows: int  # those whose tiles have all their outputs
    row_tiles: int  # tiles in a row
    full_tiles: int
    rows: int
    block: int  # rows whose products are made together
    places: int  # for the tiles of a block, and those of registers that hang over
    vectors: int  # of filters
    chunks: int
    tile: int  # from the channels of a tile to those of the next one
    point: int  # from the patches of a point to those of the next one
    vector: int  # from a vector of channels to the next one


def conv2d_forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    groups: int,
    other: np.ndarray | None = None,
    relu: bool = False,
) -> np.ndarray:
    """Return the convolution of x with the 3 x 3 filters in weight, stride 1, one group."""
    g = geometry(x.shape, weight.shape, stride, padding, dilation, groups)
    square = TAPS * TAPS
    steps = Steps(0, 1, square, g.C * square)
    return _convolve(x, weight, bias, g, steps, other, relu)


def conv2d_grad_input(
    grad_out: np.ndarray,
    weight: np.ndarray,
    input_shape: Shape,
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    groups: int,
    other: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Return the gradient with respect to x: grad_out convolved with the flipped filters."""
    g = geometry(input_shape, weight.shape, stride, padding, dilation, groups)
    square = TAPS * TAPS
    steps = Steps(square - 1, -1, g.C * square, square)
    return _convolve(grad_out, weight, None, _backwards(g), steps, other, mask=mask)


@remembered
def _backwards(g: Geometry) -> Geometry:
    """Return the convolution that leads from grad_out to grad_x."""
    return g._replace(
        C=g.F, H=g.OH, W=g.OW, F=g.C, OH=g.H, OW=g.W, channels=g.F, filters=g.C,
        top=TAPS - 1 - g.top, left=TAPS - 1 - g.left,
        depth=TAPS * TAPS * g.F, pixels=g.N * g.H * g.W,
    )  # fmt: skip


def _convolve(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    g: Geometry,
    steps: Steps,
    other: np.ndarray | None = None,
    relu: bool = False,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    outputs = winograd_outputs(g.N, g.C, g.OH, g.OW, g.F)
    if _few_tiles(g, outputs):
        return winograd_wide.convolve(x, weight, bias, g, outputs, steps, other, relu, mask)
    out = empty_channels_last((g.N, g.F, g.OH, g.OW), x.dtype)
    plan, width = _plan(g, outputs), lanes(x.dtype)
    points, filters = POINTS[outputs], _filters(weight, g, steps, plan)
    biases = filled_up(bias, plan.vectors * width, x.dtype)
    _convolve_loop.launch(
        g.pixels * g.depth * g.F,
        flat_channels_last(x), filters, biases, flat_or_none(other, x.dtype),
        NO_MASK if mask is None else mask, int(relu), points, g, plan, flat_channels_last(out),
    )  # fmt: skip
    return out


def _filters(weight: np.ndarray, g: Geometry, steps: Steps, plan: Plan) -> np.ndarray:
    """Transform all filters; they take up to four times as much memory as the weight."""

    def transform(empty: Empty) -> np.ndarray:
        size = plan.patch**2 * g.C * plan.vectors * lanes(weight.dtype)
        filters = aligned(size, weight.dtype, empty)
        values = np.ascontiguousarray(weight).reshape(-1)
        _filters_loop.launch(size, values, POINTS[plan.outputs], steps, g, plan, filters)
        return filters

    return prepared(weight, ("winograd", plan.outputs, steps), transform)


def _few_tiles(g: Geometry, outputs: int) -> bool:
    """Tell whether filters outnumber tiles."""
    return few_tiles(g.N * chunks_of(g.OH, outputs) * chunks_of(g.OW, outputs), g.F)


@remembered
def _plan(g: Geometry, outputs: int) -> Plan:
    """Cut the work by its shape alone."""
    width = lanes(np.float32)
    patch = outputs + TAPS - 1
    (image_rows, full_rows), (row_tiles, full_tiles) = (
        cut_axis(g.OH, outputs), cut_axis(g.OW, outputs)
    )  # fmt: skip
    rows = g.N * image_rows
    vectors = whole_vectors(g.F, np.dtype(np.float32))
    tile_bytes = patch * patch * 4 * (g.C + min(vectors, VECTORS) * width)
    tiles = max(BLOCK_BYTES // tile_bytes, min(MOST_BYTES // tile_bytes, BLOCK_TILES))
    most = max(tiles // max(row_tiles, 1), 1)
    block = _block_of_rows(rows, row_tiles, most, vectors)
    places = places_of(block * row_tiles, full_rows == image_rows and full_tiles == row_tiles)
    if vectors % VECTORS > 0:
        places = max(places, block * row_tiles + ALONE - 1)
    point = (places | 1) * width  # not a power of two, of which a cache holds few
    return Plan(
        outputs, patch, image_rows, full_rows, row_tiles, full_tiles, rows, block, places,
        vectors, chunks_of(rows, block), width, point, patch * patch * point,
    )  # fmt: skip


def _block_of_rows(rows: int, row_tiles: int, most: int, vectors: int) -> int:
    """Choose how many rows of tiles make a block."""

    def cost(block: int) -> int:
        tiles = block * row_tiles
        blocks = chunks_of(chunks_of(rows, block), CHUNKS) * CHUNKS
        products = cut_tiles(tiles)[0] if vectors > 1 else chunks_of(tiles, ALONE) * (ALONE + 1)
        return blocks * (products + BLOCK_COST)

    return min(range(most, 0, -1), key=cost)


@kernel
def _filters_loop(weight, points, steps, g, plan, filters):
    blocks = chunks_of(g.C, CHANNELS)
    for chunk in prange(plan.vectors * blocks):
        v, first = chunk // blocks, chunk % blocks * CHANNELS
        _vector_of_filters(weight, points, steps, g, plan, v, first, filters)


@body
def _vector_of_filters(weight, points, steps, g, plan, v, first, filters):
    """Transform a vector of filters for some channels: (pairs, points, C, vectors of a pair)."""
    width = lanes_of(filters)
    u, last = v % VECTORS, min(first + CHANNELS, g.C)
    pair = min(plan.vectors - v + u, VECTORS) * width
    to = (v - u) * plan.patch**2 * g.C * width + first * pair + u * width
    transform_filters(
        weight, points, steps, g, plan, v * width, first, last, to, pair, g.C * pair, filters
    )


@kernel
def _convolve_loop(x, filters, bias, other, mask, relu, points, g, plan, out):
    for chunk in prange(plan.chunks):
        share, first = Other(other, mask), chunk * plan.block
        _for_rows(x, filters, bias, share, relu, points, g, plan, first, out)


@body
def _for_rows(x, filters, bias, other, relu, points, g, plan, first, out):
    """Transform the patches of a block of rows, and compute these tiles for all filters."""
    last = min(first + plan.block, plan.rows)
    patches = aligned_empty(chunks_of(g.C, lanes_of(out)) * plan.vector, out)
    transform_patches(x, points, g, plan, first, last, 0, g.C, patches, False)
    used = (last - first) * plan.row_tiles * lanes_of(out)
    for at in range(0, patches.size, plan.point):  # nobody reads what they become
        zero_run(patches, at + used, plan.places * lanes_of(out) - used)
    sums = aligned_empty(plan.patch**2 * (plan.places * VECTORS + 1) * lanes_of(out), out)
    places = place_tiles(plan, first, last)
    ahead = np.zeros(AHEAD + BLOCK, np.intp)
    start, stop = seen(plan, first, last, g.OH, g.OW * g.F, 0, plan.outputs)
    plan_ahead(ahead, out, start, stop)
    plan_ahead(ahead, other.values, start, stop if other.values.size > 0 else start)
    later = min(last + plan.block, plan.rows)
    start, stop = seen(plan, last, later, g.H, g.W * g.C, g.top, plan.patch)
    plan_ahead(ahead, x, start, stop)
    for v in range(0, plan.vectors, VECTORS):
        at = v * plan.patch**2 * g.C * lanes_of(out)
        _block(
            patches, filters[at:], bias, other, relu, points, g, plan, places, first, last, v,
            ahead, sums, out,
        )  # fmt: skip


@body
def _block(
    patches, filters, bias, other, relu, points, g, plan, places, first, last, v, ahead, sums, out
):
    """Compute rows of tiles for one or two vectors of filters: products, then A^T m A."""
    width = lanes_of(out)
    wide = min(plan.vectors - v, VECTORS)
    pair = wide * width
    sum_point = plan.places * pair + width  # not a power of two, as of patches
    zero_others(sums, places, sum_point, pair)
    for point in range(plan.patch**2):
        at = point * g.C * pair
        start, low, stop = places[point, 0], places[point, 1], places[point, 2]
        if wide == 1:
            zeros = tile_zeros(ALONE, 1, out)
            _multiply(
                zeros, ALONE, 1, start, stop, patches, filters[at:], g, plan, point, ahead, sums
            )
        else:
            zeros = tile_zeros(ROWS, VECTORS, out)
            _multiply(
                zeros, ROWS, VECTORS, start, low, patches, filters[at:], g, plan, point, ahead, sums
            )
            zeros = tile_zeros(LOW, VECTORS, out)
            _multiply(
                zeros, LOW, VECTORS, low, stop, patches, filters[at:], g, plan, point, ahead, sums
            )
    write_rows(sums, sum_point, pair, bias, other, relu, points, g, plan, first, last, v, wide, out)


@body(inline=True)
def _multiply(zeros, height, wide, start, stop, patches, filters, g, plan, point, ahead, sums):
    """Multiply the matrices of one point: tiles by channels, and channels by filters."""
    width = lanes_of(sums)
    pair = wide * width
    sum_point = plan.places * pair + width
    next_filters = wide if wide > 1 else 0  # one vector has little to fetch, and no time to ask
    for first in range(start, stop, height):
        at = point * plan.point + first * width
        line, step = next_lines(ahead, g.C)
        total = sum_channels(
            zeros, g.C, wide, patches, at, width, plan.vector, filters, 0, next_filters, line, step
        )
        tile_store(total, sums, point * sum_point + first * pair, pair)
