"""Element-wise twins."""

import numpy as np

from minigrad.kernels._layout import empty_in_order, flat, memory_order


def relu_forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return max(x, 0) element by element, and one bit for each that says whether it passed.

    The bit is 0 where x <= 0: the derivative at 0 is 0, and a NaN passes.

    Parameters
    ----------
    x : ndarray, any shape

    Returns
    -------
    out : ndarray, shape and memory order of x
    mask : ndarray of uint8, shape (ceil(x.size / 8),)
        Eight elements a byte, the lowest bit first, in the order of x in memory.
    """
    passed = ~(x.real <= 0)
    out = np.where(passed, x, x.dtype.type(0))
    return out, np.packbits(flat(passed, memory_order(x)), bitorder="little")


def relu_backward(grad_out: np.ndarray, mask: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """Return grad_out where x passed the relu, else 0.

    Parameters
    ----------
    grad_out : ndarray, shape of x
        The cotangent of ``out``.
    mask : ndarray of uint8
        What ``relu_forward`` returned.
    order : tuple of int
        The memory order of x, as ``memory_order(x)`` gives it.

    Returns
    -------
    grad_x : ndarray, shape of x
    """
    passed = np.unpackbits(mask, count=grad_out.size, bitorder="little").astype(bool)
    grad_x, flat_grad = empty_in_order(grad_out.shape, grad_out.dtype, order)
    flat_grad[...] = np.where(passed, flat(grad_out, order), 0)
    return grad_x


def add(x: np.ndarray, y: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Return x + y, the same bits as NumPy's sum, on all threads.

    Parameters
    ----------
    x, y : ndarray, one shape and one dtype
    mask : ndarray of uint8, or None
        Where its bit is 0, in the order of x in memory, y counts as 0.

    Returns
    -------
    out : ndarray, shape and memory order of x
    """
    order = memory_order(x)
    if mask is not None:
        y = relu_backward(y, mask, order)
    out, _ = empty_in_order(x.shape, np.result_type(x, y), order)
    np.add(x, y, out=out)
    return out
