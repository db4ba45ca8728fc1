"""Winograd convolution: 3 x 3 filters with four times fewer multiplications.

The product of two polynomials can be had from their values at enough points. So can a short
convolution: four outputs of a filter of three taps need six products, not twelve, and in two
dimensions a tile of 4 x 4 outputs needs 36, not 144. For each pair of a channel and a filter,

    tile of outputs = A^T [ (G g G^T) * (B^T d B) ] A

where d is the 6 x 6 patch of the input that the tile sees, g the filter, and * goes number by
number. Summed over channels, each of the 36 numbers is a product of matrices, pixels by channels
times channels by filters, and there the time is spent::

    x --B^T d B-->  36 matrices (tiles, C)                  36 matrices (tiles, F) --A^T m A--> y
                                            } 36 products -->
    weight --G g G^T-->  36 matrices (C, F)

Each of the three transforms is a small matrix applied to the rows and then to the columns of a
patch, for a vector of channels or filters at a time: twice the function ``_transform``.

The matrices amplify rounding errors, and the points decide how much. With 0, 1, -1, 2, -2 and
infinity, the usual ones, the largest errors are eight times those of direct sums in float32; with
0, 3/4, -3/4, 3/2, -3/2 and infinity, used here, two to four times (``tests/kernels/test_conv.py``
holds them to that). Whole numbers do not stay whole, and a NaN reaches all outputs of a tile that
sees it. float64, in which gradients are checked, is never computed like this.

Source: Lavin and Gray, Fast algorithms for convolutional neural networks (2016), section 4; on
points, Barabasz et al., Error analysis and improving the accuracy of Winograd convolution (2020).
"""

from typing import NamedTuple

import numpy as np

from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import Shape, empty_channels_last, flat_channels_last, remembered
from minigrad.kernels._runs import copy_run
from minigrad.kernels._simd import (
    ROWS,
    VECTORS,
    lanes,
    lanes_of,
    tile_load,
    tile_outer,
    tile_store,
    tile_store_columns,
    tile_zeros,
)
from minigrad.kernels.conv_direct import pack_weight
from minigrad.kernels.conv_geometry import Geometry, Pair, Sides, geometry
from minigrad.kernels.conv_window import Window, fill_window
from minigrad.kernels.gemm import whole_vectors

OUTPUTS, TAPS, PATCH = 4, 3, 6  # along one axis of a tile
POINTS = PATCH * PATCH


