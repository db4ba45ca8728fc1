"""Which differences are real: intervals and tests that assume nothing about how times scatter."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

__all__ = ["Ratio", "geometric_mean", "paired_ratio", "rank_sum_p"]


@dataclasses.dataclass(frozen=True)
class Ratio:
    """How many times as fast, with an interval that holds the true median in 95 of 100 runs.

    Attributes
    ----------
    value : float
        Above 1 is faster.
    low, high : float or None
        None after too few rounds to tell.
    """

    value: float
    low: float | None
    high: float | None

    @property
    def significant(self) -> bool:
        """Whether 1, no difference, lies outside the interval."""
        return self.low is not None and self.high is not None and not self.low <= 1 <= self.high

    def __str__(self) -> str:
        text = f"{self.value:.2f} times as fast"
        if self.low is None or self.high is None:
            return f"{text}, too few rounds to say more"
        text += f" (95 %: {self.low:.2f} to {self.high:.2f})"
        return text if self.significant else f"{text}: no significant difference"


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Compare times that were taken in turns: the median of ``theirs / ours``, round by round.

    What slows the machine down for a while slows both of a round and leaves their ratio alone. The
    interval is between two of the ratios in order: the number of them on one side of the median is
    binomial, whatever their distribution. With fewer than 6 rounds it cannot reach 95 %.
    """
    ratios = sorted(b / a for a, b in zip(ours, theirs, strict=True))
    n = len(ratios)
    below, tail = 0, 0.5**n
    while tail <= 0.025:  # tail = P(at most ``below`` of the ratios lie on one side)
        below += 1
        tail += math.comb(n, below) * 0.5**n
    value = float(np.median(ratios))
    if below == 0:
        return Ratio(value, None, None)
    return Ratio(value, ratios[below - 1], ratios[n - below])


def rank_sum_p(a: Sequence[float], b: Sequence[float]) -> float:
    """Return how likely two samples of one source would differ so much (Mann and Whitney, 1947).

    Two-sided, by the normal approximation with its correction for continuity.
    """
    n, m = len(a), len(b)
    if n == 0 or m == 0:
        return 1.0
    x, y = np.asarray(a)[:, None], np.asarray(b)[None, :]
    u = float((x < y).sum() + 0.5 * (x == y).sum())
    deviation = math.sqrt(n * m * (n + m + 1) / 12)
    z = max(0.0, abs(u - n * m / 2) - 0.5) / deviation
    return math.erfc(z / math.sqrt(2))


def geometric_mean(values: Sequence[float]) -> float:
    """Return the mean that suits ratios: 2 and 1/2 have the mean 1."""
    return math.exp(sum(math.log(value) for value in values) / len(values))
