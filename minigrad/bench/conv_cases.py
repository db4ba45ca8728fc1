"""Convolutions, each product alone, by the algorithm of the table or by all of them in turns.

``conv2d_forward:SHAPE``, ``conv2d_grad_input:SHAPE``, ``conv2d_grad_weight:SHAPE``; with
``_algorithms`` behind the name, every algorithm that can compute the case is a contender, and its
error stands beside its speed.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from minigrad import kernels
from minigrad.bench.case import Case, Contenders, Draw, Work
from minigrad.bench.inputs import drawn, twin
from minigrad.bench.shapes import Conv, parse_conv
from minigrad.kernels import conv_choice

__all__ = ["ALGORITHMS", "PRODUCTS", "algorithms_case", "conv_case"]

PRODUCTS = ("conv2d_forward", "conv2d_grad_input", "conv2d_grad_weight")
ALGORITHMS = tuple(f"{name}_algorithms" for name in PRODUCTS)

# The twins take their time, so they compute some images, or the weights of some filters, and of
# these for some channels.
_SOME_IMAGES, _SOME_FILTERS, _SOME_CHANNELS = 2, 8, 16


class Rival(Protocol):
    """Another library's convolutions."""

    def conv(self, name: str, conv: Conv, x: Any, weight: Any, grad_out: Any) -> Contenders: ...


def conv_case(name: str, text: str, rival: Rival | None = None) -> Case:
    """Make the case of one of PRODUCTS at a shape."""
    return _case(name, name, text, ("auto",), rival)


def algorithms_case(name: str, text: str, rival: Rival | None = None) -> Case:
    """Make the case of one of ALGORITHMS: the choice of the table first, then each algorithm."""
    case = _case(name, name.removesuffix("_algorithms"), text, ("auto", *_able(name, text)), rival)
    return dataclasses.replace(case, group="")


def _able(name: str, text: str) -> list[str]:
    """The algorithms that can compute a shape, the one to read first first."""
    wanted = _wanted(name.removesuffix("_algorithms"), parse_conv(text))
    return [a for a in ("im2col", "direct", "winograd") if conv_choice.serves(a, wanted)]


def _wanted(kernel: str, conv: Conv) -> conv_choice.Case:
    """What the choice of an algorithm depends on."""
    return conv_choice.Case(
        kernel.removeprefix("conv2d_"), np.dtype(np.float32), conv.x, conv.weight,
        conv.stride, conv.dilation, conv.groups,
    )  # fmt: skip


def _case(
    name: str, kernel: str, text: str, algorithms: Sequence[str], rival: Rival | None
) -> Case:
    conv = parse_conv(text)

    def work(draw: Draw) -> Work:
        rng = np.random.default_rng(0)
        x, grad_out = (drawn(draw, rng, shape) for shape in (conv.x, conv.out))
        weight = draw(rng, conv.weight)  # no image: networks keep its axes in their own order
        args = _arguments(kernel, conv, x, weight, grad_out)
        found: Contenders = {_told(a): _by(a, kernel, args) for a in algorithms}
        if rival is not None:
            found |= rival.conv(kernel, conv, x, weight, grad_out)
        reduced, some = _reduced(kernel, conv, x, weight, grad_out)
        few = _arguments(kernel, *reduced)
        return Work(found, lambda: twin(kernel, *few), lambda result: [result[0][some]])

    return Case(
        "kernels", f"{name}:{conv}", work, conv.flops, conv.bytes, conv.group, whole=True,
        algorithm=conv_choice.choose(_wanted(kernel, conv)),
    )  # fmt: skip


def _told(algorithm: str) -> str:
    return "minigrad" if algorithm == "auto" else f"minigrad {algorithm}"


def _by(algorithm: str, kernel: str, args: Sequence[Any]) -> Callable[[], Any]:
    def run() -> Any:
        with conv_choice.asking(algorithm):
            return getattr(kernels, kernel)(*args)

    return run


def _arguments(kernel: str, conv: Conv, x: Any, weight: Any, grad_out: Any) -> tuple[Any, ...]:
    down, across = conv.padding
    settings = conv.stride, (down, down, across, across), conv.dilation, conv.groups
    return {
        "conv2d_forward": (x, weight, None, *settings),
        "conv2d_grad_input": (grad_out, weight, conv.x, *settings),
        "conv2d_grad_weight": (grad_out, x, conv.weight, *settings),
    }[kernel]


def _reduced(
    kernel: str, conv: Conv, x: Any, weight: Any, grad_out: Any
) -> tuple[tuple[Conv, Any, Any, Any], tuple[Any, ...]]:
    """A case that is some of this one, and which entries of the result it computes.

    An image of the result depends on that image alone, the gradient of a weight on its channel of
    grad_out and its channel of x. Groups of filters see different channels of x, so all of them
    are computed.
    """
    if kernel != "conv2d_grad_weight":
        images = _spread(conv.N, _SOME_IMAGES)
        few = dataclasses.replace(conv, N=len(images))
        return (few, x[images], weight, grad_out[images]), (images,)
    if conv.groups > 1:
        return (conv, x, weight, grad_out), (slice(None),)
    filters, channels = _spread(conv.F, _SOME_FILTERS), _spread(conv.C, _SOME_CHANNELS)
    few = dataclasses.replace(conv, F=len(filters), C=len(channels))
    return (few, x[:, channels], weight, grad_out[:, filters]), np.ix_(filters, channels)


def _spread(total: int, wanted: int) -> list[int]:
    """So many indices below the total, evenly spread from the first to the last; or all."""
    if total <= wanted:
        return list(range(total))
    return [i * (total - 1) // (wanted - 1) for i in range(wanted)]
