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
    depth: int  # products that an output value sums: KH * KW * C/groups
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


@remembered
def seeing(g: Geometry) -> tuple[Geometry, slice, slice]:
    """Return a convolution without taps at the edges that see padding alone, and which are left.

    A filter of one tap has no dilation, and a single output no stride.
    """
    rows = _seeing(g.KH, g.H, g.OH, g.stride_h, g.top, g.dilation_h)
    columns = _seeing(g.KW, g.W, g.OW, g.stride_w, g.left, g.dilation_w)
    KH, KW = rows.stop - rows.start, columns.stop - columns.start
    kept = g._replace(
        KH=KH, KW=KW, depth=KH * KW * g.channels,
        top=g.top - rows.start * g.dilation_h, left=g.left - columns.start * g.dilation_w,
        dilation_h=g.dilation_h if KH > 1 else 1, dilation_w=g.dilation_w if KW > 1 else 1,
        stride_h=g.stride_h if g.OH > 1 else 1, stride_w=g.stride_w if g.OW > 1 else 1,
    )  # fmt: skip
    return kept, rows, columns


def _seeing(taps: int, size: int, outputs: int, stride: int, padding: int, dilation: int) -> slice:
    """Return the taps that see the image from some output, along one axis."""
    some = []
    for k in range(taps):
        at = k * dilation - padding  # where the first output sees
        output = max(-(at // stride), 0)  # the first one that sees no padding before the image
        if output < outputs and at + output * stride < size:
            some.append(k)
    return slice(some[0], some[-1] + 1) if some else slice(0, 0)


def is_pointwise(g: Geometry) -> bool:
    """Tell whether each output sees one pixel, that in its own place.

    That outputs are as many as pixels does not say so: with a stride the last may see padding.
    """
    single = g.KH == g.KW == g.stride_h == g.stride_w == 1
    return single and (g.H, g.W, g.top, g.left) == (g.OH, g.OW, 0, 0)


def is_column(g: Geometry) -> bool:
    """Tell whether images are one pixel wide, and so is all that is done to them."""
    return g.W == g.OW == g.KW == 1 and g.left == 0 and g.H > 1


def as_row(g: Geometry) -> Geometry:
    """Turn columns into rows: they lie in memory alike, and a row is computed in long strips."""
    return g._replace(
        H=1, W=g.H, KH=1, KW=g.KH, OH=1, OW=g.OH, stride_h=1, stride_w=g.stride_h,
        top=0, left=g.top, dilation_h=1, dilation_w=g.dilation_h,
    )  # fmt: skip


def matrices(weight: np.ndarray, groups: int) -> np.ndarray:
    """Return weight as one matrix a group, (groups, KH*KW*C/groups, F/groups)."""
    F, C, KH, KW = weight.shape
    split = weight.reshape(groups, F // groups, C, KH, KW)
    return split.transpose(0, 3, 4, 2, 1).reshape(groups, KH * KW * C, F // groups)


@body
def taps_inside(first, last, dilation, taps, size):
    """Return from which tap to which some pixel of an image is seen, along one axis.

    The first tap may stand anywhere from pixel ``first`` to ``last``. Others see padding alone.
    """
    start, stop = -last, size - first
    if dilation > 1:  # a division takes as long as many products
        start, stop = -(last // dilation), -((first - size) // dilation)
    start = min(max(start, 0), taps)
    return start, max(min(stop, taps), start)


@body
def inside(first, taps, W):
    """Return which of the taps at pixels first, first + 1, ... lie in a row of W pixels."""
    start = min(max(-first, 0), taps)
    stop = max(min(W - first, taps), start)
    return start, stop
