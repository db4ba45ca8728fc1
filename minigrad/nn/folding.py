"""Folding batch norms into the convolutions before them, for evaluation."""

import copy
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from minigrad.core.errors import ArgumentError
from minigrad.core.mode import no_grad
from minigrad.nn.container import ModuleList, Sequential
from minigrad.nn.conv import Conv2d
from minigrad.nn.linear import Identity
from minigrad.nn.module import Module
from minigrad.nn.norm import BatchNorm2d
from minigrad.nn.parameter import Parameter
from minigrad.ops.memory import constant

__all__ = ["fold_batch_norm"]


def fold_batch_norm(model: Module, x: Any = None) -> Module:
    """Copy a model for evaluation, its batch norms folded into the convolutions before them.

    In evaluation a batch norm is a scale and a shift of each channel, and a convolution can do both
    by itself. With s = gamma / sqrt(running_var + eps)::

        weight' = s weight        bias' = beta + s (bias - running_mean)

    Parameters
    ----------
    model : Module
        Stays as it is.
    x : Tensor or ndarray, optional
        Input on which the copy is compared with the model. Needed where a module of your own holds
        a batch norm to fold.

    Returns
    -------
    Module
        In evaluation mode. Where a batch norm was there is an ``Identity``. The arrays of its
        parameters are constant: they can be replaced, but never written to.

    Raises
    ------
    ArgumentError
        If there is nothing to fold, a batch norm keeps no running statistics, a layer to fold
        stands in two places or has hooks, x is needed, or the copy differs from the model on x.

    Notes
    -----
    A ``BatchNorm2d`` is folded if it is assigned right behind a ``Conv2d`` of as many channels in
    the same module, as in every network of :mod:`minigrad.models`. A module of your own may call
    them in another order, or one of them twice, so it needs x, on which a wrong fold is found.
    Batch norms elsewhere stay.

    Weights that cannot change need to be brought only once, at the first call, to the form in which
    convolutions read them. The forms are kept for as long as the weights live, and take as much
    memory as these, for 3 x 3 filters up to four times as much; :func:`~minigrad.release_memory`
    drops them. ``copy.deepcopy`` of the result has ordinary arrays.

    Examples
    --------
    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    >>> [type(layer).__name__ for layer in mg.fold_batch_norm(model)]
    ['Conv2d', 'Identity', 'ReLU']
    """
    if not isinstance(model, Module):
        raise ArgumentError(
            f"fold_batch_norm: a Module is needed, got {type(model).__name__}. Pass the model "
            f"itself."
        )
    folded = copy.deepcopy(model).eval()
    places = Counter(child for module in folded.modules() for _, child in module.named_children())
    pairs = list(_pairs(folded))
    if not pairs:
        raise ArgumentError(
            "fold_batch_norm: a model with a BatchNorm2d right behind a Conv2d is needed, got one "
            "without. Use it as it is, after model.eval()."
        )
    for path, module, conv, name, norm in pairs:
        _check(path, conv, norm, max(places[conv], places[norm]))
        if x is None:
            _check_order(path.removesuffix(name).removesuffix("."), module)
        _fold(conv, norm)
        setattr(module, name, Identity())
    if x is not None:
        _compare(model, folded, x)
    for parameter in folded.parameters():
        parameter.data = constant(parameter.data)
    return folded


def _pairs(model: Module) -> Iterator[tuple[str, Module, Conv2d, str, BatchNorm2d]]:
    """Each batch norm behind a convolution, with the module it belongs to and its name there."""
    for path, module in model.named_modules():
        for (_, conv), (name, norm) in pairwise(list(module.named_children())):
            if (
                isinstance(conv, Conv2d)
                and isinstance(norm, BatchNorm2d)
                and conv.out_channels == norm.num_features
            ):
                yield (f"{path}.{name}" if path else name), module, conv, name, norm


def _check(path: str, conv: Conv2d, norm: BatchNorm2d, places: int) -> None:
    if norm.running_mean is None:
        raise ArgumentError(
            f"fold_batch_norm: running statistics are needed, {path} keeps none and takes those of "
            f"each batch. Make it with track_running_stats=True and train it."
        )
    if places > 1:
        raise ArgumentError(
            f"fold_batch_norm: layers that stand in one place are needed, {path} or the "
            f"convolution before it stands in {places}. Make a layer for each place."
        )
    if conv.has_hooks or norm.has_hooks:
        raise ArgumentError(
            f"fold_batch_norm: layers without hooks are needed, {path} or the convolution before "
            f"it has some, which would see other results, or none. Remove them first."
        )


def _check_order(path: str, module: Module) -> None:
    """Refuse a module of which only its forward, a user's, knows in which order it calls."""
    kind = type(module)
    ours = kind.__module__.partition(".")[0] == __name__.partition(".")[0]
    row = isinstance(module, Sequential) and kind.forward is Sequential.forward
    # A method may also be replaced on the module itself.
    replaced = any(callable(getattr(kind, name, None)) for name in vars(module))
    if replaced or isinstance(module, ModuleList) or not (ours or row):
        raise ArgumentError(
            f"fold_batch_norm: a forward that calls each batch norm on the result of the "
            f"convolution assigned before it is needed, and nobody knows that of "
            f"{path or 'the model'}, a {kind.__name__}. Pass an input as x, on which the folded "
            f"copy is compared with the model."
        )


def _fold(conv: Conv2d, norm: BatchNorm2d) -> None:
    """Give the convolution the scale and the shift, computed in float64."""
    assert norm.running_mean is not None  # checked
    assert norm.running_var is not None
    C, dtype = norm.num_features, conv.weight.dtype
    gamma = np.ones(C) if norm.weight is None else norm.weight.data
    beta = np.zeros(C) if norm.bias is None else norm.bias.data
    bias = np.zeros(C) if conv.bias is None else conv.bias.data
    scale = gamma / np.sqrt(norm.running_var.astype(np.float64) + norm.eps)
    weight = conv.weight.data * scale[:, None, None, None]  # (F, C/groups, KH, KW)
    conv.weight = Parameter(weight.astype(dtype))
    conv.bias = Parameter((beta + scale * (bias - norm.running_mean)).astype(dtype))


def _compare(model: Module, folded: Module, x: Any) -> None:
    with no_grad():
        want, got = copy.deepcopy(model).eval()(x).data, folded(x).data
    tolerance = 1e-3 if want.dtype == np.float32 else 1e-9
    worst = float(np.abs(got - want).max(initial=0) / max(1e-30, np.abs(want).max(initial=0)))
    if not worst <= tolerance:
        raise ArgumentError(
            f"fold_batch_norm: a model that calls each batch norm on the result of the convolution "
            f"assigned before it is needed, the folded copy differs from this one by {worst:.0e} "
            f"of its largest output. Assign layers in the order in which forward calls them."
        )
