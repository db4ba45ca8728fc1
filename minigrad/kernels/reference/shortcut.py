"""The twins of the kernels of the zero-padded shortcut."""

import numpy as np


def zero_pad_shortcut(x: np.ndarray, stride: int, before: int, after: int) -> np.ndarray:
    """Return every stride-th pixel of x, with channels of zeros around its own.

    Parameters
    ----------
    x : ndarray, (N, C, H, W)
    stride : int
    before, after : int
        How many channels of zeros stand before those of x, and behind them.

    Returns
    -------
    out : ndarray, (N, before + C + after, ceil(H / stride), ceil(W / stride))
    """
    return np.pad(x[:, :, ::stride, ::stride], ((0, 0), (before, after), (0, 0), (0, 0)))


def zero_pad_shortcut_backward(
    grad_out: np.ndarray, stride: int, before: int, shape: tuple[int, int, int, int]
) -> np.ndarray:
    """Return the gradient of x: 0 at the pixels that were left out.

    Parameters
    ----------
    grad_out : ndarray
        The cotangent of ``out``.
    stride, before : int
    shape : tuple of int
        (N, C, H, W) of x.

    Returns
    -------
    grad_x : ndarray, (N, C, H, W)
    """
    grad_x = np.zeros(shape, grad_out.dtype)
    grad_x[:, :, ::stride, ::stride] = grad_out[:, before : before + shape[1]]
    return grad_x
