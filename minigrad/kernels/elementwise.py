"""Element-wise loops. They read any memory order and write in the order of their first argument."""

import numpy as np

from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import empty_in_order, flat, memory_order


@body
def _relu_forward(x, out, start, stop):
    zero = x.dtype.type(0)
    for i in range(start, stop):
        out[i] = zero if x[i] <= zero else x[i]  # not `x > 0`: a NaN stays a NaN


@kernel
def _relu_forward_loop(x, out, chunks):
    for chunk in prange(chunks):
        start, stop = chunk_bounds(chunk, chunks, x.size)
        _relu_forward(x, out, start, stop)


def relu_forward(x: np.ndarray) -> np.ndarray:
    """Return max(x, 0) element by element."""
    order = memory_order(x)
    out = empty_in_order(x.shape, x.dtype, order)
    _relu_forward_loop.launch(x.size, flat(x, order), flat(out, order), chunks_of(x.size))
    return out


@body
def _relu_backward(grad_out, out, grad_x, start, stop):
    zero = out.dtype.type(0)
    for i in range(start, stop):
        grad_x[i] = zero if out[i] <= zero else grad_out[i]


@kernel
def _relu_backward_loop(grad_out, out, grad_x, chunks):
    for chunk in prange(chunks):
        start, stop = chunk_bounds(chunk, chunks, out.size)
        _relu_backward(grad_out, out, grad_x, start, stop)


def relu_backward(grad_out: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Return grad_out where the output of relu was positive, else 0."""
    order = memory_order(out)
    grad_x = empty_in_order(out.shape, out.dtype, order)
    _relu_backward_loop.launch(
        out.size, flat(grad_out, order), flat(out, order), flat(grad_x, order), chunks_of(out.size)
    )
    return grad_x
