"""Softmax and its logarithm along rows, and what each row of them is made of.

The largest entry of a row is subtracted before the exponential, so nothing overflows: the largest
exponential is 1. Sums run over one row and are in double precision from block to block.

What is left of a row behind its whole vectors, and all of a short one, is a vector that is filled
up with minus infinity: two classes cost as much as sixteen, and not sixteen times one.
"""

import numpy as np

from minigrad.kernels import _pool
from minigrad.kernels._exp import tile_exp
from minigrad.kernels._jit import CHUNK, Kernel, body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._simd import (
    lanes_of,
    tile_add,
    tile_load,
    tile_multiply,
    tile_store,
    tile_store_columns,
    tile_subtract,
    tile_zeros,
)
from minigrad.kernels._simd_fold import (
    tile_fill,
    tile_larger,
    tile_largest,
    tile_load_or_lowest,
    tile_total,
)

__all__ = [
    "chunks_of_rows",
    "log_softmax_backward",
    "log_softmax_forward",
    "softmax_backward",
    "softmax_forward",
    "softmax_row",
    "work_on_rows",
]

# Vectors of values that compete side by side to be the largest of a row.
_WIDE = 4

# Vectors that are added up before the sum becomes float64: so few that little is rounded.
_BLOCK = 64

# An exponential costs about as much as so many elementary operations, and the shortest row as
# much as so many exponentials.
_EXP, _SHORTEST = 8, 8


def work_on_rows(R: int, C: int) -> int:
    """Return how many elementary operations the softmax of R rows takes."""
    return R * max(C, _SHORTEST) * _EXP


