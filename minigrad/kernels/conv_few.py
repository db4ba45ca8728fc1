"""Convolution of few pixels: one product of matrices, with the weight as it lies.

Packing a weight for tiles takes as long as its products with some ten pixels. Two kinds of
convolution do without, for what a pixel sees has the order of a row of the weight, or is soon
brought to it: those of a single tap, and those with one output an image, as the last layer of a
network may be. Neither sees padding, and no value is seen from two pixels::

    out (pixels, F)            = seen (pixels, C*KH*KW)   @ weight.T (C*KH*KW, F)
    grad of what is seen       = grad_out (pixels, F)     @ weight (F, C*KH*KW)
    grad_weight (F, C*KH*KW)   = grad_out.T (F, pixels)   @ seen (pixels, C*KH*KW)

The second product also serves where pixels overlap, as long as they are few: what each value of
grad_out contributes is added to grad_x tap by tap.
"""

import numpy as np

from minigrad.kernels._jit import body, chunks_of, kernel, prange
from minigrad.kernels._layout import (
    Shape,
    channels_last,
    empty_channels_last,
    flat_channels_last,
    remembered,
)
from minigrad.kernels._runs import zero_run
from minigrad.kernels._simd import (
    ROWS,
    lanes,
    lanes_of,
    tile_add,
    tile_gather,
    tile_load_columns,
    tile_store_columns,
    tile_zeros,
)
from minigrad.kernels.conv_choice import SURE, dot_cost
from minigrad.kernels.conv_finish import finish_apart
from minigrad.kernels.conv_geometry import Geometry
from minigrad.kernels.gemm import whole_vectors
from minigrad.kernels.product import matrix_product

# What it costs to gather a lane of the weight for a tile, and to add one to grad_x, on one thread,
# in products of direct sums.
PACKING, PLACING = 32, 48

# The product stays in the second cache until its values are added to grad_x.
PRODUCT_BYTES = 512 * 1024


@remembered
def serves(g: Geometry) -> bool:
    """Tell whether a convolution is such a product, of no more pixels than a tile has rows."""
    single = (g.KH, g.KW) == (1, 1) or (g.OH, g.OW) == (1, 1)
    if g.groups > 1 or not single or not 0 < g.pixels <= ROWS or g.depth * g.F == 0:
        return False
    bottom = (g.OH - 1) * g.stride_h + (g.KH - 1) * g.dilation_h
    right = (g.OW - 1) * g.stride_w + (g.KW - 1) * g.dilation_w
    return g.top == g.left == 0 and bottom < g.H and right < g.W


def adds(g: Geometry, dtype: np.dtype) -> bool:
    """Tell whether grad_x takes less time as such a product, for pixels that overlap.

    Where sums along filters would serve, their cost is a rough estimate, and must be far above.
    """
    if g.groups > 1 or g.pixels * g.depth * g.F == 0 or g.KH * g.KW == 1:
        return False
    if g.pixels * g.depth * dtype.itemsize > PRODUCT_BYTES:
        return False
    vector, square = lanes(dtype), g.KH * g.KW
    product, channels = (whole_vectors(n, dtype) * vector for n in (g.depth, g.C))
    packed = g.F * square * channels
    seen = g.N * chunks_of(g.H, g.stride_h) * chunks_of(g.W, g.stride_w)
    direct: float = packed * (seen + PACKING)
    KH, KW = chunks_of(g.KH, g.stride_h), chunks_of(g.KW, g.stride_w)
    dots = g.N * g.H * g.W * dot_cost(g.F, g.C, KH, KW, g.dilation_w == 1, vector)
    if dots < packed * seen:
        direct = min(direct, dots / SURE)
    return g.pixels * (g.F * product + PLACING * square * channels) < direct


def forward(
    g: Geometry,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    other: np.ndarray | None,
    relu: bool,
) -> np.ndarray:
    """Return the convolution of x with the filters in weight."""
    product = matrix_product(_rows(_seen(g, x), g), weight.reshape(g.F, g.depth).T, bias)
    out = product.reshape(g.N, g.OH, g.OW, g.F).transpose(0, 3, 1, 2)
    return finish_apart(out, other, relu)


