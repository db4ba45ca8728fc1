"""float32 gradients beside their float64 shadow: is the formula wrong, or is it rounding?"""

from dataclasses import dataclass

import numpy as np

from minigrad.check.directional import Trial
from minigrad.check.report import RIGHT, WRONG, Verdict
from minigrad.check.samples import single
from minigrad.core import decisions
from minigrad.core.tensor import Tensor, grad

__all__ = ["float32_verdict"]

# Rounding through a deep network with batch norm reaches 1e-4 of the norm; a wrong formula is
# rarely below 1 %. Where it turns a branch at a kink, that alone may be 1 %.
_FORMULA = 1e-2
_TURNED = 9  # more branches turned are no excuse


@dataclass(frozen=True)
class _Distance:
    """How far the float32 gradient of one input is from its shadow."""

    relative: float
    ulp: float
    name: str


def float32_verdict(trial: Trial) -> Verdict:
    """The float32 gradient furthest from its shadow, relative to its norm and in ULP."""
    found = _furthest(trial)
    note = f"at most {found.relative:.1e} of the norm, {found.ulp:.2g} ULP of the largest entry"
    bound = _FORMULA
    if found.relative > bound and (turned := _turned(trial)):
        bound *= 1 + min(turned, _TURNED)
        note += f"; rounding turned {turned} branches at kinks"
    kind = RIGHT if found.relative <= bound else WRONG
    return Verdict(
        kind, "float32", trial.problem.name, found.relative, bound, tensor=found.name, note=note,
        guess="" if kind == RIGHT else "the float32 kernels compute something else than float64",
    )  # fmt: skip


def _furthest(trial: Trial) -> _Distance:
    leaves, outputs = _single(trial)
    pairs = [(y, w) for y, w in zip(outputs, trial.cotangents, strict=True) if y.requires_grad]
    if not pairs:
        return _Distance(0.0, 0.0, "")
    singles = grad([y for y, _ in pairs], leaves, [w for _, w in pairs])
    longest = max(float(np.linalg.norm(g)) for g in trial.gradients)
    found = []
    for own, g, name in zip(singles, trial.gradients, trial.problem.names, strict=True):
        # A gradient of pure rounding, as of a bias before a batch norm, is judged by the longest.
        size = max(float(np.linalg.norm(g)), 1e-4 * longest) or 1.0
        one = float(np.spacing(np.float32(max(np.abs(g).max(initial=0), 1e-30))))
        ulp = float(np.abs(own - g).max(initial=0)) / one
        found.append(_Distance(float(np.linalg.norm(own - g)) / size, ulp, name))
    return max(found, key=lambda d: d.relative)


def _single(trial: Trial) -> tuple[list[Tensor], list[Tensor]]:
    variant = trial.problem.variant
    assert variant is not None
    result: tuple[list[Tensor], list[Tensor]] = trial.problem.drawn(lambda: variant(single))
    return result


def _turned(trial: Trial) -> int:
    """How many branches are others in float32: of numbers that are nearly at a kink."""
    with decisions.record() as taken:
        _single(trial)
    pairs = zip(trial.problem.taken, taken, strict=True)
    return sum(int(np.count_nonzero(old.branches != new.branches)) for old, new in pairs)
