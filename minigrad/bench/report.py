"""Results as text and as JSON."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from minigrad.bench.case import Verdict
from minigrad.bench.limits import Roofs
from minigrad.bench.profile import profile_lines
from minigrad.bench.reasons import rates_text
from minigrad.bench.statistics import Ratio, geometric_mean
from minigrad.bench.targets import target_lines
from minigrad.bench.text import counted, seconds_text, three_digits
from minigrad.core.errors import DataError
from minigrad.io.atomic import atomic_write

__all__ = [
    "FORMAT",
    "above_roof",
    "closing",
    "heading",
    "read",
    "row_lines",
    "whole",
    "write",
    "wrong_rows",
]

Row = dict[str, Any]

FORMAT = 2

# What a run has beside its format, as JSON.
_PARTS: dict[str, type] = {
    "environment": dict, "settings": dict, "roofs": dict, "rows": list, "left_out": list,
    "stability": dict,
}  # fmt: skip

# A little above the roof is noise; more is a wrong count, or an algorithm that multiplies less.
_ABOVE = 1.05


def heading(environment: dict[str, Any], roofs: Roofs, threads: int) -> str:
    """What the figures below depend on."""
    host, versions = environment["kernels"], environment["versions"]
    caches = ", ".join(f"{name} {size}" for name, size in environment["caches"].items())
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    fed = f", {roofs.fed / 1e9:.0f} with factors from the first cache" if roofs.fed else ""
    return (
        f"{environment['cpu']}, {environment['cores']} cores, {caches}\n"
        f"{threads} threads ({host['threading_layer']}), vectors of {host['vector_bits']} bits, "
        f"load {environment['load']}\n"
        f"{libraries}, commit {environment['commit']}\n"
        f"roofs: {roofs.flops / 1e9:.0f} GFLOP/s in registers{fed}; copy "
        f"{roofs.cache / 1e9:.0f} GB/s in cache, {roofs.memory / 1e9:.0f} GB/s in memory"
    )


def row_lines(row: Row, roofs: Roofs) -> Iterator[str]:
    """One case: a line for each contender, what the comparison says, how to reproduce it."""
    yield row["name"]
    for name, figures in row["contenders"].items():
        by = f", by {row['algorithm']}" if name == "minigrad" and row["algorithm"] else ""
        yield f"  {name:20s} {_figures_text(row, figures)}{by}"
    for name, ratio in row["ratios"].items():
        yield f"  {Ratio(**ratio)}, against {name}"
    if row.get("beside"):
        yield f"  beside it {rates_text(row)}"
    if row["profile"]:
        yield from profile_lines(row["profile"], roofs)
    yield f"  $ {row['reproduce']}"


def _figures_text(row: Row, figures: dict[str, Any]) -> str:
    q1, q3 = figures["quartiles"]
    parts = [
        f"{seconds_text(figures['median'])}{' a node' if row['per'] > 1 else ''}"
        f"  min {seconds_text(figures['least']).strip()}"
        f"  IQR {seconds_text(q1).strip()} to {seconds_text(q3).strip()}"
    ]
    if "flops_per_second" in figures:
        rate, part = figures["flops_per_second"], figures["of_peak"]
        parts.append(f"{three_digits(rate / 1e9)} GFLOP/s, {part:.0%} of peak")
    if "bytes_per_second" in figures:
        rate, part = figures["bytes_per_second"], figures["of_copy"]
        parts.append(f"{three_digits(rate / 1e9)} GB/s, {part:.0%} of copy")
    if "images_per_second" in figures:
        parts.append(f"{three_digits(figures['images_per_second'])} img/s")
    if figures["rise"] is not None:
        parts.append(f"memory +{figures['rise'] / 1e6:.0f} MB")
    if figures["peak"] is not None:
        parts.append(f"process {figures['peak'] / 1e6:.0f} MB")
    parts.append(str(Verdict(**figures["check"])))
    if figures["first"] > 2 * figures["median"] * row["per"] and figures["first"] > 0.01:
        parts.append(f"first call {seconds_text(figures['first']).strip()}")
    return "  ".join(part for part in parts if part)


def whole(record: dict[str, Any]) -> str:
    """The report of a run, as it was printed while the run went on."""
    roofs = Roofs.read(record["roofs"])
    lines = [heading(record["environment"], roofs, record["settings"]["threads"])]
    for row in record["rows"]:
        lines += ["", *row_lines(row, roofs)]
    return "\n".join([*lines, "", *closing(record)]) + "\n"


def closing(record: dict[str, Any]) -> Iterator[str]:
    """What the rows say together, and what has to be said aloud about them."""
    rows = record["rows"]
    yield from _means(rows)
    yield from target_lines(rows, Roofs.read(record["roofs"]))
    yield from _winograd_errors(rows)
    for row, name in wrong_rows(rows):
        yield f"WRONG RESULT: {name} in {row['name']}"
    for row, name in above_roof(rows, record["roofs"]):
        yield (
            f"above the roof: {name} in {row['name']}: it multiplies less than the definition asks "
            "for, the roof was measured while others used the machine, or the count is wrong"
        )
    if record["left_out"]:
        minutes, missing = record["settings"]["minutes"], record["left_out"]
        why = f"{minutes:g} minutes are over. For all of them: --minutes {2 * minutes:g}"
        yield (
            f"left out {counted(len(missing), 'case')}, from {missing[0]} on: "
            f"{'the run was stopped' if record.get('stopped') else why}"
        )
    stability = record["stability"]
    if stability["unstable"]:
        yield (
            f"unstable machine: the middle half of the times spreads over "
            f"{stability['median_spread']:.0%} of the median in a typical row, the peak moved by "
            f"{stability['peak_drift']:+.0%}, load {stability['load_after']}. Something else is "
            f"running; trust ratios with their intervals, and no time alone."
        )
    yield f"{counted(len(rows), 'case')} in {record['seconds']:.0f} s"


def _means(rows: Sequence[Row]) -> Iterator[str]:
    """The geometric mean of each group against each rival, and the worst of it."""
    for rival in dict.fromkeys(name for row in rows for name in row["ratios"]):
        for group in dict.fromkeys(row["group"] for row in rows if row["group"]):
            ratios = {
                row["name"]: row["ratios"][rival]["value"]
                for row in rows
                if row["group"] == group and rival in row["ratios"]
            }
            if not ratios:
                continue
            worst = min(ratios, key=lambda name: ratios[name])
            yield (
                f"{group}: {geometric_mean(list(ratios.values())):.2f} times as fast as {rival}, "
                f"geometric mean of {len(ratios)}; least {ratios[worst]:.2f}, {worst}"
            )


def _winograd_errors(rows: Sequence[Row]) -> Iterator[str]:
    """What Winograd's speed costs: its error beside that of direct sums, at worst in a product."""
    worst: dict[str, tuple[float, str]] = {}
    for row in rows:
        errors = [
            row["contenders"].get(f"minigrad {algorithm}", {}).get("check", {}).get("error")
            for algorithm in ("winograd", "direct")
        ]
        if all(errors):  # neither is missing, and none is 0
            product, _, shape = row["name"].partition("_algorithms:")
            worst[product] = max(worst.get(product, (0.0, "")), (errors[0] / errors[1], shape))
    for product, (ratio, shape) in worst.items():
        yield f"winograd's error: at most {ratio:.1f} times that of direct, {product}:{shape}"


