"""Element-wise twins."""

import numpy as np


def relu_forward(x: np.ndarray) -> np.ndarray:
    """Return max(x, 0) element by element; the derivative at 0 is 0, and a NaN stays a NaN.

    Parameters
    ----------
    x : ndarray, any shape

    Returns
    -------
    out : ndarray, shape of x
    """
    return np.where(x.real <= 0, x.dtype.type(0), x)


def relu_backward(grad_out: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Return grad_out where the output of relu was positive, else 0.

    Parameters
    ----------
    grad_out : ndarray, any shape
        The cotangent of ``out``.
    out : ndarray, shape of grad_out
        What ``relu_forward`` returned.

    Returns
    -------
    grad_x : ndarray, shape of grad_out
    """
    return np.where(out.real <= 0, grad_out.dtype.type(0), grad_out)
