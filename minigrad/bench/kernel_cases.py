"""The suite ``kernels``: each loop alone, on the shapes of the residual networks and on odd ones.

Forward, input gradient and weight gradient are cases of their own. A case can be made of any name
and any shape: ``conv2d_forward:128x16x32x32,16x3x3,p1``.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from minigrad import kernels
from minigrad.bench.case import Case, Contenders, Draw, Work
from minigrad.bench.shapes import (
    NETWORKS,
    ODD,
    PIXELS,
    POOLS,
    Conv,
    parse_conv,
    parse_pool,
    parse_shape,
)
from minigrad.core.errors import ArgumentError

__all__ = ["NAMES", "Rival", "kernel_case", "kernel_cases", "not_timed"]

EPS = 1e-5


class Rival(Protocol):
    """Another library: for the arrays of a case, its contenders by name."""

    def conv(self, name: str, conv: Conv, x: Any, weight: Any, grad_out: Any) -> Contenders: ...
    def batch_norm(self, name: str, x: Any, weight: Any, bias: Any, grad: Any) -> Contenders: ...
    def pool(self, name: str, x: Any, geometry: Any, grad_out: Any) -> Contenders: ...
    def relu(self, name: str, x: Any, grad_out: Any) -> Contenders: ...


def _memory(draw: Draw, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw an (N, C, H, W) array in channels-last memory."""
    N, C, H, W = shape
    return draw(rng, (N, H, W, C)).transpose(0, 3, 1, 2)


def _twin(name: str, *args: Any) -> list[np.ndarray]:
    """What the naive twin computes in float64."""
    wide = [_wide(argument) for argument in args]
    with kernels.use("reference"):
        result = getattr(kernels, name)(*wide)
    return list(result) if isinstance(result, tuple) else [result]


def _wide(argument: Any) -> Any:
    is_float = isinstance(argument, np.ndarray) and argument.dtype == np.float32
    return argument.astype(np.float64) if is_float else argument


def _conv_case(name: str, text: str, rival: Rival | None) -> Case:
    conv = parse_conv(text)
    settings = (
        (conv.stride,) * 2,
        (conv.padding,) * 4,
        (conv.dilation,) * 2,
        conv.groups,
    )

    def work(draw: Draw) -> Work:
        rng = np.random.default_rng(0)
        x, weight = _memory(draw, rng, conv.x), draw(rng, conv.weight)
        grad_out = _memory(draw, rng, conv.out)
        args = {
            "conv2d_forward": (x, weight, None, *settings),
            "conv2d_grad_input": (grad_out, weight, conv.x, *settings),
            "conv2d_grad_weight": (grad_out, x, conv.weight, *settings),
        }[name]
        ours = {"minigrad": lambda: getattr(kernels, name)(*args)}
        others = {} if rival is None else rival.conv(name, conv, x, weight, grad_out)
        return Work(ours | others, lambda: _twin(name, *args))

    return Case(
        "kernels", f"{name}:{conv}", work, conv.flops, conv.bytes, conv.group, whole=True
    )  # fmt: skip


def _batch_norm_case(name: str, text: str, rival: Rival | None) -> Case:
    shape = _image_shape(name, text)

    def work(draw: Draw) -> Work:
        rng = np.random.default_rng(0)
        x, grad_out = _memory(draw, rng, shape), _memory(draw, rng, shape)
        weight, bias = draw(rng, shape[1:2]), draw(rng, shape[1:2])
        run = _normalise if name == "batch_norm_training" else _normalise_backward
        ours = {"minigrad": lambda: run(x, weight, bias, grad_out)}
        others = {} if rival is None else rival.batch_norm(name, x, weight, bias, grad_out)

        def expected() -> list[np.ndarray]:
            with kernels.use("reference"):
                return run(*map(_wide, (x, weight, bias, grad_out)))

        return Work(ours | others, expected)

    arrays = 2 if name == "batch_norm_training" else 3
    size = math.prod(shape)
    return Case("kernels", f"{name}:{text}", work, 0, 4 * arrays * size, "batch norm")


def _normalise(x: Any, weight: Any, bias: Any, grad_out: Any) -> list[np.ndarray]:
    """What batch norm does in training: statistics, then values."""
    mean, var = kernels.batch_norm_statistics(x)
    return [kernels.batch_norm_forward(x, weight, bias, mean, 1 / np.sqrt(var + EPS))]


def _normalise_backward(x: Any, weight: Any, bias: Any, grad_out: Any) -> list[np.ndarray]:
    """Its backward: two sums a channel, then the gradient of x.

    Statistics are those of the normal distribution x was drawn from, for both libraries: what the
    forward saves is not the backward's to compute.
    """
    C = x.shape[1]
    mean, inv_std = np.zeros(C), np.ones(C)
    sums = kernels.batch_norm_sums(grad_out, x, mean, inv_std)
    return [kernels.batch_norm_grad_input(grad_out, x, weight, mean, inv_std, *sums)]