def chunks_of_rows(R: int, C: int) -> int:
    """Return into how many chunks R rows are cut."""
    return chunks_of(R, max(1, CHUNK // work_on_rows(1, C)))


# Arrays are flat, and a row is C values from ``at`` on: each view that a loop makes of a row would
# be counted, and the locked instructions that do it hold up one row until the other is written.


@body
def _peak(x, at, C):
    """Return the largest value of a row; with a NaN in the row, any value."""
    one, width = tile_zeros(1, 1, x), lanes_of(x)
    last = C - _WIDE * width
    if last < 0:
        whole = C // width * width
        held = tile_load_or_lowest(one, x, at + whole, C - whole)
        for c in range(0, whole, width):
            held = tile_larger(held, tile_load(one, x, at + c, 0))
        return tile_largest(held)
    wide = tile_load(tile_zeros(1, _WIDE, x), x, at + last, 0)
    for c in range(0, last, _WIDE * width):  # at the end some values compete once more
        wide = tile_larger(wide, tile_load(wide, x, at + c, 0))
    return tile_largest(wide)


@body
def _exponentials(x, at, C, peak, p):
    """Set p to exp(x - peak), and return its sum."""
    zeros, width, total = tile_zeros(1, 1, x), lanes_of(x), 0.0
    whole = C // width * width
    sums = zeros
    if whole < C:
        sums = tile_exp(tile_load_or_lowest(zeros, x, at + whole, C - whole), peak)
        tile_store_columns(sums, p, at + whole, 0, C - whole)
    for first in range(0, max(whole, 1), _BLOCK * width):
        for c in range(first, min(first + _BLOCK * width, whole), width):
            values = tile_exp(tile_load(zeros, x, at + c, 0), peak)
            tile_store(values, p, at + c, 0)
            sums = tile_add(sums, values)
        total += tile_total(sums)
        sums = zeros
    return total


@body
def _scale(p, at, C, factor):
    """Multiply a row by a number."""
    one, width = tile_zeros(1, 1, p), lanes_of(p)
    factors = tile_fill(one, factor)
    for c in range(0, C // width * width, width):
        tile_store(tile_multiply(tile_load(one, p, at + c, 0), factors), p, at + c, 0)
    for c in range(C // width * width, C):
        p[at + c] *= factor


@body
def softmax_row(x, at, C, p):
    """Set p to the softmax of a row, and return the peak of x and the sum of exp(x - peak)."""
    spare = lanes_of(x) - C
    if spare >= 0:  # one vector is enough, and stays in a register
        held = tile_load_or_lowest(tile_zeros(1, 1, x), x, at, C)
        peak = tile_largest(held)
        held = tile_exp(held, peak)
        total = tile_total(held)
        share = tile_fill(held, p.dtype.type(1 / total))
        tile_store_columns(tile_multiply(held, share), p, at, 0, C)
        return peak, total
    peak = _peak(x, at, C)
    total = _exponentials(x, at, C, peak, p)
    _scale(p, at, C, p.dtype.type(1 / total))
    return peak, total


@kernel
def _softmax_loop(x, R, C, chunks, p):
    for chunk in prange(chunks):
        start, stop = chunk_bounds(chunk, chunks, R)
        for r in range(start, stop):
            softmax_row(x, r * C, C, p)


def softmax_forward(x: np.ndarray) -> np.ndarray:
    """Return the softmax of each row."""
    return _launch(_softmax_loop, x)


def _launch(loop: Kernel, *arrays: np.ndarray) -> np.ndarray:
    """Run a kernel that works on rows; return the array that it fills."""
    R, C = shape = arrays[0].shape
    out = _pool.empty(shape, arrays[0].dtype)
    flat = [array.ravel() for array in arrays]
    loop.launch(work_on_rows(R, C), *flat, R, C, chunks_of_rows(R, C), out.ravel())
    return out


@body
def _dot(x, y, at, C):
    """Add up the products of two rows."""
    zeros, width, total = tile_zeros(1, 1, x), lanes_of(x), 0.0
    whole = C // width * width
    for first in range(0, whole, _BLOCK * width):
        sums = zeros
        for c in range(first, min(first + _BLOCK * width, whole), width):
            product = tile_multiply(tile_load(zeros, x, at + c, 0), tile_load(zeros, y, at + c, 0))
            sums = tile_add(sums, product)
        total += tile_total(sums)
    for c in range(whole, C):
        total += x[at + c] * y[at + c]
    return total


@body
def _softmax_grad_row(grad_out, p, at, C, grad_x):
    one, width, mean = tile_zeros(1, 1, p), lanes_of(p), p.dtype.type(_dot(grad_out, p, at, C))
    means = tile_fill(one, mean)
    for c in range(0, C // width * width, width):
        difference = tile_subtract(tile_load(one, grad_out, at + c, 0), means)
        tile_store(tile_multiply(tile_load(one, p, at + c, 0), difference), grad_x, at + c, 0)
    for c in range(C // width * width, C):
        grad_x[at + c] = p[at + c] * (grad_out[at + c] - mean)


@kernel
def _softmax_backward_loop(grad_out, p, R, C, chunks, grad_x):
    for chunk in prange(chunks):
        start, stop = chunk_bounds(chunk, chunks, R)
        for r in range(start, stop):
            _softmax_grad_row(grad_out, p, r * C, C, grad_x)


def softmax_backward(grad_out: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return the gradient of the logits, where p is the softmax of each row."""
    return _launch(_softmax_backward_loop, grad_out, p)


@body
def _log_softmax_row(x, at, C, y):
    peak = _peak(x, at, C)
    log_total = np.log(_exponentials(x, at, C, peak, y))
    one, width = tile_zeros(1, 1, x), lanes_of(x)
    peaks, logs = tile_fill(one, peak), tile_fill(one, y.dtype.type(log_total))
    for c in range(0, C // width * width, width):
        logits = tile_subtract(tile_load(one, x, at + c, 0), peaks)
        tile_store(tile_subtract(logits, logs), y, at + c, 0)
    for c in range(C // width * width, C):
        y[at + c] = (x[at + c] - peak) - y.dtype.type(log_total)


@kernel
def _log_softmax_loop(x, R, C, chunks, y):
    for chunk in prange(chunks):
        start, stop = chunk_bounds(chunk, chunks, R)
        for r in range(start, stop):
            _log_softmax_row(x, r * C, C, y)


def log_softmax_forward(x: np.ndarray) -> np.ndarray:
    """Return the logarithm of the softmax of each row."""
    return _launch(_log_softmax_loop, x)


@body
def _log_softmax_grad_row(grad_out, y, at, C, grad_x):
    _exponentials(y, at, C, y.dtype.type(0), grad_x)  # the softmax itself
    total = 0.0
    for c in range(at, at + C):
        total += grad_out[c]
    for c in range(at, at + C):
        grad_x[c] = grad_out[c] - grad_x[c] * grad_x.dtype.type(total)


@kernel
def _log_softmax_backward_loop(grad_out, y, R, C, chunks, grad_x):
    for chunk in prange(chunks):
        start, stop = chunk_bounds(chunk, chunks, R)
        for r in range(start, stop):
            _log_softmax_grad_row(grad_out, y, r * C, C, grad_x)


def log_softmax_backward(grad_out: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the gradient of the logits, where y is the logarithm of the softmax of each row."""
    return _launch(_log_softmax_backward_loop, grad_out, y)
