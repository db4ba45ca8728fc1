"""Timing in turns, with a clock that only contenders move."""

import pytest

from minigrad.bench.timing import LEAST_ROUNDS, MOST_ROUNDS, Timing, interleave


class Clock:
    """Time that stands still unless somebody works or sleeps."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.calls.append("sleep")
        self.now += seconds

    def worker(self, name, seconds):
        def work():
            self.calls.append(name)
            self.now += seconds() if callable(seconds) else seconds

        return work


def times(clock, contenders, seconds=10.0, rounds=None):
    return interleave(contenders, seconds, rounds, clock=clock, sleep=clock.sleep)


def test_each_contender_gets_its_own_time():
    clock = Clock()
    found = times(clock, {"a": clock.worker("a", 0.5), "b": clock.worker("b", 0.25)}, rounds=3)
    assert found["a"].samples == [0.5] * 3
    assert found["b"].samples == [0.25] * 3


def test_contenders_take_turns_and_the_first_of_a_round_changes():
    clock = Clock()
    work = {name: clock.worker(name, 0.5) for name in "abc"}
    times(clock, work, rounds=3)
    turns = "".join(call for call in clock.calls if call != "sleep")
    assert turns == "abc" + "abc" + "bca" + "cab"  # warm-up, then three rounds


def test_a_short_call_is_repeated_until_a_sample_is_long_enough():
    clock = Clock()
    found = times(clock, {"a": clock.worker("a", 1e-5)}, rounds=2)
    assert found["a"].samples == pytest.approx([1e-5] * 2)
    assert clock.calls.count("a") > 2 * 300


@pytest.mark.parametrize(
    ("seconds", "other", "calls"), [(5e-3, 3e-3, 2), (8e-2, 4e-2, 2), (8e-2, 6e-2, 1)]
)
def test_a_warm_call_goes_before_the_samples_of_all_or_of_none(seconds, other, calls):
    """A contender is no colder than its rival, and a long call stays alone."""
    clock = Clock()
    works = {"a": clock.worker("a", seconds), "b": clock.worker("b", other)}
    found = times(clock, works, rounds=3)
    assert clock.calls.count("a") == 1 + 3 * calls
    assert len(found["a"].samples) == 3


def test_a_slow_first_call_is_no_sample():
    clock = Clock()
    costs = iter([9.0, 5.0] + [0.1] * 100)
    call = clock.worker("a", lambda: next(costs))
    call()  # the runner times the first call on its own
    found = times(clock, {"a": call}, rounds=4)
    assert found["a"].samples == pytest.approx([0.1] * 4)


def test_rounds_end_with_the_time_allowed_but_not_before_the_least():
    for seconds, allowed, want in (
        (1.0, 0.5, LEAST_ROUNDS),
        (0.1, 1.5, 15),
        (0.1, 99, MOST_ROUNDS),
    ):
        clock = Clock()
        found = times(clock, {"a": clock.worker("a", seconds)}, allowed)
        assert len(found["a"].samples) == want


def test_median_least_and_quartiles():
    timing = Timing([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (timing.median, timing.least, timing.quartiles) == (3.0, 1.0, (2.0, 4.0))
    assert timing.spread == pytest.approx(2 / 3)
    assert Timing([2.0]).quartiles == (2.0, 2.0)
