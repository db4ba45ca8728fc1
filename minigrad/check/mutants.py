"""The checks are checked: backwards made wrong on purpose, each of which the witness must notice.

A mutant is planted in an operation for the time of one gradient. On one sample it is then

- *absent*: it found nothing to act on (swapping the gradients of an operation with one input);
- *unchanged*: it acted and the result is the same (a zero gradient scaled, two equal gradients
  swapped), so that no witness could tell;
- *killed*: the gradient is wrong and the witness disagrees with it;
- *survived*: the gradient is wrong and the witness agrees. A hole in the checks.

Being unchanged is an excuse, and only for some mutants. Those that are ``owed`` a death must be
killed on at least one sample wherever they are not absent: an operation on whose samples no scaled
gradient can be told from the right one has samples that show nothing.
"""

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np

from minigrad.check.samples import cotangents_of, gradients, inputs_of, samples_of, witness
from minigrad.core.errors import GraphError
from minigrad.core.function import Function
from minigrad.ops import Op, Sample

__all__ = ["Case", "Mutant", "agree", "mutants_of", "planted", "verdict", "weaknesses"]

Backward = Callable[..., Any]
Grads = list[np.ndarray | None]


@dataclass(frozen=True)
class Mutant:
    """A way to get a backward wrong.

    Attributes
    ----------
    name : str
        Says what is wrong.
    wrong : callable
        ``wrong(backward, ctx, grad_outs)`` calls the right backward and returns wrong gradients,
        or None where there is nothing to act on.
    owed : bool
        Whether, where it is present, some sample must kill it.
    """

    name: str
    wrong: Callable[[Backward, Any, tuple[np.ndarray, ...]], Grads | None]
    owed: bool = True


def _gradients(backward: Backward, ctx: Any, grad_outs: Sequence[np.ndarray]) -> Grads:
    """What a backward returns, as a list of arrays and None."""
    result = backward(ctx, *grad_outs)
    grads = result if isinstance(result, tuple) else (result,)
    return [None if g is None else np.asarray(g) for g in grads]


# Mutants of the gradients.


def _each(change: Callable[[np.ndarray], np.ndarray | None]) -> Any:
    """Every gradient changed; ``change`` gives None where it does not apply."""

    def wrong(backward: Backward, ctx: Any, grad_outs: tuple[np.ndarray, ...]) -> Grads | None:
        grads = _gradients(backward, ctx, grad_outs)
        changed = [None if g is None else change(g) for g in grads]
        if all(g is None for g in changed):
            return None
        return [g if new is None else new for g, new in zip(grads, changed, strict=True)]

    return wrong


def _one_entry(g: np.ndarray) -> np.ndarray:
    """The largest entry 1 % too large."""
    g = g.copy()
    if g.size:
        g.flat[np.argmax(np.abs(g))] *= 1.01
    return g


def _leak(g: np.ndarray) -> np.ndarray:
    """The smallest entry, often one that a mask set to zero, a little too large."""
    g = g.copy()
    if g.size:
        g.flat[np.argmin(np.abs(g))] += 1e-4 * np.abs(g).max()
    return g


def _reversed(g: np.ndarray) -> np.ndarray | None:
    return g[..., ::-1] if g.ndim else None


def _shifted(g: np.ndarray) -> np.ndarray | None:
    return np.roll(g, 1, axis=-1) if g.ndim else None


def _turned(g: np.ndarray) -> np.ndarray | None:
    square = g.ndim > 1 and g.shape[-1] == g.shape[-2] > 1
    return g.swapaxes(-1, -2) if square else None


def _dropped(i: int) -> Any:
    """The gradient of one input zero: a path forgotten."""

    def wrong(backward: Backward, ctx: Any, grad_outs: tuple[np.ndarray, ...]) -> Grads | None:
        grads = _gradients(backward, ctx, grad_outs)
        if i >= len(grads) or grads[i] is None:
            return None
        return [g if j != i or g is None else np.zeros_like(g) for j, g in enumerate(grads)]

    return wrong


def _swapped(backward: Backward, ctx: Any, grad_outs: tuple[np.ndarray, ...]) -> Grads | None:
    """The first two gradients of one shape exchanged."""
    grads = _gradients(backward, ctx, grad_outs)
    for j, second in enumerate(grads):
        for i, first in enumerate(grads[:j]):
            if first is not None and second is not None and first.shape == second.shape:
                grads[i], grads[j] = second, first
                return grads
    return None


# Mutants of the cotangents.


def _ones(backward: Backward, ctx: Any, grad_outs: tuple[np.ndarray, ...]) -> Grads:
    """The cotangent ignored: right for a sum of the outputs, and only there."""
    return _gradients(backward, ctx, [np.ones_like(g) for g in grad_outs])


def _output_scaled(i: int, factor: float) -> Any:
    """One of several outputs forgotten, or counted twice."""

    def wrong(backward: Backward, ctx: Any, grad_outs: tuple[np.ndarray, ...]) -> Grads | None:
        if len(grad_outs) < 2 or not grad_outs[i].any():
            return None
        grads = list(grad_outs)
        grads[i] = factor * grads[i]
        return _gradients(backward, ctx, grads)

    return wrong


# A mutant of a helper.


