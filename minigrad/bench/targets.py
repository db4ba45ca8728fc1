"""What minigrad wants to reach against torch, and which of it a run has reached.

Ratios only: milliseconds belong to a machine.
"""

import fnmatch
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from minigrad.bench.against import CHANNELS_LAST, COMPILED, DEFAULT
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

# How a line begins whose rows were not measured.
_ABSENT = "absent"


def target_lines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Say of each target that the rows can judge whether it is met; first how many are."""
    told = [line for target in TARGETS for line in _judged(target, rows)]
    told += [line for group in _MEMORY_BOUND for line in _bandwidth(f"{group}, large arrays", rows)]
    told += [line for row in rows for line in _memory(row)]
    judged = [line for line in told if not line.startswith(_ABSENT)]
    if told:
        met = sum(line.startswith("met") for line in judged)
        yield f"targets: {met} of {len(judged)} met"
        yield from (f"  {line}" for line in told)


def _judged(target: Target, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    members = [
        row["ratios"]
        for row in rows
        if row["group"] == target.work or fnmatch.fnmatchcase(row["name"], target.work)
    ]
    ratios = [found[target.rival]["value"] for found in members if target.rival in found]
    asked = f"{target.work} against {target.rival}: {target.mean:g}"
    if target.least:
        asked += f", in every row {target.least:g}"
    if ratios:
        mean, least = geometric_mean(ratios), min(ratios)
        found = f"{mean:.2f}, least {least:.2f}" if target.least else f"{mean:.2f}"
        verdict = "met   " if mean >= target.mean and least >= target.least else "MISSED"
        yield f"{verdict} {asked} wanted, {found} found"
    elif target.rival == COMPILED and any(CHANNELS_LAST in found for found in members):
        yield (
            f"{_ABSENT} {asked} wanted, not measured here: run 'minigrad bench models --against "
            "torch --torch-compile --minutes 15'"
        )


def _bandwidth(group: str, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Arrays that no cache holds go by at a good part of the speed of a copy."""
    parts = [
        row["contenders"]["minigrad"]["of_copy"]
        for row in rows
        if row["group"] == group and "of_copy" in row["contenders"]["minigrad"]
    ]
    if parts:
        verdict = "met   " if geometric_mean(parts) >= _OF_COPY else "MISSED"
        yield (
            f"{verdict} {group}, of the speed of a copy: {_OF_COPY:.0%} wanted, "
            f"{geometric_mean(parts):.0%} found"
        )


def _memory(row: dict[str, Any]) -> Iterator[str]:
    """A network in training needs no more memory than torch's leaner layout."""
    rises = {name: figures["rise"] for name, figures in row["contenders"].items()}
    theirs = [rise for name, rise in rises.items() if name.startswith("torch") and rise]
    if row["profile"] and rises["minigrad"] and theirs:
        ours, least = rises["minigrad"] / 1e6, min(theirs) / 1e6
        verdict = "met   " if ours <= least else "MISSED"
        yield f"{verdict} memory of {row['name']}: {least:.0f} MB wanted, {ours:.0f} MB found"
