"""Rows of layers as one operation: the residual unit, and what has a relu outside of it."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from minigrad.core.mode import state
from minigrad.core.tensor import Tensor
from minigrad.nn import _changes
from minigrad.nn.activation import ReLU
from minigrad.nn.container import Sequential
from minigrad.nn.conv import Conv2d
from minigrad.nn.dropout import DropPath
from minigrad.nn.linear import Identity
from minigrad.nn.module import Module
from minigrad.nn.norm import BatchNorm2d
from minigrad.nn.pool import MaxPool2d
from minigrad.nn.residual import ZeroPad
from minigrad.ops.conv_relu import conv2d_relu
from minigrad.ops.norm_pool import batch_norm_relu_max_pool2d
from minigrad.ops.norm_relu import batch_norm_relu
from minigrad.ops.residual import Unit, run_unit, unit_of
from minigrad.ops.steps import (
    Step,
    conv_step,
    drop_path_step,
    norm_step,
    relu_step,
    zero_pad_steps,
)

__all__ = [
    "Fused", "Rows", "conv_norm_relu", "conv_norm_relu_pool", "fused", "norm_relu", "run_fused",
]  # fmt: skip

# The layers of the convolution path, of the identity path, and behind the sum.
Rows = tuple[tuple[Module, ...], tuple[Module, ...], tuple[Module, ...]]

_IN_UNITS = (Conv2d, BatchNorm2d, ReLU, ZeroPad, DropPath, Sequential, Identity)
_KINDS = (*_IN_UNITS, MaxPool2d)


def _run_as_one(layers: Iterable[Module]) -> bool:
    """Whether nobody can tell one operation from these layers called one by one.

    That needs layers of these very classes, for a subclass may do anything; no hooks on them; and
    nobody who is looking for the first layer with a NaN.
    """
    return not state.anomaly and _plain(layers, _KINDS)


def _plain(layers: Iterable[Module], kinds: tuple[type, ...]) -> bool:
    return all(
        type(layer) in kinds and "forward" not in vars(layer) and not layer.has_hooks
        for layer in _with_inner(layers)
    )


def _with_inner(layers: Iterable[Module]) -> Iterator[Module]:
    """Yield layers, and behind each Sequential those it holds."""
    for layer in layers:
        yield layer
        if isinstance(layer, Sequential):
            yield from _with_inner(layer)


def norm_relu(norm: Module, relu: Module, x: Any, fused: bool) -> Tensor:
    """``relu(norm(x))``, as one operation where it can be and is to be."""
    known = isinstance(relu, ReLU) and _run_as_one((norm, relu))
    if fused and known and isinstance(norm, BatchNorm2d):
        y = batch_norm_relu(x, norm.weight, norm.bias, **norm.settings())
        norm.count_batch()
        return y
    return relu(norm(x))


def conv_norm_relu(conv: Module, norm: Module, relu: Module, x: Any, fused: bool) -> Tensor:
    """``relu(norm(conv(x)))``, with two of them as one operation where it can be and is to be."""
    folded = isinstance(norm, Identity) and isinstance(relu, ReLU)
    if fused and folded and isinstance(conv, Conv2d) and _run_as_one((conv, norm, relu)):
        return conv2d_relu(x, conv.weight, conv.bias, *_settings(conv))
    return norm_relu(norm, relu, conv(x), fused)


def conv_norm_relu_pool(
    conv: Module, norm: Module, relu: Module, pool: Module, x: Any, fused: bool
) -> Tensor:
    """``pool(relu(norm(conv(x))))``, with as many as one operation as can be and are to be."""
    known = isinstance(relu, ReLU) and _run_as_one((norm, relu, pool))
    if fused and known and isinstance(norm, BatchNorm2d) and isinstance(pool, MaxPool2d):
        settings = norm.settings()
        if settings.pop("training") and pool.dilation in (1, (1, 1)):
            y = batch_norm_relu_max_pool2d(
                conv(x), norm.weight, norm.bias, **settings, kernel_size=pool.kernel_size,
                stride=pool.stride, padding=pool.padding, ceil_mode=pool.ceil_mode,
            )  # fmt: skip
            norm.count_batch()
            return y
    return pool(conv_norm_relu(conv, norm, relu, x, fused))


def _settings(conv: Conv2d) -> tuple[Any, ...]:
    return conv.stride, conv.padding, conv.dilation, conv.groups, conv.algorithm


class Fused(NamedTuple):
    """The rows of a residual unit as one operation.

    To look at all its layers takes longer than to run the operation, so it is kept for the next
    call.
    """

    mark: object  # of the time when it was made; None if it serves a single call
    rows: Rows
    unit: Unit | None  # None if somebody could tell it from layers called one by one
    norms: tuple[BatchNorm2d, ...]


def fused(rows: Rows, known: Fused | None) -> Fused:
    """Make one operation of the layers of a unit; the one known already, if nothing has changed."""
    mark = _changes.mark()
    if known is not None and known.mark is mark and known.rows == rows:
        return known
    conv_path, identity_path, activation = rows
    layers = tuple(_with_inner((*conv_path, *identity_path, *activation)))
    norms = tuple([layer for layer in layers if isinstance(layer, BatchNorm2d)])
    unit = None
    if _plain(layers, _IN_UNITS):
        unit = unit_of(_steps(conv_path), _steps(identity_path), _steps(activation))
    averaging = any(norm.momentum is None for norm in norms)  # then each batch has its own weight
    return Fused(None if averaging else mark, rows, unit, norms)


def run_fused(x: Any, unit: Unit, norms: Iterable[BatchNorm2d]) -> Tensor:
    """Run a residual unit as one operation."""
    y = run_unit(x, unit)
    for norm in norms:
        norm.count_batch()
    return y


def _steps(layers: Iterable[Module]) -> list[Step]:
    return [step for layer in layers for step in _steps_of(layer)]


def _steps_of(layer: Module) -> list[Step]:
    """What ``layer`` does now: in training or not, and with the weights it has."""
    match layer:
        case Conv2d():
            return [conv_step(layer.weight, layer.bias, *_settings(layer))]
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
    return []  # an Identity
