"""Write the benchmark's table into the README, wins and losses alike.

    minigrad bench --against torch --out benchmarks/results
    python benchmarks/readme_table.py benchmarks/results/bench.json           # print it
    python benchmarks/readme_table.py benchmarks/results/bench.json --write   # into README.md

Rows of further runs take the place of those they measure again. So the networks come to compete
with torch.compile, which needs more than the five minutes of the whole run::

    minigrad bench models --against torch --torch-compile --minutes 15 --out runs/compiled
    python benchmarks/readme_table.py benchmarks/results/bench.json runs/compiled/bench.json

The table takes the place of whatever stands between the lines

    <!-- benchmark table: begin -->
    <!-- benchmark table: end -->
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from minigrad.bench.report import read
from minigrad.bench.statistics import geometric_mean
from minigrad.bench.text import seconds_text

BEGIN, END = "<!-- benchmark table: begin -->", "<!-- benchmark table: end -->"
README = Path(__file__).resolve().parents[1] / "README.md"
LAST, DEFAULT, COMPILED = "torch channels_last", "torch", "torch.compile"

Row = dict[str, Any]

_NETWORKS = {
    "train": "training step", "grad": "forward+backward", "infer": "inference, BN folded",
}  # fmt: skip
# Steps that the suites of kernels and of operations both measure, there without a graph.
_STEPS = {"bn relu": "BN+ReLU with its graph", "conv bn relu": "conv+BN+ReLU with its graph"}
_ENGINE = {"record": "engine, a node forward", "both": "engine, a node forward and backward"}


def table(record: dict[str, Any]) -> str:
    """The whole text between the markers."""
    environment, versions = record["environment"], record["environment"]["versions"]
    rows = [row for row in record["rows"] if _rival(row)]
    rivals = [name for name in (LAST, DEFAULT, COMPILED) if _any_has(rows, name)]
    lines = [
        f"| work | minigrad | {' | '.join(_heading(name) for name in rivals)} | ratio | verdict |",
        f"|---|---:|{'---:|' * len(rivals)}---:|---|",
        *(_line(members, ["minigrad", *rivals]) for members in _members(rows)),
        "",
        f"{environment['cpu']}, {record['settings']['threads']} threads, float32; torch "
        f"{versions.get('torch')}, numba {versions['numba']}, commit {environment['commit']}, "
        f"{environment['time'][:10]}. Medians of contenders that took turns in one run, geometric "
        f"means over the cases of a line. MB are what a step needs at its peak beyond the network "
        f"and its images. The ratio is of speed, above 1 minigrad is faster, against torch in "
        f"channels_last where images have a layout; beside it the least and the most of a line."
        f"{' torch.compile was measured in a run of its own.' if COMPILED in rivals else ''}",
        "",
        *_losses(rows),
    ]
    if record["stability"]["unstable"]:
        lines += ["", "Other programs ran on the machine meanwhile; the times scatter."]
    return "\n".join(lines) + "\n"


def joined(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first run, with the rows that later ones measured again in the place of its own.

    What only the first one measured, as memory may be, stays.
    """
    again = {row["name"]: row for record in records[1:] for row in record["rows"]}
    first = records[0]
    return {**first, "rows": [_renewed(row, again.get(row["name"], row)) for row in first["rows"]]}


def _renewed(row: Row, later: Row) -> Row:
    contenders = {
        name: {**row["contenders"].get(name, {}), **_measured(figures)}
        for name, figures in later["contenders"].items()
    }
    return {**later, "contenders": contenders}


def _measured(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: figure for name, figure in figures.items() if figure is not None}


def _any_has(rows: Sequence[Row], name: str) -> bool:
    return any(name in row["contenders"] for row in rows)


def _heading(name: str) -> str:
    return "torch default" if name == DEFAULT else name


def _rival(row: Row) -> str | None:
    """Whom the ratio is against."""
    return next((name for name in (LAST, DEFAULT) if name in row["ratios"]), None)


