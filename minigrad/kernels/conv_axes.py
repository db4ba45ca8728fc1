"""A convolution as one of fewer pixels, or with its axes exchanged.

Stride and dilation may have a divisor in common. Then taps see the pixels of one remainder alone,
and on these they have smaller steps. With stride 2 and dilation 2::

    pixel h      0  1  2  3  4  5  6  7  8
    output 0     k     k     k                  on pixels 0, 2, 4, ...: stride 1, dilation 1
    output 1           k     k     k

Loops that are told where each pixel lies need not know of the others. Nor do they need to know what
a row is: columns are rows of an image that lies otherwise in memory.
"""

import math

from minigrad.kernels._layout import remembered
from minigrad.kernels.conv_geometry import Geometry
from minigrad.kernels.conv_window import Places


@remembered
def thinned(g: Geometry) -> tuple[Geometry, Places]:
    """Leave out pixels that no tap sees; return where in x those that are left lie."""
    down, h, stride_h, dilation_h = _steps(g.OH, g.KH, g.stride_h, g.dilation_h, g.top)
    across, w, stride_w, dilation_w = _steps(g.OW, g.KW, g.stride_w, g.dilation_w, g.left)
    image = Places((h * g.W + w) * g.C, g.H * g.W * g.C, down * g.W * g.C, across * g.C)
    kept = g._replace(
        H=-(-(g.H - h) // down), W=-(-(g.W - w) // across), top=(g.top + h) // down,
        left=(g.left + w) // across, stride_h=stride_h, stride_w=stride_w,
        dilation_h=dilation_h, dilation_w=dilation_w,
    )  # fmt: skip
    return kept, image


def _steps(
    outputs: int, taps: int, stride: int, dilation: int, padding: int
) -> tuple[int, int, int, int]:
    """Return along one axis every which pixel is seen, the first, and stride and dilation there."""
    stride, dilation = stride if outputs > 1 else 0, dilation if taps > 1 else 0
    common = math.gcd(stride, dilation) or 1
    return common, -padding % common, max(stride // common, 1), max(dilation // common, 1)


def exchanged(g: Geometry) -> Geometry:
    """Let columns be rows."""
    return g._replace(
        H=g.W, W=g.H, KH=g.KW, KW=g.KH, OH=g.OW, OW=g.OH, stride_h=g.stride_w,
        stride_w=g.stride_h, top=g.left, left=g.top, dilation_h=g.dilation_w,
        dilation_w=g.dilation_h,
    )  # fmt: skip
