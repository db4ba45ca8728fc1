"""The layers of a path as steps: an operation, its parameters, and how its settings are found."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minigrad.core.function import Function
from minigrad.core.mode import state
from minigrad.ops.activation import ReLU
from minigrad.ops.conv import Conv2d, conv_options
from minigrad.ops.conv_relu import ConvReLU
from minigrad.ops.dropout import DropPath, kept
from minigrad.ops.norm import BatchNorm, check_norm
from minigrad.ops.norm_relu import BatchNormReLU
from minigrad.ops.shortcut import ZeroPadShortcut

__all__ = [
    "Step",
    "conv_step",
    "drop_path_step",
    "joined",
    "norm_step",
    "relu_step",
    "zero_pad_steps",
]


def _given(x: Any, settings: dict[str, Any]) -> dict[str, Any]:
    return settings


class _Checked:
    """Settings, which are checked again only where inputs of another shape or dtype arrive.

    To check them takes longer than most of what is between two kernels.
    """

    def __init__(self, options: Callable[..., dict[str, Any]]) -> None:
        self._options = options
        self._last: tuple[Any, dict[str, Any]] = None, {}

    def __call__(self, *inputs: Any) -> dict[str, Any]:
        if state.complex_allowed:  # what is allowed there is not so elsewhere
            return self._options(*inputs)
        kinds = [
            (type(value), value.shape, value.dtype)
            if isinstance(value, np.ndarray)
            else type(value)
            for value in inputs
        ]
        known, settings = self._last
        if kinds != known:
            settings = self._options(*inputs)
            self._last = kinds, settings
        return settings


class Step(NamedTuple):
    """One layer of a path.

    Attributes
    ----------
    function : type
        The operation.
    parameters : tuple of Tensor, ndarray or None
        Its inputs besides the one that comes down the path.
    options : callable
        From that input and the parameters, as they arrive, to the operation's settings, checked.
        Made of functions of a module and arguments of theirs, so that it can be pickled.
    """

    function: type[Function]
    parameters: tuple[Any, ...] = ()
    options: Callable[..., dict[str, Any]] = partial(_given, settings={})


def conv_step(
    weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1, algorithm: str = "auto",
) -> Step:  # fmt: skip
    """:func:`~minigrad.ops.conv.conv2d` as a layer of a path, with the same arguments."""
    options = partial(
        conv_options, stride=stride, padding=padding, dilation=dilation, groups=groups,
        algorithm=algorithm,
    )  # fmt: skip
    return Step(Conv2d, (weight, bias), _Checked(options))


def norm_step(
    weight: Any,
    bias: Any,
    running_mean: np.ndarray | None = None,
    running_var: np.ndarray | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Step:
    """:func:`~minigrad.ops.norm.batch_norm` as a layer of a path, with the same arguments."""
    options = partial(
        _norm_settings, running_mean=running_mean, running_var=running_var, training=training,
        momentum=momentum, eps=eps,
    )  # fmt: skip
    return Step(BatchNorm, (weight, bias), _Checked(options))


def _norm_settings(
    x: Any, weight: Any, bias: Any, *, eps: float, **settings: Any
) -> dict[str, Any]:
    check_norm(x, weight, bias, **settings)
    return {**settings, "eps": eps}


def relu_step() -> Step:
    """:func:`~minigrad.ops.activation.relu` as a layer of a path."""
    return Step(ReLU)


def drop_path_step(p: float, rng: np.random.Generator | None = None) -> Step:
    """:func:`~minigrad.ops.dropout.drop_path`, in training, as a layer of a path."""
    return Step(DropPath, (), partial(_drop_path_settings, p=p, rng=rng))


def _drop_path_settings(x: Any, *, p: float, rng: np.random.Generator | None) -> dict[str, Any]:
    return {"keep": kept((len(x), 1, 1, 1), p, rng), "p": p}


def zero_pad_steps(stride: int, before: int, after: int) -> list[Step]:
    """Option A as layers of an identity path: every ``stride``-th pixel, and channels of zeros.

    ``before`` channels of zeros stand in front of those of x, ``after`` behind them.
    """
    settings = {"stride": stride, "before": before, "after": after}
    return [Step(ZeroPadShortcut, (), partial(_given, settings=settings))]


_WITH_RELU: dict[type[Function], type[Function]] = {BatchNorm: BatchNormReLU, Conv2d: ConvReLU}


def joined(path: Iterable[Step]) -> tuple[Step, ...]:
    """Take a batch norm or convolution and the relu behind it as one step: same bits, sooner."""
    steps: list[Step] = []
    for step in path:
        if steps and steps[-1].function in _WITH_RELU and step.function is ReLU:
            step = steps.pop()
            step = step._replace(function=_WITH_RELU[step.function])
        steps.append(step)
    return tuple(steps)
