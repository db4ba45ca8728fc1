"""The small-image family: 6n+2 layers of 16, 32 and 64 channels, their plain twins, pre-activation.

The head takes the mean over pixels whatever their number, so the same nets take 32x32 colour images
and, with ``in_channels=1``, 28x28 or 8x8 grey ones.
"""

from functools import partial
from typing import Any

from minigrad.core.tensor import Tensor
from minigrad.models._stages import choose_unit, initialize, stages
from minigrad.models.registry import model
from minigrad.nn._steps import conv_norm_relu, norm_relu
from minigrad.nn.activation import ReLU
from minigrad.nn.blocks import BasicBlock, PreActBottleneck
from minigrad.nn.conv import Conv2d
from minigrad.nn.linear import Linear
from minigrad.nn.module import Module
from minigrad.nn.norm import BatchNorm2d
from minigrad.nn.pool import GlobalAvgPool2d

__all__ = ["CifarResNet", "PreActCifarResNet"]


class CifarResNet(Module):
    """3x3 stem, three stages of n basic blocks, mean over pixels, one linear layer: 6n+2 layers.

    Parameters
    ----------
    blocks : int
        n, in each stage.
    num_classes, in_channels : int
        Logits, and channels of the images.
    shortcut : "A", "B", "C" or None
        Zero-padded (the paper's choice here), projection where shapes change, projection
        everywhere; None cuts the identity paths, which makes the net plain.
    zero_init_last : bool
        Whether every unit starts at its identity path.
    drop_path : float
        Stochastic depth: probability to drop the last unit, linearly less for those before.
    fused : bool
        Whether each unit is one operation with a hand-written backward, and the batch norm and relu
        outside of units another; same results, sooner.

    Notes
    -----
    Source: He et al., "Deep Residual Learning", 2015, section 4.2. State keys are those of Y.
    Idelbayev's published weights without their leading ``module.``.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> from minigrad import models
    >>> digits = models.build("resnet20", in_channels=1)
    >>> digits(mg.tensor(np.zeros((2, 1, 8, 8), "f"))).shape
    (2, 10)
    """

    def __init__(
        self,
        blocks: int,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        shortcut: str | None = "A",
        zero_init_last: bool = False,
        drop_path: float = 0.0,
        fused: bool = True,
    ) -> None:
        super().__init__()
        unit, options = choose_unit(
            BasicBlock, shortcut, None, zero_init_last=zero_init_last, drop_path=drop_path,
            fused=fused,
        )  # fmt: skip
        self.conv1 = Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = BatchNorm2d(16)
        self.relu1 = ReLU()
        self.layer1, self.layer2, self.layer3 = stages(
            unit, 16, (16, 32, 64), (blocks,) * 3, drop_path, options
        )
        self.avgpool = GlobalAvgPool2d()
        self.linear = Linear(64, num_classes)
        self.fused = fused
        initialize(self, identity=zero_init_last)

    def forward(self, x: Any) -> Tensor:
        x = conv_norm_relu(self.conv1, self.bn1, self.relu1, x, self.fused)  # (N, 16, H, W)
        x = self.layer3(self.layer2(self.layer1(x)))  # (N, 64, H/4, W/4)
        return self.linear(self.avgpool(x))


class PreActCifarResNet(Module):
    """Three stages of n pre-activated bottlenecks, then the batch norm and ReLU of the last sum.

    9n+2 layers; 64, 128 and 256 channels leave the stages.

    Parameters
    ----------
    blocks : int
        n, in each stage.
    stride_on : "1x1" or "3x3"
        Which convolution of a unit has the stride; the authors' code has it on the 1x1.
    num_classes, in_channels, zero_init_last, drop_path, fused
        As for :class:`CifarResNet`.
    shortcut : "A", "B" or "C"
        "B", a projection where shapes change, is the authors' choice.

    Notes
    -----
    Source: He et al., "Identity Mappings in Deep Residual Networks", 2016, and its published code.
    """

    def __init__(
        self,
        blocks: int,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        shortcut: str = "B",
        stride_on: str = "1x1",
        zero_init_last: bool = False,
        drop_path: float = 0.0,
        fused: bool = True,
    ) -> None:
        super().__init__()
        options = {"shortcut": shortcut, "stride_on": stride_on, "fused": fused}
        self.conv1 = Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.layer1, self.layer2, self.layer3 = stages(
            PreActBottleneck, 16, (16, 32, 64), (blocks,) * 3, drop_path, options
        )
        self.bn1 = BatchNorm2d(256)
        self.relu1 = ReLU()
        self.avgpool = GlobalAvgPool2d()
        self.linear = Linear(256, num_classes)
        self.fused = fused
        initialize(self, identity=zero_init_last)

    def forward(self, x: Any) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))  # (N, 256, H/4, W/4)
        x = norm_relu(self.bn1, self.relu1, x, self.fused)
        return self.linear(self.avgpool(x))


# Layers: number of parameters, which the paper's table 6 rounds to 0.27M ... 19.4M.
_DEPTHS = {
    20: 269_722,
    32: 464_154,
    44: 658_586,
    56: 853_018,
    110: 1_727_962,
    1202: 19_421_274,
}

for _depth, _count in _DEPTHS.items():
    model(
        f"resnet{_depth}",
        parameters=_count,
        input_shape=(3, 32, 32),
        description=f"{_depth} layers for small images, 16-32-64 channels, shortcut A",
    )(partial(CifarResNet, (_depth - 2) // 6))

for _depth, _count in _DEPTHS.items():
    model(
        f"plain{_depth}",
        parameters=_count,
        input_shape=(3, 32, 32),
        description=f"ResNet-{_depth} without its identity paths, parameter for parameter",
    )(partial(CifarResNet, (_depth - 2) // 6, shortcut=None))

model(
    "preact_resnet164",
    parameters=1_703_258,
    input_shape=(3, 32, 32),
    description="164 layers for small images, pre-activated bottlenecks",
)(partial(PreActCifarResNet, 18))
