"""Shapes as text, as ``--only`` takes them and rows print them, and the tables of the networks.

A convolution is ``NxCxHxW,FxKHxKW`` and, where they differ from s1, p0, d1 and g1, a stride, a
padding, a dilation and groups: ``16x3x224x224,64x7x7,s2,p3``. A setting that is not the same for
rows and columns is a pair: ``4x8x30x41,8x1x5,p0x2``. A pooling is ``NxCxHxW,KHxKW,s2,p1``.
Everything else is one shape, ``128x16x32x32``.
"""

import dataclasses
import math
import re
from typing import Any

from minigrad.core.errors import ArgumentError

__all__ = [
    "COMPARED",
    "NETWORKS",
    "ODD",
    "PIXELS",
    "POOLS",
    "Conv",
    "parse_conv",
    "parse_pool",
    "parse_shape",
]

_SETTINGS = {"s": "stride", "p": "padding", "d": "dilation", "g": "groups"}

Pair = tuple[int, int]  # for rows and for columns


@dataclasses.dataclass(frozen=True)
class Conv:
    """The shape of a convolution."""

    N: int
    C: int
    H: int
    W: int
    F: int
    KH: int
    KW: int
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def x(self) -> tuple[int, int, int, int]:
        return self.N, self.C, self.H, self.W

    @property
    def weight(self) -> tuple[int, int, int, int]:
        return self.F, self.C // self.groups, self.KH, self.KW

    @property
    def out(self) -> tuple[int, int, int, int]:
        sizes = [
            (size + 2 * self.padding[i] - self.dilation[i] * (k - 1) - 1) // self.stride[i] + 1
            for i, (size, k) in enumerate(((self.H, self.KH), (self.W, self.KW)))
        ]
        return self.N, self.F, sizes[0], sizes[1]

    @property
    def flops(self) -> int:
        """Multiplications and additions, those with padding included, as everybody counts them."""
        return 2 * math.prod(self.out) * math.prod(self.weight[1:])

    @property
    def bytes(self) -> int:
        """Of x, weight and output in float32, each moved once."""
        return 4 * (math.prod(self.x) + math.prod(self.weight) + math.prod(self.out))

    @property
    def group(self) -> str:
        """Which of the README's rows it belongs to."""
        if max(self.dilation) > 1 or self.groups > 1:
            return "conv, groups or dilation"
        channels = self.C % 16 if self.C != 3 else 0  # images have three
        if self.N == 1 or channels or self.F % 16 or self.W % 7 * (self.W % 8):
            return "conv, odd sizes"
        return f"conv {self.KH}x{self.KW} stride {_setting_text(self.stride)}"

    def __str__(self) -> str:
        text = f"{'x'.join(map(str, self.x))},{self.F}x{self.KH}x{self.KW}"
        for letter, name in _SETTINGS.items():
            value = getattr(self, name)
            usual = 1 if name == "groups" else (0, 0) if name == "padding" else (1, 1)
            if value != usual:
                text += f",{letter}{_setting_text(value)}"
        return text


def _setting_text(value: int | Pair) -> str:
    """Write one number for a pair of two equal ones."""
    if isinstance(value, int):
        return str(value)
    return str(value[0]) if value[0] == value[1] else f"{value[0]}x{value[1]}"


def parse_shape(text: str) -> tuple[int, ...]:
    """Read ``128x16x32x32``."""
    if not re.fullmatch(r"\d+(x\d+)*", text):
        raise ArgumentError(
            f"bench: a shape is numbers with x between them, got {text!r}. "
            f"Write it like 128x16x32x32."
        )
    return tuple(map(int, text.split("x")))


def parse_conv(text: str) -> Conv:
    """Read ``NxCxHxW,FxKHxKW[,s2][,p1][,d2][,g4]``."""
    example = "Write it like 128x16x32x32,32x3x3,s2,p1."
    x, _, rest = text.partition(",")
    weight, _, settings = rest.partition(",")
    sizes = (*parse_shape(x), *parse_shape(weight)) if rest else ()
    if len(sizes) != 7 or 0 in sizes:
        raise ArgumentError(
            f"bench: a convolution is NxCxHxW,FxKHxKW and its settings, got {text!r}. {example}"
        )
    conv = Conv(*sizes, **_settings(settings, text, _SETTINGS))
    if conv.C % conv.groups or conv.F % conv.groups or min(conv.out) < 1:
        raise ArgumentError(
            f"bench: groups that divide C and F and a filter that fits are needed, got {text!r}, "
            f"whose output is {conv.out}. {example}"
        )
    return conv


