"""Element-wise loops. They read any memory order and write in the order of x."""

import numpy as np

from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import empty_in_order, flat, memory_order

# A mask holds eight elements a byte. Chunks are cut between bytes, so that no two write to one.
# Bits are shifted as int32, the width of a float32, for which the compiler makes vectors.


@body
def _relu_byte(x, out, first, count):
    zero = x.dtype.type(0)
    bits = np.int32(0)
    for k in range(count):
        value = x[first + k]
        stopped = value <= zero  # not `value > 0`: a NaN stays a NaN
        out[first + k] = zero if stopped else value
        bits |= np.int32(not stopped) << np.int32(k)
    return bits


@body
def _relu_forward(x, out, mask, start, stop):
    whole = min(stop, x.size // 8)
    for byte in range(start, whole):
        mask[byte] = _relu_byte(x, out, 8 * byte, 8)
    if whole < stop:
        mask[whole] = _relu_byte(x, out, 8 * whole, x.size - 8 * whole)


@kernel
def _relu_forward_loop(x, out, mask, chunks):
    for chunk in prange(chunks):
        start, stop = chunk_bounds(chunk, chunks, mask.size)
        _relu_forward(x, out, mask, start, stop)


def relu_forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return max(x, 0) and the bits of the elements that passed."""
    order = memory_order(x)
    out = empty_in_order(x.shape, x.dtype, order)
    mask = np.empty(-(-x.size // 8), np.uint8)
    _relu_forward_loop.launch(x.size, flat(x, order), flat(out, order), mask, chunks_of(x.size))
    return out, mask


@body
def _relu_backward_byte(grad_out, bits, grad_x, first, count):
    zero = grad_out.dtype.type(0)
    for k in range(count):
        value = grad_out[first + k]
        grad_x[first + k] = value if (bits >> np.int32(k)) & np.int32(1) != 0 else zero


@body
def _relu_backward(grad_out, mask, grad_x, start, stop):
    size = grad_out.size
    whole = min(stop, size // 8)
    for byte in range(start, whole):
        _relu_backward_byte(grad_out, np.int32(mask[byte]), grad_x, 8 * byte, 8)
    if whole < stop:
        _relu_backward_byte(grad_out, np.int32(mask[whole]), grad_x, 8 * whole, size - 8 * whole)


@kernel
def _relu_backward_loop(grad_out, mask, grad_x, chunks):
    for chunk in prange(chunks):
        start, stop = chunk_bounds(chunk, chunks, mask.size)
        _relu_backward(grad_out, mask, grad_x, start, stop)


def relu_backward(grad_out: np.ndarray, mask: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """Return grad_out where x passed the relu, else 0."""
    size = grad_out.size
    grad_x = empty_in_order(grad_out.shape, grad_out.dtype, order)
    _relu_backward_loop.launch(
        size, flat(grad_out, order), mask, flat(grad_x, order), chunks_of(size)
    )
    return grad_x
