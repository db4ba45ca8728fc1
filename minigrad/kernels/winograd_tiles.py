"""What Winograd convolution makes of images and filters, and of the sums at the points.

A plan says how images are cut into rows of tiles, and how far points, tiles and vectors of channels
are apart in the result. Loops of products know the distance of two tiles when they are compiled: a
tile of registers then reads all its rows from one address.
"""

from typing import NamedTuple

import numpy as np

from minigrad.kernels._ahead import prefetch, prefetch_write_lines
from minigrad.kernels._bits import tile_keep_marked_part, tile_keep_positive
from minigrad.kernels._jit import body
from minigrad.kernels._runs import aligned_empty, zero_run
from minigrad.kernels._simd import (
    lanes,
    lanes_of,
    tile_add,
    tile_load,
    tile_load_part,
    tile_outer,
    tile_store,
    tile_store_part,
    tile_zeros,
)
from minigrad.kernels._simd_transpose import tile_transpose
from minigrad.kernels.winograd_matrices import TAPS, transform
from minigrad.kernels.winograd_places import begin_of, height_of, row_places

# Tiles in a row whose columns of pixels are transformed together: the first cache holds them beside
# the lines of patches that are written meanwhile.
STRIP = 4

# The lanes of a vector, as the compiler needs them to transpose tiles.
LANES = lanes(np.float32)


class Steps(NamedTuple):
    """Where weight has the first tap of a filter and channel, and how far it is to the next."""

    first: int
    tap: int
    channel: int
    filter: int


@body
def transform_patches(x, points, g, plan, first, last, c_first, c_last, patches, far):
    """Write B^T d B for rows of tiles and some channels.

    Neighbours overlap: the columns of pixels in a strip of tiles are transformed once, then the
    rows of each patch. Patches that are ``far``, in memory, are asked for before they are written.
    """
    width = lanes_of(x)
    half = aligned_empty(plan.patch * (STRIP * plan.outputs + TAPS - 1) * width, x)
    for row in range(first, last):
        full_at, short_at = row_places(plan, first, last, row)
        for begin, stop, place, step in (
            (0, plan.full_tiles, full_at, plan.outputs),
            (plan.full_tiles, plan.row_tiles, short_at, plan.outputs - 1),
        ):
            for tile in range(begin, stop, STRIP):
                tiles, at = min(stop - tile, STRIP), (place + tile) * plan.tile
                _transform_strip(
                    x, points, g, plan, row, tile, tiles, step, at, c_first, c_last, half, patches,
                    far,
                )  # fmt: skip


@body
def _transform_strip(
    x, points, g, plan, row, tile, tiles, step, at, c_first, c_last, half, patches, far
):
    width = lanes_of(x)
    patch = transform("filter", points, tile_zeros(TAPS, 1, x))  # zeros; it says how many
    column = plan.patch * width
    n, image_row = row // plan.image_rows, row % plan.image_rows
    top = begin_of(image_row, plan.full_rows, plan.outputs) - g.top
    left = begin_of(tile, plan.full_tiles, plan.outputs) - g.left
    columns = (tiles - 1) * step + plan.patch
    first_w = min(max(-left, 0), columns)
    last_w = max(min(g.W - left, columns), first_w)
    base = np.intp(patches.ctypes.data)  # what lies behind this strip is likely to be written next
    # No channel brings anything to columns of pixels beyond the image.
    zero_run(half, 0, first_w * column)
    zero_run(half, last_w * column, (columns - last_w) * column)
    for c in range(c_first, c_last, width):
        start = ((n * g.H + top) * g.W + left) * g.C + c
        for w in range(first_w, last_w):
            pixels = tile_load_part(patch, x, start + w * g.C, g.W * g.C, -top, g.H - top, g.C - c)
            tile_store(transform("input", points, pixels), half, w * column, width)
        for i in range(tiles):
            for j in range(plan.patch):
                values = tile_load(patch, half, i * step * column + j * width, column)
                to = at + i * plan.tile + j * plan.patch * plan.point
                tile_store(transform("input", points, values), patches, to, plan.point)
                if far:
                    line = base + (to + tiles * plan.tile) * patches.itemsize
                    prefetch_write_lines(line, plan.patch, plan.point * patches.itemsize)
        at += plan.vector


