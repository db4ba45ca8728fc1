"""The laws of every backward: each operation keeps them all, and each law can be broken."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.check.catalog import sample_problem
from minigrad.check.directional import Trial
from minigrad.check.laws import law_verdicts
from minigrad.check.problem import Problem
from minigrad.check.samples import inputs_of, samples_of
from minigrad.ops import registry

OPS = [op for op in registry.values() if op.differentiable]


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_every_operation_keeps_the_laws(op):
    for sample in samples_of(op):
        if inputs_of(sample):
            trial = Trial(sample_problem(op, sample), np.random.default_rng(0))
            assert [v for v in law_verdicts(trial) if v.kind != "right"] == [], sample


def function(forward=np.negative, backward=np.negative):
    """An operation made of a forward and a backward on arrays."""

    class Made(mg.Function):
        name = "made"

    Made.forward = staticmethod(lambda ctx, x: forward(x))
    Made.backward = staticmethod(lambda ctx, grad_out: backward(grad_out))
    return Made.apply


def stale(buffer=[0.0]):  # noqa: B006  # the buffer that stays is the bug
    def backward(grad_out):
        buffer[0] += 1
        return -grad_out + buffer[0]

    return backward


def written(grad_out):
    grad_out *= -1
    return grad_out


def crashing(x):
    return -x / [len(x)][1 - min(1, len(x))]  # IndexError for no rows


def first_rows(x):
    return -x.ravel(order="K").reshape(x.shape)  # the numbers as they lie in memory


BROKEN = {
    "re-entrant": (function(backward=stale()), "run twice gives two results"),
    "linear": (function(backward=lambda g: -g * np.abs(g)), "not linear in the cotangent"),
    "zero cotangent": (function(backward=lambda g: -g + 1), "a cotangent of zeros gives"),
    "shapes and dtypes": (
        function(backward=lambda g: -g.astype(np.float32)),
        "made returns float32 for a float64 input",
    ),
    "float32 stays float32": (
        function(backward=lambda g: np.float64(-1) * g),
        "made returns float64 for a float32 input",
    ),
    "empty inputs": (
        function(crashing),
        "inputs without rows end in IndexError: list index out of range",
    ),
    "nothing mutated": (function(backward=written), "an input or a cotangent was written to"),
    "any strides": (function(first_rows), "the result depends on the strides of the inputs"),
}


@pytest.mark.parametrize("law", BROKEN)
def test_each_law_can_be_broken(law):
    broken, told = BROKEN[law]
    x = np.random.default_rng(0).standard_normal((3, 4))
    report = mg.gradcheck(broken, x, laws=True, raise_exception=False)
    (verdict,) = [v for v in report.verdicts if v.check == law]
    assert verdict.kind == "wrong"
    assert told in verdict.note


def test_an_output_left_out_breaks_the_law_of_missing_cotangents():
    class Both(mg.Function):
        @staticmethod
        def forward(ctx, x):
            return -x, 2 * x

        @staticmethod
        def backward(ctx, grad_minus, grad_double):
            return 2 * grad_double - grad_minus if grad_minus.any() else 0 * grad_minus

    report = mg.gradcheck(Both.apply, np.ones(3), laws=True, raise_exception=False)
    (verdict,) = [v for v in report.verdicts if v.check == "missing cotangent"]
    assert verdict.kind == "wrong"


def test_float32_that_becomes_float64_on_the_way_is_told():
    class Cube(mg.Function):
        narrows = False  # the engine would bring the output back to float32

        @staticmethod
        def forward(ctx, x):
            ctx.save(x)
            return x**3 * np.float64(1)

        @staticmethod
        def backward(ctx, grad_out):
            (x,) = ctx.saved
            return (3 * x**2 * grad_out).astype(x.dtype)

    report = mg.gradcheck(Cube.apply, np.ones(3), laws=True, raise_exception=False)
    assert [v.note for v in report.verdicts if v.kind == "wrong"] == [
        "cube makes float64 of float32"
    ]


def test_a_module_with_labels_keeps_the_laws_also_for_no_images_at_all():
    mg.manual_seed(0)

    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, x, labels):
            return mg.cross_entropy(self.linear(x), labels, reduction="sum")

    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    report = mg.gradcheck(Loss(), x, np.array([0, 1, 2, 1, 0]), laws=True)
    assert {"empty inputs", "float32 stays float32"} <= {v.check for v in report.verdicts}


def test_a_gradient_that_is_the_cotangent_itself_breaks_the_law_of_memory(monkeypatch):
    monkeypatch.setattr(Problem, "gradient", lambda self, cotangents: list(cotangents))
    report = mg.gradcheck(lambda x: 1 * x, np.ones(3), laws=True, raise_exception=False)
    assert [v.check for v in report.verdicts if v.kind == "wrong"] == ["no shared memory"]
