"""Branches that an operation takes at a kink, held fixed while its input is moved a little.

At the kink of ``relu`` or at a tie of ``max`` a difference quotient says nothing about the branch
that backward took. So a gradient check records every decision of a forward pass at the base point,
and replays it at the moved points: with the branches held the function is smooth, and its
derivative is what backward has to return. An operation asks::

    if decisions.held():                    # only within record() and replay()
        return x * decide("abs", lambda: np.sign(np.real(x)))
    return np.abs(x)

``compute`` is written with NumPy from the inputs alone, and the held forward does not call the
kernel: so the check also notices a kernel that takes another branch. Without a check it costs one
test of an attribute.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad.core.errors import GraphError
from minigrad.core.mode import state

__all__ = ["Decision", "Decisions", "decide", "held", "record", "replay"]


@dataclass(frozen=True)
class Decision:
    """One decision of one call.

    Attributes
    ----------
    name, path : str
        The operation and its module path.
    branches : ndarray
        Which branch each entry takes.
    by_rule : bool
        Whether some entry's derivative is laid down by a rule, and no slope of a side of its kink.
    """

    name: str
    path: str
    branches: np.ndarray
    by_rule: bool = False


class Decisions(list[Decision]):
    """The decisions of a forward pass, in the order in which they were taken."""


class _Recorder:
    def __init__(self, taken: Decisions) -> None:
        self.taken = taken

    def decide(self, name: str, compute: Callable[[], np.ndarray], by_rule: bool) -> np.ndarray:
        branches = np.array(compute())  # a copy: the operation may hand out its own array
        self.taken.append(Decision(name, state.path, branches, by_rule))
        return branches


class _Player:
    def __init__(self, taken: Decisions) -> None:
        self.queue = iter(taken)

    def decide(self, name: str, compute: Callable[[], np.ndarray], by_rule: bool) -> np.ndarray:
        decision = next(self.queue, None)
        if decision is None or decision.name != name:
            told = "no more decisions" if decision is None else f"one of {decision.name}"
            raise GraphError(
                f"replay: {name} asked for its branches, and the recorded pass holds {told} here. "
                f"Check a function that runs the same operations every time it is called."
            )
        return decision.branches


def held() -> bool:
    """Whether decisions are being recorded or replayed."""
    return state.branches is not None


def decide(name: str, compute: Callable[[], Any], by_rule: bool = False) -> Any:
    """The branches that the operation ``name`` takes: ``compute()``, or in a replay the old ones.

    ``by_rule`` says that the operation's gradient follows a rule at a tie, as that of clip between
    two equal bounds, which no slope of a side of the kink can witness.

    Examples
    --------
    >>> import numpy as np
    >>> with record() as taken:
    ...     decide("sign", lambda: np.array([1, -1]))
    array([ 1, -1])
    >>> with replay(taken):
    ...     decide("sign", lambda: np.array([-1, -1]))
    array([ 1, -1])
    """
    return compute() if state.branches is None else state.branches.decide(name, compute, by_rule)


@contextmanager
def _during(branches: Any) -> Iterator[None]:
    before, state.branches = state.branches, branches
    try:
        yield
    finally:
        state.branches = before


@contextmanager
def record() -> Iterator[Decisions]:
    """Within it, every decision is noted in the list it gives."""
    taken = Decisions()
    with _during(_Recorder(taken)):
        yield taken


@contextmanager
def replay(taken: Decisions) -> Iterator[None]:
    """Within it, every decision is as it was recorded, whatever the inputs."""
    with _during(_Player(taken)):
        yield
