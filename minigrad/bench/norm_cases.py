"""Batch norm in training as networks meet it: alone, before a ReLU, and before a sum and a ReLU.

``batch_norm_training:SHAPE``, ``batch_norm_relu_training:SHAPE`` and
``batch_norm_add_relu_training:SHAPE`` compute statistics and values; the same names with
``backward`` compute all gradients. Statistics of the backward are those of the distribution x was
drawn from, for both libraries: what the forward saves is not the backward's to compute.
"""

import math
from typing import Any, Protocol

import numpy as np

from minigrad import kernels
from minigrad.bench.case import Case, Contenders, Draw, Work
from minigrad.bench.inputs import drawn, image_shape, sized, wide

__all__ = ["EPS", "NORMS", "norm_case"]

EPS = 1e-5
_KINDS = ("batch_norm", "batch_norm_relu", "batch_norm_add_relu")
NORMS = tuple(f"{kind}_{way}" for kind in _KINDS for way in ("training", "backward"))

# Arrays as large as x that each kind takes and makes, and how many it reads again: what it divides
# by, or takes away, is known only when x, and backward the cotangent, have been read to their ends.
_ARRAYS = {"training": 2, "backward": 3}
_AGAIN = {"training": 1, "backward": 2}

_GROUPS = {
    "batch_norm": "batch norm", "batch_norm_relu": "BN+ReLU", "batch_norm_add_relu": "BN+add+ReLU",
}  # fmt: skip


class Rival(Protocol):
    """Another library's batch norms."""

    def batch_norm(
        self, name: str, x: Any, other: Any, weight: Any, bias: Any, grad_out: Any
    ) -> Contenders: ...


def norm_case(name: str, text: str, rival: Rival | None = None) -> Case:
    """Make the case of one of NORMS at a shape."""
    shape = image_shape(name, text)
    kind, _, way = name.rpartition("_")
    run = _training if way == "training" else _backward

    def work(draw: Draw) -> Work:
        rng = np.random.default_rng(0)
        x, other, grad_out = (drawn(draw, rng, shape) for _ in range(3))
        weight, bias = draw(rng, shape[1:2]), draw(rng, shape[1:2])
        prepared = _prepared(kind, x, other, weight, bias)
        ours = {"minigrad": lambda: run(kind, x, other, weight, bias, grad_out, *prepared)}
        given = x, other, weight, bias, grad_out
        others = {} if rival is None else rival.batch_norm(name, *given)

        def expected() -> list[np.ndarray]:
            with kernels.use("reference"):
                return run(kind, *map(wide, given), *prepared)

        return Work(ours | others, expected)

    size = math.prod(shape)
    adds = kind == "batch_norm_add_relu"
    made = 2 if adds and way == "backward" else 1  # what is added has a gradient too
    group = sized(_GROUPS[kind], size)
    clips = kind != "batch_norm"
    return Case(
        "kernels",
        f"{name}:{text}",
        work,
        0,
        4 * size * (_ARRAYS[way] + adds),
        group,
        deep=clips,
        again=4 * size * _AGAIN[way],
        written=4 * size * made,
    )


def _prepared(kind: str, x: Any, other: Any, weight: Any, bias: Any) -> tuple[Any, ...]:
    """What the backward finds saved: mean, 1 / deviation, and the bits of the ReLU."""
    C = x.shape[1]
    mean, inv_std = np.zeros(C), np.ones(C)
    if kind == "batch_norm":
        return mean, inv_std, None
    added = other if kind == "batch_norm_add_relu" else None
    return mean, inv_std, kernels.batch_norm_relu_forward(x, weight, bias, mean, inv_std, added)[1]


def _training(
    kind: str, x: Any, other: Any, weight: Any, bias: Any, grad_out: Any, *prepared: Any
) -> list[np.ndarray]:
    """Statistics, then values."""
    added = other if kind == "batch_norm_add_relu" else None
    return [kernels.batch_norm_training(x, weight, bias, EPS, kind != "batch_norm", added)[0]]


def _backward(
    kind: str, x: Any, other: Any, weight: Any, bias: Any, grad_out: Any,
    mean: Any, inv_std: Any, mask: Any,
) -> list[np.ndarray]:  # fmt: skip
    """Two sums a channel, then the gradient of x; behind a sum also the gradient of the other."""
    found = []
    if kind == "batch_norm_add_relu":  # the other path takes what the ReLU lets through
        grad_out, mask = kernels.relu_backward(grad_out, mask, (0, 2, 3, 1)), None
        found = [grad_out]
    return [kernels.batch_norm_backward(grad_out, x, weight, mean, inv_std, mask)[0], *found]
