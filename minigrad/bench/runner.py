"""Runs cases and records what came out, as plain dictionaries that JSON can keep."""

import dataclasses
import gc
import shlex
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from minigrad.bench import limits
from minigrad.bench.against import COMPILED
from minigrad.bench.beside import COPY, beside
from minigrad.bench.budget import Budget
from minigrad.bench.case import Case, Verdict, Work, normal, verify
from minigrad.bench.limits import Roofs
from minigrad.bench.machine import environment, load
from minigrad.bench.memory import peak_alone, peak_rise
from minigrad.bench.products import multipliers
from minigrad.bench.profile import measure_profile
from minigrad.bench.report import FORMAT
from minigrad.bench.statistics import paired_ratio
from minigrad.bench.timing import Timing, first_call, interleave

__all__ = ["Settings", "run"]

# Quartiles that lie further apart than this part of the median, in half of the rows, or a peak that
# moved so much between start and end: something else is using the machine.
UNSTABLE = 0.10

# Processes that measure memory side by side: they mostly load libraries, and no time is taken.
_TOGETHER = 2


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes
    ----------
    threads : int
        Of every contender.
    minutes : float
        After so long no further case begins.
    rounds : int or None
        Of every case; None for as many as fit.
    memory : bool
        Whether to measure peak memory, for networks in processes of their own.
    against : str or None
        ``"torch"`` if it competes, for the lines that reproduce a row.
    compiled : bool
        Whether torch.compile competes too, for the same lines.
    """

    threads: int
    minutes: float = 5.0
    rounds: int | None = None
    memory: bool = True
    against: str | None = None
    compiled: bool = False


def run(
    cases: Sequence[Case],
    settings: Settings,
    roofs: Roofs,
    tell: Callable[[dict[str, Any]], Any],
    clock: Callable[[], float] = time.perf_counter,
    measure: Callable[[], Roofs] = limits.measure_roofs,
) -> dict[str, Any]:
    """Measure all cases.

    Parameters
    ----------
    cases : sequence of Case
    settings : Settings
    roofs : Roofs
        As just measured.
    tell : callable
        Called with each row, as soon as it is there.
    clock : callable
    measure : callable
        Measures the roofs again, when all is done: the higher ones count.

    Returns
    -------
    dict
        ``format``, ``environment``, ``settings``, ``roofs``, ``rows``, ``left_out``, ``stopped``
        and ``stability``, as written to JSON. Ctrl-C ends the run: what was measured is kept.
    """
    budget = Budget(cases, 60 * settings.minutes, clock)
    surroundings = environment()  # the load, before this run adds to it
    gc.freeze()  # what is there now is no case's garbage: the collector need not look at it again
    rows: list[dict[str, Any]] = []
    stopped = False
    for i, case in enumerate(cases):
        seconds = budget.next(i)
        if seconds is None:
            break
        try:
            row = _row(case, settings, seconds)
        except KeyboardInterrupt:
            stopped = True
            break
        _measure_by(roofs, row)
        rows.append(row)
        tell(row)
    gc.unfreeze()
    again = roofs if stopped else measure()
    best = roofs.or_higher(again)
    for row in rows:
        _measure_by(best, row)
    return {
        "format": FORMAT,
        "environment": surroundings,
        "settings": dataclasses.asdict(settings),
        "roofs": best.record(),
        "rows": rows,
        "left_out": [case.name for case in cases[len(rows) :]],
        "stopped": stopped,
        "stability": _stability(rows, roofs.flops, again.flops),
        "seconds": round(budget.elapsed, 1),
    }


def _row(case: Case, settings: Settings, seconds: float) -> dict[str, Any]:
    """Measure one case."""
    work = case.work(normal)
    firsts, results = {}, {}
    for name, call in work.contenders.items():
        firsts[name], computed = first_call(call)
        results[name] = work.result(computed)
    verdicts = verify(case, work, results)
    del results, computed  # or the pool of arrays would miss them
    others = beside(case)
    timings = interleave(work.contenders | others, seconds, settings.rounds)
    names = list(work.contenders)
    memory = _memory(case, work, settings)
    profile = None
    if case.profiled:
        libraries = multipliers(settings.against == "torch")
        profile = measure_profile(work.contenders[names[0]], libraries)
    return {
        "suite": case.suite,
        "name": case.name,
        "group": case.group,
        "flops": case.flops,
        "bytes": case.bytes,
        "moved": case.bytes + case.again,
        "per": case.per,
        "images": case.images,
        "algorithm": case.algorithm,
        "reproduce": _reproduce(case, settings),
        "contenders": {
            name: _figures(case, timings[name], firsts[name], verdicts[name], memory.get(name))
            for name in names
        },
        "ratios": {
            name: dataclasses.asdict(paired_ratio(timings[names[0]].samples, timings[name].samples))
            for name in names[1:]
        },
        "beside": {name: timings[name].median for name in others},
        "profile": profile,
    }


def _memory(case: Case, work: Work, settings: Settings) -> dict[str, dict[str, int | None]]:
    """The rise of each contender, and for networks the peak of its process."""
    if not settings.memory:
        return {}
    if case.alone:
        names = [name for name in work.contenders if name != COMPILED]
        with ThreadPoolExecutor(_TOGETHER) as processes:
            pairs = processes.map(lambda n: peak_alone(case.name, n, settings.threads), names)
            found = dict(zip(names, pairs, strict=True))
        return {n: {"rise": pair[0], "peak": pair[1]} for n, pair in found.items() if pair}
    if case.suite == "kernels":
        return {name: {"rise": peak_rise(call)} for name, call in work.contenders.items()}
    return {}


def _figures(
    case: Case,
    timing: Timing,
    first: float,
    verdict: Verdict,
    memory: dict[str, int | None] | None,
) -> dict[str, Any]:
    median = timing.median
    figures: dict[str, Any] = {
        "median": median / case.per,
        "least": timing.least / case.per,
        "quartiles": [q / case.per for q in timing.quartiles],
        "spread": timing.spread,
        "first": first,
        "samples": [sample / case.per for sample in timing.samples],
        "check": dataclasses.asdict(verdict),
        **{"rise": None, "peak": None, **(memory or {})},
    }
    if case.flops:
        figures["flops_per_second"] = case.flops / median
    if case.bytes:
        figures["bytes_per_second"] = (case.bytes + case.again) / median
    if case.images:
        figures["images_per_second"] = case.images / median
    return figures


def _measure_by(roofs: Roofs, row: dict[str, Any]) -> None:
    """Enter which part of the roofs each contender reaches; of a copy beside it, where one was."""
    beside = row["beside"]
    copy = row["moved"] / beside[COPY] if beside else roofs.bandwidth(row["bytes"])
    for figures in row["contenders"].values():
        if "flops_per_second" in figures:
            figures["of_peak"] = figures["flops_per_second"] / roofs.flops
        if "bytes_per_second" in figures:
            figures["of_copy"] = figures["bytes_per_second"] / copy


def _reproduce(case: Case, settings: Settings) -> str:
    words = ["minigrad", "bench", case.suite, "--only", case.name]
    if settings.against:
        words += ["--against", settings.against] + ["--torch-compile"] * settings.compiled
    return shlex.join([*words, "--threads", str(settings.threads)])


def _stability(rows: Sequence[dict[str, Any]], before: float, after: float) -> dict[str, Any]:
    """How steady the machine was, and whether to say that it was not."""
    spreads = sorted(figures["spread"] for row in rows for figures in row["contenders"].values())
    spread = spreads[len(spreads) // 2] if spreads else 0.0
    drift = after / before - 1
    return {
        "median_spread": spread,
        "peak_drift": drift,
        "load_after": load(),
        "unstable": spread > UNSTABLE or abs(drift) > UNSTABLE,
    }
