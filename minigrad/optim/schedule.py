"""Learning-rate schedules: pure functions from the number of steps done to the rate of the next.

A schedule remembers nothing, so a resumed run needs only the step. Steps may be mini-batches or
epochs, as long as a schedule is made and called with the same. It is used as::

    optimizer.lr = schedule(step)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minigrad.core.errors import ArgumentError, StateError

__all__ = [
    "Constant",
    "Cosine",
    "LinearDecay",
    "MultiStep",
    "Schedule",
    "WarmUp",
    "schedule_from_state",
]


class Schedule:
    """Base of the schedules. Two of one kind with the same settings are equal."""

    def __call__(self, step: float) -> float:
        """The learning rate after `step` steps.

        Raises
        ------
        ArgumentError
            If `step` is negative or NaN.
        """
        if not step >= 0:
            raise ArgumentError(
                f"{type(self).__name__}: a number of steps of at least 0 is needed, got {step!r}. "
                f"Count from 0."
            )
        return self.rate(step)

    def rate(self, step: float) -> float:
        """The formula of the kind of schedule, for a `step` of at least 0."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """The settings as plain data, from which :func:`schedule_from_state` makes an equal one."""
        settings = {
            name: value.state_dict() if isinstance(value, Schedule) else value
            for name, value in vars(self).items()
        }
        return {"kind": type(self).__name__, **settings}

    def _check(self, words: str, name: str, right: bool) -> None:
        if not right:
            value = getattr(self, name)
            raise ArgumentError(f"{type(self).__name__}: {name} must be {words}, got {value!r}.")

    def _check_rate(self, name: str) -> None:
        value = getattr(self, name)
        self._check("a finite number of at least 0", name, math.isfinite(value) and value >= 0)

    def _check_count(self, name: str) -> None:
        value = getattr(self, name)
        self._check("a finite number above 0", name, math.isfinite(value) and value > 0)


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate for ever.

    Examples
    --------
    >>> from minigrad.optim import Constant
    >>> Constant(0.1)(1000)
    0.1
    """

    lr: float

    def __post_init__(self) -> None:
        self._check_rate("lr")

    def rate(self, step: float) -> float:
        return self.lr


@dataclass(frozen=True)
class LinearDecay(Schedule):
    """A straight line from `start` to `end`, then level.

    ``eps_k = (1 - a) eps_0 + a eps_tau`` with ``a = k / tau``, and ``eps_tau`` after step tau.

    Parameters
    ----------
    start : float
        eps_0, the rate of the first step.
    end : float
        eps_tau, the rate from step tau on; Goodfellow et al. suggest a hundredth of `start`.
    steps : float
        tau.

    Source
    ------
    Goodfellow, Bengio and Courville, *Deep learning*, 2016, equation 8.14.

    Examples
    --------
    >>> from minigrad.optim import LinearDecay
    >>> schedule = LinearDecay(1.0, 0.5, steps=4)
    >>> [schedule(k) for k in range(6)]
    [1.0, 0.875, 0.75, 0.625, 0.5, 0.5]
    """

    start: float
    end: float
    steps: float

    def __post_init__(self) -> None:
        self._check_rate("start")
        self._check_rate("end")
        self._check_count("steps")

    def rate(self, step: float) -> float:
        a = min(step / self.steps, 1.0)
        return (1 - a) * self.start + a * self.end


