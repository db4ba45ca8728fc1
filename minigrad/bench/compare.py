"""A run held against an earlier one: what became faster, what slower, and what only looks like it.

Two runs meet different weather. Where torch competed in both, its time is the yardstick: compared
is how many times as fast as torch we are, round by round. Otherwise times are compared as they
are, and the reader is told.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minigrad.bench.statistics import rank_sum_p
from minigrad.bench.text import counted

__all__ = ["Change", "changes", "comparison_lines"]

# Chance that a run with no change at all is said to have one, over all rows.
_LEVEL = 0.05

# A process runs a few percent faster or slower than the next by where its memory lies.
_SMALLEST = 0.03


@dataclasses.dataclass(frozen=True)
class Change:
    """One row in both runs.

    Attributes
    ----------
    ratio : float
        How many times as fast as before.
    p : float
        How likely chance alone makes such a difference, in this row.
    significant : bool
        Whether the difference is real, with all rows in mind, and large enough to matter.
    yardstick : str or None
        Whose time both were measured in; None for seconds.
    """

    name: str
    ratio: float
    p: float
    significant: bool
    yardstick: str | None

    def __str__(self) -> str:
        verdict = "no significant difference"
        if self.significant:
            verdict = "FASTER" if self.ratio > 1 else "SLOWER"
        return f"{self.ratio:.2f} times as fast as before, p = {self.p:.2g}: {verdict}"


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """Compare minigrad in the rows that both runs have."""
    before = {row["name"]: row for row in old["rows"]}
    pairs = [(before[row["name"]], row) for row in new["rows"] if row["name"] in before]
    return [_change(a, b, len(pairs)) for a, b in pairs]


def _change(old: dict[str, Any], new: dict[str, Any], rows: int) -> Change:
    shared = [name for name in new["ratios"] if name in old["ratios"] and "torch" in name]
    yardstick = shared[0] if shared else None
    a, b = _speeds(old, yardstick), _speeds(new, yardstick)
    ratio = float(np.median(b) / np.median(a))
    p = rank_sum_p(a, b)
    # Divided by the number of rows, or of a hundred rows five would "change" by chance.
    real = p < _LEVEL / rows and abs(np.log(ratio)) > np.log1p(_SMALLEST)
    return Change(new["name"], ratio, p, bool(real), yardstick)


def _speeds(row: dict[str, Any], yardstick: str | None) -> Sequence[float]:
    times = row["contenders"]["minigrad"]["samples"]
    if yardstick is None:
        return [1 / time for time in times]
    measures = row["contenders"][yardstick]["samples"]
    return [measure / time for measure, time in zip(measures, times, strict=True)]


def comparison_lines(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """The comparison as text."""
    found = changes(old, new)
    was = f"{old['environment'].get('commit')}, {old['environment'].get('time')}"
    yield f"compared with {was}: {counted(len(found), 'row')} in both"
    before, now = _machine(old), _machine(new)
    if before != now:
        yield f"not the same machine: {before} before, {now} now"
    for change in found:
        yield f"  {change.name}: {change}"
    real = [change for change in found if change.significant]
    faster = sum(change.ratio > 1 for change in real)
    if found and not real:
        yield "no significant difference in any row"
    elif found:
        slower, same = len(real) - faster, len(found) - len(real)
        yield f"{counted(faster, 'row')} faster, {slower} slower, {same} as before"
    if any(change.yardstick is None for change in found):
        yield (
            "times of two runs were compared as they are, for torch did not compete in both: a "
            "machine that has changed looks like code that has. Use --against torch in both."
        )
    for run, name in ((old, "the earlier run"), (new, "this run")):
        if run["stability"]["unstable"]:
            yield f"unstable machine in {name}"


def _machine(run: dict[str, Any]) -> str:
    environment, threads = run["environment"], run["settings"].get("threads")
    return f"{environment.get('cpu')} with {environment.get('cores')} cores, {threads} threads"
