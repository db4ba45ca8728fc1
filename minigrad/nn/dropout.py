"""Layers that drop at random in training and do nothing in evaluation."""

from typing import Any

from minigrad import ops
from minigrad.core.tensor import Tensor
from minigrad.nn._settings import fraction
from minigrad.nn.module import Module

__all__ = ["DropPath", "Dropout"]


class Dropout(Module):
    """Set each entry to 0 with probability p, and divide the others by 1 - p.

    Parameters
    ----------
    p : float
        From 0 to 1.

    Notes
    -----
    Source: Srivastava et al., "Dropout", 2014. The division keeps the expectation, so that
    evaluation is the identity.

    Examples
    --------
    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> nn.Dropout(0.9).eval()(mg.tensor([1.0, 2.0])).data
    array([1., 2.], dtype=float32)
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = fraction(type(self).__name__, p)

    def forward(self, x: Any) -> Tensor:
        return ops.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class DropPath(Dropout):
    """Set whole samples to 0 with probability p, and divide the others by 1 - p.

    At the end of a convolution path it leaves a sample with the identity alone: stochastic depth.

    Notes
    -----
    Source: Huang et al., "Deep Networks with Stochastic Depth", 2016.
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__(p)

    def forward(self, x: Any) -> Tensor:
        return ops.drop_path(x, self.p, self.training)
