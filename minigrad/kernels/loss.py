"""Softmax and cross-entropy in one pass over the rows.

The largest logit of a row is subtracted before the exponential, so nothing overflows: the largest
exponential is 1. Sums run over one row and are in double precision from block to block.
"""

import numpy as np

from minigrad.kernels import _pool
from minigrad.kernels._exp import tile_exp
from minigrad.kernels._jit import CHUNK, body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._simd import (
    lanes_of,
    tile_add,
    tile_larger,
    tile_load,
    tile_load_columns,
    tile_store,
    tile_store_columns,
    tile_zeros,
)
from minigrad.kernels._simd_fold import tile_largest, tile_total

# Vectors of values that compete side by side to be the largest of a row.
_WIDE = 4

# Vectors that are added up before the sum becomes float64: so few that little is rounded.
_BLOCK = 64

# An exponential costs about as much as so many elementary operations.
_EXP = 8


@body
def _peak(x):
    """Return the largest value of a row; with a NaN in the row, any value."""
    last, peak = x.size - _WIDE * lanes_of(x), x[0]
    if last < 0:
        for c in range(x.size):
            peak = x[c] if x[c] > peak else peak
        return peak
    held = tile_load(tile_zeros(1, _WIDE, x), x, last, 0)
    for at in range(0, last, _WIDE * lanes_of(x)):  # at the end some values compete once more
        held = tile_larger(held, tile_load(held, x, at, 0))
    return tile_largest(held)


@body
def _exponentials(x, peak, p):
    """Set p to exp(x - peak), and return its sum."""
    one, width = tile_zeros(1, 1, x), lanes_of(x)
    total, whole = 0.0, x.size // width * width
    for first in range(0, whole, _BLOCK * width):
        sums = one
        for c in range(first, min(first + _BLOCK * width, whole), width):
            values = tile_exp(tile_load(one, x, c, 0), peak)
            tile_store(values, p, c, 0)
            sums = tile_add(sums, values)
        total += tile_total(sums)
    if whole < x.size:
        rest = x.size - whole
        values = tile_load_columns(one, x, whole, 0, rest)
        tile_store_columns(tile_exp(values, peak), p, whole, 0, rest)
        total += tile_total(tile_load_columns(one, p, whole, 0, rest))
    return total


@body(reassociate=True)
def _sum(p):
    """Add up a row in float64, in an order that its length fixes."""
    total = 0.0
    for c in range(p.size):  # not over the values themselves: that loop gets no vectors
        total += np.float64(p[c])
    return total


@body
def _any(weights):
    """Tell whether any class has a weight, as with smoothed labels."""
    return (weights != 0).any()


@body
def _row_forward(x, label, base, smoothed, hit, p):
    """Fill p with the softmax of the row x, and return the loss."""
    peak = _peak(x)
    total = _exponentials(x, peak, p)
    share = x.dtype.type(1 / total)
    for c in range(x.size):
        p[c] *= share
    if label < 0:
        return 0.0
    log_total = np.log(total)
    loss = hit[label] * (log_total - (x[label] - peak))  # -log p of the label
    for c in range(x.size if smoothed else 0):
        if base[c] != 0:  # a class of no weight adds 0, also where log p is -Inf
            loss += base[c] * (log_total - (x[c] - peak))
    return loss


@kernel
def _forward_loop(logits, labels, base, hit, losses, probabilities, chunks):
    smoothed = _any(base)
    for chunk in prange(chunks):
        start, stop = chunk_bounds(chunk, chunks, labels.size)
        for r in range(start, stop):
            losses[r] = _row_forward(logits[r], labels[r], base, smoothed, hit, probabilities[r])


def _chunks_of_rows(R: int, C: int) -> int:
    return chunks_of(R, max(1, CHUNK // (_EXP * C)))


def softmax_cross_entropy_forward(
    logits: np.ndarray, labels: np.ndarray, base: np.ndarray, hit: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the cross-entropy of each row of logits, and the softmax."""
    logits = np.ascontiguousarray(logits)
    R, C = logits.shape
    losses = np.empty(R, logits.dtype)
    probabilities = _pool.empty(logits.shape, logits.dtype)
    chunks = _chunks_of_rows(R, C)
    _forward_loop.launch(R * C * _EXP, logits, labels, base, hit, losses, probabilities, chunks)
    return losses, probabilities


@body
def _row_backward(grad_loss, p, label, base, spread, hit, grad_x):
    if label < 0:
        grad_x[:] = 0
        return
    mass = p.dtype.type(spread + hit[label])
    for c in range(p.size):
        grad_x[c] = grad_loss * (p[c] * mass - base[c])
    grad_x[label] = grad_loss * (p[label] * mass - (base[label] + hit[label]))


@kernel
def _backward_loop(grad_losses, probabilities, labels, base, hit, grad_logits, chunks):
    spread = _sum(base)
    for chunk in prange(chunks):
        start, stop = chunk_bounds(chunk, chunks, labels.size)
        for r in range(start, stop):
            grad_x = grad_logits[r]
            _row_backward(grad_losses[r], probabilities[r], labels[r], base, spread, hit, grad_x)


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
    grad_losses = np.ascontiguousarray(grad_losses)
    chunks = _chunks_of_rows(R, C)
    _backward_loop.launch(R * C, grad_losses, probabilities, labels, base, hit, grad_logits, chunks)
    return grad_logits