def _members(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each line: a network or a chain has one to itself, all others share by group."""
    lines: dict[str, list[Row]] = {}
    for row in rows:
        alone = row["suite"] in ("models", "engine")
        if alone or row["group"]:
            lines.setdefault(row["name"] if alone else row["group"], []).append(row)
    return list(lines.values())


def _line(rows: Sequence[Row], names: Sequence[str]) -> str:
    ratios = [row["ratios"][_rival(row)] for row in rows]
    values = [ratio["value"] for ratio in ratios]
    told = f"**{geometric_mean(values):.2f}**"
    if len(rows) > 1:
        told += f" ({min(values):.2f} to {max(values):.2f})"
    cells = [_work(rows), *(_cell(rows, name) for name in names), told, _verdict(ratios)]
    return f"| {' | '.join(cells)} |"


def _work(rows: Sequence[Row]) -> str:
    """What a line is about."""
    suite, (kind, _, text) = rows[0]["suite"], rows[0]["name"].partition(":")
    if suite == "models":
        network, _, shape = text.partition(",")
        N, _, H, W = shape.split("x")
        name = network.replace("resnet", "ResNet-").replace("plain", "plain ")
        return f"{name} {_NETWORKS[kind]}, batch {N} of {H}x{W}"
    if suite == "engine":
        return _ENGINE[kind]
    step, comma, size = rows[0]["group"].partition(",")
    group = "operations on a few numbers" if step == "call" else _STEPS.get(step, step)
    group += comma + size
    return group if len(rows) == 1 else f"{group}, {len(rows)} cases"


def _cell(rows: Sequence[Row], name: str) -> str:
    """A contender's figures: of a network all, otherwise GFLOP/s, GB/s or a time."""
    found = [row["contenders"][name] for row in rows if name in row["contenders"]]
    if len(found) < len(rows):
        return ""
    if rows[0]["suite"] == "models":
        (figures,) = found
        text = seconds_text(figures["median"]).strip()
        rise = figures.get("rise")
        return text if rise is None else f"{text}, {rise / 1e6:.0f} MB"
    for key, unit in (("flops_per_second", "GFLOP/s"), ("bytes_per_second", "GB/s")):
        if all(key in figures for figures in found):
            return f"{geometric_mean([figures[key] for figures in found]) / 1e9:.0f} {unit}"
    return seconds_text(geometric_mean([figures["median"] for figures in found])).strip()


def _verdict(ratios: Sequence[dict[str, Any]]) -> str:
    """Faster and slower only where chance does not explain it."""
    faster = sum(ratio["low"] is not None and ratio["low"] > 1 for ratio in ratios)
    slower = sum(ratio["high"] is not None and ratio["high"] < 1 for ratio in ratios)
    even = len(ratios) - faster - slower
    if len(ratios) == 1:
        return "faster" if faster else "slower" if slower else "no significant difference"
    told = {"faster": faster, "even": even, "slower": slower}
    return ", ".join(f"{word} in {count}" for word, count in told.items() if count)


def _losses(rows: Sequence[Row]) -> Iterator[str]:
    """Where torch, in its better layout, is faster beyond chance: a line for each kind of work."""
    told = []
    for members in _members(rows):
        lost = {}
        for row in members:
            rivals = [row["ratios"][name] for name in (LAST, DEFAULT) if name in row["ratios"]]
            worst = min(rivals, key=lambda ratio: ratio["value"])
            if worst["high"] is not None and worst["high"] < 1:
                lost[row["name"]] = worst["value"]
        if lost:
            name = min(lost, key=lambda name: lost[name])
            told.append((lost[name], len(lost), len(members), name))
    if not told:
        yield "In no case is torch faster beyond chance."
        return
    count = sum(lost for _, lost, _, _ in told)
    yield (
        f"Where it loses: torch, in its better layout, is faster beyond chance in {count} of "
        f"{len(rows)} cases. The worst of each line:"
    )
    yield ""
    for value, lost, of, name in sorted(told):
        yield f"- {value:.2f} `{name}`" + (f", {_among(lost, of)}" if of > 1 else "")


def _among(lost: int, of: int) -> str:
    """How many cases of a line are lost."""
    return f"the only one of {of} cases" if lost == 1 else f"the worst of {lost} in {of} cases"


def replaced(text: str, table: str) -> str:
    """The README with the table between its markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"README.md has no lines {BEGIN} and {END}; put them where the table belongs.")
    return f"{before}{begin}\n\n{table}\n{end}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+", help="bench.json, and of further runs")
    parser.add_argument("--write", action="store_true", help="into README.md")
    options = parser.parse_args()
    text = table(joined([read(path) for path in options.results]))
    if options.write:
        README.write_text(replaced(README.read_text(), text))
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
