"""What minigrad wants to reach against torch, which of it a run has reached, and why not more.

Ratios only: milliseconds belong to a machine.
"""

import fnmatch
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from minigrad.bench.against import CHANNELS_LAST, COMPILED, DEFAULT
from minigrad.bench.limits import Roofs
from minigrad.bench.reasons import bandwidth_reasons, ratio_reasons
from minigrad.bench.statistics import geometric_mean

__all__ = ["TARGETS", "Target", "target_lines"]


class Target(NamedTuple):
    """How many times as fast as a rival.

    Attributes
    ----------
    work : str
        A pattern over the groups of rows, or over their names.
    rival : str
    mean, least : float
        Of the geometric mean, and of every single row.
    """

    work: str
    rival: str
    mean: float
    least: float = 0.0


_SETTLED = (
    "conv 3x3 stride 2", "conv 1x1 stride 1", "conv 1x1 stride 2", "conv 7x7 stride 2",
    "conv, groups or dilation",
)  # fmt: skip
_MEMORY_BOUND = ("batch norm", "BN+ReLU", "BN+add+ReLU", "max pool", "global avg pool")

TARGETS = (
    Target("conv 3x3 stride 1", CHANNELS_LAST, 1.15, 0.9),
    Target("conv2d_forward:16x[125]*x3x3,p1", CHANNELS_LAST, 1.4, 1.4),  # 128, 256, 512 channels
    *[Target(group, CHANNELS_LAST, 1.0, 0.7) for group in _SETTLED],
    Target("conv, odd sizes", CHANNELS_LAST, 0.5, 0.5),
    *[Target(f"{group}, large arrays", CHANNELS_LAST, 1.5) for group in _MEMORY_BOUND],
    *[Target(f"{group}, small arrays", CHANNELS_LAST, 1.1) for group in _MEMORY_BOUND],
    Target("train:resnet20,*", DEFAULT, 1.8),
    Target("train:resnet20,*", CHANNELS_LAST, 1.4),
    Target("train:resnet20,*", COMPILED, 1.15),
    Target("grad:*", CHANNELS_LAST, 2.0, 2.0),
    Target("grad:*", COMPILED, 1.0, 1.0),
    Target("infer:resnet18,*", CHANNELS_LAST, 2.5),
    Target("infer:resnet50,*", CHANNELS_LAST, 1.5),
    Target("infer:*", COMPILED, 1.1, 1.1),
    Target("both:*", DEFAULT, 1.0),
)


# The part of the speed of a copy that large arrays have to reach.
_OF_COPY = 0.7

# How a line begins that judges.
_MET, _MISSED = "met   ", "MISSED"


def target_lines(rows: Sequence[dict[str, Any]], roofs: Roofs) -> Iterator[str]:
    """Say of each target that the rows can judge whether it is met; first how many are.

    Below a missed one stand the rows that miss it, with what the roofs allow.
    """
    told = [line for target in TARGETS for line in _judged(target, rows, roofs)]
    told += [line for group in _MEMORY_BOUND for line in _bandwidth(f"{group}, large arrays", rows)]
    told += [line for row in rows for line in _memory(row)]
    met = sum(line.startswith(_MET) for line in told)
    missed = sum(line.startswith(_MISSED) for line in told)
    if told:
        yield f"targets: {met} of {met + missed} met"
        yield from (f"  {line}" for line in told)


def _judged(target: Target, rows: Sequence[dict[str, Any]], roofs: Roofs) -> Iterator[str]:
    members = [
        row
        for row in rows
        if row["group"] == target.work or fnmatch.fnmatchcase(row["name"], target.work)
    ]
    compared = [row for row in members if target.rival in row["ratios"]]
    asked = f"{target.work} against {target.rival}: {target.mean:g}"
    if target.least:
        asked += f", in every row {target.least:g}"
    if compared:
        ratios = [row["ratios"][target.rival]["value"] for row in compared]
        mean, least = geometric_mean(ratios), min(ratios)
        found = f"{mean:.2f}, least {least:.2f}" if target.least else f"{mean:.2f}"
        met = mean >= target.mean and least >= target.least
        yield f"{_MET if met else _MISSED} {asked} wanted, {found} found"
        if not met:
            # Where the mean is missed, all rows below it count; else those below the least.
            wanted = target.mean if mean < target.mean else target.least
            yield from ratio_reasons(compared, target.rival, wanted, roofs)
    elif target.rival == COMPILED and any(CHANNELS_LAST in row["ratios"] for row in members):
        yield (
            f"absent {asked} wanted, not measured here: run 'minigrad bench models --against "
            "torch --torch-compile --minutes 15'"
        )


def _bandwidth(group: str, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Arrays that no cache holds go by at a good part of the speed of a copy."""
    members = [
        row for row in rows if row["group"] == group and "of_copy" in row["contenders"]["minigrad"]
    ]
    if members:
        found = geometric_mean([row["contenders"]["minigrad"]["of_copy"] for row in members])
        met = found >= _OF_COPY
        yield (
            f"{_MET if met else _MISSED} {group}, of the speed of a copy: {_OF_COPY:.0%} wanted, "
            f"{found:.0%} found"
        )
        if not met:
            yield from bandwidth_reasons(members, _OF_COPY)


def _memory(row: dict[str, Any]) -> Iterator[str]:
    """A network in training needs no more memory than torch's leaner layout."""
    rises = {name: figures["rise"] for name, figures in row["contenders"].items()}
    theirs = [rise for name, rise in rises.items() if name.startswith("torch") and rise]
    if row["profile"] and rises["minigrad"] and theirs:
        ours, least = rises["minigrad"] / 1e6, min(theirs) / 1e6
        verdict = _MET if ours <= least else _MISSED
        yield f"{verdict} memory of {row['name']}: {least:.0f} MB wanted, {ours:.0f} MB found"
