"""What can be checked by name: operations on their samples, residual units, networks."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import models
from minigrad.check.blame import single_kink
from minigrad.check.directional import Trial, backward_verdict, branch_verdict, kink_verdict
from minigrad.check.gradcheck import complex_verdict, gradcheck
from minigrad.check.laws import law_verdicts
from minigrad.check.locate import located
from minigrad.check.problem import Problem
from minigrad.check.report import WRONG, Report
from minigrad.check.samples import Change, call, changed, inputs_of, samples_of
from minigrad.core.errors import ArgumentError
from minigrad.core.rng import generator, manual_seed
from minigrad.core.tensor import Tensor
from minigrad.nn.blocks import BasicBlock, Bottleneck, PreActBlock, PreActBottleneck
from minigrad.nn.module import Module
from minigrad.ops import Op, Sample, cross_entropy, registry

__all__ = ["UNITS", "check_model", "check_named", "check_operation", "check_unit", "sample_problem"]

_Unit = Callable[..., Module]
UNITS: dict[str, tuple[_Unit, dict[str, Any]]] = {
    "basic": (BasicBlock, {}),
    "basic-A": (BasicBlock, {"shortcut": "A"}),
    "basic-C": (BasicBlock, {"shortcut": "C"}),
    "bottleneck": (Bottleneck, {}),
    "preact": (PreActBlock, {}),
    "preact-bottleneck": (PreActBottleneck, {}),
    "drop-path": (BasicBlock, {"drop_path": 0.5}),
}


def sample_problem(op: Op, sample: Sample) -> Problem:
    """An operation on one of its samples as a problem; inputs called as the operation does."""
    arrays = inputs_of(sample)
    arguments = [n for n, p in inspect.signature(op.public).parameters.items()]
    direct = len(arrays) == sum(isinstance(a, np.ndarray) for a in sample.args) and all(
        isinstance(a, np.ndarray) and a.dtype.kind == "f" for a in sample.args[: len(arrays)]
    )
    names = arguments[: len(arrays)] if direct else [f"input {i}" for i in range(len(arrays))]
    names += [f"input {i}" for i in range(len(names), len(arrays))]

    def run(*leaves: Tensor) -> Any:
        return call(op, sample, leaves)

    def variant(change: Change) -> tuple[list[Tensor], list[Tensor]]:
        leaves = [Tensor(change(a), requires_grad=True) for a in arrays]
        return leaves, call(op, changed(sample, change), leaves)

    inputs = [np.array(a, np.float64) for a in arrays]
    return Problem(op.name, run, inputs, names, variant=variant)


def check_operation(op: Op, seed: int = 0) -> Report:
    """Every verdict on every sample: differences, complex step, kinks and laws."""
    report = Report(op.name)
    for i, sample in enumerate(samples_of(op)):
        if not inputs_of(sample):
            continue
        problem = sample_problem(op, sample)
        problem.name = f"{op.name} on sample {i}"
        trial = Trial(problem, np.random.default_rng([seed, i]))
        verdict = backward_verdict(trial)
        if verdict.kind == WRONG and verdict.index is None:
            verdict = located(trial, verdict)
        report.verdicts += [verdict, complex_verdict(trial)]
        if problem.kinks:
            report.verdicts.append(branch_verdict(problem))
        if single_kink(problem):
            report.verdicts.append(kink_verdict(trial))
        report.verdicts += law_verdicts(trial)
        report.forwards += problem.forwards
    return report


def check_unit(name: str, seed: int = 0) -> Report:
    """A residual unit, composed and fused, with stride 2: every call, and the whole."""
    build, options = UNITS[name]
    before = generator().bit_generator.state
    manual_seed(seed)
    report = Report(name)
    x = np.random.default_rng(seed).standard_normal((3, 4, 7, 5)).astype(np.float32)
    try:
        for fused in (False, True):
            unit = build(4, 6, stride=2, fused=fused, **options)
            part = gradcheck(unit, x, mode="whole+blame", seed=seed, raise_exception=False)
            report.verdicts += part.verdicts
            report.forwards += part.forwards
    finally:
        generator().bit_generator.state = before
    return report


class _WithLoss(Module):
    """A network followed by the loss it is trained on."""

    def __init__(self, model: Module, labels: np.ndarray) -> None:
        super().__init__()
        self.model = model
        self.labels = labels

    def forward(self, x: Any) -> Tensor:
        return cross_entropy(self.model(x), self.labels)


def check_model(
    name: str, x: np.ndarray, labels: np.ndarray, model: Module, seed: int = 0
) -> Report:
    """The loss of a network on images: the whole, and every operation on what it met there.

    The whole also beside the complex step through the naive kernels. The network stays as it is,
    running statistics and random generator included; training mode checks batch statistics too.
    """
    report = gradcheck(
        _WithLoss(model, labels),
        x,
        mode="whole+blame",
        complex_step=True,
        seed=seed,
        raise_exception=False,
    )
    whole, report.target = report.target, name
    report.verdicts = [
        dataclasses.replace(v, where=name) if v.where == whole else v for v in report.verdicts
    ]
    return report


def check_named(name: str, seed: int = 0) -> Report:
    """An operation, a unit, or a network on noise, by its name.

    Raises
    ------
    ArgumentError
        For a name that is none of them, or an operation without a gradient.
    """
    if name in registry:
        if not registry[name].differentiable:
            raise ArgumentError(
                f"check: an operation with a gradient is needed, {name} has none. Leave it out."
            )
        return check_operation(registry[name], seed)
    if name in UNITS:
        return check_unit(name, seed)
    if name in models.names():
        C, H, W = models.find(name).input_shape
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((2, C, min(H, 64), min(W, 64))).astype(np.float32)
        return check_model(name, x, rng.integers(0, 10, 2), models.build(name), seed)
    raise ArgumentError(
        f"check: the name of an operation, a unit or a network is needed, got {name!r}. "
        f"'minigrad check --list' shows them all."
    )
