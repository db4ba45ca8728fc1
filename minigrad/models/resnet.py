"""The ImageNet family: ResNet-18 to ResNet-152, and the plain nets they were compared with."""

from functools import partial
from typing import Any

from minigrad.core.tensor import Tensor
from minigrad.models._stages import choose_unit, initialize, stages
from minigrad.models.registry import model
from minigrad.nn._steps import conv_norm_relu_pool
from minigrad.nn.activation import ReLU
from minigrad.nn.blocks import BasicBlock, Bottleneck
from minigrad.nn.conv import Conv2d
from minigrad.nn.linear import Linear
from minigrad.nn.module import Module
from minigrad.nn.norm import BatchNorm2d
from minigrad.nn.pool import GlobalAvgPool2d, MaxPool2d

__all__ = ["ResNet"]


class ResNet(Module):
    """7x7 stem, max-pool, four stages of residual units, mean over pixels, one linear layer.

    Parameters
    ----------
    unit : class
        BasicBlock or Bottleneck.
    depths : (int, int, int, int)
        Units in each stage.
    num_classes, in_channels : int
        Logits, and channels of the images.
    shortcut : "A", "B", "C" or None
        Zero-padded, projection where shapes change (torchvision's), projection everywhere; None
        cuts the identity paths of a net of basic blocks, which makes it plain.
    stride_on : "3x3" or "1x1", optional
        Which convolution of a Bottleneck has the stride: torchvision's choice, taken if left out,
        or the paper's.
    zero_init_last : bool
        Whether every unit starts at its identity path.
    drop_path : float
        Stochastic depth: probability to drop the last unit, linearly less for those before.
    fused : bool
        Whether each unit is one operation with a hand-written backward, and the batch norm, relu
        and max-pool outside of units another; same results, sooner.

    Notes
    -----
    Source: He et al., "Deep Residual Learning", 2015, table 1. State keys are torchvision's.
    """

    def __init__(
        self,
        unit: Any,
        depths: tuple[int, int, int, int],
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        shortcut: str | None = "B",
        stride_on: str | None = None,
        zero_init_last: bool = False,
        drop_path: float = 0.0,
        fused: bool = True,
    ) -> None:
        super().__init__()
        unit, options = choose_unit(
            unit, shortcut, stride_on, zero_init_last=zero_init_last, drop_path=drop_path,
            fused=fused,
        )  # fmt: skip
        widths = (64, 128, 256, 512)
        self.conv1 = Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = BatchNorm2d(64)
        self.relu1 = ReLU()
        self.maxpool = MaxPool2d(3, stride=2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages(
            unit, 64, widths, depths, drop_path, options
        )
        self.avgpool = GlobalAvgPool2d()
        self.fc = Linear(512 * unit.expansion, num_classes)
        self.fused = fused
        initialize(self, identity=zero_init_last)

    def forward(self, x: Any) -> Tensor:
        stem = self.conv1, self.bn1, self.relu1, self.maxpool
        x = conv_norm_relu_pool(*stem, x, self.fused)  # (N, 64, H/4, W/4)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (N, F, H/32, W/32)
        return self.fc(self.avgpool(x))


# Name: (units in each stage, unit, number of parameters).
_FAMILY: dict[str, tuple[tuple[int, int, int, int], Any, int]] = {
    "resnet18": ((2, 2, 2, 2), BasicBlock, 11_689_512),
    "resnet34": ((3, 4, 6, 3), BasicBlock, 21_797_672),
    "resnet50": ((3, 4, 6, 3), Bottleneck, 25_557_032),
    "resnet101": ((3, 4, 23, 3), Bottleneck, 44_549_160),
    "resnet152": ((3, 8, 36, 3), Bottleneck, 60_192_808),
}
_PLAIN = {"plain18": ((2, 2, 2, 2), 11_515_688), "plain34": ((3, 4, 6, 3), 21_623_848)}

for _name, (_depths, _unit, _count) in _FAMILY.items():
    model(
        _name,
        parameters=_count,
        input_shape=(3, 224, 224),
        description=f"{_unit.__name__}s {'-'.join(map(str, _depths))} for ImageNet",
    )(partial(ResNet, _unit, _depths))

for _name, (_depths, _count) in _PLAIN.items():
    model(
        _name,
        parameters=_count,
        input_shape=(3, 224, 224),
        description=f"ResNet-{_name[5:]} without its identity paths",
    )(partial(ResNet, BasicBlock, _depths, shortcut=None))
