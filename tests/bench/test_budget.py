"""How the time of a run is divided: everyone has a turn, and heavier cases have more of it."""

import pytest

from minigrad.bench import suites
from minigrad.bench.budget import Budget
from minigrad.bench.case import Case


def cases_of(*kinds):
    return [
        Case(suite, f"{suite} {i}", None, bytes=bytes) for i, (suite, bytes) in enumerate(kinds)
    ]


def spent(cases, seconds, around):
    """What each case is given, when around its rounds it takes as long as ``around`` says."""
    now = 0.0
    budget = Budget(cases, seconds, lambda: now)
    given = []
    for i, case in enumerate(cases):
        given.append(budget.next(i))
        now += (given[-1] or 0.0) + around(case)
    return given, now


@pytest.mark.parametrize("slower", [0.3, 1.0, 1.3])
def test_the_whole_default_run_ends_in_its_time(slower):
    cases = suites.cases([*suites.SUITES])
    around = {"models": 12.0, "engine": 0.3, "kernels": 0.2, "ops": 0.2}
    given, end = spent(cases, 300, lambda c: slower * (around[c.suite] + 2e-8 * c.bytes))
    assert None not in given
    assert end < 300
    assert end > 230  # and does not throw it away
    median = sorted(given)[len(given) // 2]
    assert min(given) >= median / 20


def test_shares_go_by_suite():
    cases = cases_of(("models", 0), *[("kernels", 0)] * 40, ("ops", 0))
    given, _ = spent(cases, 60, lambda case: 0.1)
    assert given[0] > 5 * given[1]
    assert given[-2] > given[-1]


def test_what_takes_longer_than_guessed_costs_rounds_and_no_later_case():
    cases = cases_of(*[("kernels", 0)] * 100)
    usual, _ = spent(cases, 100, lambda case: 0.2)
    slow, end = spent(cases, 100, lambda case: 0.6)
    assert None not in slow
    assert end < 101
    assert sum(slow) < sum(usual) / 2


def test_when_the_time_is_over_nobody_begins():
    given, _ = spent(cases_of(*[("kernels", 0)] * 3), 5, lambda case: 10.0)
    assert given[0] is not None
    assert given[1:] == [None, None]
