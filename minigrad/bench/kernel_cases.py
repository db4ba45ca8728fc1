"""The suite ``kernels``: each loop alone, on the shapes of the residual networks and on odd ones.

Forward, input gradient and weight gradient are cases of their own. A case can be made of any name
and any shape: ``conv2d_forward:128x16x32x32,16x3x3,p1``.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from minigrad import kernels
from minigrad.bench import conv_cases, norm_cases
from minigrad.bench.case import Case, Contenders, Draw, Work
from minigrad.bench.inputs import drawn, image_shape, sized, twin
from minigrad.bench.shapes import COMPARED, NETWORKS, ODD, PIXELS, POOLS, parse_pool

__all__ = ["NAMES", "Rival", "kernel_case", "kernel_cases", "not_timed"]


class Rival(conv_cases.Rival, norm_cases.Rival, Protocol):
    """Another library: for the arrays of a case, its contenders by name."""

    def pool(self, name: str, x: Any, geometry: Any, grad_out: Any) -> Contenders: ...
    def relu(self, name: str, x: Any, grad_out: Any) -> Contenders: ...


def _pool_case(name: str, text: str, rival: Rival | None) -> Case:
    shape, window, stride, padding = parse_pool(text)
    axes = zip(shape[2:], window, stride, padding, strict=True)
    out_size = tuple((size + 2 * p - k) // s + 1 for size, k, s, p in axes)
    geometry = (window, stride, padding, (1, 1))

    def work(draw: Draw) -> Work:
        rng = np.random.default_rng(0)
        grad_out = drawn(draw, rng, (*shape[:2], *out_size))
        # The winners of distinct numbers: among equal ones torch's layouts choose differently.
        distinct = _distinct(rng, shape)
        _, place = kernels.max_pool2d_forward(distinct, *geometry, out_size)
        if name == "max_pool2d_forward":
            args: tuple[Any, ...] = (distinct, *geometry, out_size)
        else:
            args = (grad_out, place, *geometry, shape[2:])
        ours = {"minigrad": lambda: _first(getattr(kernels, name)(*args))}
        others = {} if rival is None else rival.pool(name, distinct, geometry, grad_out)
        return Work(ours | others, lambda: twin(name, *args)[:1])

    size, out = math.prod(shape), math.prod((*shape[:2], *out_size))
    won = 5 * out  # the place of each winner is a byte
    written = won if name == "max_pool2d_forward" else 4 * size
    group = sized("max pool", size)
    return Case(
        "kernels", f"{name}:{text}", work, 0, 4 * size + won, group, whole=True, written=written
    )


def _first(result: Any) -> Any:
    """The pooled values, without the places of the winners."""
    return result[0] if isinstance(result, tuple) else result


def _distinct(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw images of numbers that are all different, below 2**24 and so exact in float32."""
    return drawn(lambda rng, s: rng.permutation(math.prod(s)).astype("f").reshape(s), rng, shape)


def _relu_case(name: str, text: str, rival: Rival | None) -> Case:
    shape = image_shape(name, text)

    def work(draw: Draw) -> Work:
        rng = np.random.default_rng(0)
        x, grad_out = drawn(draw, rng, shape), drawn(draw, rng, shape)
        _, mask = kernels.relu_forward(x)
        ours: dict[str, Callable[[], Any]] = {
            "relu_forward": lambda: kernels.relu_forward(x)[0],
            "relu_backward": lambda: kernels.relu_backward(grad_out, mask, (0, 2, 3, 1)),
        }
        source = x if name == "relu_forward" else grad_out
        others = {} if rival is None else rival.relu(name, x, grad_out)
        return Work(
            {"minigrad": ours[name]} | others, lambda: [source.astype(np.float64) * (x > 0)]
        )

    size = math.prod(shape)
    mask, group = size // 8, sized("ReLU", size)
    written = 4 * size + (mask if name == "relu_forward" else 0)
    return Case(
        "kernels", f"{name}:{text}", work, 0, 8 * size + mask, group, whole=True, written=written
    )


_MAKERS: dict[str, Callable[[str, str, Rival | None], Case]] = {
    **dict.fromkeys(conv_cases.PRODUCTS, conv_cases.conv_case),
    **dict.fromkeys(conv_cases.ALGORITHMS, conv_cases.algorithms_case),
    **dict.fromkeys(norm_cases.NORMS, norm_cases.norm_case),
    **dict.fromkeys(("relu_forward", "relu_backward"), _relu_case),
    **dict.fromkeys(("max_pool2d_forward", "max_pool2d_backward"), _pool_case),
}
NAMES = tuple(_MAKERS)
_POOLS = ("max_pool2d_forward", "max_pool2d_backward")
_PIXELS = (*norm_cases.NORMS, "relu_forward", "relu_backward")

# Kernels that the cases of batch norm call, and those that these two consist of.
_INSIDE = (
    "batch_norm_training", "batch_norm_backward", "batch_norm_statistics", "batch_norm_forward",
    "batch_norm_relu_forward", "batch_norm_sums", "batch_norm_grad_input",
)  # fmt: skip


def not_timed() -> list[str]:
    """Kernels that no case of this suite times; some are timed within ops and models."""
    return [name for name in kernels.names() if name not in (*NAMES, *_INSIDE)]


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
    listed = [text for network in NETWORKS.values() for text in network] + list(ODD)
    table = [(name, text) for text in convs or listed for name in conv_cases.PRODUCTS]
    if convs is None:
        table += [(name, text) for text in PIXELS for name in _PIXELS]
        table += [(name, text) for text in POOLS for name in _POOLS]
        table += COMPARED
    return [kernel_case(name, text, rival) for name, text in table]
