"""Steps of every optimiser, against torch's (golden/steps.json, written by make_golden.py)."""

import json
from pathlib import Path

import numpy as np
import pytest

from minigrad import kernels, optim
from minigrad.nn.parameter import Parameter

GOLDEN = json.loads((Path(__file__).parent / "golden" / "steps.json").read_text())
CASES = [(kind, i) for kind in ("float32", "float64") for i in range(len(GOLDEN[kind]["cases"]))]


def run(dtype, number):
    """The parameters after each step, by minigrad: per step, per parameter."""
    golden = GOLDEN[dtype]
    name, settings = golden["cases"][number]["optimizer"], golden["cases"][number]["settings"]
    params = [Parameter(np.array(value, dtype)) for value in golden["params"]]
    optimizer = getattr(optim, name)(params, **settings)
    for k, grads in enumerate(golden["grads"]):
        optimizer.lr = settings["lr"] * 0.9**k
        for param, grad in zip(params, grads, strict=True):
            param.grad = None if grad is None else np.array(grad, dtype)
        optimizer.step()
        yield [param.data.copy() for param in params]


@pytest.mark.parametrize("form", ["fast", "reference"])
@pytest.mark.parametrize(("dtype", "number"), CASES)
def test_steps_are_those_of_torch(dtype, number, form):
    golden = GOLDEN[dtype]
    expected = [list(map(np.array, step)) for step in golden["cases"][number]["steps"]]
    with kernels.use(form):
        found = list(run(dtype, number))
    for i, start in enumerate(golden["params"]):
        # An entry on its way through zero carries the rounding of its larger past.
        path = np.array([start, *(step[i] for step in expected)])
        bound = 3 * np.finfo(dtype).eps * np.abs(path).max(axis=0)
        for step, right in zip(found, expected, strict=True):
            assert step[i].dtype == dtype
            assert (np.abs(step[i] - right[i]) <= bound).all()


def test_the_cases_differ():
    """So that a setting which has no effect cannot pass for one that is right."""
    for dtype in ("float32", "float64"):
        last = [json.dumps(case["steps"][-1]) for case in GOLDEN[dtype]["cases"]]
        assert len(set(last)) == len(last)
