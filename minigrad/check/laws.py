"""What every backward obeys, whatever it computes: ten laws, each a verdict."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np

from minigrad.check.blame import listed, recorded
from minigrad.check.directional import Trial
from minigrad.check.report import RIGHT, WRONG, Verdict
from minigrad.check.samples import Change, single, without_rows
from minigrad.check.slope import random_signs
from minigrad.core.errors import MinigradError
from minigrad.core.function import Call
from minigrad.core.tensor import grad

__all__ = ["law_verdicts"]

Arrays = Sequence[np.ndarray]


def law_verdicts(trial: Trial) -> list[Verdict]:
    """One verdict a law; the note says what was seen where it is broken."""
    laws: list[tuple[str, Callable[[Trial], str]]] = [
        ("re-entrant", _reentrant),
        ("linear", _linear),
        ("zero cotangent", _zero),
        ("missing cotangent", _missing),
        ("shapes and dtypes", _shapes),
        ("float32 stays float32", _single),
        ("empty inputs", _empty),
        ("nothing mutated", _mutated),
        ("no shared memory", _shared),
        ("any strides", _strides),
    ]
    found = []
    for name, law in laws:
        broken = law(trial)
        kind = WRONG if broken else RIGHT
        error = float("inf") if broken else 0.0
        found.append(Verdict(kind, name, trial.problem.name, error, 0.0, note=broken))
    return found


def _close(a: np.ndarray, b: np.ndarray, size: float) -> bool:
    return a.shape == b.shape and bool(np.all(np.abs(a - b) <= 1e-10 * size + 1e-300))


def _sizes(trial: Trial) -> list[float]:
    return [float(np.abs(g).max(initial=0)) for g in trial.gradients]


def _reentrant(trial: Trial) -> str:
    again = trial.problem.gradient(trial.cotangents)
    same = all(map(np.array_equal, again, trial.gradients))
    return "" if same else "the same backward run twice gives two results"


def _linear(trial: Trial) -> str:
    other = [random_signs(trial.rng, w.shape) * (w != 0) for w in trial.cotangents]
    mixed = [2.5 * v - 0.75 * w for v, w in zip(trial.cotangents, other, strict=True)]
    of_other, of_mixed = trial.problem.gradient(other), trial.problem.gradient(mixed)
    for a, b, m in zip(trial.gradients, of_other, of_mixed, strict=True):
        size = float(np.abs(a).max(initial=0) + np.abs(b).max(initial=0))
        if not _close(m, 2.5 * a - 0.75 * b, size):
            return "it is not linear in the cotangent"
    return ""


def _zero(trial: Trial) -> str:
    zeros = trial.problem.gradient([0 * w for w in trial.cotangents])
    return "a cotangent of zeros gives a gradient" if any(g.any() for g in zeros) else ""


def _missing(trial: Trial) -> str:
    """Each output alone: the gradients sum to that of all of them."""
    if len(trial.cotangents) < 2:
        return ""
    sums = [np.zeros_like(g) for g in trial.gradients]
    for j in range(len(trial.cotangents)):
        alone = [w if i == j else 0 * w for i, w in enumerate(trial.cotangents)]
        sums = [s + g for s, g in zip(sums, trial.problem.gradient(alone), strict=True)]
    whole = zip(sums, trial.gradients, _sizes(trial), strict=True)
    same = all(_close(s, g, size) for s, g, size in whole)
    return "" if same else "the outputs taken one at a time give another gradient than together"


def _shapes(trial: Trial) -> str:
    """As the backward itself returns them, before the engine converts anything."""
    calls, _, _ = recorded(trial.problem)
    return _first_flaw(calls)


def _single(trial: Trial) -> str:
    """The same, all in float32."""
    return _varied(trial, single)


def _empty(trial: Trial) -> str:
    """The same for an empty batch, unless it is refused with an error that says so."""
    x = trial.problem.inputs[0]
    if not x.ndim:
        return ""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # the mean of nothing is no number, and NumPy tells
            return _varied(trial, without_rows(len(x)))
    except (MinigradError, ValueError):
        return ""
    except Exception as error:  # what may come of it is not known beforehand
        return f"inputs without rows end in {type(error).__name__}: {error}"


def _varied(trial: Trial, change: Change) -> str:
    """What is wrong with a pass on changed inputs, call by call and then as a whole."""
    variant = trial.problem.variant
    if variant is None:
        return ""
    calls, (leaves, outputs) = listed(lambda: trial.problem.drawn(lambda: variant(change)))
    flaw = _first_flaw(calls)
    used = [y for y in outputs if y.requires_grad]
    if flaw or not used:
        return flaw
    grads = grad(used, leaves, [np.ones(y.shape, y.dtype) for y in used])
    for x, g, name in zip(leaves, grads, trial.problem.names, strict=True):
        if (g.shape, g.dtype) != (x.shape, x.dtype):
            return f"the gradient of {name} is {g.dtype} {g.shape}, {name} is {x.dtype} {x.shape}"
    return ""


def _first_flaw(calls: Sequence[Call]) -> str:
    return next((flaw for call in calls if (flaw := _flaw(call))), "")


def _flaw(call: Call) -> str:
    """A gradient with another shape or dtype than its input, an output with another dtype."""
    node, name = call.node, call.node.function.name
    dtypes = {x.dtype for x in call.inputs if isinstance(x, np.ndarray) and x.dtype.kind == "f"}
    asked = len(dtypes) != 1 or "dtype" in call.options  # for whatever dtype comes out
    others = [y.dtype for y in call.outputs if y.dtype.kind == "f" and y.dtype not in dtypes]
    if others and not asked:
        return f"{name} makes {others[0]} of {dtypes.pop()}"
    if not any(node.needs):
        return ""
    result = node.function.backward(node, *[np.ones(y.shape, y.dtype) for y in call.outputs])
    grads = result if isinstance(result, tuple) else (result,)
    for i, (g, need) in enumerate(zip(grads, node.needs, strict=True)):
        x = np.asarray(call.inputs[i])
        if need and np.shape(g) != x.shape:
            return f"{name} returns shape {np.shape(g)} for input {i}, {x.shape}"
        if need and x.dtype.kind == "f" and np.asarray(g).dtype != x.dtype:
            return f"{name} returns {np.asarray(g).dtype} for a {x.dtype} input"
    return ""


def _mutated(trial: Trial) -> str:
    problem = trial.problem
    before = [a.copy() for a in (*problem.inputs, *trial.cotangents)]
    problem.gradient(trial.cotangents)
    problem.forward(problem.inputs)
    after = (*problem.inputs, *trial.cotangents)
    same = all(map(np.array_equal, before, after))
    return "" if same else "an input or a cotangent was written to"


def _shared(trial: Trial) -> str:
    grads = trial.problem.gradient(trial.cotangents)
    others = [*trial.problem.inputs, *trial.cotangents]
    for i, g in enumerate(grads):
        if any(np.shares_memory(g, other) for other in (*others, *grads[:i])):
            return f"the gradient of {trial.problem.names[i]} is a view of something else"
    return ""


def _strides(trial: Trial) -> str:
    """Read-only inputs with negative strides on the last axis, and with axes permuted."""
    for layout in (_reversed, _permuted):
        turned = [layout(x) for x in trial.problem.inputs]
        with trial.problem.branches(frozen=True):
            _, outputs = trial.problem.run(turned)
        for y, expected in zip(outputs, trial.problem.outputs, strict=True):
            size = float(np.abs(expected.data).max(initial=0))
            if not _close(y.data.astype(np.float64), expected.data.astype(np.float64), size):
                return "the result depends on the strides of the inputs"
    return ""


def _reversed(x: np.ndarray) -> np.ndarray:
    turned = np.ascontiguousarray(x[..., ::-1])[..., ::-1] if x.ndim else x.copy()
    turned.flags.writeable = False
    return turned


def _permuted(x: np.ndarray) -> np.ndarray:
    turned = np.ascontiguousarray(x.T).T if x.ndim else x.copy()
    turned.flags.writeable = False
    return turned