def wrong_rows(rows: Sequence[Row]) -> list[tuple[Row, str]]:
    """Every row and contender with a wrong result."""
    return [
        (row, name)
        for row in rows
        for name, figures in row["contenders"].items()
        if not figures["check"]["right"]
    ]


def above_roof(rows: Sequence[Row], roofs: dict[str, Any]) -> list[tuple[Row, str]]:
    """Every row and contender that claims more than the machine can do, but for Winograd's."""
    fastest = max(roofs["copy"].values())
    return [
        (row, name)
        for row in rows
        for name, figures in row["contenders"].items()
        if not _by_winograd(row, name)
        and (
            figures.get("of_peak", 0) > _ABOVE
            or figures.get("bytes_per_second", 0) > _ABOVE * fastest
        )
    ]


def _by_winograd(row: Row, name: str) -> bool:
    return name == "minigrad winograd" or (name == "minigrad" and row["algorithm"] == "winograd")


def write(record: dict[str, Any], path: Path) -> None:
    """Write a run as JSON, and the report beside it as text, each whole or not at all."""
    text = json.dumps(record, indent=1, allow_nan=False)  # no Infinity: it is no JSON
    path.parent.mkdir(parents=True, exist_ok=True)
    for place, content in ((path, text + "\n"), (path.with_suffix(".txt"), whole(record))):
        with atomic_write(place) as file:
            file.write(content.encode())


def read(path: Path) -> dict[str, Any]:
    """Read what :func:`write` wrote.

    Raises
    ------
    DataError
        If it cannot be read, or is something else.
    """
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as problem:
        raise _no_run(path, f"cannot be read so: {problem}") from None
    if not isinstance(record, dict) or "format" not in record:
        raise _no_run(path, "holds something else")
    if record["format"] != FORMAT:
        raise DataError(
            f"bench: results of format {FORMAT} were expected in {path}, it has format "
            f"{record['format']!r}. Measure again with this version."
        )
    missing = [name for name, kind in _PARTS.items() if not isinstance(record.get(name), kind)]
    if missing:
        raise _no_run(path, f"has no {', '.join(missing)}")
    if not isinstance(record["stability"].get("unstable"), bool):
        raise _no_run(path, "does not say whether the machine was unstable")
    for i, row in enumerate(record["rows"]):
        if not _comparable(row):
            raise _no_run(path, f"has no times of minigrad in row {i}, or times that are none")
    return record


def _comparable(row: Any) -> bool:
    """Whether a row has its name, and times of minigrad and of all that it has a ratio against."""
    try:
        contenders = row["contenders"]
        times = [contenders[name]["samples"] for name in ("minigrad", *dict(row["ratios"]))]
        named, rounds = isinstance(row["name"], str), {len(samples) for samples in times}
        seconds = [float(time) for samples in times for time in samples]
    except (KeyError, TypeError, ValueError):
        return False
    return named and len(rounds) == 1 and bool(seconds) and all(map(_is_time, seconds))


def _is_time(seconds: float) -> bool:
    """Whether it is neither NaN nor infinite nor 0; a case takes less than a year."""
    return 1e-12 < seconds < 3e7


def _no_run(path: Path, what: str) -> DataError:
    return DataError(
        f"bench: the JSON of an earlier run was expected in {path}, which {what}. Make one with "
        "'minigrad bench --out DIR'."
    )
