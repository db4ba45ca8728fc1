"""Where weights start: each rule fills a parameter in place and returns it.

All draw from the library's one generator (:func:`minigrad.manual_seed`), in float64 and in the
order of the logical axes, so the same seed gives the same numbers whatever the memory order.

The rules keep the variance of a signal from layer to layer, so that it neither dies nor explodes.
``fan_in`` is the number of inputs that one output sums over, C·KH·KW for a weight (F, C, KH, KW);
``fan_out`` is the number of outputs that one input goes to, F·KH·KW.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

from minigrad.core.errors import ArgumentError, DTypeError, ShapeError
from minigrad.core.rng import generator
from minigrad.core.tensor import Tensor
from minigrad.nn.module import Module

__all__ = [
    "calculate_gain", "constant_", "fans", "kaiming_normal_", "kaiming_uniform_", "normal_",
    "ones_", "uniform_", "xavier_normal_", "xavier_uniform_", "zero_init_last", "zeros_",
]  # fmt: skip

_T = TypeVar("_T", bound=Tensor)

_GAINS: dict[str, Callable[[float], float]] = {
    "linear": lambda _: 1.0,
    "sigmoid": lambda _: 1.0,
    "tanh": lambda _: 5 / 3,
    "relu": lambda _: math.sqrt(2),
    "leaky_relu": lambda slope: math.sqrt(2 / (1 + slope**2)),
}


def _fill(name: str, tensor: _T, draw: Callable[[tuple[int, ...]], Any]) -> _T:
    """Write ``draw(shape)`` into a tensor, whatever its memory order."""
    if not isinstance(tensor, Tensor):
        raise DTypeError(
            f"{name}: a Parameter or a Tensor to fill was expected, got "
            f"{type(tensor).__name__}. Pass for example layer.weight."
        )
    if not tensor.data.flags.writeable:
        raise ArgumentError(
            f"{name}: an array that can be written to is needed, got a read-only one of shape "
            f"{tensor.shape}. Set tensor.data = tensor.data.copy() first."
        )
    tensor.data[...] = draw(tensor.shape)
    return tensor


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """``(fan_in, fan_out)`` of a weight (F, C) or (F, C, KH, KW).

    Examples
    --------
    >>> from minigrad.nn import init
    >>> init.fans((16, 3, 5, 5))
    (75, 400)
    """
    if len(shape) < 2:
        raise ShapeError(
            f"init: a weight of at least two axes, (F, C, ...), is needed to count its inputs and "
            f"outputs, got shape {shape}. Use normal_, uniform_ or constant_ with numbers of your "
            f"own."
        )
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def calculate_gain(nonlinearity: str, a: float = 0.0) -> float:
    """The factor by which weights must grow to make up for what the nonlinearity takes away.

    sqrt(2) for ``relu``, sqrt(2 / (1 + a^2)) for ``leaky_relu`` with slope a, 5/3 for ``tanh``, 1
    for ``linear`` and ``sigmoid``.

    Examples
    --------
    >>> from minigrad.nn import init
    >>> round(init.calculate_gain("relu"), 4)
    1.4142
    """
    if nonlinearity not in _GAINS:
        raise ArgumentError(
            f"init: a nonlinearity among {', '.join(_GAINS)} is needed, got {nonlinearity!r}. "
            f"Use 'relu' for networks of ReLUs, 'linear' for a last layer."
        )
    return _GAINS[nonlinearity](a)


def _fan(shape: tuple[int, ...], mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(
            f"init: mode is 'fan_in' (keeps the variance of the forward pass) or 'fan_out' (of "
            f"the backward pass), got {mode!r}. Pass one of the two."
        )
    return max(1, fans(shape)[mode == "fan_out"])


def zeros_(tensor: _T) -> _T:
    """Fill with 0."""
    return constant_(tensor, 0.0)


def ones_(tensor: _T) -> _T:
    """Fill with 1."""
    return constant_(tensor, 1.0)


def constant_(tensor: _T, value: float) -> _T:
    """Fill with ``value``."""
    return _fill("constant_", tensor, lambda shape: value)


def normal_(tensor: _T, mean: float = 0.0, std: float = 1.0) -> _T:
    """Draw from the normal distribution N(mean, std^2).

    Examples
    --------
    >>> import minigrad as mg
    >>> from minigrad.nn import init
    >>> init.normal_(mg.tensor([0.0, 0.0, 0.0]), std=0.01).shape
    (3,)
    """
    return _fill("normal_", tensor, lambda shape: generator().normal(mean, std, shape))


def uniform_(tensor: _T, low: float = 0.0, high: float = 1.0) -> _T:
    """Draw from the uniform distribution on [low, high)."""
    return _fill("uniform_", tensor, lambda shape: generator().uniform(low, high, shape))


def kaiming_normal_(
    tensor: _T, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> _T:
    """Draw from N(0, std^2) with std = gain / sqrt(fan); gain = sqrt(2) after a ReLU.

    A ReLU halves the second moment of what passes through it; twice the variance makes up for it.

    Parameters
    ----------
    tensor : Parameter or Tensor
        (F, C) or (F, C, KH, KW).
    a : float
        Negative slope of the leaky ReLU; 0 for a ReLU.
    mode : "fan_in" or "fan_out"
        Whose variance is kept: the signal's, or the gradient's (the choice for ResNets).
    nonlinearity : str
        What follows; see :func:`calculate_gain`.

    Notes
    -----
    Source: He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", 2015, equation 10 (forward) and 14
    (backward); equation 15 for the slope.

    Examples
    --------
    >>> import numpy as np
    >>> from minigrad import nn
    >>> w = nn.Parameter(np.empty((64, 32, 3, 3), np.float32))
    >>> w = nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu")
    >>> bool(abs(w.data.std() - (2 / (64 * 9)) ** 0.5) < 0.001)
    True
    """
    std = calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor.shape, mode))
    return normal_(tensor, 0.0, std)


def kaiming_uniform_(
    tensor: _T, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> _T:
    """Draw from U(-b, b) with b = gain sqrt(3 / fan): the variance of :func:`kaiming_normal_`.

    With ``a = sqrt(5)`` the bound is 1 / sqrt(fan_in), torch's default for linear and convolution.

    Notes
    -----
    Source: He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", 2015, equation 10.
    """
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3 / _fan(tensor.shape, mode))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: _T, gain: float = 1.0) -> _T:
    """Draw from N(0, std^2) with std = gain sqrt(2 / (fan_in + fan_out)).

    Notes
    -----
    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010, equation 12: the compromise between keeping the signal's variance and the
    gradient's.
    """
    return normal_(tensor, 0.0, gain * math.sqrt(2 / max(1, sum(fans(tensor.shape)))))


def xavier_uniform_(tensor: _T, gain: float = 1.0) -> _T:
    """Draw from U(-b, b) with b = gain sqrt(6 / (fan_in + fan_out)).

    Notes
    -----
    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010, equation 16.

    Examples
    --------
    >>> import numpy as np
    >>> from minigrad import nn
    >>> w = nn.init.xavier_uniform_(nn.Parameter(np.empty((2, 4))))
    >>> bool(abs(w.data).max() <= 1)
    True
    """
    bound = gain * math.sqrt(6 / max(1, sum(fans(tensor.shape))))
    return uniform_(tensor, -bound, bound)


def torch_default_(weight: Tensor, bias: Tensor | None) -> None:
    """How torch starts linear and convolution layers: both U(-b, b) with b = 1 / sqrt(fan_in)."""
    kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        bound = 1 / math.sqrt(_fan(weight.shape, "fan_in"))
        uniform_(bias, -bound, bound)


def zero_init_last(module: Module) -> int:
    """Start every residual unit at its identity path: the last weight of F becomes 0.

    It is the gamma of the unit's last batch norm; in a pre-activated unit, which ends in a
    convolution, that convolution's weight. F then contributes nothing, y = act(S(x)), and the
    convolution path's share of the gradient is exactly zero until the weight moves.

    Parameters
    ----------
    module : Module
        A residual unit, or a network of them; the layer is the last of ``unit.conv_layers``.

    Returns
    -------
    int
        How many units were changed.

    Notes
    -----
    Source: Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 5.1.
    """
    units = [unit for unit in module.modules() if hasattr(unit, "conv_layers")]
    for unit in units:
        zeros_(unit.conv_layers[-1].weight)
    return len(units)
