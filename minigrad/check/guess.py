"""What kind of bug is it? Each kind leaves its own pattern in the wrong gradient.

The gradient that backward gives is laid beside the one that differences give, entry by entry, and
compared with what each usual mistake would have made of the right one. The first that fits is told.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from minigrad.check.directional import Trial

__all__ = ["guess"]

_ENTRIES = 1500  # of a larger gradient only a sample is taken
_STEP = 2.0**-9
_CLOSE = 1e-6


@dataclass
class _Evidence:
    """A wrong gradient beside the right one."""

    trial: Trial
    k: int
    wrong: np.ndarray
    right: np.ndarray

    def equal(self, a: np.ndarray, b: np.ndarray) -> bool:
        """Whether two gradients are equal, as far as differences can tell."""
        scale = max(float(np.abs(self.right).max(initial=0)), float(np.abs(a).max(initial=0)))
        return a.shape == b.shape and bool(np.all(np.abs(a - b) <= _CLOSE * scale + 1e-12))

    @property
    def bad(self) -> np.ndarray:
        """Which entries are wrong."""
        scale = float(np.abs(self.right).max(initial=0))
        return np.abs(self.wrong - self.right) > _CLOSE * scale + 1e-12


def guess(trial: Trial, k: int, index: tuple[int, ...], analytic: float, numeric: float) -> str:
    """One phrase on what is likely wrong with the gradient of input ``k``."""
    habits = _habits(trial, k)
    if habits:
        return habits
    x = trial.problem.inputs[k]
    if x.size > _ENTRIES:
        rng = np.random.default_rng(0)
        flat = rng.choice(x.size, 64, replace=False)
        places = [tuple(np.unravel_index(int(i), x.shape)) for i in flat] + [index]
        wrong = np.array([trial.gradients[k][p] for p in places])
        right = np.array([_numeric(trial, k, p) for p in places])
        sample = _Evidence(trial, k, wrong, right)
        found = _first((_rounded, _scaled), sample)
        if found or sample.bad[:-1].any():
            return found or "many entries are wrong, by no common factor"
        return f"one entry or few, here by the factor {analytic / (numeric or math.inf):.6g}"
    right = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        right[place] = _numeric(trial, k, place)
    return _first(_KINDS, _Evidence(trial, k, trial.gradients[k], right)) or "no pattern is seen"


def _first(kinds: "tuple[Callable[[_Evidence], str], ...]", evidence: _Evidence) -> str:
    return next((told for kind in kinds if (told := kind(evidence))), "")


def _numeric(trial: Trial, k: int, place: tuple, cotangents: list | None = None) -> float:
    """One entry of the right gradient, by two centred differences and an extrapolation."""
    direction = [np.zeros_like(x) for x in trial.problem.inputs]
    direction[k][place] = trial.sizes[k]
    f = trial.problem.moved(direction)
    slopes = []
    for h in (_STEP, _STEP / 2):
        pairs = zip(cotangents or trial.cotangents, f(h), f(-h), strict=True)
        slopes.append(sum(float(np.sum(w * (up - down))) for w, up, down in pairs) / (2 * h))
    return (4 * slopes[1] - slopes[0]) / 3 / trial.sizes[k]


def _habits(trial: Trial, k: int) -> str:
    """What repeating the backward shows."""
    g = trial.gradients[k]
    again = trial.problem.gradient(trial.cotangents)[k]
    if not np.array_equal(again, g):
        return "a stale buffer: the same backward run twice gives two results"
    doubled = trial.problem.gradient([2 * w for w in trial.cotangents])[k]
    if np.abs(g).max(initial=0) and np.array_equal(doubled, g):
        return "the cotangent is ignored"
    if not np.allclose(doubled, 2 * g, rtol=1e-9, atol=1e-300):
        return "not linear in the cotangent: grad_out enters twice, or not as a factor"
    return ""


# The kinds, the most telling first. Each returns a phrase, or nothing.


def _rounded(e: _Evidence) -> str:
    if e.equal(e.wrong, e.right):
        return "computed in float32: the error is below a millionth, as of its rounding"
    return ""


def _scaled(e: _Evidence) -> str:
    """Dropped, sign, counted k times, a constant factor."""
    if not e.wrong.any():
        return "dropped: the gradient is zero everywhere"
    if not e.right.any():
        return "there is a gradient where the function does not depend on the input"
    factor = float(np.sum(e.wrong * e.right) / np.sum(e.right * e.right))
    if not e.equal(e.wrong, factor * e.right):
        return ""
    if abs(factor + 1) < 1e-5:
        return "the sign is wrong"
    whole = round(factor)
    if whole > 1 and abs(factor - whole) < 1e-5 * whole:
        return "doubled: a term counted twice" if whole == 2 else f"counted {whole} times"
    parts = round(1 / factor) if factor else 0
    if parts > 1 and abs(1 / factor - parts) < 1e-5 * parts:
        return f"a constant factor: divided by {parts} too often"
    return f"a constant factor of {factor:.6g} too many"


def _exchanged(e: _Evidence) -> str:
    for j, other in enumerate(e.trial.problem.inputs):
        if j == e.k or other.shape != e.right.shape:
            continue
        theirs = np.array([_numeric(e.trial, j, p) for p in np.ndindex(other.shape)])
        if e.equal(e.wrong, theirs.reshape(other.shape)):
            return f"exchanged with the gradient of {e.trial.problem.names[j]}"
    return ""


def _transposed(e: _Evidence) -> str:
    for a in range(e.right.ndim):
        for b in range(a):
            if e.equal(e.wrong, e.right.swapaxes(a, b)):
                return f"transposed: axes {b} and {a} are exchanged"
    for a in range(e.right.ndim):
        if e.equal(e.wrong, np.flip(e.right, a)):
            return f"reversed along axis {a}"
    if e.right.ndim > 1 and e.equal(e.wrong, np.flip(e.right, (-1, -2))):
        return "the kernel is turned: reversed along the last two axes"
    return ""


def _shifted(e: _Evidence) -> str:
    """By one place, whatever comes in at the edge."""
    for axis in range(e.right.ndim):
        n = e.right.shape[axis]
        if n < 3:
            continue
        inner, before = np.arange(1, n), np.arange(n - 1)
        for here, there in ((inner, before), (before, inner)):
            if e.equal(np.take(e.wrong, here, axis), np.take(e.right, there, axis)):
                return f"shifted by one pixel along axis {axis}"
    return ""


def _not_summed(e: _Evidence) -> str:
    """What the first slice of the broadcast axes alone would give, or their average."""
    shape = e.right.shape
    for j, out in enumerate(e.trial.problem.outputs):
        padded = (1,) * (out.ndim - len(shape)) + shape
        if len(padded) != out.ndim:
            continue
        pairs = zip(padded, out.shape, strict=True)
        axes = [i for i, (own, whole) in enumerate(pairs) if own == 1 < whole]
        if not axes:
            continue
        for which in (0, -1):
            mask = np.zeros(out.shape)
            mask[tuple(which if i in axes else slice(None) for i in range(out.ndim))] = 1
            weights = [w * mask if i == j else w for i, w in enumerate(e.trial.cotangents)]
            places = np.ndindex(shape)
            part = np.array([_numeric(e.trial, e.k, p, weights) for p in places]).reshape(shape)
            if e.equal(e.wrong, part):
                return "a missing broadcast sum: only one slice of the broadcast axis is taken"
    return ""


def _output_left_out(e: _Evidence) -> str:
    for j, _ in enumerate(e.trial.problem.outputs):
        if len(e.trial.problem.outputs) < 2:
            return ""
        weights = [0 * w if i == j else w for i, w in enumerate(e.trial.cotangents)]
        places = np.ndindex(e.right.shape)
        part = np.array([_numeric(e.trial, e.k, p, weights) for p in places])
        if e.equal(e.wrong, part.reshape(e.right.shape)):
            return f"the cotangent of output {j} is left out"
    return ""


def _confined(e: _Evidence) -> str:
    """One entry, or one channel, row or sample."""
    places = np.argwhere(e.bad)
    if len(places) == 1 and e.right.size > 1:
        return f"one entry of {e.right.size} alone, {tuple(int(i) for i in places[0])}"
    for axis, kind in _axes(e.right.ndim):
        here = np.unique(places[:, axis])
        if len(here) == 1 and e.right.shape[axis] > 1:
            return f"one {kind} alone: index {here[0]} of axis {axis}"
    return ""


def _axes(ndim: int) -> Iterator[tuple[int, str]]:
    """Channels are looked for first: they are where it usually is."""
    order = [1, 0, *range(2, ndim)] if ndim > 1 else range(ndim)
    for axis in order:
        yield axis, "channel" if axis == 1 or ndim == 1 else "sample" if axis == 0 else "line"


def _missing_statistics(e: _Evidence) -> str:
    """An error that is, in each channel, a constant, or linear in x: mean and variance terms."""
    x, error = e.trial.problem.inputs[e.k], e.wrong - e.right
    if x.ndim < 2 or x.size // x.shape[1] < 4:
        return ""
    error = np.moveaxis(error, 1, 0).reshape(x.shape[1], -1)
    x = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)
    constant = error.mean(axis=1, keepdims=True)
    if e.equal(error, np.broadcast_to(constant, error.shape)):
        return "a missing mean term: the error is the same all over a channel"
    centred = x - x.mean(axis=1, keepdims=True)
    slope = (centred * error).sum(axis=1, keepdims=True) / (centred**2).sum(axis=1, keepdims=True)
    if e.equal(error, constant + slope * centred):
        return "a missing variance term: in each channel the error is linear in x"
    return ""


def _mask(e: _Evidence) -> str:
    if e.bad.any() and not e.right[e.bad].any():
        return "a mask is not applied: entries whose gradient is zero receive one"
    if e.bad.any() and not e.wrong[e.bad].any():
        return "some entries are dropped: their gradient is zero"
    if e.bad.any() and np.allclose(e.wrong[e.bad], -e.right[e.bad], rtol=_CLOSE):
        return "the sign is wrong at some entries"
    return ""


def _factor_of_input(e: _Evidence) -> str:
    x = e.trial.problem.inputs[e.k]
    for name, made in (("missing", e.wrong * x), ("too many", e.right * x)):
        other = e.right if name == "missing" else e.wrong
        if np.abs(made).max(initial=0) and e.equal(made, other):
            return f"a factor of the input itself is {name}"
    return ""


_KINDS = (
    _rounded, _scaled, _transposed, _exchanged, _shifted, _not_summed, _output_left_out,
    _missing_statistics, _confined, _factor_of_input, _mask,
)  # fmt: skip