def grad_input(
    g: Geometry,
    grad_out: np.ndarray,
    weight: np.ndarray,
    other: np.ndarray | None,
    mask: np.ndarray | None,
) -> np.ndarray:
    """Return the gradient with respect to x, given the one with respect to the output."""
    grad_x = empty_channels_last((g.N, g.C, g.H, g.W), grad_out.dtype)
    if not serves(g):
        product = matrix_product(_pixels(grad_out), weight.reshape(g.F, g.depth))
        _add_loop.launch(product.size, product.reshape(-1), g, flat_channels_last(grad_x))
        return finish_apart(grad_x, other, False, mask)
    seen = _seen(g, grad_x)
    if seen.size < grad_x.size:
        grad_x[...] = 0
    product = matrix_product(_pixels(grad_out), weight.reshape(g.F, g.depth))
    if (g.KH, g.KW) == (1, 1):
        seen[...] = product.reshape(g.N, g.OH, g.OW, g.C).transpose(0, 3, 1, 2)
    else:
        seen[...] = product.reshape(seen.shape)
    return finish_apart(grad_x, other, False, mask)


@kernel
def _add_loop(product, g, grad_x):
    for n in prange(g.N):
        _add_image(product, g, n, grad_x)


@body
def _add_image(product, g, n, grad_x):
    """Add to the pixels of an image what the filters saw there, tap by tap."""
    image, square = g.H * g.W * g.C, g.KH * g.KW
    zero_run(grad_x, n * image, image)
    at = n * g.OH * g.OW * g.depth
    for oh in range(g.OH):
        for ow in range(g.OW):
            for tap in range(square):
                h = oh * g.stride_h - g.top + tap // g.KW * g.dilation_h
                w = ow * g.stride_w - g.left + tap % g.KW * g.dilation_w
                if 0 <= h < g.H and 0 <= w < g.W:
                    to = n * image + (h * g.W + w) * g.C
                    _add_channels(product, at + tap, square, g.C, grad_x, to)
            at += g.depth


@body
def _add_channels(product, at, step, channels, grad_x, to):
    """Add values that lie ``step`` apart to the channels of a pixel."""
    one = tile_zeros(1, 1, grad_x)
    for c in range(0, channels, lanes_of(grad_x)):
        left = channels - c
        held = tile_load_columns(one, grad_x, to + c, 0, left)
        held = tile_add(held, tile_gather(one, product, at + c * step, step, left))
        tile_store_columns(held, grad_x, to + c, 0, left)


def grad_weight(
    g: Geometry, grad_out: np.ndarray, x: np.ndarray, weight_shape: Shape
) -> np.ndarray:
    """Return the gradient with respect to weight, given the one with respect to the output."""
    return matrix_product(_pixels(grad_out).T, _rows(_seen(g, x), g)).reshape(weight_shape)


def _seen(g: Geometry, x: np.ndarray) -> np.ndarray:
    """View what the filters see: (N, C, OH, OW) from a single tap, or else (N, C, KH, KW)."""
    if (g.KH, g.KW) == (1, 1):
        rows, columns = g.OH * g.stride_h, g.OW * g.stride_w
        return x[:, :, : rows : g.stride_h, : columns : g.stride_w]
    rows, columns = g.KH * g.dilation_h, g.KW * g.dilation_w
    return x[:, :, : rows : g.dilation_h, : columns : g.dilation_w]


def _rows(seen: np.ndarray, g: Geometry) -> np.ndarray:
    """Return what each pixel sees as a row."""
    return _pixels(seen) if (g.KH, g.KW) == (1, 1) else seen.reshape(g.pixels, g.depth)


def _pixels(images: np.ndarray) -> np.ndarray:
    """Return the channels of each pixel as a row."""
    return channels_last(images).reshape(-1, images.shape[1])
