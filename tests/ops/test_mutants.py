"""Every operation's samples, with the witness of the battery, catch every wrong backward.

Walks the registry and names no operation; the second half tests the mutants themselves.
"""

import contextlib
import dataclasses

import numpy as np
import pytest

import minigrad as mg
from minigrad.check.mutants import Case, mutants_of, planted, verdict, weaknesses
from minigrad.check.samples import samples_of
from minigrad.ops import Op, Sample, registry

DIFFERENTIABLE = [op for op in registry.values() if op.differentiable]


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=lambda op: op.name)
def test_no_mutant_survives(op):
    assert weaknesses(op) == []


# The mutants themselves.


def mutant(op, name):
    (found,) = [m for m in mutants_of(op) if m.name == name]
    return found


def fates(op, name):
    return [verdict(Case(op, sample), mutant(op, name)) for sample in samples_of(op)]


def test_each_mutant_is_killed_somewhere():
    """So none of them is right by accident."""
    several = [registry[name] for name in ("mul", "matmul", "fork")]
    killed = {m.name for op in several for m in mutants_of(op) if "killed" in fates(op, m.name)}
    assert {m.name for op in several for m in mutants_of(op)} == killed


class Centre(mg.Function):
    """y = x - mean x: the sum of y does not depend on x."""

    @staticmethod
    def forward(ctx, x):
        return x - x.mean()

    @staticmethod
    def backward(ctx, grad_out):
        return grad_out - grad_out.mean()


CENTRE = Op(
    name="centre",
    public=Centre.apply,
    function=Centre,
    samples=lambda rng: [Sample(rng.standard_normal((2, 3)))],
    wrong=lambda rng: [],
    differentiable=True,
)


def test_a_cotangent_of_ones_would_let_mutants_live():
    (sample,) = samples_of(CENTRE)
    summed = Case(CENTRE, sample, cotangents=[np.ones((2, 3))])
    for name in ("all zero", "sign flipped", "cotangent ignored"):
        assert verdict(summed, mutant(CENTRE, name)) == "unchanged"
        assert verdict(Case(CENTRE, sample), mutant(CENTRE, name)) == "killed"
    assert weaknesses(CENTRE) == []


def test_a_witness_that_agrees_with_a_mutant_is_found_out():
    (sample,) = samples_of(CENTRE)
    case = Case(CENTRE, sample)
    case.exact = [np.zeros((2, 3))]
    assert verdict(case, mutant(CENTRE, "all zero")) == "survived"


def test_samples_that_never_broadcast_are_reported():
    def pairs(rng):
        return [Sample(rng.standard_normal((2, 3)), rng.standard_normal((2, 3)))]

    assert weaknesses(dataclasses.replace(registry["mul"], samples=pairs)) == [
        "mul: no sample shows the mutant 'broadcast axes not summed'; add one whose gradient it "
        "changes"
    ]


def test_samples_where_nothing_depends_on_an_input_are_reported():
    def always_first(rng):
        return [Sample(np.ones(3, bool), rng.standard_normal(3), rng.standard_normal(3))]

    found = weaknesses(dataclasses.replace(registry["where"], samples=always_first))
    assert any("'gradient of input 2 forgotten'" in text for text in found)


def test_samples_that_never_run_the_backward_are_reported():
    replaced = dataclasses.replace(registry["neg"], public=registry["exp"].public)
    assert weaknesses(replaced) == ["neg: no sample runs its backward; add one"]


def test_equal_gradients_may_be_exchanged():
    """z = x + y: nobody can tell, and nobody complains."""
    assert set(fates(registry["add"], "two gradients exchanged")) == {"unchanged", "absent"}
    assert "killed" in fates(registry["sub"], "two gradients exchanged")


@pytest.mark.parametrize("name", ["reshape", "flatten"])
def test_the_right_backward_comes_back(name):
    """Also where it is inherited, and after an error."""
    op = registry[name]
    before, own = op.function.backward, "backward" in vars(op.function)
    with contextlib.suppress(ZeroDivisionError), planted(op.function, mutant(op, "all zero")):
        assert op.function.backward is not before
        raise ZeroDivisionError
    assert op.function.backward is before
    assert ("backward" in vars(op.function)) == own