def _matrices(finite: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return B^T, G and A^T for these points and infinity.

    Row i of G gives the value of the filter, as a polynomial, at point i, and column i of A^T the
    powers of the point; row i of B^T is the polynomial that vanishes at all other points. At
    infinity the value of a polynomial is its leading coefficient.
    """
    powers = np.vander(finite, PATCH, increasing=True)
    infinity = np.eye(PATCH)[-1]
    inputs = np.zeros((PATCH, PATCH))
    filters = np.vstack([powers[:, :TAPS], infinity[-TAPS:]])
    outputs = np.vstack([powers[:, :OUTPUTS], infinity[-OUTPUTS:]]).T
    for i, point in enumerate(finite):
        others = [other for other in finite if other != point]
        inputs[i, : PATCH - 1] = np.poly(others)[::-1]
        filters[i] /= np.prod([point - other for other in others])
    inputs[-1] = np.poly(finite)[::-1]
    return inputs.astype(np.float32), filters.astype(np.float32), outputs.astype(np.float32)


INPUT, FILTER, OUTPUT = _matrices((0, 3 / 4, -3 / 4, 3 / 2, -3 / 2))

# What a chunk of tiles takes as matrices should stay in the second cache, but fewer tiles than
# this do not pay for reading all transformed filters.
CHUNK_BYTES = 2 * 1024 * 1024
LEAST_TILES = 28

# Into how many chunks a small problem is cut.
CHUNKS = 8


class Plan(NamedTuple):
    """How the work is cut: rows of tiles over (N, rows of an image), and vectors of filters."""

    image_rows: int  # rows of tiles in an image
    row_tiles: int  # tiles in a row
    rows: int
    block: int  # rows in a chunk
    vectors: int  # of filters, an even number
    parts: int  # chunks over the vectors


def conv2d_forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """Return the convolution of x with the 3 x 3 filters in weight, stride 1, one group."""
    g = geometry(x.shape, weight.shape, stride, padding, dilation, groups)
    return _convolve(x, weight, bias, g, np.arange(TAPS * TAPS), False)


def conv2d_grad_input(
    grad_out: np.ndarray,
    weight: np.ndarray,
    input_shape: Shape,
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """Return the gradient with respect to x: grad_out convolved with the flipped filters."""
    g = geometry(input_shape, weight.shape, stride, padding, dilation, groups)
    flipped = g._replace(
        C=g.F, H=g.OH, W=g.OW, F=g.C, OH=g.H, OW=g.W, channels=g.F, filters=g.C,
        top=TAPS - 1 - g.top, left=TAPS - 1 - g.left, taps=TAPS * TAPS * g.F,
        pixels=g.N * g.H * g.W,
    )  # fmt: skip
    taps = np.arange(TAPS * TAPS)[::-1].copy()
    return _convolve(grad_out, weight, None, flipped, taps, True)


def _convolve(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    g: Geometry,
    taps: np.ndarray,
    transposed: bool,
) -> np.ndarray:
    out = empty_channels_last((g.N, g.F, g.OH, g.OW), x.dtype)
    plan = _plan(g)
    width = lanes(x.dtype)
    packed = pack_weight(weight, g, plan.vectors, taps, transposed)
    filters = np.empty(POINTS * plan.vectors * g.C * width, x.dtype)
    _filters_loop.launch(filters.size, packed, g.C, plan.vectors, FILTER.reshape(-1), filters)
    biases = np.zeros(plan.vectors * width, x.dtype)
    if bias is not None:
        biases[: g.F] = bias
    height, row = plan.image_rows * OUTPUTS + 2, plan.row_tiles * OUTPUTS + 2
    _convolve_loop.launch(
        g.pixels * g.taps * g.F,
        flat_channels_last(x),
        filters,
        biases,
        g,
        Window(1, height, row, g.C, 1, TAPS * g.C, g.C, row * g.C),
        plan,
        INPUT.reshape(-1),
        OUTPUT.reshape(-1),
        flat_channels_last(out),
    )
    return out


@remembered
def _plan(g: Geometry) -> Plan:
    """Cut the work by its shape alone."""
    image_rows, row_tiles = chunks_of(g.OH, OUTPUTS), chunks_of(g.OW, OUTPUTS)
    rows = g.N * image_rows
    vectors = chunks_of(whole_vectors(g.F, np.dtype(np.float32)), VECTORS) * VECTORS
    tiles = max(CHUNK_BYTES // (POINTS * 4 * max(g.C + g.F, 1)), LEAST_TILES)
    block = max(min(tiles // max(row_tiles, 1), chunks_of(rows, CHUNKS)), 1)
    block = max(block, min(chunks_of(LEAST_TILES, max(row_tiles, 1)), rows), 1)
    parts = max(min(vectors // 4, CHUNKS // max(chunks_of(rows, block), 1)), 1)
    return Plan(image_rows, row_tiles, rows, block, vectors, parts)


@body
def _transform(tile, matrix, size, values, at, step):
    """Add a small matrix times ``size`` vectors, the vectors ``step`` apart; one row for each."""
    for k in range(size):
        tile = tile_outer(tile, matrix, k, size, values, at + k * step, 0)
    return tile


@kernel
def _filters_loop(packed, channels, vectors, matrix, filters):
    """Transform filters: (vectors, taps, C, lanes) to (points, vectors, C, lanes)."""
    for v in prange(vectors):
        _transform_filters(packed, channels, vectors, v, matrix, filters)


@body
def _transform_filters(packed, channels, vectors, v, matrix, filters):
    width = lanes_of(filters)
    half = np.empty(PATCH * TAPS * width, filters.dtype)
    zeros = tile_zeros(PATCH, 1, filters)
    row = channels * width
    for c in range(channels):
        for kw in range(TAPS):
            at = (v * TAPS * TAPS + kw) * row + c * width
            column = _transform(zeros, matrix, TAPS, packed, at, TAPS * row)
            tile_store(column, half, kw * width, TAPS * width)
        for i in range(PATCH):
            points = _transform(zeros, matrix, TAPS, half, i * TAPS * width, width)
            to = (i * PATCH * vectors + v) * row + c * width
            tile_store(points, filters, to, vectors * row)


@kernel
def _convolve_loop(x, filters, bias, g, window, plan, input_matrix, output_matrix, out):
    for chunk in prange(chunks_of(plan.rows, plan.block) * plan.parts):
        first = chunk // plan.parts * plan.block
        last = min(first + plan.block, plan.rows)
        _convolve_chunk(
            x, filters, bias, g, window, plan, first, last, chunk % plan.parts,
            input_matrix, output_matrix, out,
        )  # fmt: skip


@body
def _convolve_chunk(
    x, filters, bias, g, window, plan, first, last, part, input_matrix, output_matrix, out
):
    """Compute rows of tiles from ``first`` up to ``last``, for one part of the filters."""
    width = lanes_of(x)
    first_pair, last_pair = chunk_bounds(part, plan.parts, plan.vectors // VECTORS)
    v_first, v_last = first_pair * VECTORS, last_pair * VECTORS
    # Filled up to whole blocks of registers, with zeros; nobody reads what they become.
    wanted = (last - first) * plan.row_tiles
    tiles = chunks_of(wanted, ROWS) * ROWS
    channels, columns = chunks_of(g.C, width) * width, (v_last - v_first) * width
    patches = np.empty(POINTS * tiles * channels, x.dtype)
    for point in range(POINTS):
        patches[(point * tiles + wanted) * channels : (point + 1) * tiles * channels] = 0
    sums = np.empty(POINTS * tiles * columns, x.dtype)
    # The last vector of a pixel may reach past its channels.
    values = np.zeros(PATCH * window.width * g.C + width, x.dtype)
    for row in range(first, last):
        top_row = row // plan.image_rows * window.height + row % plan.image_rows * OUTPUTS
        fill_window(x, g, window, 0, top_row, PATCH, values)
        tile = (row - first) * plan.row_tiles
        _transform_row(values, g.C, window, plan, tile, tiles, input_matrix, patches)
    for point in range(POINTS):
        at = (point * plan.vectors + v_first) * g.C * width
        _multiply(
            patches[point * tiles * channels :], channels, filters[at:], g.C, tiles, columns,
            sums[point * tiles * columns :],
        )  # fmt: skip
    for row in range(first, last):
        tile = (row - first) * plan.row_tiles
        _write_row(sums, bias, g, plan, row, tile, tiles, v_first, v_last, output_matrix, out)


@body
def _multiply(patches, channels, filters, C, tiles, columns, sums):
    """Compute sums = patches @ filters for one point."""
    width = lanes_of(sums)
    for v in range(0, columns // width, VECTORS):
        for tile in range(0, tiles, ROWS):
            total = tile_zeros(ROWS, VECTORS, sums)
            at = v * C * width
            for c in range(C):
                total = tile_outer(
                    total, patches, tile * channels + c, channels, filters, at, C * width
                )  # fmt: skip
                at += width
            tile_store(total, sums, tile * columns + v * width, columns)


@body
def _transform_row(values, C, window, plan, first_tile, tiles, matrix, patches):
    """Transform the patches of one row of tiles: (rows, pixels, C) to (points, tiles, channels)."""
    width = lanes_of(values)
    vectors = chunks_of(C, width)
    channels = vectors * width
    zeros = tile_zeros(PATCH, 1, values)
    half = np.empty(POINTS * width, values.dtype)
    for tile in range(plan.row_tiles):
        for v in range(vectors):
            for w in range(PATCH):
                at = (tile * OUTPUTS + w) * C + v * width
                column = _transform(zeros, matrix, PATCH, values, at, window.down)
                tile_store(column, half, w * width, PATCH * width)
            for i in range(PATCH):
                points = _transform(zeros, matrix, PATCH, half, i * PATCH * width, width)
                to = (i * PATCH * tiles + first_tile + tile) * channels + v * width
                tile_store(points, patches, to, tiles * channels)


@body
def _write_row(sums, bias, g, plan, row, first_tile, tiles, v_first, v_last, matrix, out):
    """Transform one row of tiles back: (points, tiles, columns) to pixels of out."""
    width = lanes_of(sums)
    columns = (v_last - v_first) * width
    zeros = tile_zeros(OUTPUTS, 1, sums)
    half = np.empty(OUTPUTS * PATCH * width, sums.dtype)
    edge = np.empty(OUTPUTS * width, sums.dtype)
    n, top = row // plan.image_rows, row % plan.image_rows * OUTPUTS
    for tile in range(plan.row_tiles):
        pixels = min(g.OW - tile * OUTPUTS, OUTPUTS)
        for v in range(v_first, v_last):
            for j in range(PATCH):
                at = (j * tiles + first_tile + tile) * columns + (v - v_first) * width
                column = _transform(zeros, matrix, PATCH, sums, at, PATCH * tiles * columns)
                tile_store(column, half, j * width, PATCH * width)
            left = min(g.F - v * width, width)
            start = tile_load(zeros, bias, v * width, 0)
            for i in range(min(g.OH - top, OUTPUTS)):
                values = _transform(start, matrix, PATCH, half, i * PATCH * width, width)
                to = (((n * g.OH + top + i) * g.OW) + tile * OUTPUTS) * g.F + v * width
                if pixels == OUTPUTS:
                    tile_store_columns(values, out, to, g.F, left)
                else:
                    tile_store(values, edge, 0, width)
                    for p in range(pixels):
                        copy_run(out, to + p * g.F, edge, p * width, left)
