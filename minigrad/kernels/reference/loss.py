"""Twins of the losses."""

import numpy as np

from minigrad.kernels.reference.softmax import shifted


def softmax_cross_entropy_forward(
    logits: np.ndarray, labels: np.ndarray, base: np.ndarray, hit: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cross-entropy of each row of logits against its label, and the softmax of the row.

    With p = softmax(x) of a row and y its label::

        loss = -sum_c q_c log p_c,    q_c = base_c + hit_c [c = y]

    ``hit`` alone, all ones, is the plain loss -log p_y; class weights scale it, and label smoothing
    moves a part of it to ``base``.

    Parameters
    ----------
    logits : ndarray, shape (R, C)
    labels : ndarray of int64, shape (R,)
        From 0 to C - 1; a row whose label is -1 is left out: its loss is 0.
    base, hit : ndarray, shape (C,)

    Returns
    -------
    losses : ndarray, shape (R,)
    probabilities : ndarray, shape (R, C)
    """
    x = shifted(logits)
    exponentials = np.exp(x)
    total = exponentials.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # a class of no weight may have an infinite -log p
        surprise = np.log(total) - x  # -log p
        losses = hit[labels] * surprise[np.arange(len(labels)), labels]
        for c in np.flatnonzero(base):  # a class of no weight adds 0, also where log p is -Inf
            losses += base[c] * surprise[:, c]
    return np.where(labels < 0, logits.dtype.type(0), losses), exponentials / total


def softmax_cross_entropy_backward(
    grad_losses: np.ndarray,
    probabilities: np.ndarray,
    labels: np.ndarray,
    base: np.ndarray,
    hit: np.ndarray,
) -> np.ndarray:
    """Gradient of the logits: for a row, ``grad_loss (p_c sum_k q_k - q_c)``.

    For the plain loss this is ``grad_loss (p - onehot(y))``.

    Parameters
    ----------
    grad_losses : ndarray, shape (R,)
    probabilities : ndarray, shape (R, C)
        What the forward returned.
    labels, base, hit : ndarray
        As the forward had them.

    Returns
    -------
    grad_logits : ndarray, shape (R, C)
        Zero in rows that were left out.
    """
    C = probabilities.shape[1]
    q = base + hit * (labels[:, None] == np.arange(C))  # (R, C)
    grad_logits = grad_losses[:, None] * (probabilities * q.sum(axis=1, keepdims=True) - q)
    return np.where(labels[:, None] < 0, grad_logits.dtype.type(0), grad_logits)
