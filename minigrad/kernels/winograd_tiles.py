"""What Winograd convolution makes of images: tiles, brought to the points.

A plan says how images are cut into rows of tiles, and where tiles and points lie in the result.
"""

from minigrad.kernels._jit import body
from minigrad.kernels._runs import aligned_empty, zero_run
from minigrad.kernels._simd import lanes_of, tile_load, tile_load_part, tile_store, tile_zeros
from minigrad.kernels.winograd_matrices import TAPS, transform


@body
def transform_patches(x, points, g, plan, first, last, c_first, c_last, patches):
    """Write B^T d B for rows of tiles and some channels.

    Neighbours overlap: the columns of pixels in a row of tiles are transformed once, then the rows
    of each patch.
    """
    width = lanes_of(x)
    # Columns of pixels beyond the image are never written again.
    half = aligned_empty(plan.patch * (plan.row_tiles * plan.outputs + TAPS - 1) * width, x)
    zero_run(half, 0, half.size)
    for row in range(first, last):
        at = (row - first) * plan.row_tiles * plan.tile
        _transform_row(x, points, g, plan, row, c_first, c_last, half, patches[at:])


@body
def _transform_row(x, points, g, plan, row, c_first, c_last, half, patches):
    width = lanes_of(x)
    patch = transform("filter", points, tile_zeros(TAPS, 1, x))  # zeros; it says how many
    column = plan.patch * width
    n, top = row // plan.image_rows, row % plan.image_rows * plan.outputs - g.top
    first_w = max(-g.left, 0)
    last_w = min(plan.row_tiles * plan.outputs + TAPS - 1 - g.left, g.W)
    for c in range(c_first, c_last, width):
        at = (n * g.H + top) * g.W * g.C + c
        for w in range(first_w, last_w):
            pixels = tile_load_part(patch, x, at + w * g.C, g.W * g.C, -top, g.H - top, g.C - c)
            tile_store(transform("input", points, pixels), half, (w + g.left) * column, width)
        for tile in range(plan.row_tiles):
            for i in range(plan.patch):
                values = tile_load(patch, half, tile * plan.outputs * column + i * width, column)
                to = tile * plan.tile + i * plan.patch * plan.point + c - c_first
                tile_store(transform("input", points, values), patches, to, plan.point)


@body
def transform_gradients(grad_out, points, g, plan, first, last, f_first, f_last, gradients):
    """Write A y A^T for rows of tiles and some filters, y being tiles of the gradient."""
    width = lanes_of(grad_out)
    patch = transform("filter", points, tile_zeros(TAPS, 1, grad_out))  # zeros, as above
    outputs = transform("output", points, patch)
    half = aligned_empty(plan.patch * plan.outputs * width, grad_out)
    column = plan.patch * width
    for row in range(first, last):
        n, top = row // plan.image_rows, row % plan.image_rows * plan.outputs
        for f in range(f_first, f_last, width):
            for tile in range(plan.row_tiles):
                for j in range(plan.outputs):
                    w = tile * plan.outputs + j
                    at = ((n * g.OH + top) * g.OW + w) * g.F + f
                    columns = g.F - f if w < g.OW else 0
                    values = tile_load_part(
                        outputs, grad_out, at, g.OW * g.F, 0, g.OH - top, columns
                    )
                    tile_store(transform("gradient", points, values), half, j * column, width)
                start = ((row - first) * plan.row_tiles + tile) * plan.grad_tile + f - f_first
                for i in range(plan.patch):
                    values = tile_load(outputs, half, i * width, column)
                    to = start + i * plan.patch * plan.grad_point
                    tile_store(
                        transform("gradient", points, values), gradients, to, plan.grad_point
                    )
