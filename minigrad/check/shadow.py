"""float32 gradients beside their float64 shadow: is the formula wrong, or is it rounding?"""

import numpy as np

from minigrad.check.directional import Trial
from minigrad.check.report import RIGHT, WRONG, Verdict
from minigrad.core.tensor import grad

__all__ = ["float32_verdict"]

# Rounding through a deep network with batch norm reaches 1e-4 of the norm; a wrong formula is
# rarely below 1 %.
_FORMULA = 1e-2


def float32_verdict(trial: Trial) -> Verdict:
    """The float32 gradient furthest from its shadow, relative to its norm and in ULP."""
    problem = trial.problem
    assert problem.single is not None
    leaves, outputs = problem.drawn(problem.single)
    pairs = [(y, w) for y, w in zip(outputs, trial.cotangents, strict=True) if y.requires_grad]
    if not pairs:
        return Verdict(RIGHT, "float32", problem.name)
    singles = grad([y for y, _ in pairs], leaves, [w for _, w in pairs])
    longest = max(float(np.linalg.norm(g)) for g in trial.gradients)
    worst, name, ulp = 0.0, "", 0.0
    for own, g, told in zip(singles, trial.gradients, problem.names, strict=True):
        # A gradient of pure rounding, as of a bias before a batch norm, is judged by the longest.
        size = max(float(np.linalg.norm(g)), 1e-4 * longest) or 1.0
        error = float(np.linalg.norm(own - g)) / size
        if error >= worst:
            worst, name = error, told
            one = float(np.spacing(np.float32(max(np.abs(g).max(initial=0), 1e-30))))
            ulp = float(np.abs(own - g).max(initial=0)) / one
    kind = RIGHT if worst <= _FORMULA else WRONG
    return Verdict(
        kind, "float32", problem.name, worst, _FORMULA, tensor=name,
        guess="" if kind == RIGHT else "the float32 kernels compute something else than float64",
        note=f"at most {worst:.1e} of the norm, {ulp:.2g} ULP of the largest entry",
    )  # fmt: skip
