"""Layers as the steps of the fused residual operation, :func:`minigrad.ops.residual.residual`."""

from collections.abc import Iterable, Sequence
from typing import Any

from minigrad.core.errors import ArgumentError
from minigrad.core.tensor import Tensor
from minigrad.nn.activation import ReLU
from minigrad.nn.container import Sequential
from minigrad.nn.conv import Conv2d
from minigrad.nn.dropout import DropPath
from minigrad.nn.linear import Identity
from minigrad.nn.module import Module
from minigrad.nn.norm import BatchNorm2d
from minigrad.nn.residual import ZeroPad
from minigrad.ops.residual import (
    Step,
    conv_step,
    drop_path_step,
    norm_step,
    relu_step,
    residual,
    zero_pad_steps,
)

__all__ = ["fused_unit"]


def fused_unit(
    x: Any,
    conv_path: Sequence[Module],
    identity_path: Sequence[Module],
    activation: Sequence[Module],
) -> Tensor:
    """One residual unit, whose paths are given layer by layer, as one operation."""
    y = residual(x, _steps(conv_path), _steps(identity_path), _steps(activation))
    for layer in (*conv_path, *identity_path):
        for module in layer.modules():
            if isinstance(module, BatchNorm2d):
                module.count_batch()
    return y


def _steps(layers: Iterable[Module]) -> list[Step]:
    return [step for layer in layers for step in _steps_of(layer)]


def _steps_of(layer: Module) -> list[Step]:
    """What ``layer`` does now: in training or not, and with the weights it has."""
    match layer:
        case Conv2d():
            how = layer.stride, layer.padding, layer.dilation, layer.groups
            return [conv_step(layer.weight, layer.bias, *how)]
        case BatchNorm2d():
            return [norm_step(layer.weight, layer.bias, **layer.settings())]
        case ReLU():
            return [relu_step()]
        case ZeroPad():
            return zero_pad_steps(layer.stride, layer.before, layer.after)
        case DropPath():
            return [drop_path_step(layer.p)] if layer.training and layer.p else []
        case Sequential():
            return _steps(layer)
        case Identity():
            return []
    raise ArgumentError(
        f"fused=True: a unit of Conv2d, BatchNorm2d, ReLU, ZeroPad, DropPath and Identity layers "
        f"is needed, this one has a {type(layer).__name__}. Set fused=False, which runs any layer."
    )
