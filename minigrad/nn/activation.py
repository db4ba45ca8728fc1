"""Activations as modules, so that each has a name, a place in ``repr`` and hooks of its own."""

from typing import Any

from minigrad import ops
from minigrad.core.tensor import Tensor
from minigrad.nn._settings import empty, positive
from minigrad.nn.init import constant_
from minigrad.nn.module import Module

__all__ = [
    "LeakyReLU", "LogSoftmax", "PReLU", "ReLU", "Sigmoid", "Softmax", "Softplus", "Tanh",
]  # fmt: skip


class ReLU(Module):
    """y = max(x, 0), with derivative 0 at 0.

    Examples
    --------
    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> nn.ReLU()(mg.tensor([-1.0, 2.0])).data
    array([0., 2.], dtype=float32)
    """

    def forward(self, x: Any) -> Tensor:
        return ops.relu(x)


class LeakyReLU(Module):
    """y = x where x > 0, else ``negative_slope`` x."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Tensor:
        return ops.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class PReLU(Module):
    """y = x where x > 0, else a x with a learned slope a (He et al. 2015, equation 1).

    Parameters
    ----------
    num_parameters : int
        1 slope for all, or one for each of C channels.
    init : float
        Where the slopes start.
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        super().__init__()
        positive("PReLU", num_parameters=num_parameters)
        self.weight = constant_(empty(num_parameters), init)

    def forward(self, x: Any) -> Tensor:
        return ops.prelu(x, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.weight.size}"


class Sigmoid(Module):
    """y = 1 / (1 + exp(-x))."""

    def forward(self, x: Any) -> Tensor:
        return ops.sigmoid(x)


class Tanh(Module):
    """y = tanh(x)."""

    def forward(self, x: Any) -> Tensor:
        return ops.tanh(x)


class Softplus(Module):
    """y = log(1 + exp(beta x)) / beta, and x itself where beta x > threshold."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, x: Any) -> Tensor:
        return ops.softplus(x, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Softmax(Module):
    """y = exp(x) / sum of exp(x) along ``dim``, without overflow."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Any) -> Tensor:
        return ops.softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """y = x - log of the sum of exp(x) along ``dim``, without overflow."""

    def forward(self, x: Any) -> Tensor:
        return ops.log_softmax(x, self.dim)
