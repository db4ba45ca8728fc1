"""Option A of the residual networks: an identity path that fits a smaller, deeper image."""

from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.core.function import Function
from minigrad.core.tensor import Tensor
from minigrad.ops._images import check_images

__all__ = ["ZeroPadShortcut", "zero_pad_shortcut"]


class ZeroPadShortcut(Function):
    """y = every stride-th pixel of x, between channels of zeros."""

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, *, stride: int, before: int, after: int) -> np.ndarray:
        ctx.stride, ctx.before, ctx.shape = stride, before, x.shape
        return kernels.zero_pad_shortcut(x, stride, before, after)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> np.ndarray:
        return kernels.zero_pad_shortcut_backward(grad_out, ctx.stride, ctx.before, ctx.shape)


def zero_pad_shortcut(x: Any, stride: int = 1, before: int = 0, after: int = 0) -> Tensor:
    """Take every ``stride``-th pixel of images and put channels of zeros around theirs.

    The same as ``pad(x[:, :, ::stride, ::stride], ...)``, in one pass over memory.

    Parameters
    ----------
    x : Tensor or ndarray, (N, C, H, W), float32 or float64
    stride : int
        Along both axes of the image.
    before, after : int
        How many channels of zeros stand before those of x, and behind them.

    Returns
    -------
    Tensor
        (N, before + C + after, OH, OW) with OH = ceil(H / stride).

    Raises
    ------
    ShapeError, DTypeError
        If x is not a batch of images of floats.

    Gradient
    --------
    Each pixel that was taken receives the cotangent of its own channels; the others receive 0.
    Saves nothing.

    Source
    ------
    He et al., Deep residual learning for image recognition, CVPR 2016, section 3.3, option A.

    Examples
    --------
    >>> import numpy as np
    >>> from minigrad.ops.shortcut import zero_pad_shortcut
    >>> x = np.array([[[[1.0, 2.0, 3.0]]]])
    >>> zero_pad_shortcut(x, stride=2, before=0, after=1).data
    array([[[[1., 3.]],
    <BLANKLINE>
            [[0., 0.]]]])
    """
    check_images("zero_pad_shortcut", x)
    return ZeroPadShortcut.apply(x, stride=stride, before=before, after=after)
