"""Element-wise loops. They read any memory order and write in the order of x.

A mask holds eight elements a byte, and chunks are cut between bytes, so that no two write to one,
and such that each begins with a line of the cache if the array does.

To a launch each element is two operations, for it is read and written: threads share the work from
65,536 elements on, where they begin to pay.
"""

import numpy as np

from minigrad.kernels._bits import (
    MARKS,
    NO_MASK,
    is_marked,
    keep_marked,
    keep_positive,
    line_ahead,
    tile_keep_marked,
    tile_of_marks,
    write_marks,
)
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import empty_in_order, flat, memory_order
from minigrad.kernels._simd import tile_add, tile_load
from minigrad.kernels._stream import end_of_stream, is_far


@body
def _part(chunk, chunks, size):
    """Return the bytes of a mask that belong to a chunk, and their elements."""
    start, stop = chunk_bounds(chunk, chunks, -(-size // MARKS))
    start, stop = start * MARKS, min(stop * MARKS, size)
    return slice(start // 8, (stop + 7) // 8), slice(start, stop)


@kernel
def _relu_forward_loop(x, out, mask, chunks):
    for chunk in prange(chunks):
        marks, part = _part(chunk, chunks, x.size)
        keep_positive(x[part], out[part], mask[marks], is_far(out))
        end_of_stream()


def relu_forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return max(x, 0) and the bits of the elements that passed."""
    order = memory_order(x)
    out, flat_out = empty_in_order(x.shape, x.dtype, order)
    size = x.size
    mask = np.empty(-(-size // 8), np.uint8)
    _relu_forward_loop.launch(2 * size, flat(x, order), flat_out, mask, chunks_of(size))
    return out, mask


@kernel
def _relu_backward_loop(grad_out, mask, grad_x, chunks):
    for chunk in prange(chunks):
        marks, part = _part(chunk, chunks, grad_out.size)
        keep_marked(grad_out[part], mask[marks], grad_x[part], is_far(grad_x))
        end_of_stream()


def relu_backward(grad_out: np.ndarray, mask: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """Return grad_out where x passed the relu, else 0."""
    size = grad_out.size
    grad_x, flat_grad = empty_in_order(grad_out.shape, grad_out.dtype, order)
    _relu_backward_loop.launch(2 * size, flat(grad_out, order), mask, flat_grad, chunks_of(size))
    return grad_x


@body
def _add(x, y, mask, out, far):
    """Write x and what is marked of y, or all of it where there is no mask."""
    some, whole, line = tile_of_marks(x), x.size // MARKS * MARKS, line_ahead(out)
    for at in range(0, whole, MARKS):
        kept = tile_load(some, y, at, 0)
        if mask.size:
            kept = tile_keep_marked(kept, mask, at)
        line = write_marks(tile_add(tile_load(some, x, at, 0), kept), out, at, far, line)
    for i in range(whole, x.size):
        out[i] = x[i]
        if mask.size == 0 or is_marked(mask, i):
            out[i] += y[i]


@kernel
def _add_loop(x, y, mask, out, chunks):
    for chunk in prange(chunks):
        marks, part = _part(chunk, chunks, x.size)
        _add(x[part], y[part], mask[marks], out[part], is_far(out))
        end_of_stream()


def add(x: np.ndarray, y: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Return x + y, of one shape and dtype, in the memory order of x."""
    order = memory_order(x)
    out, flat_out = empty_in_order(x.shape, x.dtype, order)
    _add_loop.launch(
        2 * x.size, flat(x, order), flat(y, order), NO_MASK if mask is None else mask, flat_out,
        chunks_of(x.size),
    )  # fmt: skip
    return out
