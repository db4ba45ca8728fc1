"""Which operation is wrong? Every call of a forward pass is checked on its own recorded inputs.

A bug in one of sixty operations shows in the slope of the whole, and in the slope of that one. If
all of them are right and the whole is wrong, what remains is what joins them: a sum of gradients at
a fan-out, or a value whose history was cut.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.check.directional import Trial, backward_verdict, branch_verdict, kink_verdict
from minigrad.check.locate import located
from minigrad.check.problem import Problem
from minigrad.check.report import RIGHT, WRONG, Verdict
from minigrad.check.unit import composed, layer_names, with_step
from minigrad.core.function import Call
from minigrad.core.mode import state
from minigrad.core.node import Node
from minigrad.core.tensor import Tensor, grad
from minigrad.ops.residual import ResidualUnit

__all__ = ["blame", "join_verdicts", "listed", "recorded", "single_kink"]


def recorded(problem: Problem) -> tuple[list[Call], list[Tensor], list[Tensor]]:
    """The calls of one forward pass at the base point, with its leaves and outputs."""
    with problem.branches(frozen=True):
        calls, (leaves, outputs) = listed(lambda: problem.run(problem.inputs))
    return calls, leaves, outputs


def listed(function: Callable[[], Any]) -> tuple[list[Call], Any]:
    """The calls that ``function()`` makes, and what it returns."""
    before, state.calls = state.calls, []
    try:
        result = function()
        return state.calls, result
    finally:
        state.calls = before


def blame(problem: Problem, rng: np.random.Generator) -> list[Verdict]:
    """A verdict on each call, and where all are right, on what joins them."""
    calls, _, _ = recorded(problem)
    verdicts: list[Verdict] = []
    for call in calls:
        verdicts += _local(call, rng)
    return verdicts or [Verdict(RIGHT, "backward", problem.name)]


def told(call: Call) -> str:
    """How messages speak of a call."""
    return f"{call.node.function.name} in {call.path}" if call.path else call.node.function.name


def _local(call: Call, rng: np.random.Generator) -> list[Verdict]:
    """One call checked on its own recorded inputs; located where it is wrong."""
    places = [i for i, need in enumerate(call.node.needs) if need]
    if not places:
        return []
    problem = Problem(told(call), _again(call, places), *_inputs_of(call, places))
    trial = Trial(problem, rng)
    verdict = backward_verdict(trial)
    verdicts = [located(trial, verdict) if _can_be_located(verdict) else verdict]
    if verdict.kind == WRONG and call.node.function is ResidualUnit:
        verdicts = _inside(call, places, trial) or [with_step(verdicts[0], call, trial, places)]
    if problem.kinks:
        verdicts.append(branch_verdict(problem))
    if single_kink(problem):
        verdicts.append(kink_verdict(trial))
    return verdicts


def _inside(call: Call, places: list[int], trial: Trial) -> list[Verdict]:
    """The verdicts on those layers of a fused unit that are wrong by themselves."""
    unit = composed(call, places)

    def run(*leaves: Tensor) -> Tensor:
        x, parameters = (leaves[0], leaves[1:]) if 0 in places else (call.inputs[0], leaves)
        return unit(x, x, *parameters)

    layers, _, _ = recorded(Problem(told(call), run, trial.problem.inputs, trial.problem.names))
    return [
        dataclasses.replace(v, where=f"{v.where} in {told(call)}, {name}")
        for layer, name in zip(layers, layer_names(call), strict=True)
        for v in _local(layer, trial.rng)
        if v.kind == WRONG
    ]


def single_kink(problem: Problem) -> bool:
    """Whether it has one kink, and nothing behind it that may turn its two sides around.

    Nor a rule of its own: in clip(x, 1, 1) no side at x = 1 has the slope that x receives there.
    """
    return problem.kinks and len(problem.taken) == 1 and not problem.taken[0].by_rule


def _can_be_located(verdict: Verdict) -> bool:
    return verdict.kind == WRONG and verdict.index is None


def _inputs_of(call: Call, places: list[int]) -> tuple[list[np.ndarray], list[str]]:
    arrays = [np.asarray(call.inputs[i]).astype(np.float64) for i in places]
    code = call.node.function.forward.__code__
    names = code.co_varnames[1 : code.co_argcount]  # as the author of forward called them
    return arrays, [names[i] if i < len(names) else f"input {i}" for i in places]


def _again(call: Call, places: list[int]) -> Callable[..., Any]:
    """The call as a function of its differentiated inputs."""

    def run(*leaves: Tensor) -> Any:
        inputs = list(call.inputs)
        for i, leaf in zip(places, leaves, strict=True):
            inputs[i] = leaf
        return call.node.function.apply(*inputs, **call.options)

    return run


# What joins the calls.


def join_verdicts(problem: Problem, cotangents: list[np.ndarray]) -> list[Verdict]:
    """For a whole that is wrong while every call is right: the sum or the cut that makes it so."""
    calls, leaves, outputs = recorded(problem)
    return _wrong_sums(problem, calls, leaves, outputs, cotangents) + _cuts(problem, calls)


def _wrong_sums(
    problem: Problem,
    calls: list[Call],
    leaves: list[Tensor],
    outputs: list[Tensor],
    cotangents: list[np.ndarray],
) -> list[Verdict]:
    """Gradients summed here, plainly, against those that the engine summed.

    Only the wrong sum nearest to the outputs is told: all behind it inherit its error.
    """
    pairs = [(y, w) for y, w in zip(outputs, cotangents, strict=True) if y.requires_grad]
    parts = _parts(calls, pairs)
    values: dict[Any, np.ndarray] = {
        (call.node, i): a for call in calls for i, a in enumerate(call.outputs)
    }
    values |= {(leaf, 0): leaf.data for leaf in leaves}
    edges = [edge for edge in parts if edge in values]
    tensors = [e[0] if isinstance(e[0], Tensor) else Tensor._of(values[e], e) for e in edges]
    engine = grad([y for y, _ in pairs], tensors, [w for _, w in pairs], True)
    for edge, ours in sorted(zip(edges, engine, strict=True), key=lambda p: -_number(p[0])):
        senders = parts[edge]
        total = sum(part for _, part in senders)
        size = sum(float(np.linalg.norm(part)) for _, part in senders)
        error = float(np.linalg.norm(np.asarray(total) - ours))
        bound = 1e-12 * size
        if error > bound:
            users = ", ".join(name for name, _ in senders)
            place = _named(edge, problem, leaves)
            return [
                Verdict(
                    WRONG, "fan-out", f"sum at {place}", error, bound,
                    guess="all operations are right, their gradients are summed wrongly",
                    note=f"gradients come back to {place} from {users}",
                )
            ]  # fmt: skip
    return []


def _number(edge: tuple[Any, int]) -> int:
    return edge[0].number if isinstance(edge[0], Node) else -1


def _named(edge: tuple[Any, int], problem: Problem, leaves: list[Tensor]) -> str:
    if isinstance(edge[0], Node):
        return f"the output of {edge[0].told()}"
    return next((n for n, x in zip(problem.names, leaves, strict=True) if x is edge[0]), "a leaf")


def _parts(
    calls: list[Call], pairs: list[tuple[Tensor, np.ndarray]]
) -> dict[Any, list[tuple[str, np.ndarray]]]:
    """For each value, who sent back which gradient: the last call first."""
    parts: dict[Any, list[tuple[str, np.ndarray]]] = {}
    for out, w in pairs:
        parts.setdefault(out._edge or (out, 0), []).append(("the cotangent", w))
    for call in reversed(calls):
        node = call.node
        received = [parts.get((node, i)) for i in range(len(call.outputs))]
        if not any(received) or not any(node.needs):
            continue
        grads_out = [
            np.asarray(sum(part for _, part in got)) if got else np.zeros_like(out)
            for got, out in zip(received, call.outputs, strict=True)
        ]
        result = node.function.backward(node, *grads_out)
        grads = result if isinstance(result, tuple) else (result,)
        for edge, g in zip(node.parents, grads, strict=True):
            if edge is not None and g is not None:
                parts.setdefault(edge, []).append((told(call), np.asarray(g)))
    return parts


def _cuts(problem: Problem, calls: list[Call]) -> list[Verdict]:
    """Calls that were given a value of the graph without its history."""
    made = {id(x): name for x, name in zip(problem.inputs, problem.names, strict=True)}
    found = []
    for call in calls:
        for i, array in enumerate(call.inputs):
            floating = isinstance(array, np.ndarray) and array.dtype.kind == "f"
            if floating and not call.node.needs[i] and id(array) in made:
                found.append(
                    Verdict(
                        WRONG, "history", told(call), np.inf, 0.0,
                        guess="the history is cut: detach(), .data or no_grad()",
                        note=f"input {i} is {made[id(array)]}, handed on without its history",
                    )
                )  # fmt: skip
        made |= {id(a): f"the output of {told(call)}" for a in call.outputs}
    return found