@body
def transform_gradients(grad_out, points, g, plan, group, first, last, f_first, f_last, gradients):
    """Write A y A^T for rows of tiles and some filters, y being tiles of the gradient.

    They lie in the order of patches, with groups of filters in place of vectors.
    """
    width = lanes_of(grad_out)
    patch = transform("filter", points, tile_zeros(TAPS, 1, grad_out))  # zeros, as above
    outputs = transform("output", points, patch)
    half = aligned_empty(plan.patch * plan.outputs * width, grad_out)
    column = plan.patch * width
    for row in range(first, last):
        places = row_places(plan, first, last, row)
        n, image_row = row // plan.image_rows, row % plan.image_rows
        top = begin_of(image_row, plan.full_rows, plan.outputs)
        rows = min(height_of(image_row, plan.full_rows, plan.outputs), g.OH - top)
        for f in range(f_first, f_last, width):
            start = (f - f_first) // group * plan.patch**2 * plan.grad_point + (f - f_first) % group
            for tile in range(plan.row_tiles):
                left = begin_of(tile, plan.full_tiles, plan.outputs)
                wide = min(height_of(tile, plan.full_tiles, plan.outputs), g.OW - left)
                for j in range(plan.outputs):
                    at = ((n * g.OH + top) * g.OW + left + j) * g.F + f
                    columns = g.F - f if j < wide else 0
                    values = tile_load_part(outputs, grad_out, at, g.OW * g.F, 0, rows, columns)
                    tile_store(transform("gradient", points, values), half, j * column, width)
                to = start + (places[0 if tile < plan.full_tiles else 1] + tile) * group
                for i in range(plan.patch):
                    values = tile_load(outputs, half, i * width, column)
                    tile_store(
                        transform("gradient", points, values), gradients, to, plan.grad_point
                    )
                    to += plan.patch * plan.grad_point


@body
def transform_filters(weight, points, steps, g, plan, f, first, last, to, channel, point, filters):
    """Write G g G^T for the vector of filters that begins with f, and some channels.

    Channels of the result are ``channel`` values apart, points ``point``.
    """
    width = lanes_of(filters)
    square, three = tile_zeros(LANES, 1, filters), tile_zeros(TAPS, 1, filters)
    held = aligned_empty((TAPS * TAPS + width) * width, filters)  # vectors of filters, tap by tap
    half = aligned_empty(plan.patch * TAPS * width, filters)
    start, right = steps.first * width, steps.tap * width
    for c in range(first, last):
        at = c * steps.channel + f * steps.filter
        for tap in range(0, TAPS * TAPS, width):
            rest = TAPS * TAPS - tap
            values = tile_load_part(square, weight, at + tap, steps.filter, 0, g.F - f, rest)
            tile_store(tile_transpose(values), held, tap * width, width)
        for kw in range(TAPS):
            column = tile_load(three, held, start + kw * right, TAPS * right)
            tile_store(transform("filter", points, column), half, kw * width, TAPS * width)
        for i in range(plan.patch):
            row = tile_load(three, half, i * TAPS * width, width)
            tile_store(
                transform("filter", points, row), filters, to + i * plan.patch * point, point
            )
        to += channel


@body(inline=True)
def sum_channels(
    total, channels, wide, patches, a_at, tile, vector, filters, b_at, next_filters, line, step
):
    """Add to a tile of registers, at one point: tiles by channels, times channels by filters.

    Each channel asks for ``next_filters`` vectors from where the filters of this point end, and for
    one line of something else, ``step`` bytes behind the one before.
    """
    width = lanes_of(patches)
    last_filter = np.intp(filters.ctypes.data) + channels * wide * width * filters.itemsize
    for first in range(0, channels, width):
        for c in range(min(width, channels - first)):
            for v in range(next_filters):
                prefetch(last_filter + (b_at + v * width) * filters.itemsize)
            prefetch(line)
            line += step
            total = tile_outer(total, patches, a_at + c, tile, filters, b_at, width)
            b_at += wide * width
        a_at += vector
    return total


@body
def write_rows(
    sums, point, tile_step, bias, other, relu, points, g, plan, first, last, v, wide, out
):
    """Write A^T m A for rows of tiles, from (tiles, points), for some vectors of filters."""
    width = lanes_of(sums)
    patch = transform("filter", points, tile_zeros(TAPS, 1, sums))  # zeros, as above
    half = aligned_empty(plan.outputs * plan.patch * width, sums)
    for row in range(first, last):
        places = row_places(plan, first, last, row)
        n, image_row = row // plan.image_rows, row % plan.image_rows
        top = begin_of(image_row, plan.full_rows, plan.outputs)
        high = min(height_of(image_row, plan.full_rows, plan.outputs), g.OH - top)
        for tile in range(plan.row_tiles):
            left = begin_of(tile, plan.full_tiles, plan.outputs)
            rows = min(height_of(tile, plan.full_tiles, plan.outputs), g.OW - left)
            at = (places[0 if tile < plan.full_tiles else 1] + tile) * tile_step
            for u in range(v, v + wide):
                for j in range(plan.patch):
                    column = tile_load(patch, sums, at + j * point, plan.patch * point)
                    tile_store(
                        transform("output", points, column), half, j * width, plan.patch * width
                    )
                at += width
                start = tile_load(transform("output", points, patch), bias, u * width, 0)
                for i in range(high):
                    values = tile_load(patch, half, i * plan.patch * width, width)
                    values = tile_add(transform("output", points, values), start)
                    to = ((n * g.OH + top + i) * g.OW + left) * g.F + u * width
                    columns = g.F - u * width
                    # As finish does, whose call would take longer than the rest.
                    if other.values.size > 0:
                        share = tile_load_part(values, other.values, to, g.F, 0, rows, columns)
                        if other.mask.size > 0:
                            share = tile_keep_marked_part(share, other.mask, to, g.F, rows, columns)
                        values = tile_add(values, share)
                    if relu:
                        values = tile_keep_positive(values)
                    tile_store_part(values, out, to, g.F, rows, columns)
