"""Batch-normalisation twins.

x is (N, C, ...); a statistic is over all axes but the second. Statistics and sums are float64
also where x is float32: they are few, and a mean rounded to float32 is wrong by a good part of
the standard deviation where that is a ten-thousandth of the mean.
"""

import numpy as np

# The running mean and variance of channels.
Running = tuple[np.ndarray, np.ndarray]


def _axes(x: np.ndarray) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _by_channel(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Line up values of shape (C,) with the channels of x."""
    return values.reshape(-1, *[1] * (x.ndim - 2))


def batch_norm_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the biased variance of each channel.

    Parameters
    ----------
    x : ndarray, (N, C, ...)

    Returns
    -------
    mean, var : ndarray of float64, (C,)
        ``var`` divides by the number of values, not by one less. Both are 0 where there is none.
    """
    C = x.shape[1]
    dtype = np.result_type(x, np.float64)
    if x.size == 0:
        return np.zeros(C, dtype), np.zeros(C, dtype)
    mean = x.mean(_axes(x), dtype=dtype)
    return mean, ((x - _by_channel(mean, x)) ** 2).mean(_axes(x))


def batch_norm_forward(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    mean: np.ndarray,
    inv_std: np.ndarray,
) -> np.ndarray:
    """Return weight (x - mean) inv_std + bias, channel by channel.

    Parameters
    ----------
    x : ndarray, (N, C, ...)
    weight, bias : ndarray of x's dtype, (C,), or None
        None stands for 1 and for 0.
    mean, inv_std : ndarray of float64, (C,)

    Returns
    -------
    out : ndarray, shape of x
    """
    out = (x - _by_channel(mean, x)) * _by_channel(inv_std, x)
    if weight is not None:
        out = out * _by_channel(weight, x)
    if bias is not None:
        out = out + _by_channel(bias, x)
    return out if np.iscomplexobj(out) else out.astype(x.dtype)


def batch_norm_relu_forward(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    mean: np.ndarray,
    inv_std: np.ndarray,
    other: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return max(weight (x - mean) inv_std + bias + other, 0), and the bits of what passed.

    The bits of ``batch_norm_forward``, a sum and ``relu_forward`` after one another.

    Parameters
    ----------
    x : ndarray, (N, C, ...)
    weight, bias : ndarray of x's dtype, (C,), or None
    mean, inv_std : ndarray of float64, (C,)
    other : ndarray, shape and dtype of x, or None
        What is added before the relu: the identity path of a residual unit.

    Returns
    -------
    out : ndarray, shape of x
    mask : ndarray of uint8, shape (ceil(x.size / 8),)
        Eight elements a byte, the lowest bit first, in channels-last order.
    """
    out = batch_norm_forward(x, weight, bias, mean, inv_std)
    if other is not None:
        out = out + other
    passed = ~(out.real <= 0)
    mask = np.packbits(np.moveaxis(passed, 1, -1).reshape(-1), bitorder="little")
    return np.where(passed, out, out.dtype.type(0)), mask


def _kept(grad_out: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Return grad_out, with 0 where the relu of the mask stopped what went forward."""
    if mask is None:
        return grad_out
    passed = np.unpackbits(mask, count=grad_out.size, bitorder="little").astype(bool)
    last = np.moveaxis(grad_out, 1, -1)
    return np.moveaxis(np.where(passed.reshape(last.shape), last, 0), -1, 1)


def batch_norm_sums(
    grad_out: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    inv_std: np.ndarray,
    mask: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums over each channel of grad_out, and of grad_out times the normalised x.

    They are the gradients of bias and weight, and what the gradient of x needs of its batch.

    Parameters
    ----------
    grad_out, x : ndarray, (N, C, ...)
    mean, inv_std : ndarray of float64, (C,)
    mask : ndarray of uint8, or None
        From ``batch_norm_relu_forward``: where it is 0, grad_out counts as 0.

    Returns
    -------
    sum_grad, sum_grad_normal : ndarray of float64, (C,)
    """
    grad_out = _kept(grad_out, mask)
    normal = (x - _by_channel(mean, x)) * _by_channel(inv_std, x)
    dtype = np.result_type(grad_out, normal)
    return grad_out.sum(_axes(x), dtype=dtype), (grad_out * normal).sum(_axes(x))


def batch_norm_grad_input(
    grad_out: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    inv_std: np.ndarray,
    sum_grad: np.ndarray,
    sum_grad_normal: np.ndarray,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Return the gradient of x where mean and inv_std are the statistics of x itself.

    With P values a channel, and normal = (x - mean) inv_std::

        grad_x = weight inv_std (grad_out - sum_grad / P - normal sum_grad_normal / P)

    Parameters
    ----------
    grad_out, x : ndarray, (N, C, ...)
    weight : ndarray of x's dtype, (C,), or None
    mean, inv_std : ndarray of float64, (C,)
    sum_grad, sum_grad_normal : ndarray of float64, (C,)
        From ``batch_norm_sums``.
    mask : ndarray of uint8, or None
        As for ``batch_norm_sums``.

    Returns
    -------
    grad_x : ndarray, shape of x
    """
    P = max(1, x.size // max(1, x.shape[1]))
    normal = (x - _by_channel(mean, x)) * _by_channel(inv_std, x)
    from_mean = _by_channel(sum_grad, x) / P
    from_variance = normal * _by_channel(sum_grad_normal, x) / P
    scale = inv_std if weight is None else inv_std * weight
    grad_x = _by_channel(scale, x) * (_kept(grad_out, mask) - from_mean - from_variance)
    return grad_x if np.iscomplexobj(grad_x) else grad_x.astype(x.dtype)


def batch_norm_training(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    eps: float,
    relu: bool = False,
    other: np.ndarray | None = None,
    running: Running | None = None,
    momentum: float = 0.0,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray]:
    """Normalise each channel with its own statistics.

    The bits of ``batch_norm_statistics`` and ``batch_norm_forward`` or, with a relu,
    ``batch_norm_relu_forward``, after one another. With P values a channel, running statistics
    move in place::

        running_mean += momentum (mean - running_mean)
        running_var  += momentum (P / (P - 1) var - running_var)

    Parameters
    ----------
    x : ndarray, (N, C, ...)
    weight, bias : ndarray of x's dtype, (C,), or None
    eps : float
        Added to the variance.
    relu : bool
        Whether a relu is behind the normalisation.
    other : ndarray, shape and dtype of x, or None
        What is added before the relu.
    running : pair of ndarray of floats, (C,), or None
        The running mean and variance, written to; an empty batch does not move them.
    momentum : float
        Weight of the new batch in the running statistics.

    Returns
    -------
    out : ndarray, shape of x
    mask : ndarray of uint8, shape (ceil(x.size / 8),), or None
        The bits of what passed the relu, or None without one.
    mean, inv_std : ndarray of float64, (C,)
        inv_std is 1 / sqrt(var + eps).
    """
    mean, var = batch_norm_statistics(x)
    if running is not None and x.size:
        _move_running(*running, momentum, mean, var, x.size // x.shape[1])
    inv_std = 1 / np.sqrt(var + eps)
    settings = x, weight, bias, mean, inv_std
    if relu:
        return *batch_norm_relu_forward(*settings, other), mean, inv_std
    return batch_norm_forward(*settings), None, mean, inv_std


def _move_running(
    running_mean: np.ndarray,
    running_var: np.ndarray,
    momentum: float,
    mean: np.ndarray,
    var: np.ndarray,
    P: int,
) -> None:
    # .real: within a complex step the statistics of the real batch are what is remembered.
    running_mean += momentum * (mean.real - running_mean)
    running_var += momentum * (var.real * P / (P - 1) - running_var)


def batch_norm_backward(
    grad_out: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    inv_std: np.ndarray,
    mask: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all gradients of a batch norm in training.

    The bits of ``batch_norm_sums`` and ``batch_norm_grad_input`` after one another.

    Parameters
    ----------
    grad_out, x : ndarray, (N, C, ...)
    weight : ndarray of x's dtype, (C,), or None
    mean, inv_std : ndarray of float64, (C,)
    mask : ndarray of uint8, or None
        As for ``batch_norm_sums``.

    Returns
    -------
    grad_x : ndarray, shape of x
    sum_grad, sum_grad_normal : ndarray of float64, (C,)
        The gradients of bias and weight.
    """
    sums = batch_norm_sums(grad_out, x, mean, inv_std, mask)
    return batch_norm_grad_input(grad_out, x, weight, mean, inv_std, *sums, mask), *sums
