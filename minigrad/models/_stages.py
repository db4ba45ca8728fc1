"""What the residual networks share: which units, in which stages, from which weights."""

from collections.abc import Sequence
from typing import Any

from minigrad.core.errors import ArgumentError
from minigrad.core.tensor import Tensor
from minigrad.nn.activation import ReLU
from minigrad.nn.blocks import BasicBlock
from minigrad.nn.container import Sequential
from minigrad.nn.conv import Conv2d
from minigrad.nn.init import kaiming_normal_, zero_init_last
from minigrad.nn.module import Module
from minigrad.nn.norm import BatchNorm2d

__all__ = ["PlainBlock", "choose_unit", "initialize", "stages"]


class PlainBlock(Module):
    """A BasicBlock without its identity path: y = relu2(bn2 conv2 relu1 bn1 conv1 x).

    The control of the experiment: the same layers, parameter for parameter.

    Parameters
    ----------
    in_channels, channels, stride : int
        As for :class:`~minigrad.nn.blocks.BasicBlock`.
    """

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.relu1 = ReLU()
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(channels)
        self.relu2 = ReLU()

    def forward(self, x: Any) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(x)))


def choose_unit(
    unit: Any, shortcut: str | None, stride_on: str | None, fused: bool, **for_residual: Any
) -> tuple[Any, dict[str, Any]]:
    """The class of a network's units and their options, or an ArgumentError if these clash.

    Parameters
    ----------
    unit : class
        The residual unit.
    shortcut : "A", "B", "C" or None
        None for plain blocks in its place.
    stride_on : "1x1", "3x3" or None
        None for what the unit does by itself.
    fused : bool
        Of residual units; plain blocks have one form.
    **for_residual
        Options that only a residual network can have; a plain one is refused if any is set.
    """
    if shortcut is None:
        wrong = [name for name, value in {"stride_on": stride_on, **for_residual}.items() if value]
        if wrong or unit is not BasicBlock:
            raise ArgumentError(
                f"shortcut=None: a plain net of basic blocks without {', '.join(for_residual)} or "
                f"stride_on is possible, got {', '.join([unit.__name__, *wrong])}. Choose the "
                f"shortcut 'A', 'B' or 'C' for a residual net."
            )
        return PlainBlock, {}
    options: dict[str, Any] = {"shortcut": shortcut, "fused": fused}
    if stride_on is not None:
        if unit.expansion == 1:
            raise ArgumentError(
                f"stride_on: a network of bottlenecks is needed to choose the convolution that "
                f"has the stride, this one has {unit.__name__}s. Leave stride_on out."
            )
        options["stride_on"] = stride_on
    return unit, options


def stages(
    unit: Any,
    in_channels: int,
    channels: Sequence[int],
    depths: Sequence[int],
    drop_path: float,
    options: dict[str, Any],
) -> list[Sequential]:
    """Stages of units; each after the first begins with a stride of 2.

    Parameters
    ----------
    unit : class
        From :mod:`minigrad.nn.blocks`, or :class:`PlainBlock`.
    in_channels : int
        Channels that come into the first stage.
    channels, depths : sequence of int
        For each stage the ``channels`` of its units, and how many units.
    drop_path : float
        Probability with which the last unit is dropped; it grows linearly from the first unit on
        (Huang et al., "Deep Networks with Stochastic Depth", 2016, section 3).
    options : dict
        Handed to every unit.
    """
    result, built, total = [], 0, sum(depths)
    for i, (width, depth) in enumerate(zip(channels, depths, strict=True)):
        units = []
        for j in range(depth):
            built += 1
            if drop_path:
                options = {**options, "drop_path": drop_path * built / total}
            units.append(unit(in_channels, width, 2 if i > 0 and j == 0 else 1, **options))
            in_channels = width * unit.expansion
        result.append(Sequential(*units))
    return result


def initialize(network: Module, identity: bool) -> None:
    """Draw all convolutions so that gradients keep their variance through ReLUs (He et al. 2015).

    Batch norms start at gamma 1 and beta 0, and linear layers as torch starts them, by themselves.

    Parameters
    ----------
    network : Module
    identity : bool
        Whether every residual unit then starts at its identity path.
    """
    for layer in network.modules():
        if isinstance(layer, Conv2d):
            kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if identity:
        zero_init_last(network)
