"""Convolution: the entries, which hand each call to an algorithm.

- ``im2col`` (``conv_im2col.py``), lowering and a product of matrices: the one to read first; it
  serves where x has few channels and wants its gradient;
- ``direct`` (``conv_direct.py``, ``conv_direct_weight.py``), register tiles and no lowering;
  small groups it leaves to ``conv_lanes.py``, few filters to ``conv_dot.py``, first layers to
  ``conv_weight_rows.py``, few pixels to ``conv_few.py``;
- ``winograd`` (``winograd.py``, ``winograd_weight.py``), fewer products and larger rounding
  errors, for some cases;
- ``reference``, the twins;
- ``loops`` (``conv_loops.py``), the definition as it stands, where there is next to nothing to do.

Which one serves a call is decided in ``conv_choice.py``, by one table or by the caller, who may ask
for any of them but the last. All but ``winograd`` do the same products and sums, each in its own
order.
"""

from typing import Any

import numpy as np

from minigrad.kernels import (
    conv_choice,
    conv_direct,
    conv_direct_weight,
    conv_im2col,
    conv_loops,
    winograd,
    winograd_weight,
)
from minigrad.kernels._bits import MARKS
from minigrad.kernels._jit import chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import Shape, flat_channels_last
from minigrad.kernels._runs import add_run
from minigrad.kernels.conv_choice import Case
from minigrad.kernels.conv_finish import kept
from minigrad.kernels.conv_geometry import Pair, Sides
from minigrad.kernels.reference import conv as reference

_FORWARD: dict[str, Any] = {
    "im2col": conv_im2col.conv2d_forward,
    "direct": conv_direct.conv2d_forward,
    "winograd": winograd.conv2d_forward,
    "reference": reference.conv2d_forward,
    "loops": conv_loops.conv2d_forward,
}
_GRAD_INPUT: dict[str, Any] = {
    "im2col": conv_im2col.conv2d_grad_input,
    "direct": conv_direct.conv2d_grad_input,
    "winograd": winograd.conv2d_grad_input,
    "reference": reference.conv2d_grad_input,
    "loops": conv_loops.conv2d_grad_input,
}
_GRAD_WEIGHT: dict[str, Any] = {
    "im2col": conv_im2col.conv2d_grad_weight,
    "direct": conv_direct_weight.conv2d_grad_weight,
    "winograd": winograd_weight.conv2d_grad_weight,
    "reference": reference.conv2d_grad_weight,
    "loops": conv_loops.conv2d_grad_weight,
}

# Into at most how many chunks the sum over pixels is cut.
CHUNKS = 16


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
    case = Case("forward", x.dtype, x.shape, weight.shape, stride, dilation, groups)
    convolve = _FORWARD[conv_choice.choose(case)]
    return convolve(x, weight, bias, stride, padding, dilation, groups, other, relu)


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
    if other is not None and mask is not None and (groups > 1 or input_shape[1] % MARKS):
        other, mask = kept(other, mask), None  # loops read bits by whole vectors
    case = Case("grad_input", grad_out.dtype, input_shape, weight.shape, stride, dilation, groups)
    differentiate = _GRAD_INPUT[conv_choice.choose(case)]
    settings = stride, padding, dilation, groups
    return differentiate(grad_out, weight, input_shape, *settings, other, mask)


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
    case = Case("grad_weight", x.dtype, x.shape, weight_shape, stride, dilation, groups)
    differentiate = _GRAD_WEIGHT[conv_choice.choose(case)]
    return differentiate(grad_out, x, weight_shape, stride, padding, dilation, groups)


def conv2d_grad_bias(grad_out: np.ndarray) -> np.ndarray:
    """Return the gradient with respect to bias, given the one with respect to the output."""
    N, F, OH, OW = grad_out.shape
    pixels = N * OH * OW
    partial = np.zeros((max(1, min(CHUNKS, chunks_of(pixels, 64))), F), grad_out.dtype)
    _grad_bias_loop.launch(grad_out.size, flat_channels_last(grad_out), pixels, partial)
    return np.add.reduce(partial)  # partial.sum goes a longer way


@kernel
def _grad_bias_loop(grad_out, pixels, partial):
    chunks, F = partial.shape
    for chunk in prange(chunks):
        first, last = chunk_bounds(chunk, chunks, pixels)
        for pixel in range(first, last):
            add_run(partial[chunk], 0, grad_out, pixel * F, F)
