"""Schedules: formulas at chosen steps, ends that are level, and settings that come back."""

import json
import math

import pytest

from minigrad.core.errors import ArgumentError, StateError
from minigrad.io import decode_state, encode_state
from minigrad.optim import (
    Constant,
    Cosine,
    LinearDecay,
    MultiStep,
    WarmUp,
    schedule_from_state,
)

SCHEDULES = [
    Constant(0.1),
    LinearDecay(0.1, 0.001, 300),
    MultiStep(0.1, [32_000, 48_000]),
    Cosine(0.1, 0.0, 300),
    WarmUp(WarmUp(Cosine(0.1, 0.001, 300), 50), 20, factor=0.0),
]


def test_linear_decay_is_equation_8_14():
    schedule = LinearDecay(0.3, 0.003, 7)
    for k in range(8):
        a = k / 7
        assert schedule(k) == (1 - a) * 0.3 + a * 0.003
    assert schedule(7) == schedule(10**9) == 0.003


def test_multi_step_as_the_residual_networks_were_trained():
    schedule = MultiStep(0.1, (32_000, 48_000))
    rates = {0: 0.1, 31_999: 0.1, 32_000: 0.01, 47_999: 0.01, 48_000: 0.001, 64_000: 0.001}
    for step, rate in rates.items():
        assert math.isclose(schedule(step), rate, rel_tol=1e-15)


def test_cosine_begins_and_ends_level_and_is_half_way_in_the_middle():
    schedule = Cosine(0.5, 0.1, 200)
    assert schedule(0) == 0.5
    assert math.isclose(schedule(100), 0.3)
    assert schedule(200) == schedule(201) == 0.1
    assert 0.5 - schedule(1) < (schedule(99) - schedule(100)) / 50


def test_warm_up_holds_down_and_does_not_shift():
    inner = LinearDecay(1.0, 0.0, 100)
    schedule = WarmUp(inner, 10, factor=0.2)
    assert schedule(0) == 0.2
    assert math.isclose(schedule(5), 0.6 * inner(5))
    assert all(schedule(k) == inner(k) for k in range(10, 120))


def test_rates_of_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    lr = torch.optim.lr_scheduler
    pairs = [
        (MultiStep(0.1, (3, 5), 0.5), lambda o: lr.MultiStepLR(o, [3, 5], 0.5)),
        (Cosine(0.1, 0.01, 9), lambda o: lr.CosineAnnealingLR(o, 9, 0.01)),
        (LinearDecay(0.1, 0.02, 9), lambda o: lr.LinearLR(o, 1.0, 0.2, 9)),
        (WarmUp(Constant(0.1), 4, 0.25), lambda o: lr.LinearLR(o, 0.25, 1.0, 4)),
    ]
    for schedule, make in pairs:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        scheduler = make(optimizer)
        for k in range(9):
            assert math.isclose(schedule(k), optimizer.param_groups[0]["lr"], rel_tol=1e-12)
            optimizer.step()
            scheduler.step()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_state_makes_an_equal_schedule(schedule):
    text, _ = encode_state(schedule.state_dict())
    assert schedule_from_state(decode_state(text, {})) == schedule
    # Plain JSON, which knows no tuples, does as well.
    assert schedule_from_state(json.loads(json.dumps(schedule.state_dict()))) == schedule


WRONG = [
    (lambda: Constant(0.1)(-1), "Constant: a number of steps of at least 0 is needed, got -1. "
     "Count from 0."),
    (lambda: Cosine(1, 0, 9)(math.nan), "Cosine: a number of steps of at least 0 is needed, got "
     "nan. Count from 0."),
    (lambda: Constant(-0.1), "Constant: lr must be a finite number of at least 0, got -0.1."),
    (lambda: LinearDecay(math.nan, 0, 5),
     "LinearDecay: start must be a finite number of at least 0, got nan."),
    (lambda: LinearDecay(1, math.inf, 5),
     "LinearDecay: end must be a finite number of at least 0, got inf."),
    (lambda: LinearDecay(1, 0, 0), "LinearDecay: steps must be a finite number above 0, got 0."),
    (lambda: Cosine(1, 0, -3), "Cosine: steps must be a finite number above 0, got -3."),
    (lambda: MultiStep(1, (5, 3)),
     "MultiStep: milestones must be steps in ascending order, got (5, 3)."),
    (lambda: MultiStep(1, (), 0), "MultiStep: factor must be a finite number above 0, got 0."),
    (lambda: WarmUp(0.1, 5), "WarmUp: schedule must be a schedule, got 0.1."),
    (lambda: WarmUp(Constant(1), 5, 1.5), "WarmUp: factor must be a number from 0 to 1, got 1.5."),
]  # fmt: skip


@pytest.mark.parametrize(("make", "text"), WRONG)
def test_wrong_arguments(make, text):
    with pytest.raises(ArgumentError) as caught:
        make()
    assert str(caught.value) == text


@pytest.mark.parametrize("state", [{"kind": "Cosine", "start": 1}, {"kind": "Poly"}, {}])
def test_state_of_no_schedule(state):
    with pytest.raises(StateError) as caught:
        schedule_from_state(state)
    assert str(caught.value) == (
        "schedule_from_state: one of Constant, LinearDecay, MultiStep, Cosine, WarmUp with its "
        f"settings is needed, got {state!r}. Pass what a schedule's state_dict() returned."
    )
