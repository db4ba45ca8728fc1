"""The two shares of a residual unit's gradient, and their sum.

The share of the convolution path comes out of a convolution, which can add the other one to each
pixel before it writes it: the sum of whole arrays would read both and write once more.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.core.node import Node
from minigrad.kernels._layout import memory_order
from minigrad.ops.arithmetic import added
from minigrad.ops.conv import Conv2d, grad_input, grad_parameters
from minigrad.ops.stopped import Promised, Stopped

__all__ = ["Unfinished", "late_backward", "may_wait", "shares_added"]


class Unfinished(Promised):
    """The gradient of a convolution's x, which is computed when it is known what is added to it.

    Attributes
    ----------
    ctx : Node
        Of the convolution.
    grad_out : ndarray, (N, F, OH, OW)
        The gradient of its output.
    """

    def __init__(self, ctx: Any, grad_out: np.ndarray) -> None:
        self.ctx, self.grad_out = ctx, grad_out

    @property
    def shape(self) -> tuple[int, ...]:
        return self.ctx.saved[0].shape

    def array(self) -> np.ndarray:
        return grad_input(self.ctx, self.grad_out)


def may_wait(path: Sequence[Node]) -> bool:
    """Whether a path begins with a convolution whose gradient of x is wanted."""
    return bool(path) and path[0].function is Conv2d and path[0].needs[0]


def late_backward(ctx: Any, grad_out: np.ndarray) -> tuple[Any, ...]:
    """Return what ``Conv2d.backward`` returns, the gradient of x unfinished."""
    return Unfinished(ctx, grad_out), *grad_parameters(ctx, grad_out)


def shares_added(grad_conv: Any, grad_identity: Any) -> np.ndarray:
    """Return grad_conv + grad_identity, in as few passes over memory as they allow."""
    share, mask = grad_identity, None
    if isinstance(grad_identity, Stopped):
        share, mask = grad_identity.grad_out, grad_identity.mask
    if isinstance(grad_conv, Unfinished):
        if grad_conv.grad_out.dtype == share.dtype:
            return grad_input(grad_conv.ctx, grad_conv.grad_out, share, mask)
        grad_conv = np.asarray(grad_conv)
    alike = grad_conv.dtype == share.dtype and memory_order(grad_conv) == memory_order(share)
    if mask is not None and alike:
        return kernels.add(grad_conv, share, mask)
    return added(grad_conv, np.asarray(grad_identity))
