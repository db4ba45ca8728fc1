"""Convolution of few pixels: one product of matrices, with the weight as it lies.

Packing a weight for tiles takes as long as its products with some ten pixels. Two kinds of
convolution do without, for what a pixel sees has the order of a row of the weight, or is soon
brought to it: those of a single tap, and those with one output an image, as the last layer of a
network may be. Neither sees padding, and no value is seen from two pixels::

    out (pixels, F)            = seen (pixels, C*KH*KW)   @ weight.T (C*KH*KW, F)
    grad of what is seen       = grad_out (pixels, F)     @ weight (F, C*KH*KW)
    grad_weight (F, C*KH*KW)   = grad_out.T (F, pixels)   @ seen (pixels, C*KH*KW)
"""

import numpy as np

from minigrad.kernels._layout import Shape, channels_last, empty_channels_last, remembered
from minigrad.kernels._simd import ROWS
from minigrad.kernels.conv_finish import finish_apart
from minigrad.kernels.conv_geometry import Geometry
from minigrad.kernels.product import matrix_product


@remembered
def serves(g: Geometry) -> bool:
    """Tell whether a convolution is such a product, of no more pixels than a tile has rows."""
    single = (g.KH, g.KW) == (1, 1) or (g.OH, g.OW) == (1, 1)
    if g.groups > 1 or not single or not 0 < g.pixels <= ROWS or g.depth * g.F == 0:
        return False
    bottom = (g.OH - 1) * g.stride_h + (g.KH - 1) * g.dilation_h
    right = (g.OW - 1) * g.stride_w + (g.KW - 1) * g.dilation_w
    return g.top == g.left == 0 and bottom < g.H and right < g.W


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
    seen = _seen(g, grad_x)
    if seen.size < grad_x.size:
        grad_x[...] = 0
    product = matrix_product(_pixels(grad_out), weight.reshape(g.F, g.depth))
    if (g.KH, g.KW) == (1, 1):
        seen[...] = product.reshape(g.N, g.OH, g.OW, g.C).transpose(0, 3, 1, 2)
    else:
        seen[...] = product.reshape(seen.shape)
    return finish_apart(grad_x, other, False, mask)


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
