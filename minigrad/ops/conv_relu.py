"""conv2d and the relu behind it as one operation: what is written to memory is final."""

from typing import Any

import numpy as np

from minigrad.core.decisions import held
from minigrad.core.tensor import Tensor
from minigrad.ops.activation import held_relu
from minigrad.ops.conv import Conv2d, check_serves, conv_options

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
    >>> import numpy as np
    >>> from minigrad.ops.conv_relu import conv2d_relu
    >>> edge = np.array([[[[-1.0, 1.0]]]])
    >>> conv2d_relu(np.array([[[[1.0, 4.0, 4.0, 1.0]]]]), edge).data
    array([[[[3., 0., 0.]]]])
    """
    options = conv_options(x, weight, bias, stride, padding, dilation, groups)
    check_serves(algorithm, x, weight, options)
    return ConvReLU.apply(x, weight, bias, **options, algorithm=algorithm)
