"""One function on trial: its backward against the slope along a random direction."""

from collections.abc import Sequence

import numpy as np

from minigrad.check.problem import Problem, inner
from minigrad.check.report import INCONCLUSIVE, RIGHT, WRONG, Verdict
from minigrad.check.slope import STEPS, Slope, best_slope, random_signs

__all__ = ["Trial", "backward_verdict", "branch_verdict", "kink_verdict"]

Arrays = Sequence[np.ndarray]

_BLUR = 1e-3  # a bound so large beside the terms of the slope shows nothing
_CLEAR = 3.0  # an error of so many bounds, twice, is a bug


class Trial:
    """A problem with a random cotangent and the gradients that backward gives for it."""

    def __init__(self, problem: Problem, rng: np.random.Generator) -> None:
        self.problem = problem
        self.rng = rng
        self.cotangents = [
            random_signs(rng, out.shape) if out.dtype.kind == "f" else np.zeros(out.shape)
            for out in problem.outputs
        ]
        self.gradients = problem.gradient(self.cotangents)
        # Each input is moved by its own size, so that none hides behind a larger one.
        self.sizes = [_size(x) for x in problem.inputs]

    def direction(self) -> list[np.ndarray]:
        """A new random direction."""
        shapes = [x.shape for x in self.problem.inputs]
        return [s * random_signs(self.rng, n) for s, n in zip(self.sizes, shapes, strict=True)]

    def compare(
        self, direction: Arrays, frozen: bool | None = None, steps: Sequence[float] = STEPS
    ) -> tuple[float, Slope, float]:
        """Slope by backward, slope by differences, and the size of the slope's terms."""
        analytic = inner(self.gradients, direction)
        scale = _norm([g * u for g, u in zip(self.gradients, direction, strict=True)])
        # Where an input does not move it is not rounded either.
        noise = _norm(
            [
                g * np.where(u == 0, 0, x)
                for g, x, u in zip(self.gradients, self.problem.inputs, direction, strict=True)
            ]
        )
        moved = self.problem.moved(direction, frozen)
        return analytic, best_slope(moved, self.cotangents, scale, noise, steps), scale


def _size(x: np.ndarray) -> float:
    """Root mean square of the entries, 1 where they are all zero."""
    return float(np.linalg.norm(x) / max(1, x.size) ** 0.5) or 1.0


def _norm(arrays: Arrays) -> float:
    return float(np.sqrt(sum(float(np.sum(a * a)) for a in arrays)))


def backward_verdict(trial: Trial, frozen: bool | None = None) -> Verdict:
    """Backward against differences; wrong only if a second direction agrees that it is."""
    where = trial.problem.name
    bad = [n for n, g in zip(trial.problem.names, trial.gradients, strict=True) if _holes(g)]
    if not all(np.isfinite(out.data).all() for out in trial.problem.outputs):
        note = "the function itself is not finite here"
        return Verdict(INCONCLUSIVE, "backward", where, note=note)
    if bad:
        guess = "a division by zero, or a derivative that is infinite here"
        return Verdict(
            WRONG, "backward", where, np.inf, 0.0, tensor=bad[0], guess=guess,
            index=tuple(int(i) for i in np.argwhere(~np.isfinite(_named(trial, bad[0])))[0]),
        )  # fmt: skip
    verdict = _once(trial, frozen)
    if verdict.kind != WRONG:
        return verdict
    again = _once(trial, frozen)
    return verdict if again.kind == WRONG else again


def _once(trial: Trial, frozen: bool | None) -> Verdict:
    where = trial.problem.name
    analytic, slope, scale = trial.compare(trial.direction(), frozen)
    error = abs(analytic - slope.value)
    told = (error, slope.bound, analytic, slope.value)
    if not error <= _CLEAR * slope.bound and np.isfinite(slope.bound):
        return Verdict(WRONG, "backward", where, *told)
    size = max(scale, abs(slope.value))
    if not slope.bound <= max(_BLUR * size, 1e-9 * slope.size):
        note = f"noise floor: the slope {analytic:.3g} is known to +-{slope.bound:.1g} only"
        return Verdict(INCONCLUSIVE, "backward", where, *told, note=note)
    return Verdict(RIGHT, "backward", where, *told)


def _holes(g: np.ndarray) -> bool:
    return not np.isfinite(g).all()


def _named(trial: Trial, name: str) -> np.ndarray:
    return trial.gradients[trial.problem.names.index(name)]


def branch_verdict(problem: Problem) -> Verdict:
    """Whether the branches computed from the inputs give the outputs that the kernels give."""
    plain = problem.forward(problem.inputs, frozen=False)
    held = problem.forward(problem.inputs, frozen=True)
    error = scale = 0.0
    for a, b in zip(plain, held, strict=True):
        if a.size and a.dtype.kind == "f":
            difference = np.subtract(a, b, out=np.zeros_like(a), where=a != b)  # inf equals inf
            error = max(error, float(np.max(np.abs(difference), initial=0)))
            scale = max(scale, float(np.max(np.abs(a), initial=0)))
    bound = 64 * float(np.finfo(np.float64).eps) * scale * max(1, len(problem.taken)) ** 0.5
    kind = RIGHT if error <= bound else WRONG
    guess = "" if kind == RIGHT else "the forward takes another branch than its inputs ask for"
    return Verdict(kind, "branches", problem.name, error, bound, guess=guess)


def kink_verdict(trial: Trial) -> Verdict:
    """At a kink, whether each output's held slope lies between its two one-sided ones.

    For a single operation, whose outputs are piecewise linear around the base point.
    """
    problem, step = trial.problem, 2.0**-20
    direction = trial.direction()
    plain, held = problem.moved(direction, frozen=False), problem.moved(direction, frozen=True)
    error = scale = 0.0
    for base, up, down, h_up, h_down in zip(
        plain(0.0), plain(step), plain(-step), held(step), held(-step), strict=True
    ):
        if base.dtype.kind != "f" or not base.size:
            continue
        right, left, slope = (up - base) / step, (base - down) / step, (h_up - h_down) / (2 * step)
        outside = np.maximum(np.minimum(right, left) - slope, slope - np.maximum(right, left))
        error = max(error, float(outside.max()))
        scale = max(scale, float(np.abs(base).max()), float(np.abs(slope).max()))
    # Values are rounded by eps and divided by the step; curvature moves the slopes by the step.
    bound = scale * (64 * float(np.finfo(np.float64).eps) / step + 64 * step)
    kind = RIGHT if error <= bound else WRONG
    guess = "" if kind == RIGHT else "a slope that no side of the kink has"
    return Verdict(kind, "kink", problem.name, error, bound, guess=guess)
