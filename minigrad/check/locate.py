"""From "the slope is wrong" to the entry that is wrong: halving the support of the direction."""

import dataclasses
import math

import numpy as np

from minigrad.check.directional import Trial
from minigrad.check.guess import guess
from minigrad.check.report import Verdict
from minigrad.check.slope import STEPS

__all__ = ["located"]

_STEPS = STEPS[:3]


def located(trial: Trial, verdict: Verdict) -> Verdict:
    """``verdict`` with the tensor, the entry, analytic / numeric there, and a guess at the kind."""
    direction = trial.direction()
    names = trial.problem.names
    each = [_bounds(trial, _only(direction, k)) for k in range(len(names))]
    k = int(np.argmax(each))
    index = _entry(trial, direction, k)
    unit = [np.zeros_like(u) for u in direction]
    unit[k][index] = trial.sizes[k]
    analytic, slope, _ = trial.compare(unit, steps=_STEPS)
    ratio = analytic / slope.value if abs(slope.value) > slope.bound else math.inf
    return dataclasses.replace(
        verdict,
        tensor=f"{names[k]} {trial.problem.inputs[k].shape}",
        index=index,
        ratio=ratio,
        guess=guess(trial, k, index, analytic, slope.value),
    )


def _only(direction: list[np.ndarray], k: int) -> list[np.ndarray]:
    """The direction with every input but one at rest."""
    return [u if i == k else np.zeros_like(u) for i, u in enumerate(direction)]


def _bounds(trial: Trial, direction: list[np.ndarray]) -> float:
    analytic, slope, _ = trial.compare(direction, steps=_STEPS)
    error = abs(analytic - slope.value)
    return error / slope.bound if slope.bound else math.inf if error else 0.0


def _entry(trial: Trial, direction: list[np.ndarray], k: int) -> tuple[int, ...]:
    """Keep the half of the entries whose slope is further off, until one is left."""
    u = direction[k]
    support = np.arange(u.size)

    def bounds(part: np.ndarray) -> float:
        masked = np.zeros(u.size)
        masked[part] = u.ravel()[part]
        moved = _only(direction, k)
        moved[k] = masked.reshape(u.shape)
        return _bounds(trial, moved)

    while support.size > 1:
        halves = np.array_split(support, 2)
        support = max(halves, key=bounds)
    return tuple(int(i) for i in np.unravel_index(int(support[0]), u.shape))
