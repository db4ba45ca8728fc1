"""Many points in one forward pass, where row n of the outputs depends on row n of the inputs only.

For an input with N rows of M entries, plain differences take 8 N M forward passes. Rows do not
mix, so entry m of every row is moved at once, and the 8 M points are stacked along the rows.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from minigrad.check.directional import Trial
from minigrad.check.slope import STEPS, Slope, along
from minigrad.core.errors import ArgumentError

__all__ = ["row_slopes"]

_ROWS = 4096  # rows of one stacked pass
_HALVINGS = (1.0, 0.5, 0.25, 0.125)


def row_slopes(trial: Trial) -> list[Sequence[Slope]]:
    """The derivative with respect to each entry of each input, in order."""
    problem = trial.problem
    N = _rows_of(trial)
    found: list[Sequence[Slope]] = []
    for k, x in enumerate(problem.inputs):
        size = trial.sizes[k]
        slopes = np.empty((N, x.size // max(1, N)), object)
        for columns in _chunks(slopes.shape[1], max(1, _ROWS // (8 * max(1, N)))):
            for m, points in zip(columns, _moved(trial, k, columns, STEPS[0] * size), strict=True):
                for n in range(N):
                    noise = abs(
                        float(trial.gradients[k].reshape(N, -1)[n, m] * x.reshape(N, -1)[n, m])
                    )
                    slopes[n, m] = _one(trial, points, n, STEPS[0] * size, noise)
        found.append(list(slopes.ravel()))
    return found


def _one(trial: Trial, points: dict, n: int, step: float, noise: float) -> Slope:
    """From the values of row n alone."""
    weights = [w[n : n + 1] for w in trial.cotangents]
    return along(lambda t: [y[n : n + 1] for y in points[t]], weights, step, noise)


def _chunks(count: int, length: int) -> Iterator[range]:
    return (range(i, min(i + length, count)) for i in range(0, count, length))


def _moved(trial: Trial, k: int, columns: range, step: float) -> list[dict]:
    """For each column: distance -> outputs at the point where that entry of all rows is moved."""
    problem, N = trial.problem, trial.problem.inputs[0].shape[0]
    distances = [sign * step * h for h in _HALVINGS for sign in (1, -1)]
    copies = len(columns) * len(distances)
    stacked = [np.concatenate([x] * copies) for x in problem.inputs]
    own = stacked[k].reshape(copies, N, -1)
    for i, (m, t) in enumerate(itertools.product(columns, distances)):
        own[i, :, m] += t
    outputs = [y.reshape(copies, N, *y.shape[1:]) for y in problem.forward(stacked, frozen=False)]
    points = [[y[i] for y in outputs] for i in range(copies)]
    eight = len(distances)
    return [
        dict(zip(distances, points[i * eight : (i + 1) * eight], strict=True))
        for i in range(len(columns))
    ]


def _rows_of(trial: Trial) -> int:
    """The number of rows that inputs and outputs share; an error where rows depend on others."""
    problem = trial.problem
    shapes = [x.shape for x in (*problem.inputs, *[y.data for y in problem.outputs])]
    counts = {shape[0] if shape else None for shape in shapes}
    if len(counts) > 1 or None in counts:
        told = ", ".join(str(shape) for shape in shapes)
        raise ArgumentError(
            f"gradcheck: rows=True needs inputs and outputs with the same number of rows along "
            f"axis 0, got {told}. Leave rows out."
        )
    (N,) = counts
    if problem.taken:
        raise ArgumentError(
            "gradcheck: rows=True needs a function without kinks, for the branches of many stacked "
            "points cannot be held. Leave rows out."
        )
    company = problem.forward([np.concatenate([x, *[x[:1]] * (N or 0)]) for x in problem.inputs])
    for y, out in zip(company, problem.outputs, strict=True):
        if not np.allclose(y[:N], out.data, rtol=1e-12, atol=1e-12):
            raise ArgumentError(
                f"gradcheck: rows=True needs rows that do not depend on one another, and those of "
                f"{problem.name} change when other rows stand beside them. Leave rows out."
            )
    return N or 0
