"""How contenders are timed: in turns, warm, with what the first call costs kept apart."""

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["Timing", "first_call", "interleave"]

# A sample shorter than this is a mean over several calls: clocks and interrupts are coarser.
LEAST_SAMPLE = 0.004

# Threads of a pool spin for milliseconds after a loop, on the cores the next contender needs.
SETTLE = 0.004

# Before a call of fewer seconds comes another one that is not timed. The threads of a contender
# sleep while the others take their turns, and of two that wake the system may begin with one.
WARM_BELOW = 0.05

# Six rounds are the fewest that can show a difference with 95 % confidence.
LEAST_ROUNDS, MOST_ROUNDS = 6, 25


@dataclasses.dataclass
class Timing:
    """Seconds that one contender took.

    Attributes
    ----------
    samples : list of float
        Of one call each, in the order of the rounds.
    """

    samples: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def least(self) -> float:
        return min(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The times below which a quarter and three quarters of the samples lie."""
        if len(self.samples) == 1:
            return self.samples[0], self.samples[0]
        q1, _, q3 = statistics.quantiles(self.samples, n=4, method="inclusive")
        return q1, q3

    @property
    def spread(self) -> float:
        """The distance of the quartiles as a part of the median."""
        q1, q3 = self.quartiles
        return (q3 - q1) / self.median if self.median else 0.0


def first_call(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of a contender's first call, which may compile, and what it computed."""
    start = time.perf_counter()
    computed = call()
    return time.perf_counter() - start, computed


@contextmanager
def _without_collector() -> Iterator[None]:
    """Keep Python's cycle collector out: it would bill one contender for the objects of another."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def interleave(
    contenders: Mapping[str, Callable[[], Any]],
    seconds: float,
    rounds: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], Any] = time.sleep,
) -> dict[str, Timing]:
    """Time all contenders in turns.

    Each is called until it is warm. Then come the rounds: everyone has one sample in each, and
    another one starts each time, so that none always follows the same neighbour.

    Parameters
    ----------
    contenders : mapping of str to callable
    seconds : float
        After so long no further round begins, but there are at least LEAST_ROUNDS.
    rounds : int, optional
        Exactly so many instead.
    clock, sleep : callable
        Those of ``time``.

    Returns
    -------
    dict of str to Timing
    """
    turns = list(contenders.items())
    with _without_collector():
        timings = {name: Timing([]) for name, _ in turns}
        found = {name: _calls_in_a_sample(call, clock) for name, call in turns}
        calls = {name: count for name, (count, _) in found.items()}
        shortest = min(seconds for _, seconds in found.values())
        warmed = len(turns) > 1 and shortest < WARM_BELOW  # all of a case or none
        start, done = clock(), 0
        while not _enough(done, rounds, clock() - start, seconds):
            shift = done % len(turns)
            for name, call in turns[shift:] + turns[:shift]:
                sleep(SETTLE)
                if warmed:
                    call()  # threads are awake and data in the cache, as in a long run
                timings[name].samples.append(_time(call, calls[name], clock))
            done += 1
    return timings


def _enough(done: int, rounds: int | None, elapsed: float, seconds: float) -> bool:
    if rounds is not None:
        return done >= rounds
    return done >= MOST_ROUNDS or (done >= LEAST_ROUNDS and elapsed >= seconds)


def _calls_in_a_sample(call: Callable[[], Any], clock: Callable[[], float]) -> tuple[int, float]:
    """Warm a contender up; find how many of its calls make a sample, and the seconds of one."""
    calls = 1
    while True:
        seconds = _time(call, calls, clock) * calls
        if seconds >= LEAST_SAMPLE or calls >= 1_000_000:
            return calls, seconds / calls
        # At most ten times as many: the first of these calls are not yet at full speed.
        calls = max(
            calls + 1, min(10 * calls, int(1.2 * calls * LEAST_SAMPLE / max(seconds, 1e-9)))
        )


def _time(call: Callable[[], Any], calls: int, clock: Callable[[], float]) -> float:
    """Return the seconds of one call, as a mean over several."""
    start = clock()
    for _ in range(calls):
        call()
    return (clock() - start) / calls
