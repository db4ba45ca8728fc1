"""Twins of a batch norm with a relu and max pooling behind it: one after the other."""

import numpy as np

from minigrad.kernels.reference.norm import Running, batch_norm_backward, batch_norm_training
from minigrad.kernels.reference.pool import Pair, max_pool2d_backward, max_pool2d_forward
from minigrad.kernels.taps import place_dtype

_CLOSE = (1, 1)  # the dilation: a window sees neighbours, and so at least one pixel


def batch_norm_relu_max_pool_training(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    eps: float,
    running: Running | None,
    momentum: float,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    out_size: Pair,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the largest value of each window over a batch norm and a relu.

    The bits of ``batch_norm_training`` with a relu and ``max_pool2d_forward`` after one another.

    Parameters
    ----------
    x : ndarray, (N, C, H, W)
    weight, bias, eps, running, momentum
        As for ``batch_norm_training``.
    kernel_size, stride, padding, out_size : tuple of int
        As for ``max_pool2d_forward``; each window sees at least one pixel.

    Returns
    -------
    out : ndarray, (N, C, OH, OW)
    place : ndarray of uint8, or int32 for windows of more than 255, (N, C, OH, OW)
        kh * KW + kw of the winner; KH * KW where nobody has won, for the relu has stopped all.
    mean, inv_std : ndarray of float64, (C,)
    """
    y, _, mean, inv_std = batch_norm_training(x, weight, bias, eps, True, None, running, momentum)
    out, place = max_pool2d_forward(y, kernel_size, stride, padding, _CLOSE, out_size)
    taps = kernel_size[0] * kernel_size[1]
    place = place.astype(place_dtype(taps + 1))
    place[out.real <= 0] = taps
    return out, place, mean, inv_std


def batch_norm_relu_max_pool_backward(
    grad_out: np.ndarray,
    place: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    inv_std: np.ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all gradients: what each pixel has won goes backwards through the batch norm.

    The bits of ``max_pool2d_backward`` and ``batch_norm_backward`` after one another.

    Parameters
    ----------
    grad_out : ndarray, (N, C, OH, OW)
    place : ndarray, (N, C, OH, OW)
        What the forward returned.
    x : ndarray, (N, C, H, W)
    weight, mean, inv_std
        As for ``batch_norm_backward``.
    kernel_size, stride, padding : tuple of int

    Returns
    -------
    grad_x : ndarray, shape of x
    sum_grad, sum_grad_normal : ndarray of float64, (C,)
        The gradients of bias and weight.
    """
    window = kernel_size, stride, padding, _CLOSE
    grad_normal = max_pool2d_backward(grad_out, place, *window, (x.shape[2], x.shape[3]))
    return batch_norm_backward(grad_normal, x, weight, mean, inv_std)
