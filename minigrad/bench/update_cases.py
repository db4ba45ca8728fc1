"""Steps of an optimiser over all parameters of a network: ``update:sgd,resnet18``.

Or over parameters of any shapes: ``update:adam,64x3x7x7+64+1000x512``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import models
from minigrad.bench.against import DEFAULT, Torch
from minigrad.bench.case import Case, Contenders, Draw, Work
from minigrad.bench.shapes import parse_shape
from minigrad.core.errors import ArgumentError
from minigrad.core.tensor import Tensor
from minigrad.optim.adam import Adam
from minigrad.optim.optimizer import Optimizer
from minigrad.optim.sgd import SGD

__all__ = ["update_case"]

# Name: ours, torch's name, settings, arrays as large as the parameters that a step moves at least,
# and the first step from the definition.
_Step = Callable[[np.ndarray, np.ndarray], np.ndarray]
# Ours, torch's name of it, settings, arrays as large as the parameters that are read and written,
# and what the first step computes.
_OPTIMIZERS: dict[str, tuple[type[Optimizer], str, dict[str, float], int, int, _Step]] = {
    "sgd": (
        SGD, "SGD", {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4}, 3, 2,
        lambda p, g: p - 0.01 * (g + 1e-4 * p),
    ),
    "adam": (Adam, "Adam", {"lr": 0.001}, 4, 3, lambda p, g: p - 0.001 * g / (np.abs(g) + 1e-8)),
}  # fmt: skip


def update_case(kind: str, text: str, rival: Torch | None = None) -> Case:
    """Make the case of an optimiser and a network: ``sgd,resnet18``."""
    name, _, network = text.partition(",")
    if name not in _OPTIMIZERS:
        raise ArgumentError(
            f"bench: an optimiser is one of {', '.join(_OPTIMIZERS)}, got {name!r}. Write it like "
            f"{kind}:sgd,resnet18."
        )
    ours, theirs, settings, read, written, step = _OPTIMIZERS[name]
    if network[:1].isdigit():
        shapes = [parse_shape(part) for part in network.split("+")]
    else:
        shapes = [p.shape for p in models.build(network).parameters()]

    def work(draw: Draw) -> Work:
        rng = np.random.default_rng(0)
        values, grads = ([draw(rng, shape) for shape in shapes] for _ in range(2))
        contenders: Contenders = {"minigrad": _our_step(ours, settings, values, grads)}
        if rival is not None:
            contenders[DEFAULT] = _torch_step(rival, theirs, settings, values, grads)
        pairs = zip(values, grads, strict=True)
        wide = [(value.astype(np.float64), grad.astype(np.float64)) for value, grad in pairs]
        return Work(contenders, lambda: [step(*pair) for pair in wide])

    size = sum(int(np.prod(shape)) for shape in shapes)
    # A step changes what the next one begins with: fresh contenders are checked on their first.
    return Case(
        "ops", f"{kind}:{text}", work, 0, 4 * (read + written) * size, "optimiser step",
        small=work, written=4 * written * size,
    )  # fmt: skip


def _our_step(
    make: Any, settings: dict[str, float], values: list[np.ndarray], grads: list[np.ndarray]
) -> Callable[[], Any]:
    parameters = [Tensor(value.copy(), requires_grad=True) for value in values]
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = grad
    optimizer = make(parameters, **settings)

    def run() -> list[Tensor]:
        optimizer.step()
        return parameters

    return run


def _torch_step(
    rival: Torch,
    name: str,
    settings: dict[str, float],
    values: list[np.ndarray],
    grads: list[np.ndarray],
) -> Callable[[], Any]:
    torch = rival.torch
    parameters = [torch.tensor(value, requires_grad=True) for value in values]
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = torch.tensor(grad)
    optimizer = getattr(torch.optim, name)(parameters, **settings)

    def run() -> Any:
        optimizer.step()
        return parameters

    return run
