"""batch_norm in training, relu and max_pool2d as one operation, as networks for images begin."""

from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.core.decisions import held
from minigrad.core.errors import ArgumentError, ShapeError
from minigrad.core.function import Function
from minigrad.core.tensor import Tensor
from minigrad.ops._images import Pair, check_images, pair
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.activation import held_relu
from minigrad.ops.norm import channel_grads, check_norm
from minigrad.ops.pool import held_max, pooled_size

__all__ = ["batch_norm_relu_max_pool2d"]

_NAME = "batch_norm_relu_max_pool2d"
_CLOSE = (1, 1)  # the dilation of windows


class BatchNormReLUMaxPool2d(Function):
    """y = the largest max(weight (x - mean) / sqrt(var + eps) + bias, 0) of each window."""

    @staticmethod
    def forward(
        ctx: Any,
        x: np.ndarray,
        weight: np.ndarray | None,
        bias: np.ndarray | None,
        *,
        running: tuple[np.ndarray, np.ndarray] | None,
        momentum: float,
        eps: float,
        kernel_size: Pair,
        stride: Pair,
        padding: Pair,
        out_size: Pair,
    ) -> np.ndarray:
        ctx.window = kernel_size, stride, padding
        y, place, mean, inv_std = kernels.batch_norm_relu_max_pool_training(
            x, weight, bias, eps, running, momentum, *ctx.window, out_size
        )
        ctx.save(place, x, weight, mean, inv_std)
        if held():
            normal = kernels.batch_norm_forward(x, weight, bias, mean, inv_std)
            return held_max(_NAME, held_relu(_NAME, normal), (*ctx.window, _CLOSE), out_size)
        return y

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        place, x, *saved = ctx.saved
        grad_x, *sums = kernels.batch_norm_relu_max_pool_backward(
            grad_out, place, x, *saved, *ctx.window
        )
        grads = channel_grads(ctx, np.result_type(grad_out, x), *sums)
        return grad_x if ctx.needs[0] else None, *grads


def _batches(rng: np.random.Generator) -> list[Sample]:
    normal = rng.standard_normal
    running = {"running_mean": normal(3), "running_var": rng.uniform(0.5, 2, 3)}
    image = 3 * normal((2, 3, 5, 7)) + 1
    return [
        Sample(image, normal(3), normal(3), kernel_size=3, stride=2, padding=1),
        Sample(image, None, normal(3), **running, momentum=0.25, eps=0.5, kernel_size=2),
        Sample(image, normal(3), None, kernel_size=(3, 2), stride=(2, 1), padding=(1, 0)),
        Sample(image, None, None, kernel_size=3, stride=(3, 2), padding=1, ceil_mode=True),
        Sample(image, normal(3), normal(3) - 2, kernel_size=2, stride=3),  # most are stopped
        Sample(normal((0, 3, 5, 7)), normal(3), normal(3), **running, kernel_size=2),
    ]


def _bad_batches(rng: np.random.Generator) -> list[Wrong]:
    x = np.ones((2, 3, 5, 7))
    return [
        Wrong(
            ShapeError,
            "batch_norm_relu_max_pool2d: x of shape (N, C, H, W) is needed, got (3, 5, 7). Give "
            "one image a batch axis: x[None].",
            np.ones((3, 5, 7)),
            kernel_size=2,
        ),
        Wrong(
            ShapeError,
            "batch_norm: training needs more than one value a channel, for one has no variance, "
            "got x of shape (1, 3, 1, 1). Pass a larger batch or image, or training=False to "
            "batch_norm.",
            np.ones((1, 3, 1, 1)),
            kernel_size=1,
        ),
        Wrong(
            ArgumentError,
            "batch_norm_relu_max_pool2d: kernel_size is an int or a pair of ints, each at least 1, "
            "got 0. Pass for example kernel_size=2 or kernel_size=(2, 1).",
            x,
            kernel_size=0,
        ),
        Wrong(
            ArgumentError,
            "batch_norm_relu_max_pool2d: padding of at most half the window is needed, got "
            "padding=(2, 2) for a window of 3x3. Pass padding of at most (1, 1).",
            x,
            kernel_size=3,
            padding=2,
        ),
    ]


@operation(BatchNormReLUMaxPool2d, samples=_batches, wrong=_bad_batches)
def batch_norm_relu_max_pool2d(
    x: Any,
    weight: Any = None,
    bias: Any = None,
    running_mean: np.ndarray | None = None,
    running_var: np.ndarray | None = None,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
) -> Tensor:
    """Normalise in training, keep what is positive, and take the largest of each window.

    y = max_pool2d(relu(batch_norm(x, ...)), kernel_size, ...): the same bits as the operations one
    by one, but the normalised images, larger than all else in many a network, are never written.

    Parameters
    ----------
    x : Tensor or ndarray, (N, C, H, W), float32 or float64
    weight, bias, running_mean, running_var, momentum, eps
        As for :func:`~minigrad.ops.norm.batch_norm`, with ``training=True``.
    kernel_size, stride, padding, ceil_mode
        As for :func:`~minigrad.ops.pool.max_pool2d`, with ``dilation=1``.

    Returns
    -------
    Tensor
        (N, C, OH, OW), as of ``max_pool2d``.

    Raises
    ------
    ShapeError, ArgumentError, DTypeError
        As ``batch_norm`` and ``max_pool2d`` do.

    Gradient
    --------
    With grad_normal[n, c, h, w] the sum of grad_out over the windows where (h, w) is the first of
    the largest and y > 0:

    grad_bias = sum(grad_normal); grad_weight = sum(grad_normal normal);
    grad_x = weight / sqrt(var + eps) (grad_normal - grad_bias / P - normal grad_weight / P).
    Saves x, weight, 16 bytes a channel, and one byte an output: the place within the window.

    Source
    ------
    He et al., "Deep Residual Learning" (2015), table 1: what stands between conv1 and conv2_x.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> x = np.array([[[[1.0, 3.0], [3.0, 1.0]]]])
    >>> mg.ops.batch_norm_relu_max_pool2d(x, eps=0, kernel_size=(1, 2)).data
    array([[[[1.],
             [1.]]]])
    """
    check_norm(x, weight, bias, running_mean, running_var, True, momentum)
    check_images(_NAME, x)
    kernel_size = pair(_NAME, "kernel_size", kernel_size, 1)
    stride = kernel_size if stride is None else pair(_NAME, "stride", stride, 1)
    padding = pair(_NAME, "padding", padding, 0)
    out_size = pooled_size(_NAME, x.shape, kernel_size, stride, padding, _CLOSE, bool(ceil_mode))
    return BatchNormReLUMaxPool2d.apply(
        x,
        weight,
        bias,
        running=None if running_mean is None else (running_mean, running_var),
        momentum=momentum,
        eps=eps,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        out_size=out_size,
    )
