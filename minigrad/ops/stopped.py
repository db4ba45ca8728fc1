"""A cotangent that a relu has stopped in places, before anybody has written the zeros down."""

from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from minigrad import kernels
from minigrad.kernels._layout import channels_last_order

__all__ = ["Promised", "Stopped", "stopped"]


class Promised(NDArrayOperatorsMixin):
    """An array that some kernels can do without, which spares a pass over memory.

    For everybody else, NumPy included, it turns into that array.
    """

    def array(self) -> np.ndarray:
        """Make the array."""
        raise NotImplementedError("a Promised says in array() what it stands for")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.array()
        return array if dtype is None else array.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if any(isinstance(out, Promised) for out in options.get("out", ())):
            del options["out"]  # x += y gives x a new array: there is none yet to write to
        arrays = [np.asarray(x) if isinstance(x, Promised) else x for x in inputs]
        return getattr(ufunc, method)(*arrays, **options)


class Stopped(Promised):
    """``grad_out`` where the bits of ``mask`` are set, and 0 elsewhere.

    Kernels that read the cotangent anyway apply the bits as they go.

    Attributes
    ----------
    grad_out : ndarray, (N, C, ...)
    mask : ndarray of uint8
        Eight elements a byte, the lowest bit first, in channels-last order.
    """

    def __init__(self, grad_out: np.ndarray, mask: np.ndarray) -> None:
        self.grad_out, self.mask = grad_out, mask

    @property
    def shape(self) -> tuple[int, ...]:
        return self.grad_out.shape

    def array(self) -> np.ndarray:
        order = channels_last_order(self.grad_out.ndim)
        return kernels.relu_backward(self.grad_out, self.mask, order)


def stopped(grad_out: np.ndarray, mask: np.ndarray) -> Any:
    """Return the cotangent behind a relu, as an array where that costs kernels no pass.

    A kernel would have to copy what is not channels-last in memory, each of them again.
    """
    found = Stopped(grad_out, mask)
    last = grad_out.transpose(channels_last_order(grad_out.ndim))
    return found if last.flags.c_contiguous else np.asarray(found)
