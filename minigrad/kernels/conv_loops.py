"""Convolution of a few products: the loops of its definition, compiled.

    out[n, f, oh, ow] = sum over c, kh, kw of x[n, c, h, w] * weight[f, c, kh, kw]
    with h = oh stride_h + kh dilation_h - top, and w alike

All other ways prepare something: they cut the work, pack the weight, copy what pixels see. Where
products are few, a few thousand at most, that takes longer than they do. Here nothing is prepared,
and all is done by one thread. The gradients go through the same products, and add each to another
sum.
"""

import numpy as np

from minigrad.kernels._jit import body, kernel, prange
from minigrad.kernels._layout import (
    NO_VALUES,
    Shape,
    empty_channels_last,
    flat_channels_last,
    remembered,
)
from minigrad.kernels._numbers import numbers_of, tuple_of
from minigrad.kernels._runs import zero_run
from minigrad.kernels.conv_finish import finish_apart
from minigrad.kernels.conv_geometry import Geometry, Pair, Sides, geometry

_FIELDS = len(Geometry._fields)


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
    """Return the convolution of x with the filters in weight."""
    shape, numbers = _sizes(x.shape, weight.shape, stride, padding, dilation, groups)
    out = empty_channels_last(shape, x.dtype)
    biases = NO_VALUES[x.dtype] if bias is None else np.ascontiguousarray(bias)
    _forward_loop.launch(
        0, flat_channels_last(x), weight.ravel(), biases, numbers, flat_channels_last(out)
    )
    return finish_apart(out, other, relu)


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
    """Return the gradient with respect to x, given the one with respect to the output."""
    _, numbers = _sizes(input_shape, weight.shape, stride, padding, dilation, groups)
    grad_x = empty_channels_last(input_shape, grad_out.dtype)
    _grad_input_loop.launch(
        0, flat_channels_last(grad_out), weight.ravel(), numbers, flat_channels_last(grad_x)
    )
    return finish_apart(grad_x, other, False, mask)


def conv2d_grad_weight(
    grad_out: np.ndarray,
    x: np.ndarray,
    weight_shape: Shape,
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """Return the gradient with respect to weight, given the one with respect to the output."""
    _, numbers = _sizes(x.shape, weight_shape, stride, padding, dilation, groups)
    grad_weight = np.empty(weight_shape, x.dtype)
    _grad_weight_loop.launch(
        0, flat_channels_last(grad_out), flat_channels_last(x), numbers, grad_weight.ravel()
    )
    return grad_weight


@remembered
def _sizes(
    x_shape: Shape, weight_shape: Shape, stride: Pair, padding: Sides, dilation: Pair, groups: int
) -> tuple[Shape, np.ndarray]:
    """Return the shape of the output, and the geometry as a loop takes it."""
    g = geometry(x_shape, weight_shape, stride, padding, dilation, groups)
    return (g.N, g.F, g.OH, g.OW), numbers_of([g])


@body(inline=True)
def _seen(g, n, oh, ow, kh, kw):
    """Return where in x the channels begin that an output sees by one tap, or -1 in the padding."""
    h = oh * g.stride_h + kh * g.dilation_h - g.top
    w = ow * g.stride_w + kw * g.dilation_w - g.left
    return ((n * g.H + h) * g.W + w) * g.C if 0 <= h < g.H and 0 <= w < g.W else -1


@kernel
def _forward_loop(x, weight, bias, numbers, out):
    g = Geometry(*tuple_of(numbers[0], _FIELDS))
    for n in prange(g.N):
        for oh in range(g.OH):
            for ow in range(g.OW):
                to = ((n * g.OH + oh) * g.OW + ow) * g.F
                for f in range(g.F):
                    out[to + f] = bias[f] if bias.size > 0 else 0
                for kh in range(g.KH):
                    for kw in range(g.KW):
                        at, tap = _seen(g, n, oh, ow, kh, kw), kh * g.KW + kw
                        if at >= 0:
                            _add_outputs(g, x, at, weight, tap, out, to)


@body(inline=True)
def _add_outputs(g, x, at, weight, tap, out, to):
    """Add what one tap of all filters gives to an output pixel."""
    for f in range(g.F):
        first, row = at + f // g.filters * g.channels, f * g.depth + tap
        for c in range(g.channels):
            out[to + f] += x[first + c] * weight[row + c * g.KH * g.KW]


@kernel
def _grad_input_loop(grad_out, weight, numbers, grad_x):
    g = Geometry(*tuple_of(numbers[0], _FIELDS))
    image = g.H * g.W * g.C
    for n in prange(g.N):
        zero_run(grad_x, n * image, image)
        for oh in range(g.OH):
            for ow in range(g.OW):
                of = ((n * g.OH + oh) * g.OW + ow) * g.F
                for kh in range(g.KH):
                    for kw in range(g.KW):
                        to, tap = _seen(g, n, oh, ow, kh, kw), kh * g.KW + kw
                        if to >= 0:
                            _add_pixels(g, grad_out, of, weight, tap, grad_x, to)


@body(inline=True)
def _add_pixels(g, grad_out, of, weight, tap, grad_x, to):
    """Add what one tap of all filters gives to a pixel of grad_x."""
    for f in range(g.F):
        first, row = to + f // g.filters * g.channels, f * g.depth + tap
        for c in range(g.channels):
            grad_x[first + c] += grad_out[of + f] * weight[row + c * g.KH * g.KW]


@kernel
def _grad_weight_loop(grad_out, x, numbers, grad_weight):
    g = Geometry(*tuple_of(numbers[0], _FIELDS))
    for _ in prange(1):  # each output adds to the whole weight
        zero_run(grad_weight, 0, grad_weight.size)
        for n in range(g.N):
            for oh in range(g.OH):
                for ow in range(g.OW):
                    of = ((n * g.OH + oh) * g.OW + ow) * g.F
                    for kh in range(g.KH):
                        for kw in range(g.KW):
                            at, tap = _seen(g, n, oh, ow, kh, kw), kh * g.KW + kw
                            if at >= 0:
                                _add_weights(g, grad_out, of, x, at, grad_weight, tap)


@body(inline=True)
def _add_weights(g, grad_out, of, x, at, grad_weight, tap):
    """Add what one output pixel gives to one tap of all filters."""
    for f in range(g.F):
        first, row = at + f // g.filters * g.channels, f * g.depth + tap
        for c in range(g.channels):
            grad_weight[row + c * g.KH * g.KW] += grad_out[of + f] * x[first + c]
