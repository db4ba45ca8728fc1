"""conv2d and the relu behind it as one operation: what is written to memory is final."""

from typing import Any

import numpy as np

from minigrad.core.decisions import held
from minigrad.core.errors import ArgumentError, ShapeError
from minigrad.core.tensor import Tensor
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.activation import held_relu
from minigrad.ops.conv import Conv2d, conv_options

__all__ = ["ConvReLU", "conv2d_relu"]


class ConvReLU(Conv2d):
    """y = max(x convolved with weight + bias, 0)."""

    @staticmethod
    def forward(
        ctx: Any, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, **settings: Any
    ) -> np.ndarray:
        y = Conv2d.forward(ctx, x, weight, bias, **settings, relu=not held())
        if held():
            y = held_relu("conv2d_relu", y)
        ctx.save(*ctx.saved, y)
        return y

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        *_, y = ctx.saved
        return Conv2d.backward(ctx, np.where(y.real <= 0, 0, grad_out))


def _images(rng: np.random.Generator) -> list[Sample]:
    normal = rng.standard_normal
    x = normal((2, 3, 5, 7))
    return [
        Sample(x, normal((4, 3, 2, 3)), normal(4)),
        Sample(x, normal((4, 3, 3, 3)), None, stride=2, padding=1),
        Sample(x, normal((6, 1, 3, 2)), normal(6), padding=(2, 1), dilation=(1, 2), groups=3),
        Sample(np.zeros((0, 3, 5, 7)), normal((4, 3, 2, 3)), normal(4)),
    ]


def _bad_convs(rng: np.random.Generator) -> list[Wrong]:
    x = np.ones((8, 4, 32, 32))
    return [
        Wrong(
            ShapeError,
            "conv2d: weight expects 3 input channels, x has 4. x is (8, 4, 32, 32) as "
            "(N, C, H, W); weight is (16, 3, 3, 3) as (F, C/groups, KH, KW); groups=1. Pass an x "
            "with 3 channels, or a weight of shape (16, 4, 3, 3).",
            x,
            np.ones((16, 3, 3, 3)),
        ),
        Wrong(
            ArgumentError,
            "conv2d: algorithm is 'auto', 'winograd', 'direct', 'im2col' or 'reference', got "
            "'fft'. Pass for example algorithm='auto'.",
            x,
            np.ones((16, 4, 3, 3)),
            algorithm="fft",
        ),
    ]


@operation(ConvReLU, samples=_images, wrong=_bad_convs)
def conv2d_relu(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> Tensor:
    """Slide filters over images and keep what is positive: y = relu(conv2d(x, ...)).

    The same bits as the two operations, in one pass over the result where they take three. Folded
    networks are made of it; in training a batch norm stands between the two.

    Parameters
    ----------
    x, weight, bias, stride, padding, dilation, groups, algorithm
        As for :func:`~minigrad.ops.conv.conv2d`.

    Returns
    -------
    Tensor
        (N, F, OH, OW).

    Raises
    ------
    ShapeError, ArgumentError, DTypeError
        As ``conv2d`` does.

    Gradient
    --------
    That of ``conv2d`` for grad_out where y > 0 and 0 elsewhere, also at the kink. Saves x, weight
    and y.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> edge = np.array([[[[-1.0, 1.0]]]])
    >>> mg.ops.conv2d_relu(np.array([[[[1.0, 4.0, 4.0, 1.0]]]]), edge).data
    array([[[[3., 0., 0.]]]])
    """
    options = conv_options(x, weight, bias, stride, padding, dilation, groups, algorithm)
    return ConvReLU.apply(x, weight, bias, **options)
