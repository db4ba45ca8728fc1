"""The same network in torch: made layer by layer from ours, with our weights.

Networks here are rows of layers and residual units, so a torch network that does exactly the same
can be read off from them; nothing of torchvision is needed. State keys stay equal.
"""

from collections import OrderedDict
from typing import Any

from minigrad.bench.against import load_torch
from minigrad.core.errors import ArgumentError
from minigrad.models.resnet import ResNet
from minigrad.models.resnet_cifar import CifarResNet
from minigrad.nn.activation import ReLU
from minigrad.nn.container import Sequential
from minigrad.nn.conv import Conv2d
from minigrad.nn.linear import Linear
from minigrad.nn.module import Module
from minigrad.nn.norm import BatchNorm2d
from minigrad.nn.pool import GlobalAvgPool2d, MaxPool2d
from minigrad.nn.residual import ResidualUnit, ZeroPad

__all__ = ["mirror"]


def mirror(network: Module) -> Any:
    """Make torch's twin of a network, in training mode.

    Parameters
    ----------
    network : Module
        A network of the registry whose forward runs its children in their order.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ArgumentError
        For a network or a layer that has no twin here.
    """
    torch = load_torch()
    if not isinstance(network, ResNet | CifarResNet):
        raise ArgumentError(
            f"bench: torch's twin is made of a ResNet of the registry, got "
            f"{type(network).__name__}. Leave out --against torch."
        )
    twin = _row(torch, network)
    weights = {name: torch.tensor(value) for name, value in network.state_dict().items()}
    twin.load_state_dict(weights)
    return twin


def _row(torch: Any, module: Module) -> Any:
    parts = [(name, _translate(torch, child)) for name, child in module.named_children()]
    return torch.nn.Sequential(OrderedDict(parts))


def _translate(torch: Any, layer: Module) -> Any:
    nn = torch.nn
    match layer:
        case Conv2d():
            F, C, KH, KW = layer.weight.shape
            return nn.Conv2d(
                C * layer.groups, F, (KH, KW), layer.stride, layer.padding, layer.dilation,
                layer.groups, bias=layer.bias is not None,
            )  # fmt: skip
        case BatchNorm2d():
            return nn.BatchNorm2d(layer.num_features, layer.eps, layer.momentum)
        case ReLU():
            return nn.ReLU(inplace=True)  # as torchvision's networks have it
        case MaxPool2d():
            return nn.MaxPool2d(layer.kernel_size, layer.stride, layer.padding)
        case GlobalAvgPool2d():
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case Linear():
            return nn.Linear(layer.in_features, layer.out_features)
        case ZeroPad():
            return _zero_pad(torch, layer)
        case Sequential():
            return _row(torch, layer)
        case ResidualUnit():
            return _unit(torch, layer)
    raise ArgumentError(
        f"bench: torch's twin is made of layers that torch has, got {type(layer).__name__}. "
        "Leave out --against torch."
    )


def _zero_pad(torch: Any, layer: ZeroPad) -> Any:
    class Pad(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            x = x[:, :, :: layer.stride, :: layer.stride]
            return torch.nn.functional.pad(x, (0, 0, 0, 0, layer.before, layer.after))

    return Pad()


def _unit(torch: Any, unit: Any) -> Any:
    names = {id(child): name for name, child in unit.named_children()}
    conv_path, identity_path, last = (
        [names[id(layer)] for layer in layers]
        for layers in (unit.conv_layers, unit.identity_layers, unit.last_activation)
    )

    class Unit(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            y, s = self._run(conv_path, x), self._run(identity_path, x)
            y += s  # in place, as torchvision's units do it
            return self._run(last, y)

        def _run(self, layers: list[str], x: Any) -> Any:
            for name in layers:
                x = getattr(self, name)(x)
            return x

    twin = Unit()
    for name, child in unit.named_children():
        twin.add_module(name, _translate(torch, child))
    return twin
