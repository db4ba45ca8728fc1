"""The sizes of a convolution, and its filters as matrices."""

from typing import NamedTuple

import numpy as np

from minigrad.kernels._jit import body
from minigrad.kernels._layout import Shape, remembered

Pair = tuple[int, int]
Sides = tuple[int, int, int, int]  # top, bottom, left, right


class Geometry(NamedTuple):
    """The sizes of a convolution, as loops need them."""

    N: int
    C: int
    H: int
    W: int
    F: int
    KH: int
    KW: int
    OH: int
    OW: int
    stride_h: int
    stride_w: int
    top: int  # padding above
    left: int  # padding to the left
    dilation_h: int
    dilation_w: int
    groups: int
    channels: int  # of a group: C/groups
    filters: int  # of a group: F/groups
    taps: int  # values of the input that an output value sees: KH * KW * C/groups
    pixels: int  # of the output: N * OH * OW


@remembered
def geometry(
    x_shape: Shape, weight_shape: Shape, stride: Pair, padding: Sides, dilation: Pair, groups: int
) -> Geometry:
    """Work out the sizes of a convolution."""
    N, C, H, W = x_shape
    F, channels, KH, KW = weight_shape
    top, bottom, left, right = padding
    OH = max((H + top + bottom - dilation[0] * (KH - 1) - 1) // stride[0] + 1, 0)
    OW = max((W + left + right - dilation[1] * (KW - 1) - 1) // stride[1] + 1, 0)
    return Geometry(
        N, C, H, W, F, KH, KW, OH, OW, *stride, top, left, *dilation, groups,
        channels, F // groups, KH * KW * channels, N * OH * OW,
    )  # fmt: skip


def matrices(weight: np.ndarray, groups: int) -> np.ndarray:
    """Return weight as one matrix a group, (groups, KH*KW*C/groups, F/groups)."""
    F, C, KH, KW = weight.shape
    split = weight.reshape(groups, F // groups, C, KH, KW)
    return split.transpose(0, 3, 4, 2, 1).reshape(groups, KH * KW * C, F // groups)


@body
def inside(first, taps, W):
    """Return which of the taps at pixels first, first + 1, ... lie in a row of W pixels."""
    start = min(max(-first, 0), taps)
    stop = max(min(W - first, taps), start)
    return start, stop
