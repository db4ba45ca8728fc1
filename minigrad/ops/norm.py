"""Normalisation: batch_norm, and local_response_norm of AlexNet."""

from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.core.dtypes import INTEGERS, NUMBERS
from minigrad.core.errors import ArgumentError, ShapeError
from minigrad.core.function import Function
from minigrad.core.tensor import Tensor
from minigrad.kernels._layout import channels_last_order
from minigrad.ops._images import check_floats
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.stopped import Stopped

__all__ = ["batch_norm", "local_response_norm"]


class BatchNorm(Function):
    """y = weight (x - mean) / sqrt(var + eps) + bias, channel by channel."""

    @staticmethod
    def forward(
        ctx: Any, x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None, **settings: Any
    ) -> np.ndarray:
        y, _, *moments = normalised(ctx, x, weight, bias, **settings)
        ctx.save(x, weight, *moments)
        return y

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray | Stopped) -> Any:
        saved = ctx.saved
        if isinstance(grad_out, Stopped):
            saved = (*saved, grad_out.mask)  # undo_norm applies it
            grad_out = grad_out.grad_out
        return undo_norm(ctx, grad_out, *saved)


def normalised(
    ctx: Any,
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    relu: bool = False,
    other: np.ndarray | None = None,
    *,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
    """Return y, the bits of a relu behind it, and the mean and 1 / sqrt(var + eps) of channels.

    A sum with ``other`` may come before the relu. In training the running statistics move.
    """
    ctx.training = training
    if training:
        running = None if running_mean is None else (running_mean, running_var)
        return kernels.batch_norm_training(x, weight, bias, eps, relu, other, running, momentum)
    mean, var = running_mean.astype(np.float64), running_var.astype(np.float64)
    settings = x, weight, bias, mean, 1 / np.sqrt(var + eps)
    if not relu:
        return kernels.batch_norm_forward(*settings), None, *settings[3:]
    return *kernels.batch_norm_relu_forward(*settings, other), *settings[3:]


def undo_norm(
    ctx: Any,
    grad_out: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    inv_std: np.ndarray,
    mask: np.ndarray | None = None,
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """Return the gradients of x, weight and bias; a mask is that of a relu behind the norm."""
    needs_x, needs_weight, needs_bias = ctx.needs
    grad_x = grad_weight = grad_bias = None
    if needs_x and ctx.training:
        # Each x moves its output, and through mean and variance all others of its channel.
        grad_x, *sums = kernels.batch_norm_backward(grad_out, x, weight, mean, inv_std, mask)
    elif needs_weight or needs_bias:
        sums = kernels.batch_norm_sums(grad_out, x, mean, inv_std, mask)
    if needs_weight or needs_bias:
        grad_weight, grad_bias = channel_grads(ctx, np.result_type(grad_out, x), *sums)
    if needs_x and not ctx.training:
        # With fixed statistics the map is affine; its adjoint is the same scale, no shift.
        if mask is not None:
            grad_out = kernels.relu_backward(grad_out, mask, channels_last_order(x.ndim))
        grad_x = kernels.batch_norm_forward(grad_out, weight, None, 0 * mean, inv_std)
    return grad_x, grad_weight, grad_bias


def channel_grads(
    ctx: Any, dtype: np.dtype, sum_grad: np.ndarray, sum_grad_normal: np.ndarray
) -> list[np.ndarray | None]:
    """Return the gradients of weight and bias, where they are needed, from the sums of channels."""
    return [
        sum_.astype(dtype) if needed else None
        for sum_, needed in zip((sum_grad_normal, sum_grad), ctx.needs[1:], strict=True)
    ]


def _batches(rng: np.random.Generator) -> list[Sample]:
    def running() -> dict[str, np.ndarray]:
        return {"running_mean": rng.standard_normal(3), "running_var": rng.uniform(0.5, 2, 3)}

    normal = rng.standard_normal
    image = 3 * normal((2, 3, 5, 7)) + 1
    return [
        Sample(image, normal(3), normal(3)),
        Sample(image, normal(3), None, **running(), momentum=0.25, eps=0.5),
        Sample(image, None, normal(3), **running()),
        Sample(image, normal(3), normal(3), **running(), training=False),
        Sample(image, None, None, **running(), training=False, eps=0.5),
        Sample(normal((5, 3)), normal(3), normal(3)),
        Sample(normal((2, 3, 5)), normal(3), normal(3), **running(), training=True),
        Sample(normal((2, 3, 5)), normal(3), normal(3), **running(), training=False),
        Sample(normal((1, 3, 2, 2)), normal(3), normal(3)),
        Sample(normal((0, 3, 5, 7)), normal(3), normal(3), **running()),
    ]


def _bad_shapes(rng: np.random.Generator) -> list[Wrong]:
    x, ones = np.ones((2, 3, 5, 7)), np.ones(3)
    return [
        Wrong(
            ShapeError,
            "batch_norm: x of shape (N, C, ...) is needed, got (3,). Give it a batch axis in "
            "front.",
            ones,
            ones,
            ones,
        ),
        Wrong(
            ShapeError,
            "batch_norm: one weight for each of the 3 channels of x is needed, got an array of "
            "shape (4,) for x of shape (2, 3, 5, 7). Pass weight of shape (3,), or None.",
            x,
            np.ones(4),
            ones,
        ),
        Wrong(
            ShapeError,
            "batch_norm: one running_var for each of the 3 channels of x is needed, got an array "
            "of shape (1, 3) for x of shape (2, 3, 5, 7). Pass running_var of shape (3,), or None.",
            x,
            running_mean=ones,
            running_var=np.ones((1, 3)),
        ),
        Wrong(
            ShapeError,
            "batch_norm: training needs more than one value a channel, for one has no variance, "
            "got x of shape (1, 3, 1, 1). Pass a larger batch or image, or training=False to "
            "batch_norm.",
            np.ones((1, 3, 1, 1)),
        ),
    ]


def _bad_settings(rng: np.random.Generator) -> list[Wrong]:
    x, ones = np.ones((2, 3, 5, 7)), np.ones(3)
    return [
        Wrong(
            ArgumentError,
            "batch_norm: running_mean and running_var are plain ndarrays of floats, updated in "
            "place, got list for running_mean. Pass np.zeros(3) and np.ones(3) to begin with.",
            x,
            running_mean=[0, 0, 0],
            running_var=ones,
        ),
        Wrong(
            ArgumentError,
            "batch_norm: running_mean and running_var come together, got only one of them. Pass "
            "both, or neither.",
            x,
            running_mean=ones,
        ),
        Wrong(
            ArgumentError,
            "batch_norm: training=False normalises with running_mean and running_var, got None. "
            "Pass both, or training=True.",
            x,
            training=False,
        ),
        Wrong(
            ArgumentError,
            "batch_norm: momentum is the weight of the new batch, a number from 0 to 1, got None. "
            "Pass for example 0.1; for the average of all batches so far, 1 / their number.",
            x,
            momentum=None,
        ),
    ]


@operation(
    BatchNorm,
    samples=_batches,
    wrong=lambda rng: [*_bad_shapes(rng), *_bad_settings(rng)],
)
def batch_norm(
    x: Any,
    weight: Any = None,
    bias: Any = None,
    running_mean: np.ndarray | None = None,
    running_var: np.ndarray | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel: y = weight (x - mean) / sqrt(var + eps) + bias.

    In training, mean and var (biased: divided by the number P of values) are those of the channel
    over the batch and all pixels, and the running statistics move towards them in place::

        running_mean += momentum (mean - running_mean)
        running_var  += momentum (P / (P - 1) var - running_var)

    Else they are the running statistics, which stay (frozen batch norm).

    Parameters
    ----------
    x : Tensor or ndarray, (N, C), (N, C, L) or (N, C, H, W), float32 or float64
    weight, bias : Tensor or ndarray, (C,), dtype of x, optional
        Without them 1 and 0.
    running_mean, running_var : ndarray, (C,), optional
        Written to in training; needed otherwise.
    training : bool
    momentum : float
        Weight of the new batch in the running statistics.
    eps : float
        Added to the variance.

    Returns
    -------
    Tensor
        Of the shape of x.

    Raises
    ------
    ShapeError
        If weight, bias or a running array is not (C,), or if there is one value per channel in
        training.
    ArgumentError
        Without running statistics where they are needed.
    DTypeError
        If x, weight and bias are not floats of one dtype.

    Gradient
    --------
    With normal = (x - mean) / sqrt(var + eps) and sums over the P values of a channel:

    grad_bias = sum(grad_out); grad_weight = sum(grad_out normal);
    grad_x = weight / sqrt(var + eps) (grad_out - grad_bias / P - normal grad_weight / P) in
    training, and weight / sqrt(var + eps) grad_out else.
    Saves x, weight, and 16 bytes a channel.

    Notes
    -----
    Two passes over memory each way. The variance is a sum of squared distances from the mean,
    which stays right where mean / std is 10,000. An empty batch gives an empty result and leaves
    the running statistics alone.

    Source
    ------
    Ioffe and Szegedy, Batch Normalization (2015), algorithm 1 and the backward formulas of
    section 3.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> mg.batch_norm(np.array([[1.0], [3.0]]), eps=0).data
    array([[-1.],
           [ 1.]])
    """
    check_norm(x, weight, bias, running_mean, running_var, training, momentum)
    return BatchNorm.apply(
        x,
        weight,
        bias,
        running_mean=running_mean,
        running_var=running_var,
        training=training,
        momentum=momentum,
        eps=eps,
    )


def check_norm(
    x: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: Any,
) -> None:
    """Raise unless these arguments of batch_norm fit together."""
    check_floats("batch_norm", ("weight", "bias"), x=x, weight=weight, bias=bias)
    if x.ndim < 2:
        raise ShapeError(
            f"batch_norm: x of shape (N, C, ...) is needed, got {x.shape}. Give it a batch axis "
            f"in front."
        )
    _check_running(x.shape[1], running_mean, running_var, training)
    channels = {
        "weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var
    }  # fmt: skip
    _check_channels(x.shape, channels)
    if training and 0 < x.size == x.shape[1]:
        raise ShapeError(
            f"batch_norm: training needs more than one value a channel, for one has no variance, "
            f"got x of shape {x.shape}. Pass a larger batch or image, or training=False to "
            "batch_norm."
        )
    if not isinstance(momentum, NUMBERS) or not 0 <= momentum <= 1:
        raise ArgumentError(
            f"batch_norm: momentum is the weight of the new batch, a number from 0 to 1, got "
            f"{momentum!r}. Pass for example 0.1; for the average of all batches so far, 1 / their "
            f"number."
        )


def _check_running(C: int, running_mean: Any, running_var: Any, training: bool) -> None:
    if running_mean is None and running_var is None and not training:
        raise ArgumentError(
            "batch_norm: training=False normalises with running_mean and running_var, got None. "
            "Pass both, or training=True."
        )
    if (running_mean is None) != (running_var is None):
        raise ArgumentError(
            "batch_norm: running_mean and running_var come together, got only one of them. Pass "
            "both, or neither."
        )
    for argument, value in ("running_mean", running_mean), ("running_var", running_var):
        if value is None or (isinstance(value, np.ndarray) and value.dtype.kind == "f"):
            continue
        told = f"dtype {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise ArgumentError(
            f"batch_norm: running_mean and running_var are plain ndarrays of floats, updated in "
            f"place, got {told} for {argument}. Pass np.zeros({C}) and np.ones({C}) to begin with."
        )


def _check_channels(shape: tuple[int, ...], channels: dict[str, Any]) -> None:
    C = shape[1]
    for argument, value in channels.items():
        if value is not None and value.shape != (C,):
            raise ShapeError(
                f"batch_norm: one {argument} for each of the {C} channels of x is needed, got an "
                f"array of shape {value.shape} for x of shape {shape}. Pass {argument} of shape "
                f"({C},), or None."
            )


class LocalResponseNorm(Function):
    """y = x D**-beta with D = k + alpha / size (sum of x**2 over neighbouring channels)."""

    @staticmethod
    def forward(
        ctx: Any, x: np.ndarray, *, size: int, alpha: float, beta: float, k: float
    ) -> np.ndarray:
        before, after = size // 2, (size - 1) // 2
        denominator = k + alpha / size * _sum_over_channels(x * x, before, after)
        ctx.save(x, denominator)
        ctx.window, ctx.slope, ctx.beta = (before, after), alpha / size, beta
        return x * denominator**-beta

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> np.ndarray:
        x, denominator = ctx.saved
        before, after = ctx.window
        power = denominator**-ctx.beta
        # Channel j lies in the windows of the channels i with j - after <= i <= j + before.
        shared = _sum_over_channels(grad_out * x * power / denominator, after, before)
        return grad_out * power - 2 * ctx.slope * ctx.beta * x * shared


def _sum_over_channels(x: np.ndarray, before: int, after: int) -> np.ndarray:
    """Sum each channel, along axis 1, with so many channels before it and after it."""
    C = x.shape[1]
    total = x.copy(order="K")
    for shift in range(1, min(before, C - 1) + 1):
        total[:, shift:] += x[:, : C - shift]
    for shift in range(1, min(after, C - 1) + 1):
        total[:, : C - shift] += x[:, shift:]
    return total


def _responses(rng: np.random.Generator) -> list[Sample]:
    normal = rng.standard_normal
    return [
        Sample(normal((2, 7, 3, 5)), 5, alpha=0.5),
        Sample(normal((2, 5, 3)), 4, alpha=0.5, beta=1.5, k=2.0),
        Sample(normal((2, 3, 5, 7)), 9, alpha=0.5, beta=0.5),
        Sample(normal((2, 3, 5, 7)), 1),
        Sample(normal((0, 3, 5, 7)), 3),
    ]


def _bad_responses(rng: np.random.Generator) -> list[Wrong]:
    return [
        Wrong(
            ShapeError,
            "local_response_norm: x of shape (N, C, ...) with at least three axes is needed, got "
            "(2, 3). Reshape it to (2, 3, 1).",
            np.ones((2, 3)),
            5,
        ),
        Wrong(
            ArgumentError,
            "local_response_norm: size is a number of channels, an int of at least 1, got 0. Pass "
            "for example size=5.",
            np.ones((2, 3, 5)),
            0,
        ),
    ]


@operation(LocalResponseNorm, samples=_responses, wrong=_bad_responses)
def local_response_norm(
    x: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """Divide each response by those of neighbouring channels at the same place.

    y_i = x_i / (k + alpha / size * sum_j x_j**2)**beta, where j runs over ``size`` channels around
    i, as far as they exist: from i - size // 2 to i + (size - 1) // 2.

    Parameters
    ----------
    x : Tensor or ndarray, (N, C, ...) with at least three axes, float32 or float64
    size : int
        Channels in a window.
    alpha, beta, k : float

    Returns
    -------
    Tensor
        Of the shape of x.

    Raises
    ------
    ShapeError
        If x has fewer than three axes.
    ArgumentError
        If size is not a positive int.

    Gradient
    --------
    With D_i the term in brackets, grad_x_j = grad_out_j D_j**-beta
    - 2 alpha beta / size * x_j * sum_i grad_out_i x_i D_i**(-beta - 1) over the i whose window
    holds j. Saves x and D.

    Notes
    -----
    This is torch's definition. The paper has no division of alpha by size: its n = 5,
    alpha = 1e-4, beta = 0.75, k = 2 are ``size=5, alpha=5e-4, k=2`` here. For an even size the
    paper's window, i - n / 2 to i + n / 2, has one channel more.

    Source
    ------
    Krizhevsky, Sutskever and Hinton, ImageNet Classification with Deep Convolutional Neural
    Networks (2012), section 3.3.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> mg.local_response_norm(np.full((1, 3, 1), 2.0), size=3, alpha=3.0, beta=1.0).data.ravel()
    array([0.22222222, 0.15384615, 0.22222222])
    """
    check_floats("local_response_norm", x=x)
    if x.ndim < 3:
        raise ShapeError(
            f"local_response_norm: x of shape (N, C, ...) with at least three axes is needed, got "
            f"{x.shape}. Reshape it to ({', '.join(map(str, x.shape))}, 1)."
        )
    if not isinstance(size, INTEGERS) or size < 1:
        raise ArgumentError(
            f"local_response_norm: size is a number of channels, an int of at least 1, got "
            f"{size!r}. Pass for example size=5."
        )
    return LocalResponseNorm.apply(x, size=int(size), alpha=alpha, beta=beta, k=k)
