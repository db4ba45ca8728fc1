"""Convolution of few pixels: one product of matrices, with the weight as it lies.

Packing a weight for tiles takes as long as its products with some ten pixels, and so does bringing
its gradient back; to sum that of a single tap in slots takes longer up to some thousand. Here the
pixels are brought to the order of the weight: what each of them sees is a *patch*, with its taps
next to each other and its channels apart, like a row of the weight::

    out (pixels, F)            = patches (pixels, C*KH*KW) @ weight.T (C*KH*KW, F)
    grad of patches            = grad_out (pixels, F)      @ weight (F, C*KH*KW)
    grad_weight (F, C*KH*KW)   = grad_out.T (F, pixels)    @ patches (pixels, C*KH*KW)

The weight is read once from one end to the other, and its gradient is written so. What patches
receive is added to grad_x tap by tap, by chunks that have some of the channels each.
"""

import numpy as np

from minigrad.kernels import _pool
from minigrad.kernels._jit import body, chunks_of, kernel, prange
from minigrad.kernels._layout import (
    Shape,
    channels_last,
    empty_channels_last,
    flat_channels_last,
    remembered,
)
from minigrad.kernels._runs import aligned_empty, zero_run
from minigrad.kernels._simd import (
    VECTORS,
    lanes,
    lanes_of,
    tile_add,
    tile_gather,
    tile_load_columns,
    tile_load_part,
    tile_store_columns,
    tile_store_part,
    tile_zeros,
)
from minigrad.kernels._simd_transpose import tile_square, tile_transpose
from minigrad.kernels.conv_choice import SURE, dot_cost
from minigrad.kernels.conv_finish import finish_apart
from minigrad.kernels.conv_geometry import Geometry, is_pointwise, seeing
from minigrad.kernels.gemm import whole_vectors
from minigrad.kernels.im2col import im2col
from minigrad.kernels.product import DOTS, LOW, low_product, matrix_product, product_panel

# More pixels than this are not few, nor, where each sees only itself, more than these for grad_x,
# and for the gradient of the weight, which sums over them.
MOST, MOST_POINTS, MOST_SUMMED = 200, 256, 4096

# A product of matrices reads all of grad_out for each panel of channels: from the second cache.
NEAR_BYTES = 512 * 1024

# What it takes, in products of direct sums: to pack a value of the weight for them, the same for
# grad_x, and to bring a value of its gradient back; to copy a value to a patch, and to add one to
# grad_x.
PACKING, TURNING, UNPACKING = 16, 32, 64
COPYING, PLACING = 64, 16

# Into how many chunks the channels of grad_x are cut.
CHUNKS = 16

# Values of a patch are worth so many operations when a loop asks whether threads pay.
MOVING = 4


def _is_few(g: Geometry) -> bool:
    """Tell whether pixels are few at all, and see something."""
    return g.groups == 1 and 0 < g.pixels <= MOST and seeing(g)[0].depth * g.F > 0


def _is_product(g: Geometry) -> bool:
    """Tell whether a convolution is a product of matrices as they lie, none of them empty."""
    return is_pointwise(g) and g.groups == 1 and g.pixels * g.C * g.F > 0


def _copying(g: Geometry) -> int:
    """Return what it takes to bring a value to the order of a patch: nothing for a single tap."""
    return COPYING if g.KH * g.KW > 1 else 0


def packs_longer(g: Geometry, dtype: np.dtype, dots: bool = False) -> bool:
    """Tell whether direct sums, which pack the taps that see the image, take longer.

    So do the sums along channels that serve few filters, as ``dots`` says: they look for the place
    of each pixel, even where all follow each other.

    A constant weight is packed only once, and yet must give the same bits. So where patches are
    copied, pixels are no more than are multiplied with the weight as it lies: for these it is read
    as soon as it would be if packed.
    """
    if dots and _is_product(g):
        return True
    if not _is_few(g) or (_copying(g) and g.pixels > DOTS):
        return False
    filters = whole_vectors(g.F, dtype) * lanes(dtype)
    product = g.pixels * g.depth * (g.F + _copying(g))
    return product < filters * seeing(g)[0].depth * (g.pixels + PACKING)


