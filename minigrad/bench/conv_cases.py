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

# The twins take their time, so they compute some images, or the weights of some filters.
_SOME_IMAGES, _SOME_FILTERS = 2, 8


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
        some = _some(kernel, conv)
        few = _arguments(kernel, *_reduced(kernel, conv, x, weight, grad_out, some))
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


def _some(kernel: str, conv: Conv) -> list[int]:
    """Which images, or filters, of the result are checked: the first ones and the last ones.

    An image of the result depends on that image alone, the gradient of a filter on its channel of
    grad_out. Groups of filters see different channels of x, so all of them are computed.
    """
    filters = kernel == "conv2d_grad_weight"
    total, wanted = (conv.F, _SOME_FILTERS) if filters else (conv.N, _SOME_IMAGES)
    if total <= wanted or (filters and conv.groups > 1):
        return list(range(total))
    return [*range(wanted // 2), *range(total - wanted // 2, total)]


def _reduced(
    kernel: str, conv: Conv, x: Any, weight: Any, grad_out: Any, some: list[int]
) -> tuple[Conv, Any, Any, Any]:
    """The case that computes these entries alone."""
    if kernel == "conv2d_grad_weight":
        return dataclasses.replace(conv, F=len(some)), x, weight, grad_out[:, some]
    return dataclasses.replace(conv, N=len(some)), x[some], weight, grad_out[some]
