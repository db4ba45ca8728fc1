"""minigrad: an autodiff engine, convolution kernels and residual units that can be read."""

from minigrad._version import __version__
from minigrad.core.errors import MinigradError
from minigrad.core.function import Function
from minigrad.core.mode import detect_anomaly, no_grad
from minigrad.core.rng import manual_seed
from minigrad.core.tensor import Tensor, grad, tensor
from minigrad.ops import (
    abs,
    add,
    clip,
    div,
    equal,
    exp,
    greater,
    greater_equal,
    less,
    less_equal,
    log,
    maximum,
    minimum,
    mul,
    neg,
    not_equal,
    pow,
    sqrt,
    sub,
    where,
)

