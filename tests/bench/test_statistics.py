"""Intervals that hold, and tests that find differences only where there are some."""

import math

import numpy as np
import pytest

from minigrad.bench.statistics import Ratio, geometric_mean, paired_ratio, rank_sum_p


def test_what_slows_both_down_leaves_the_ratio_alone():
    ours = np.array([1.0, 3.0, 1.5, 7.0, 1.1, 2.0, 1.0])
    ratio = paired_ratio(ours, 2 * ours)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2, 2, 2))
    assert ratio.significant


@pytest.mark.parametrize("n", [6, 9, 15, 25])
def test_the_interval_holds_the_median_in_95_of_100_runs(n):
    rng = np.random.default_rng(n)
    held = 0
    for _ in range(1000):
        ratio = paired_ratio(np.ones(n), np.exp(rng.standard_normal(n)) * 1.5)
        held += ratio.low <= 1.5 <= ratio.high
    assert held >= 940


@pytest.mark.parametrize(("n", "low", "high"), [(6, 0, 5), (9, 1, 7), (15, 3, 11), (25, 7, 17)])
def test_the_interval_is_that_of_the_tables(n, low, high):
    # The sign test's confidence interval, e.g. Conover, "Practical Nonparametric Statistics", A3.
    ratio = paired_ratio(np.ones(n), np.arange(n) + 1.0)
    assert (ratio.low, ratio.high) == (low + 1, high + 1)


def test_too_few_rounds_promise_nothing():
    ratio = paired_ratio([1, 1, 1], [9, 9, 9])
    assert not ratio.significant
    assert str(ratio) == "9.00 times as fast, too few rounds to say more"


def test_it_says_aloud_when_there_is_no_difference():
    assert str(Ratio(1.04, 0.98, 1.1)) == (
        "1.04 times as fast (95 %: 0.98 to 1.10): no significant difference"
    )
    assert str(Ratio(1.4, 1.2, 1.5)) == "1.40 times as fast (95 %: 1.20 to 1.50)"


def test_rank_sums_against_every_order():
    """The normal approximation against the exact test: all ways to share out nine ranks."""
    from itertools import combinations

    ranks = range(9)
    centre = 4 * 5 / 2
    distances = []
    for chosen in combinations(ranks, 4):
        others = [r for r in ranks if r not in chosen]
        distances.append(abs(sum(a < b for a in chosen for b in others) - centre))
    for a in ([0, 1, 2, 3], [0, 1, 2, 6], [0, 2, 5, 7], [1, 3, 5, 8]):
        b = [r for r in ranks if r not in a]
        distance = abs(sum(x < y for x in a for y in b) - centre)
        exact = np.mean([d >= distance for d in distances])
        assert rank_sum_p(a, b) == pytest.approx(exact, abs=0.03)
        assert rank_sum_p(b, a) == rank_sum_p(a, b)


def test_equal_samples_do_not_differ():
    assert rank_sum_p([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == 1.0
    assert rank_sum_p([], [1.0]) == 1.0


def test_geometric_mean_of_a_ratio_and_its_inverse():
    assert math.isclose(geometric_mean([2.0, 0.5, 3.0, 1 / 3]), 1.0)