@remembered
def serves(g: Geometry, dtype: np.dtype) -> bool:
    """Tell whether direct sums take longer for the gradient of the weight, to bring it back.

    That of a single tap has its order in memory already. But they sum it in parts, where a product
    of matrices has each value summed at once; its pixels need be few only if some are left out.
    """
    if _is_product(g):
        return g.pixels <= MOST_SUMMED and g.pixels * g.F * dtype.itemsize <= NEAR_BYTES
    if not _is_few(g):
        return False
    if g.KH * g.KW == 1:
        return True
    in_vain = g.pixels * (g.depth - seeing(g)[0].depth)
    return g.pixels * g.depth * COPYING + g.F * in_vain < UNPACKING * g.F * g.depth


def adds(g: Geometry, dtype: np.dtype) -> bool:
    """Tell whether direct sums take longer for grad_x.

    Where sums along filters would serve, their cost is a rough estimate, and must be far above.
    """
    if _is_product(g):
        return g.pixels <= MOST_POINTS
    if not _is_few(g):
        return False
    kept, vector = seeing(g)[0], lanes(dtype)
    packed = g.F * kept.KH * kept.KW * whole_vectors(g.C, dtype) * vector
    seen = g.N * chunks_of(g.H, g.stride_h) * chunks_of(g.W, g.stride_w)
    direct: float = packed * (seen + TURNING)
    KH, KW = chunks_of(kept.KH, g.stride_h), chunks_of(kept.KW, g.stride_w)
    dots = g.N * g.H * g.W * dot_cost(g.F, g.C, KH, KW, g.dilation_w == 1, vector)
    if dots < packed * seen:
        direct = min(direct, dots / SURE)
    return g.pixels * g.depth * (g.F + PLACING) < direct


def forward(
    g: Geometry,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    other: np.ndarray | None,
    relu: bool,
) -> np.ndarray:
    """Return the convolution of x with the filters in weight."""
    product = matrix_product(_patches(g, x), weight.reshape(g.F, g.depth).T, bias)
    out = product.reshape(g.N, g.OH, g.OW, g.F).transpose(0, 3, 1, 2)
    return finish_apart(out, other, relu)


def grad_weight(
    g: Geometry, grad_out: np.ndarray, x: np.ndarray, weight_shape: Shape
) -> np.ndarray:
    """Return the gradient with respect to weight, given the one with respect to the output."""
    return matrix_product(_pixels(grad_out).T, _patches(g, x)).reshape(weight_shape)


def _patches(g: Geometry, x: np.ndarray) -> np.ndarray:
    """Return what each pixel sees, in the order of a row of the weight."""
    if g.KH == g.KW == 1 and g.top == g.left == 0:
        rows, columns = g.OH * g.stride_h, g.OW * g.stride_w
        seen = channels_last(x)[:, : rows : g.stride_h, : columns : g.stride_w]
        if seen.shape[1:3] == (g.OH, g.OW):  # the last outputs may see padding
            return seen.reshape(g.pixels, g.C)  # copied if a stride leaves pixels out
    patches = _pool.empty((g.pixels, g.depth), x.dtype)
    _lower_loop.launch(MOVING * patches.size, flat_channels_last(x), g, patches.reshape(-1))
    return patches


@kernel
def _lower_loop(x, g, patches):
    for pixel in prange(g.pixels):
        _lower_pixel(x, g, pixel, patches)


