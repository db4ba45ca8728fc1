"""How the time of a run is divided among its cases, so that the last one has its turn too."""

import time
from collections.abc import Callable, Sequence

from minigrad.bench.case import Case

__all__ = ["Budget"]

# Seconds that a case takes around its rounds: arrays to draw, first calls, checks, processes that
# measure memory; with large arrays it takes more of them. Guesses to begin with: how far off they
# are is seen as the run goes on.
_AROUND = {"models": 12.0, "engine": 0.3, "kernels": 0.2, "ops": 0.2, "call": 0.05}
_AROUND_A_BYTE = 2e-8

# Parts that cases have of what is left for rounds.
_WEIGHTS = {"models": 10.0, "engine": 2.0, "kernels": 1.0, "ops": 0.7, "call": 0.1}

# The part of the time to plan with: the rest is for guesses that fail at the end.
_PLANNED = 0.93

# Seconds of guesses that the first cases must outweigh.
_TRUST = 3.0

_LEAST_SECONDS, _MOST_SECONDS = 0.05, 15.0


class Budget:
    """Seconds for the rounds of each case, asked for in their order.

    Parameters
    ----------
    cases : sequence of Case
    seconds : float
        For all of them.
    clock : callable
    """

    def __init__(
        self,
        cases: Sequence[Case],
        seconds: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        kinds = ["call" if case.group == "call" else case.suite for case in cases]
        self._around = [
            _AROUND[kind] + _AROUND_A_BYTE * case.bytes
            for kind, case in zip(kinds, cases, strict=True)
        ]
        self._weights = [_WEIGHTS[kind] for kind in kinds]
        self._seconds, self._clock, self._start = seconds, clock, clock()
        self._given = 0.0  # to the rounds of the cases so far

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    def next(self, i: int) -> float | None:
        """Return the seconds for the rounds of case i; None if the time is over."""
        elapsed = self.elapsed
        if elapsed >= self._seconds:
            return None
        guessed = sum(self._around[:i])
        pace = (elapsed - self._given + _TRUST) / (guessed + _TRUST)
        spare = _PLANNED * self._seconds - elapsed - max(pace, 0.0) * sum(self._around[i:])
        share = spare * self._weights[i] / sum(self._weights[i:])
        seconds = min(max(share, _LEAST_SECONDS), _MOST_SECONDS)
        self._given += seconds
        return seconds
