"""Inside a fused residual unit: which layer of a path is wrong, or which of its five steps.

The unit is one node of the graph. Its layers are checked one by one, called as they are in the
composed form; where all of them are right it is a step of the unit's own backward
(:meth:`minigrad.ops.residual.ResidualUnit.backward`), told by its two shares of grad_x: those it
announces beside those of the composed form.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad.check.directional import Trial
from minigrad.check.report import Verdict
from minigrad.core import events
from minigrad.core.function import Call
from minigrad.core.tensor import Tensor, grad
from minigrad.ops.arithmetic import Add
from minigrad.ops.steps import Step

__all__ = ["composed", "layer_names", "with_step"]

Arrays = Sequence[np.ndarray]


def _parameters(path: Sequence[Step]) -> int:
    return sum(len(step.parameters) for step in path)


def composed(call: Call, places: Sequence[int]) -> Callable[..., Tensor]:
    """The unit of ``call`` as its layers, each a node of its own.

    A function of x as the convolution path sees it, x as the identity path does, and the
    differentiated parameters.
    """

    def run(x_conv: Any, x_identity: Any, *leaves: Any) -> Tensor:
        inputs = list(call.inputs)
        for i, leaf in zip([i for i in places if i], leaves, strict=True):
            inputs[i] = leaf
        split = 1 + _parameters(call.options["conv_path"])
        f = _through(x_conv, call.options["conv_path"], inputs[1:split])
        s = _through(x_identity, call.options["identity_path"], inputs[split:])
        return _through(Add.apply(f, s), call.options["activation"], ())

    return run


def _through(x: Any, path: Sequence[Step], parameters: Sequence[Any]) -> Any:
    used = 0
    for step in path:
        own = parameters[used : used + len(step.parameters)]
        used += len(own)
        arrays = [p.data if isinstance(p, Tensor) else p for p in (x, *own)]
        x = step.function.apply(x, *own, **step.options(*arrays))
    return x


def layer_names(call: Call) -> list[str]:
    """What the calls of the composed form are called, in their order."""
    conv = [f"convolution path, layer {i}" for i, _ in enumerate(call.options["conv_path"])]
    identity = [f"identity path, layer {i}" for i, _ in enumerate(call.options["identity_path"])]
    return [*conv, *identity, "the sum", *("the activation" for _ in call.options["activation"])]


def with_step(verdict: Verdict, call: Call, trial: Trial, places: list[int]) -> Verdict:
    """``verdict`` on a unit whose layers are right, with the step of its backward that is not."""
    if 0 not in places:
        return verdict
    right = _right(call, trial, places)
    shares = _announced(trial) or right[:2]
    x, *parameters = trial.gradients
    split = sum(0 < i <= _parameters(call.options["conv_path"]) for i in places)
    conv = _close([shares[0], *parameters[:split]], [right[0], *right[2 : 2 + split]])
    identity = _close([shares[1], *parameters[split:]], [right[1], *right[2 + split :]])
    if conv and identity and _close([x], [right[0] + right[1]]):
        return verdict  # less than a millionth is wrong: rounding, not a step
    if conv and identity:
        guess = f"step 5, the sum: {_times(x, right) or verdict.guess}"
    elif not (conv or identity):
        guess = f"step 1, the gradient at the sum: {verdict.guess}"
    elif identity:
        guess = f"step 2, the convolution path: {_factor(shares[0], right[0], verdict.guess)}"
    else:
        guess = f"step 3, the identity path: {_factor(shares[1], right[1], verdict.guess)}"
    return dataclasses.replace(verdict, guess=guess)


def _right(call: Call, trial: Trial, places: list[int]) -> list[np.ndarray]:
    """The gradients of the composed form: both shares of grad_x, then those of the parameters."""
    x, *parameters = [Tensor(a, requires_grad=True) for a in trial.problem.inputs]
    leaves = [x, Tensor(x.data, requires_grad=True), *parameters]
    y = trial.problem.drawn(lambda: composed(call, places)(*leaves))
    return grad([y], leaves, trial.cotangents)


def _announced(trial: Trial) -> list[np.ndarray]:
    """The two shares that the unit announces; empty if it does not."""
    heard: list[np.ndarray] = []

    def hear(event: events.Fanout) -> None:
        if event.source == "residual":
            heard.extend(np.array(part) for part in event.parts)

    with events.listen(hear):
        trial.problem.gradient(trial.cotangents)
    return heard


def _close(ours: Arrays, right: Arrays) -> bool:
    return all(
        np.allclose(a, b, rtol=1e-6, atol=1e-6 * np.abs(b).max(initial=0))
        for a, b in zip(ours, right, strict=True)
    )


def _factor(ours: np.ndarray, right: np.ndarray, guess: str) -> str:
    """How a share differs from the right one, unless ``guess`` says more."""
    if _close([ours], [right]):
        return guess
    factor = float(np.sum(ours * right) / (np.sum(right * right) or 1))
    if _close([ours], [factor * right]):
        return f"grad_x holds {factor:.6g} times its share"
    return guess


def _times(x: np.ndarray, right: Arrays) -> str:
    """How often grad_x holds each share, if it holds nothing else."""
    shares = np.stack([right[0].ravel(), right[1].ravel()], axis=1)
    times = np.linalg.lstsq(shares, x.ravel())[0]
    if not _close([(shares @ times).reshape(x.shape)], [x]):
        return ""
    conv, identity = (round(float(t), 9) + 0.0 for t in times)  # and not -0
    return f"grad_x = {conv:.6g} * grad_conv + {identity:.6g} * grad_identity"
