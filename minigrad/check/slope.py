"""The slope of a function along a line by differences, with a bound on its error.

Centred differences at four halvings of a step are extrapolated by three Richardson columns, whose
truncation error falls as step**8. The bound is the change in the last column plus what rounding
can do. Nobody has to choose a tolerance.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["ROUNDING", "Slope", "along", "best_slope", "random_signs"]

Arrays = Sequence[np.ndarray]

# Fitted on the operations of this library by benchmarks/fit_bound.py: a constant of 1.0 covered
# 6780 cases of 6780, and 30 leaves room for functions that lose digits on the way.
ROUNDING = 30.0  # times eps * |f| / smallest step
TRUNCATION = 2.0  # times the change in the last column

# Tried in this order until one resolves the slope: the first suits functions that are smooth at
# the scale of their inputs, small ones steep functions, the large one nearly flat ones.
STEPS = (2.0**-7, 2.0**-11, 2.0**-16, 2.0**-4, 2.0**-21)
# A bound so far below the size of the terms of the slope is as good as one needs: gradients rounded
# to float32, off by 6e-8 of themselves, are outside of it.
RESOLVED = 1e-9


@dataclasses.dataclass(frozen=True)
class Slope:
    """A slope, how far it may be wrong, the step, and the norm of the terms of f on the way."""

    value: float
    bound: float
    step: float
    size: float = 0.0


def random_signs(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of either sign, of size 0.5 to 1.5: random, and none so small that it hides a bug."""
    return np.asarray(rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1.5, shape))


def along(f: Callable[[float], Arrays], weights: Arrays, step: float, noise: float = 0.0) -> Slope:
    """Slope at 0 of <weights, f(t)>, from eight values of f.

    Parameters
    ----------
    f : callable
        From a number to arrays.
    weights : sequence of ndarray
        The cotangents, one for each array.
    step : float
        The largest of four; each is half the one before it.
    noise : float
        Norm of the terms ``gradient * x``: rounding of x itself moves f by eps times this much.

    Notes
    -----
    Values at t and -t are subtracted before they are summed, and the rounding of n terms is
    counted as the norm of the terms: independent errors add up like a random walk.

    Source
    ------
    Ridders, Accurate computation of F'(x) and F'(x) F''(x), Advances in Engineering Software 4
    (1982).

    Examples
    --------
    >>> s = along(lambda t: [np.sin(np.array([0.5 + t]))], [np.ones(1)], 2**-7)
    >>> bool(abs(s.value - np.cos(0.5)) < s.bound < 1e-10)
    True
    """
    seen = 0.0
    column = []
    for h in (step, step / 2, step / 4, step / 8):
        total = 0.0
        for w, up, down in zip(weights, f(h), f(-h), strict=True):
            eps = max(np.finfo(up.dtype).eps, np.finfo(np.float64).eps)
            coarse = float(eps / np.finfo(np.float64).eps)  # a float32 output rounds coarsely
            seen = max(seen, coarse * float(np.linalg.norm(w * up)))
            total += float(np.sum(w * (up.astype(np.float64) - down)))
        column.append(total / (2 * h))
    before = column
    for order in (4.0, 16.0, 64.0):
        before = column
        column = [
            (order * fine - rough) / (order - 1) for rough, fine in itertools.pairwise(column)
        ]
    change = max(abs(column[0] - value) for value in before)
    rounding = ROUNDING * float(np.finfo(np.float64).eps) * max(seen, noise) * 8 / step
    return Slope(column[0], TRUNCATION * change + rounding, step, seen)


def best_slope(
    f: Callable[[float], Arrays],
    weights: Arrays,
    scale: float,
    noise: float = 0.0,
    steps: Sequence[float] = STEPS,
) -> Slope:
    """The slope at the first step that resolves it to 1e-9 of ``scale``, else the sharpest one."""
    best = Slope(np.nan, np.inf, steps[0])
    size = 0.0
    for step in steps:
        found = along(f, weights, step, noise)
        size = max(size, found.size)
        if found.bound < best.bound:
            best = found
        if best.bound <= RESOLVED * max(scale, abs(best.value)):
            break
    return dataclasses.replace(best, size=size)