def _pool_case(name: str, text: str, rival: Rival | None) -> Case:
    shape, window, stride, padding = parse_pool(text)
    out_size = tuple(
        (size + 2 * padding - k) // stride + 1 for size, k in zip(shape[2:], window, strict=True)
    )
    geometry = (window, (stride,) * 2, (padding,) * 2, (1, 1))

    def work(draw: Draw) -> Work:
        rng = np.random.default_rng(0)
        x, grad_out = _memory(draw, rng, shape), _memory(draw, rng, (*shape[:2], *out_size))
        # The winners of distinct numbers: among equal ones torch's layouts choose differently.
        distinct = normal_order(rng, x)
        _, place = kernels.max_pool2d_forward(distinct, *geometry, out_size)
        forward = name == "max_pool2d_forward"
        args = (distinct, *geometry, out_size) if forward else (
            grad_out, place, *geometry, shape[2:]
        )  # fmt: skip
        ours = {"minigrad": lambda: getattr(kernels, name)(*args)[0] if forward else
                getattr(kernels, name)(*args)}  # fmt: skip
        others = {} if rival is None else rival.pool(name, distinct, geometry, grad_out)
        return Work(ours | others, lambda: _twin(name, *args)[:1])

    size, out = math.prod(shape), math.prod((*shape[:2], *out_size))
    moved = 4 * (size + out) + out  # the place of each winner is a byte
    return Case("kernels", f"{name}:{text}", work, 0, moved, "max pool", whole=True)


def normal_order(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Numbers that are all different, below 2**24 and so exact in float32, in the memory of x."""
    N, C, H, W = x.shape
    return rng.permutation(x.size).astype(np.float32).reshape(N, H, W, C).transpose(0, 3, 1, 2)


def _relu_case(name: str, text: str, rival: Rival | None) -> Case:
    shape = _image_shape(name, text)

    def work(draw: Draw) -> Work:
        rng = np.random.default_rng(0)
        x, grad_out = _memory(draw, rng, shape), _memory(draw, rng, shape)
        _, mask = kernels.relu_forward(x)
        ours: dict[str, Callable[[], Any]] = {
            "relu_forward": lambda: kernels.relu_forward(x)[0],
            "relu_backward": lambda: kernels.relu_backward(grad_out, mask, (0, 2, 3, 1)),
        }
        wide = (x.astype(np.float64), grad_out.astype(np.float64))
        want = [wide[0] * (x > 0)] if name == "relu_forward" else [wide[1] * (x > 0)]
        others = {} if rival is None else rival.relu(name, x, grad_out)
        return Work({"minigrad": ours[name]} | others, lambda: want)

    size = math.prod(shape)
    return Case("kernels", f"{name}:{text}", work, 0, 8 * size + size // 8, "relu", whole=True)


def _image_shape(name: str, text: str) -> tuple[int, ...]:
    shape = parse_shape(text)
    if len(shape) != 4:
        raise ArgumentError(
            f"bench: {name} takes a shape NxCxHxW, got {text!r}. Write it like 128x16x32x32."
        )
    return shape


_MAKERS: dict[str, Callable[[str, str, Rival | None], Case]] = {
    "conv2d_forward": _conv_case,
    "conv2d_grad_input": _conv_case,
    "conv2d_grad_weight": _conv_case,
    "batch_norm_training": _batch_norm_case,
    "batch_norm_backward": _batch_norm_case,
    "relu_forward": _relu_case,
    "relu_backward": _relu_case,
    "max_pool2d_forward": _pool_case,
    "max_pool2d_backward": _pool_case,
}
NAMES = tuple(_MAKERS)

# Kernels that the cases of batch norm call.
INSIDE = (
    "batch_norm_statistics", "batch_norm_forward", "batch_norm_sums", "batch_norm_grad_input",
)  # fmt: skip


def not_timed() -> list[str]:
    """Kernels that no case of this suite times; some are timed within ops and models."""
    return [name for name in kernels.names() if name not in (*NAMES, *INSIDE)]


def kernel_case(name: str, text: str, rival: Rival | None = None) -> Case:
    """Make the case of a kernel's name and a shape as text."""
    return _MAKERS[name](name, text, rival)


def kernel_cases(rival: Rival | None = None, convs: Sequence[str] | None = None) -> list[Case]:
    """All cases of the suite, or those of other convolutions.

    Parameters
    ----------
    rival : Rival, optional
        Who competes.
    convs : sequence of str, optional
        Convolutions, as text, in the place of the suite's own.
    """
    if convs is not None:
        return [kernel_case(n, text, rival) for text in convs for n in NAMES if "conv" in n]
    table = [text for network in NETWORKS.values() for text in network] + list(ODD)
    cases = [kernel_case(name, text, rival) for text in table for name in NAMES[:3]]
    cases += [kernel_case(name, text, rival) for text in PIXELS for name in NAMES[3:7]]
    return cases + [kernel_case(name, text, rival) for text in POOLS for name in NAMES[7:]]