def _first_slice(grad: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What unbroadcast would give if it took the first slice instead of the sum."""
    grad = grad[(0,) * (grad.ndim - len(shape))]
    return grad[tuple(slice(0, n) for n in shape)]


def _not_summed(backward: Backward, ctx: Any, grad_outs: tuple[np.ndarray, ...]) -> Grads | None:
    """Broadcast inputs receive the first slice of what they are owed instead of the sum."""
    module = sys.modules[backward.__module__]
    if not hasattr(module, "unbroadcast"):
        return None
    met = False

    def unbroadcast(grad: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        nonlocal met
        met = True
        return _first_slice(grad, shape)

    with mock.patch.object(module, "unbroadcast", unbroadcast):
        grads = _gradients(backward, ctx, grad_outs)
    return grads if met else None


_MUTANTS = [
    Mutant("all zero", _each(np.zeros_like)),
    Mutant("sign flipped", _each(np.negative)),
    Mutant("scaled by 1.01", _each(lambda g: 1.01 * g)),
    Mutant("doubled", _each(lambda g: 2 * g)),
    Mutant("one entry 1 % too large", _each(_one_entry)),
    Mutant("one entry leaks", _each(_leak)),
    Mutant("rounded to float32", _each(lambda g: g.astype(np.float32).astype(g.dtype))),
    Mutant("last axis reversed", _each(_reversed), owed=False),
    Mutant("last axis shifted by one", _each(_shifted), owed=False),
    Mutant("last two axes exchanged", _each(_turned), owed=False),
    Mutant("two gradients exchanged", _swapped, owed=False),
    Mutant("cotangent ignored", _ones),
    Mutant("first output forgotten", _output_scaled(0, 0.0)),
    Mutant("last output forgotten", _output_scaled(-1, 0.0)),
    Mutant("first output counted twice", _output_scaled(0, 2.0)),
    Mutant("broadcast axes not summed", _not_summed),
]


def mutants_of(op: Op) -> list[Mutant]:
    """All mutants, and one for each input of the operation's forward."""
    if op.function is None:
        return []  # its backward is that of the operations it is written with
    inputs = len(inspect.signature(op.function.forward).parameters) - 1  # without ctx
    dropped = [Mutant(f"gradient of input {i} forgotten", _dropped(i)) for i in range(inputs)]
    return _MUTANTS + dropped


@dataclass
class _Trace:
    """What a planted mutant did."""

    acted: bool = False
    changed: bool = False


@contextlib.contextmanager
def planted(function: type[Function], mutant: Mutant) -> Iterator[_Trace]:
    """Within it, ``function`` has the mutant's backward."""
    right, trace = function.backward, _Trace()

    def backward(ctx: Any, *grad_outs: np.ndarray) -> Any:
        grads = mutant.wrong(right, ctx, grad_outs)
        good = _gradients(right, ctx, grad_outs)
        if grads is None:
            return tuple(good)
        trace.acted = True
        trace.changed |= not agree(grads, good)
        return tuple(grads)

    with mock.patch.object(function, "backward", staticmethod(backward)):
        yield trace


def agree(a: Sequence[np.ndarray | None], b: Sequence[np.ndarray | None]) -> bool:
    """Whether two lists of gradients are equal up to rounding: 1e-11 of the largest entry or 1."""
    return all(_equal(x, y) for x, y in zip(a, b, strict=True))


def _equal(x: np.ndarray | None, y: np.ndarray | None) -> bool:
    if x is None or y is None:
        return x is y
    scale = max(1, np.abs(y).max(initial=0))
    return x.shape == y.shape and np.allclose(x, y, 1e-11, 1e-11 * scale, equal_nan=True)


class Case:
    """An operation on one of its samples, with cotangents and what the witness says of them."""

    def __init__(self, op: Op, sample: Sample, cotangents: list[np.ndarray] | None = None) -> None:
        self.op = op
        self.sample = sample
        self.cotangents = cotangents_of(op, sample) if cotangents is None else cotangents

    @functools.cached_property
    def exact(self) -> list[np.ndarray]:
        """The gradients by the complex step; computed where the first mutant asks."""
        return witness(self.op, self.sample, self.cotangents)


def verdict(case: Case, mutant: Mutant) -> str:
    """``"absent"``, ``"unchanged"``, ``"killed"`` or ``"survived"``."""
    op, inputs = case.op, inputs_of(case.sample)
    assert op.function is not None
    with planted(op.function, mutant) as trace:
        try:
            ours = gradients(op, case.sample, inputs, case.cotangents)
        except GraphError:
            return "killed"  # the engine itself refuses a gradient of the wrong shape
    if not trace.acted:
        return "absent"
    if not trace.changed:
        return "unchanged"
    return "survived" if agree(ours, case.exact) else "killed"


def _end(cases: Sequence[Case], mutant: Mutant) -> str:
    """The verdict on a mutant that meets the cases in order, until one of them decides."""
    end = "absent"
    for case in cases:
        fate = verdict(case, mutant)
        if fate in ("killed", "survived"):
            return fate
        if fate == "unchanged":
            end = fate
    return end


def weaknesses(op: Op) -> list[str]:
    """One sentence for each mutant of ``op`` that its samples and the witness do not catch.

    Examples
    --------
    >>> from minigrad.ops import registry
    >>> weaknesses(registry["mul"])
    []
    """
    cases = [Case(op, sample) for sample in samples_of(op) if inputs_of(sample)]
    found = []
    for mutant in mutants_of(op):
        end = _end(cases, mutant)
        if end == "survived":
            found.append(
                f"{op.name}: the mutant '{mutant.name}' survived, for the cotangent or the "
                f"tolerance hides a wrong gradient; sharpen them"
            )
        elif end == "unchanged" and mutant.owed:
            found.append(
                f"{op.name}: no sample shows the mutant '{mutant.name}'; add one whose gradient it "
                f"changes"
            )
        elif end == "absent" and mutant is _MUTANTS[0]:
            found.append(f"{op.name}: no sample runs its backward; add one")
    return found
