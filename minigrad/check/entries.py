"""Every entry by itself: slow and thorough, for functions of a few hundred numbers."""

from collections.abc import Sequence

import numpy as np

from minigrad.check.directional import Trial
from minigrad.check.guess import guess
from minigrad.check.report import INCONCLUSIVE, RIGHT, WRONG, Verdict
from minigrad.check.rows import row_slopes
from minigrad.check.slope import Slope

__all__ = ["entry_verdicts"]

_CLEAR = 3.0


def entry_verdicts(trial: Trial, rows: bool) -> list[Verdict]:
    """One verdict for each input: on the entry whose slope is furthest off."""
    slopes = row_slopes(trial) if rows else [_slopes(trial, k) for k in range(len(trial.sizes))]
    return [_verdict(trial, k, found) for k, found in enumerate(slopes)]


def _slopes(trial: Trial, k: int) -> Sequence[Slope]:
    """The derivative with respect to each entry of input ``k``, in order."""
    found = []
    for place in np.ndindex(trial.problem.inputs[k].shape):
        unit = [np.zeros_like(x) for x in trial.problem.inputs]
        unit[k][place] = size = trial.sizes[k]
        slope = trial.compare(unit)[1]
        found.append(Slope(slope.value / size, slope.bound / size, slope.step))
    return found


def _verdict(trial: Trial, k: int, slopes: Sequence[Slope]) -> Verdict:
    problem, gradient = trial.problem, trial.gradients[k]
    told = f"{problem.names[k]} {gradient.shape}"
    if not slopes:
        return Verdict(RIGHT, "entries", problem.name, tensor=told, note="no entries")
    errors = np.array([abs(g - s.value) for g, s in zip(gradient.ravel(), slopes, strict=True)])
    bounds = np.array([s.bound for s in slopes])
    worst = int(np.argmax(np.nan_to_num(errors / bounds, nan=np.inf)))
    index = tuple(int(i) for i in np.unravel_index(worst, gradient.shape))
    analytic, numeric = float(gradient[index]), slopes[worst].value
    common = (float(errors[worst]), float(bounds[worst]), analytic, numeric, told)
    if not errors[worst] <= _CLEAR * bounds[worst] and np.isfinite(bounds[worst]):
        ratio = analytic / numeric if numeric else np.inf
        likely = guess(trial, k, index, analytic, numeric)
        return Verdict(WRONG, "entries", problem.name, *common, index, ratio, likely)
    if not bounds.max() <= 1e-3 * max(float(np.abs(gradient).max()), 1e-6):
        note = "noise floor: the entries cannot be told well enough"
        return Verdict(INCONCLUSIVE, "entries", problem.name, *common, note=note)
    return Verdict(RIGHT, "entries", problem.name, *common)