def parse_pool(text: str) -> tuple[tuple[int, ...], tuple[int, ...], Pair, Pair]:
    """Read ``NxCxHxW,KHxKW[,s2][,p1]``: the shape, the window, its stride and its padding."""
    x, _, rest = text.partition(",")
    window, _, settings = rest.partition(",")
    shape, size = parse_shape(x), parse_shape(window) if rest else ()
    if len(shape) != 4 or len(size) != 2:
        raise ArgumentError(
            f"bench: a pooling is NxCxHxW,KHxKW and its settings, got {text!r}. "
            f"Write it like 16x64x112x112,3x3,s2,p1."
        )
    found = _settings(settings, text, {"s": "stride", "p": "padding"})
    return shape, size, found.get("stride", (1, 1)), found.get("padding", (0, 0))


def _settings(text: str, whole: str, known: dict[str, str]) -> dict[str, Any]:
    """Read a number for groups, a pair for each of the others."""
    found: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        many = "" if part[0] == "g" else r"(x\d+)?"
        sizes = [int(size) for size in re.findall(r"\d+", part)]
        usable = part[0] == "p" or 0 not in sizes
        if not re.fullmatch(rf"[{''.join(known)}]\d+{many}", part) or not usable:
            raise ArgumentError(
                f"bench: a setting is one of {', '.join(known)} and a number, got {part!r} in "
                f"{whole!r}. Write it like {next(iter(known))}2."
            )
        found[known[part[0]]] = sizes[0] if part[0] == "g" else (sizes[0], sizes[-1])
    return found


# Every convolution of a network once, at the batch sizes of the models suite.
_CIFAR = """
128x3x32x32,16x3x3,p1       128x16x32x32,16x3x3,p1       128x32x16x16,32x3x3,p1
128x64x8x8,64x3x3,p1        128x16x32x32,32x3x3,s2,p1    128x32x16x16,64x3x3,s2,p1
"""
_RESNET18 = """
16x3x224x224,64x7x7,s2,p3   16x64x56x56,64x3x3,p1        16x128x28x28,128x3x3,p1
16x256x14x14,256x3x3,p1     16x512x7x7,512x3x3,p1        16x64x56x56,128x3x3,s2,p1
16x128x28x28,256x3x3,s2,p1  16x256x14x14,512x3x3,s2,p1   16x64x56x56,128x1x1,s2
16x128x28x28,256x1x1,s2     16x256x14x14,512x1x1,s2
"""
_RESNET50 = """
8x64x56x56,64x1x1           8x64x56x56,256x1x1           8x256x56x56,64x1x1
8x256x56x56,128x1x1         8x512x28x28,128x1x1          8x128x28x28,512x1x1
8x512x28x28,256x1x1         8x1024x14x14,256x1x1         8x256x14x14,1024x1x1
8x1024x14x14,512x1x1        8x2048x7x7,512x1x1           8x512x7x7,2048x1x1
8x128x56x56,128x3x3,s2,p1   8x256x28x28,256x3x3,s2,p1    8x512x14x14,512x3x3,s2,p1
8x256x56x56,512x1x1,s2      8x512x28x28,1024x1x1,s2      8x1024x14x14,2048x1x1,s2
"""
_ODD = """
1x64x56x56,64x3x3,p1        7x17x29x31,17x3x3,p1         4x1x61x47,33x5x5,p2
16x128x28x28,128x3x3,p1,g32 8x64x33x33,64x3x3,p2,d2      3x2x97x101,3x3x3,p1
16x96x28x28,96x3x3,p1,g96
"""

# Where every algorithm competes.
COMPARED = [
    ("conv2d_forward_algorithms", "128x16x32x32,16x3x3,p1"),
    ("conv2d_forward_algorithms", "128x64x8x8,64x3x3,p1"),
    ("conv2d_forward_algorithms", "16x64x56x56,64x3x3,p1"),
    ("conv2d_forward_algorithms", "16x128x28x28,128x3x3,p1"),
    ("conv2d_forward_algorithms", "16x256x14x14,256x3x3,p1"),
    ("conv2d_forward_algorithms", "16x512x7x7,512x3x3,p1"),
    ("conv2d_forward_algorithms", "16x128x28x28,256x3x3,s2,p1"),
    ("conv2d_grad_input_algorithms", "16x128x28x28,128x3x3,p1"),
    ("conv2d_grad_weight_algorithms", "16x64x56x56,64x3x3,p1"),
    ("conv2d_grad_weight_algorithms", "16x128x28x28,128x3x3,p1"),
    ("conv2d_grad_weight_algorithms", "16x512x7x7,512x3x3,p1"),
]

NETWORKS = {
    "resnet20": tuple(_CIFAR.split()),
    "resnet18": tuple(_RESNET18.split()),  # those of ResNet-34 are the same
    "resnet50": tuple(_RESNET50.split()),
}
ODD = tuple(_ODD.split())

# Arrays between convolutions: inside the second cache of most machines, and far outside of it.
PIXELS = ("32x16x32x32", "128x16x32x32", "16x64x112x112")
POOLS = ("16x64x112x112,3x3,s2,p1", "32x16x32x32,2x2,s2")