@body
def _lower_pixel(x, g, pixel, patches):
    """Copy what a pixel sees, and exchange its taps and channels."""
    width, taps = lanes_of(patches), g.KH * g.KW
    square, seen = tile_square(patches), aligned_empty(g.depth, patches)
    im2col(x, g, 0, pixel, pixel + 1, seen, g.depth)
    for c in range(0, g.C, width):
        to = pixel * g.depth + c * taps
        for tap in range(0, taps, width):
            held = tile_load_part(square, seen, tap * g.C + c, g.C, 0, taps - tap, g.C - c)
            tile_store_part(tile_transpose(held), patches, to + tap, taps, g.C - c, taps - tap)


def grad_input(
    g: Geometry,
    grad_out: np.ndarray,
    weight: np.ndarray,
    other: np.ndarray | None,
    mask: np.ndarray | None,
) -> np.ndarray:
    """Return the gradient with respect to x, given the one with respect to the output."""
    if is_pointwise(g):
        product = matrix_product(_pixels(grad_out), weight.reshape(g.F, g.C))
        grad_x = product.reshape(g.N, g.H, g.W, g.C).transpose(0, 3, 1, 2)
        return finish_apart(grad_x, other, False, mask)
    grad_x = empty_channels_last((g.N, g.C, g.H, g.W), grad_out.dtype)
    values, results = flat_channels_last(grad_out), flat_channels_last(grad_x)
    rows = np.ascontiguousarray(weight).reshape(-1)
    vectors = whole_vectors(g.C, grad_out.dtype)
    block = chunks_of(vectors, CHUNKS) * lanes(grad_out.dtype)
    _grad_loop.launch(g.pixels * g.F * g.depth, values, rows, g, block, results)
    return finish_apart(grad_x, other, False, mask)


@kernel
def _grad_loop(grad_out, weight, g, block, grad_x):
    for chunk in prange(chunks_of(g.C, block)):
        first = chunk * block
        _grad_channels(grad_out, weight, g, first, min(block, g.C - first), grad_x)


@body
def _grad_channels(grad_out, weight, g, first, channels, grad_x):
    """Add to some channels of the pixels of grad_x what the filters saw there, tap by tap."""
    square = g.KH * g.KW
    columns, rows = channels * square, weight[first * square :]
    sums = aligned_empty(g.pixels * columns, grad_x)
    if g.pixels <= LOW:
        low_product(g.pixels, g.F, columns, grad_out, g.F, 1, rows, g.depth, sums, columns)
    else:
        for column in range(0, columns, VECTORS * lanes_of(grad_x)):
            product_panel(
                g.pixels, g.F, columns, column, grad_out, g.F, 1, rows, g.depth, 1, grad_x[:0], sums
            )
    for pixel in range(g.N * g.H * g.W):
        zero_run(grad_x, pixel * g.C + first, channels)
    for pixel in range(g.pixels):
        n, oh, ow = pixel // (g.OH * g.OW), pixel // g.OW % g.OH, pixel % g.OW
        top, left = oh * g.stride_h - g.top, ow * g.stride_w - g.left
        for kh in range(g.KH):
            h = top + kh * g.dilation_h
            for kw in range(g.KW):
                w, tap = left + kw * g.dilation_w, kh * g.KW + kw
                if 0 <= h < g.H and 0 <= w < g.W:  # else the tap sees padding
                    to = ((n * g.H + h) * g.W + w) * g.C + first
                    _add_channels(sums, pixel * columns + tap, square, channels, grad_x, to)


@body(inline=True)  # taps are many, and a call would take longer than some channels
def _add_channels(product, at, step, channels, grad_x, to):
    """Add values that lie ``step`` apart to the channels of a pixel."""
    one = tile_zeros(1, 1, grad_x)
    for c in range(0, channels, lanes_of(grad_x)):
        left = channels - c
        held = tile_load_columns(one, grad_x, to + c, 0, left)
        held = tile_add(held, tile_gather(one, product, at + c * step, step, left))
        tile_store_columns(held, grad_x, to + c, 0, left)


def _pixels(images: np.ndarray) -> np.ndarray:
    """Return the channels of each pixel as a row."""
    return channels_last(images).reshape(-1, images.shape[1])
