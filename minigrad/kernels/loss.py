"""Softmax and cross-entropy in one pass over the rows, which ``softmax.py`` speaks of."""

import numpy as np

from minigrad.kernels import _pool
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._simd import (
    lanes_of,
    tile_load,
    tile_multiply,
    tile_store,
    tile_subtract,
    tile_zeros,
)
from minigrad.kernels._simd_fold import tile_fill
from minigrad.kernels.softmax import chunks_of_rows, softmax_row, work_on_rows


@body
def _any(weights):
    """Tell whether any class has a weight, as with smoothed labels."""
    return (weights != 0).any()


@body(reassociate=True)
def _sum(weights):
    """Add up the weights of all classes, in an order that their number fixes."""
    total = 0.0
    for c in range(weights.size):  # not over the values themselves: that loop gets no vectors
        total += np.float64(weights[c])
    return total


@body
def _label_loss(x, at, label, peak, total, hit):
    """Return -log p of the label, weighted, in a row whose peak and sum are known."""
    if label < 0:
        return 0.0
    return hit[label] * (np.log(total) - (x[at + label] - peak))


@body
def _base_loss(x, at, peak, total, base):
    """Return what smoothing adds: -log p of every class, weighted."""
    loss, log_total = 0.0, np.log(total)
    for c in range(base.size):
        if base[c] != 0:  # a class of no weight adds 0, also where log p is -Inf
            loss += base[c] * (log_total - (x[at + c] - peak))
    return loss


# The loop itself calls what works on a row: a body that calls another counts the arrays that it
# hands on, and the locked instructions that do it take longer than a short row.


@kernel
def _forward_loop(logits, labels, base, hit, losses, probabilities, chunks):
    smoothed, C = _any(base), hit.size
    for chunk in prange(chunks):
        start, stop = chunk_bounds(chunk, chunks, labels.size)
        for r in range(start, stop):
            peak, total = softmax_row(logits, r * C, C, probabilities)
            loss = _label_loss(logits, r * C, labels[r], peak, total, hit)
            if smoothed and labels[r] >= 0:
                loss += _base_loss(logits, r * C, peak, total, base)
            losses[r] = loss


def softmax_cross_entropy_forward(
    logits: np.ndarray, labels: np.ndarray, base: np.ndarray, hit: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the cross-entropy of each row of logits, and the softmax."""
    R, C = logits.shape
    losses = np.empty(R, logits.dtype)
    probabilities = _pool.empty(logits.shape, logits.dtype)
    _forward_loop.launch(
        work_on_rows(R, C),
        logits.ravel(),
        labels,
        base,
        hit,
        losses,
        probabilities.ravel(),
        chunks_of_rows(R, C),
    )
    return losses, probabilities


@body
def _row_backward(grad_loss, p, at, label, base, spread, hit, grad_x):
    """Fill the row of grad_x that begins at ``at``."""
    C, one, width = hit.size, tile_zeros(1, 1, p), lanes_of(p)
    if label < 0:
        for c in range(at, at + C):
            grad_x[c] = 0
        return
    mass = p.dtype.type(spread + hit[label])
    masses, factors = tile_fill(one, mass), tile_fill(one, grad_loss)
    for c in range(0, C // width * width, width):
        share = tile_multiply(tile_load(one, p, at + c, 0), masses)
        difference = tile_subtract(share, tile_load(one, base, c, 0))
        tile_store(tile_multiply(difference, factors), grad_x, at + c, 0)
    for c in range(C // width * width, C):
        grad_x[at + c] = grad_loss * (p[at + c] * mass - base[c])
    grad_x[at + label] = grad_loss * (p[at + label] * mass - (base[label] + hit[label]))


@kernel
def _backward_loop(grad_losses, probabilities, labels, base, hit, grad_logits, chunks):
    spread, C = _sum(base), hit.size
    for chunk in prange(chunks):
        start, stop = chunk_bounds(chunk, chunks, labels.size)
        for r in range(start, stop):
            _row_backward(
                grad_losses[r], probabilities, r * C, labels[r], base, spread, hit, grad_logits
            )


def softmax_cross_entropy_backward(
    grad_losses: np.ndarray,
    probabilities: np.ndarray,
    labels: np.ndarray,
    base: np.ndarray,
    hit: np.ndarray,
) -> np.ndarray:
    """Return the gradient of the logits."""
    R, C = probabilities.shape
    grad_logits = _pool.empty(probabilities.shape, probabilities.dtype)
    _backward_loop.launch(
        2 * R * C,
        grad_losses.ravel(),
        probabilities.ravel(),
        labels,
        base,
        hit,
        grad_logits.ravel(),
        chunks_of(2 * R * C),
    )
    return grad_logits
