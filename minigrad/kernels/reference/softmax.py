"""Twins of the softmax and its logarithm, along rows."""

import numpy as np


def shifted(x: np.ndarray) -> np.ndarray:
    """Each row minus its largest entry.

    Where that is infinite the result is NaN, as it should be: there is no distribution over
    entries that are all -Inf, or among several that are +Inf.
    """
    with np.errstate(invalid="ignore"):
        return x - np.max(x.real, axis=1, keepdims=True, initial=-np.inf)


def softmax_forward(x: np.ndarray) -> np.ndarray:
    """Softmax of each row: exp(x_c) / sum_k exp(x_k).

    Parameters
    ----------
    x : ndarray, shape (R, C)

    Returns
    -------
    p : ndarray, shape (R, C)
    """
    exponentials = np.exp(shifted(x))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def softmax_backward(grad_out: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Gradient of the logits: p_c (grad_out_c - sum_k grad_out_k p_k).

    Parameters
    ----------
    grad_out, p : ndarray, shape (R, C)
        The cotangent, and what ``softmax_forward`` returned.

    Returns
    -------
    grad_x : ndarray, shape (R, C)
    """
    return p * (grad_out - (grad_out * p).sum(axis=1, keepdims=True))


def log_softmax_forward(x: np.ndarray) -> np.ndarray:
    """Logarithm of the softmax of each row, without that of a softmax that rounds to 0.

    Parameters
    ----------
    x : ndarray, shape (R, C)

    Returns
    -------
    y : ndarray, shape (R, C)
    """
    logits = shifted(x)
    with np.errstate(divide="ignore"):  # the sum of a row of nothing is 0
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def log_softmax_backward(grad_out: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Gradient of the logits: grad_out_c - exp(y_c) sum_k grad_out_k.

    Parameters
    ----------
    grad_out, y : ndarray, shape (R, C)
        The cotangent, and what ``log_softmax_forward`` returned.

    Returns
    -------
    grad_x : ndarray, shape (R, C)
    """
    return grad_out - np.exp(y) * grad_out.sum(axis=1, keepdims=True)
