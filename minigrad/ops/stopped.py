"""A cotangent that a relu has stopped in places, before anybody has written the zeros down."""

from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from minigrad import kernels
from minigrad.kernels._layout import channels_last_order, memory_order
from minigrad.ops.arithmetic import added

__all__ = ["Stopped", "shares_added", "stopped"]


class Stopped(NDArrayOperatorsMixin):
    """``grad_out`` where the bits of ``mask`` are set, and 0 elsewhere.

    Kernels that read the cotangent anyway apply the bits as they go, which spares a pass over
    memory. For everybody else, NumPy included, it turns into that array.

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

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        order = channels_last_order(self.grad_out.ndim)
        array = kernels.relu_backward(self.grad_out, self.mask, order)
        return array if dtype is None else array.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        arrays = [np.asarray(x) if isinstance(x, Stopped) else x for x in inputs]
        return getattr(ufunc, method)(*arrays, **options)


def stopped(grad_out: np.ndarray, mask: np.ndarray) -> Any:
    """Return the cotangent behind a relu, as an array where that costs kernels no pass.

    A kernel would have to copy what is not channels-last in memory, each of them again.
    """
    found = Stopped(grad_out, mask)
    last = grad_out.transpose(channels_last_order(grad_out.ndim))
    return found if last.flags.c_contiguous else np.asarray(found)


def shares_added(grad_conv: np.ndarray, grad_identity: np.ndarray | Stopped) -> np.ndarray:
    """Return the sum of a residual unit's two shares, of which the second may be stopped."""
    if not isinstance(grad_identity, Stopped):
        return added(grad_conv, grad_identity)
    alike = memory_order(grad_conv) == memory_order(grad_identity.grad_out)
    if alike and grad_conv.dtype == grad_identity.grad_out.dtype:
        return kernels.add(grad_conv, grad_identity.grad_out, grad_identity.mask)
    return added(grad_conv, np.asarray(grad_identity))
