"""Option A of the residual networks: an identity path that fits a smaller, deeper image."""

from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.core.errors import ArgumentError
from minigrad.core.function import Function
from minigrad.core.tensor import Tensor
from minigrad.ops._images import bad_images, check_images
from minigrad.ops._registry import Sample, Wrong, operation

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


def _images(rng: np.random.Generator) -> list[Sample]:
    x = rng.standard_normal((2, 3, 5, 7))
    return [
        Sample(x, stride=2, before=1, after=2),
        Sample(x, stride=3, after=1),
        Sample(x, before=2),
        Sample(np.zeros((0, 3, 5, 7)), stride=2, before=1),
    ]


def _bad_calls(rng: np.random.Generator) -> list[Wrong]:
    x = np.ones((2, 3, 5, 7))
    return [
        *bad_images("zero_pad_shortcut"),
        Wrong(
            ArgumentError,
            "zero_pad_shortcut: stride is an int of at least 1, got 0. Pass for example stride=2.",
            x,
            stride=0,
        ),
        Wrong(
            ArgumentError,
            "zero_pad_shortcut: after is an int of at least 0, got 1.5. Pass for example after=1.",
            x,
            after=1.5,
        ),
    ]


@operation(ZeroPadShortcut, samples=_images, wrong=_bad_calls)
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
    ArgumentError
        If stride is not an int of at least 1, or a number of channels not one of at least 0.

    Gradient
    --------
    Each pixel that was taken receives the cotangent of its own channels; the others receive 0.
    Saves nothing.

    Source
    ------
    He et al., Deep residual learning for image recognition, CVPR 2016, section 3.3, option A.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> x = np.array([[[[1.0, 2.0, 3.0]]]])
    >>> mg.ops.zero_pad_shortcut(x, stride=2, before=0, after=1).data
    array([[[[1., 3.]],
    <BLANKLINE>
            [[0., 0.]]]])
    """
    check_images("zero_pad_shortcut", x)
    for argument, value, least in ("stride", stride, 1), ("before", before, 0), ("after", after, 0):
        if not isinstance(value, int | np.integer) or value < least:
            raise ArgumentError(
                f"zero_pad_shortcut: {argument} is an int of at least {least}, got {value!r}. "
                f"Pass for example {argument}={least + 1}."
            )
    return ZeroPadShortcut.apply(x, stride=stride, before=before, after=after)