@dataclass(frozen=True)
class MultiStep(Schedule):
    """A rate that drops by a factor at each milestone.

    ``eps_k = start * factor^(number of milestones <= k)``

    Parameters
    ----------
    start : float
        Rate before the first milestone.
    milestones : sequence of float
        Steps, in ascending order, from which a lower rate holds.
    factor : float
        Usually below 1.

    Source
    ------
    He et al., *Deep residual learning*, 2016, section 4.2: 0.1, divided by 10 at 32,000 and 48,000
    of 64,000 steps.

    Examples
    --------
    >>> from minigrad.optim import MultiStep
    >>> schedule = MultiStep(1.0, milestones=(2, 3), factor=0.5)
    >>> [schedule(k) for k in range(5)]
    [1.0, 1.0, 0.5, 0.25, 0.25]
    """

    start: float
    milestones: tuple[float, ...]
    factor: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))  # a list came, perhaps
        self._check_rate("start")
        ascending = all(a < b for a, b in zip(self.milestones, self.milestones[1:], strict=False))
        self._check("steps in ascending order", "milestones", ascending)
        self._check_count("factor")

    def rate(self, step: float) -> float:
        return self.start * self.factor ** sum(mark <= step for mark in self.milestones)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a period of a cosine from `start` to `end`, then level.

    ``eps_k = end + (start - end) (1 + cos(pi k / steps)) / 2``

    Parameters
    ----------
    start, end : float
        Rates of the first step, and from step `steps` on.
    steps : float
        Length of the way down.

    Source
    ------
    Loshchilov and Hutter, *SGDR: stochastic gradient descent with warm restarts*, 2017, equation 5,
    without restarts.

    Examples
    --------
    >>> from minigrad.optim import Cosine
    >>> schedule = Cosine(1.0, 0.0, steps=4)
    >>> [round(schedule(k), 3) for k in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """

    start: float
    end: float
    steps: float

    def __post_init__(self) -> None:
        self._check_rate("start")
        self._check_rate("end")
        self._check_count("steps")

    def rate(self, step: float) -> float:
        a = min(step / self.steps, 1.0)
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * a)) / 2


@dataclass(frozen=True)
class WarmUp(Schedule):
    """Another schedule, whose first rates are held down.

    Before step `steps` the rate of the other schedule at the same step is multiplied by a line from
    `factor` to 1. The other schedule is not shifted: it counts the warm-up as part of its steps.

    Parameters
    ----------
    schedule : Schedule
        What holds after the warm-up.
    steps : float
        Length of the warm-up.
    factor : float
        Share of the rate at step 0, from 0 to 1.

    Source
    ------
    Goyal et al., *Accurate, large minibatch SGD*, 2017, section 2.2, "gradual warmup".

    Examples
    --------
    >>> from minigrad.optim import Constant, WarmUp
    >>> schedule = WarmUp(Constant(1.0), steps=4, factor=0.5)
    >>> [schedule(k) for k in range(6)]
    [0.5, 0.625, 0.75, 0.875, 1.0, 1.0]
    """

    schedule: Schedule
    steps: float
    factor: float = 0.1

    def __post_init__(self) -> None:
        self._check("a schedule", "schedule", isinstance(self.schedule, Schedule))
        self._check_count("steps")
        self._check("a number from 0 to 1", "factor", 0 <= self.factor <= 1)

    def rate(self, step: float) -> float:
        a = min(step / self.steps, 1.0)
        return self.schedule(step) * ((1 - a) * self.factor + a)


_KINDS: dict[str, Any] = {
    kind.__name__: kind for kind in (Constant, LinearDecay, MultiStep, Cosine, WarmUp)
}


def schedule_from_state(state: Mapping[str, Any]) -> Schedule:
    """Make the schedule of which :meth:`Schedule.state_dict` wrote the settings.

    Raises
    ------
    StateError
        If the kind of schedule or one of its settings is unknown.

    Examples
    --------
    >>> from minigrad.optim import MultiStep, WarmUp, schedule_from_state
    >>> schedule = WarmUp(MultiStep(0.1, (32_000, 48_000)), steps=400)
    >>> schedule_from_state(schedule.state_dict()) == schedule
    True
    """
    settings = {
        name: schedule_from_state(value) if isinstance(value, Mapping) else value
        for name, value in state.items()
        if name != "kind"
    }
    kind = _KINDS.get(str(state.get("kind")))
    if kind is None or settings.keys() != kind.__dataclass_fields__.keys():
        raise StateError(
            f"schedule_from_state: one of {', '.join(_KINDS)} with its settings is needed, got "
            f"{dict(state)!r:.120}. Pass what a schedule's state_dict() returned."
        )
    return kind(**settings)
