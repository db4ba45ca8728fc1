"""Convolution layers."""

from typing import Any

from minigrad import ops
from minigrad.core.errors import ArgumentError
from minigrad.core.tensor import Tensor
from minigrad.nn import init
from minigrad.nn._settings import empty, pair, same_groups
from minigrad.nn.module import Module
from minigrad.ops.conv import check_algorithm

__all__ = ["Conv2d", "ConvTranspose2d"]

_Size = int | tuple[int, int]


class Conv2d(Module):
    """Slide F filters over an image: :func:`minigrad.ops.conv2d` with its weight and bias.

    Parameters
    ----------
    in_channels, out_channels : int
        C and F.
    kernel_size, stride, dilation : int or (int, int)
        KH and KW, the step between places, the distance between taps.
    padding : int, (int, int), "same" or "valid"
        Zeros around the image.
    groups : int
        Each of this many slices of the channels is seen by its own filters only.
    bias : bool
        Whether a bias is added; superfluous in front of a batch norm.
    algorithm : {"auto", "im2col", "direct", "winograd", "reference"}
        How it is computed, see :func:`minigrad.conv_algorithm`; no part of the state.

    Attributes
    ----------
    weight : Parameter, (F, C/groups, KH, KW)
    bias : Parameter, (F,), or None
        Both start in U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as in torch.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> from minigrad import nn
    >>> nn.Conv2d(3, 16, 3, stride=2, padding=1)(mg.tensor(np.zeros((1, 3, 8, 8), "f"))).shape
    (1, 16, 4, 4)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size = 1,
        padding: _Size | str = 0,
        dilation: _Size = 1,
        groups: int = 1,
        bias: bool = True,
        algorithm: str = "auto",
    ) -> None:
        super().__init__()
        check_algorithm("Conv2d", algorithm)
        same_groups("Conv2d", groups, in_channels=in_channels, out_channels=out_channels)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = pair("Conv2d", "kernel_size", kernel_size, 1)
        self.stride = pair("Conv2d", "stride", stride, 1)
        self.padding = _padding(padding)
        self.dilation = pair("Conv2d", "dilation", dilation, 1)
        self.groups = groups
        self.algorithm = algorithm
        self.weight = empty(out_channels, in_channels // groups, *self.kernel_size)
        self.bias = empty(out_channels) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        init.torch_default_(self.weight, self.bias)

    def forward(self, x: Any) -> Tensor:
        return ops.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups,
            self.algorithm,
        )  # fmt: skip

    def extra_repr(self) -> str:
        told = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        defaults = {
            "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1,
            "algorithm": "auto",
        }  # fmt: skip
        for name, default in defaults.items():
            if getattr(self, name) != default:
                told += f", {name}={getattr(self, name)!r}"
        return told + ("" if self.bias is not None else ", bias=False")


def _padding(padding: Any) -> tuple[int, int] | str:
    if not isinstance(padding, str):
        return pair("Conv2d", "padding", padding, 0)
    if padding not in ("same", "valid"):
        raise ArgumentError(
            f"Conv2d: padding is a number, a pair of numbers, 'same' or 'valid', got {padding!r}. "
            f"Pass for example padding=1."
        )
    return padding


class ConvTranspose2d(Module):
    """The adjoint of a convolution: :func:`minigrad.ops.conv_transpose2d` with its parameters.

    With stride 2 it doubles the image, as the expanding path of a U-Net does.

    Parameters
    ----------
    in_channels, out_channels : int
        C and F.
    kernel_size, stride, padding, dilation : int or (int, int)
        Of the convolution whose adjoint this is.
    output_padding : int or (int, int)
        Rows and columns added at the lower right, to choose among the image sizes that the
        convolution would map to the same one.
    groups : int
        Number of independent slices of the channels.
    bias : bool
        Whether a bias is added.

    Attributes
    ----------
    weight : Parameter, (C, F/groups, KH, KW)
    bias : Parameter, (F,), or None

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> from minigrad import nn
    >>> nn.ConvTranspose2d(4, 2, 2, stride=2)(mg.tensor(np.zeros((1, 4, 5, 5), "f"))).shape
    (1, 2, 10, 10)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size = 1,
        padding: _Size = 0,
        output_padding: _Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: _Size = 1,
    ) -> None:
        super().__init__()
        owner = "ConvTranspose2d"
        same_groups(owner, groups, in_channels=in_channels, out_channels=out_channels)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = pair(owner, "kernel_size", kernel_size, 1)
        self.stride = pair(owner, "stride", stride, 1)
        self.padding = pair(owner, "padding", padding, 0)
        self.output_padding = pair(owner, "output_padding", output_padding, 0)
        self.groups = groups
        self.dilation = pair(owner, "dilation", dilation, 1)
        self.weight = empty(in_channels, out_channels // groups, *self.kernel_size)
        self.bias = empty(out_channels) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        init.torch_default_(self.weight, self.bias)

    def forward(self, x: Any) -> Tensor:
        return ops.conv_transpose2d(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            groups=self.groups,
            dilation=self.dilation,
        )

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        )
