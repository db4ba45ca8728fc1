"""Pooling and resampling layers: no parameters, only settings."""

from typing import Any

from minigrad import ops
from minigrad.core.tensor import Tensor
from minigrad.nn.module import Module

__all__ = ["AdaptiveAvgPool2d", "AvgPool2d", "GlobalAvgPool2d", "MaxPool2d", "Upsample"]

_Size = int | tuple[int, int]


class MaxPool2d(Module):
    """The largest entry of each window: :func:`minigrad.ops.max_pool2d`.

    Parameters
    ----------
    kernel_size : int or (int, int)
    stride : int, (int, int) or None
        None for the kernel size: windows side by side.
    padding, dilation : int or (int, int)
    ceil_mode : bool
        Whether a window that hangs over the edge counts.
    """

    def __init__(
        self,
        kernel_size: _Size,
        stride: _Size | None = None,
        padding: _Size = 0,
        dilation: _Size = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode

    def forward(self, x: Any) -> Tensor:
        return ops.max_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        )

    def extra_repr(self) -> str:
        told = f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
        return told + (", ceil_mode=True" if self.ceil_mode else "")


class AvgPool2d(Module):
    """The mean of each window: :func:`minigrad.ops.avg_pool2d`.

    Parameters
    ----------
    kernel_size : int or (int, int)
    stride : int, (int, int) or None
        None for the kernel size.
    padding : int or (int, int)
    ceil_mode : bool
        Whether a window that hangs over the edge counts.
    count_include_pad : bool
        Whether padded zeros count in the divisor.
    """

    def __init__(
        self,
        kernel_size: _Size,
        stride: _Size | None = None,
        padding: _Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, x: Any) -> Tensor:
        return ops.avg_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """Means over windows chosen so that the result is (N, C, *output_size).

    Parameters
    ----------
    output_size : int, or pair of int or None
        None keeps the size of that axis.
    """

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Any) -> Tensor:
        return ops.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class GlobalAvgPool2d(Module):
    """The mean of each channel, (N, C, H, W) to (N, C): a head for images of any size."""

    def forward(self, x: Any) -> Tensor:
        return ops.global_avg_pool2d(x)


class Upsample(Module):
    """Enlarge an image: :func:`minigrad.ops.upsample`.

    Parameters
    ----------
    size : int or (int, int), optional
        Of the result; either this or ``scale_factor``.
    scale_factor : number or pair of numbers, optional
    mode : "nearest" or "bilinear"
    align_corners : bool
        For bilinear: whether the corner pixels keep their places.
    """

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.size = size
        self.scale_factor = scale_factor
        self.mode = mode
        self.align_corners = align_corners

    def forward(self, x: Any) -> Tensor:
        return ops.upsample(
            x,
            scale_factor=self.scale_factor,
            size=self.size,
            mode=self.mode,
            align_corners=self.align_corners,
        )

    def extra_repr(self) -> str:
        size = f"size={self.size}" if self.size is not None else f"scale={self.scale_factor}"
        return f"{size}, mode={self.mode!r}"
