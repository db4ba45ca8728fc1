"""Write the benchmark's table into the README, wins and losses alike.

    minigrad bench --against torch --out benchmarks/results
    python benchmarks/readme_table.py benchmarks/results/bench.json           # print it
    python benchmarks/readme_table.py benchmarks/results/bench.json --write   # into README.md

The table takes the place of whatever stands between the lines

    <!-- benchmark table: begin -->
    <!-- benchmark table: end -->
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from minigrad.bench.report import read, seconds_text
from minigrad.bench.statistics import geometric_mean

BEGIN, END = "<!-- benchmark table: begin -->", "<!-- benchmark table: end -->"
README = Path(__file__).resolve().parents[1] / "README.md"
LAST, DEFAULT = "torch channels_last", "torch"

Row = dict[str, Any]


def table(record: dict[str, Any]) -> str:
    """The whole text between the markers."""
    environment, versions = record["environment"], record["environment"]["versions"]
    rows = [row for row in record["rows"] if any("torch" in name for name in row["ratios"])]
    lines = [
        f"{environment['cpu']}, {record['settings']['threads']} threads, float32; torch "
        f"{versions.get('torch')}, numba {versions['numba']}, commit {environment['commit']}, "
        f"{environment['time'][:10]}. Ratios of speed; above 1 minigrad is faster.",
        "",
        *_groups(rows),
        "",
        *_networks(rows),
        "",
        *_losses(rows),
    ]
    if record["stability"]["unstable"]:
        lines += ["", "Other programs ran on the machine meanwhile; the times scatter."]
    return "\n".join(lines) + "\n"


def _groups(rows: Sequence[Row]) -> Iterator[str]:
    """Kernels, operations and the engine: a line each, with the mean, the best and the worst."""
    yield "| work | cases | against torch channels_last | least | most | against torch |"
    yield "|---|---:|---:|---:|---:|---:|"
    mine = [row for row in rows if row["suite"] != "models"]
    for group in dict.fromkeys(row["group"] for row in mine):
        members = [row for row in mine if row["group"] == group]
        default = _ratios(members, DEFAULT)
        last = _ratios(members, LAST)
        cells = [group, str(len(members))]
        if last:
            cells += [f"**{geometric_mean(last):.2f}**", f"{min(last):.2f}", f"{max(last):.2f}"]
        else:  # one number has no layout
            cells += ["", "", ""]
        cells.append(f"{geometric_mean(default):.2f}" if default else "")
        yield f"| {' | '.join(cells)} |"


def _ratios(rows: Sequence[Row], rival: str) -> list[float]:
    return [row["ratios"][rival]["value"] for row in rows if rival in row["ratios"]]


def _networks(rows: Sequence[Row]) -> Iterator[str]:
    """Whole networks: the time of every contender."""
    mine = [row for row in rows if row["suite"] == "models"]
    if not mine:
        return
    names = list(dict.fromkeys(name for row in mine for name in row["contenders"]))
    yield f"| network | {' | '.join(names)} |"
    yield f"|---|{'---:|' * len(names)}"
    for row in mine:
        cells = [_network_cell(row["contenders"].get(name)) for name in names]
        yield f"| `{row['name']}` | {' | '.join(cells)} |"


def _network_cell(figures: dict[str, Any] | None) -> str:
    if figures is None:
        return ""
    text = f"{seconds_text(figures['median']).strip()}, {figures['images_per_second']:.0f} img/s"
    return text if figures["rise"] is None else f"{text}, {figures['rise'] / 1e6:.0f} MB"


def _losses(rows: Sequence[Row]) -> Iterator[str]:
    """Every case in which torch, in its better layout, is faster beyond chance."""
    lost = {}
    for row in rows:
        rivals = [ratio for name, ratio in row["ratios"].items() if name in (LAST, DEFAULT)]
        worst = min(rivals, key=lambda ratio: ratio["value"], default=None)
        if worst is not None and worst["high"] < 1:
            lost[row["name"]] = worst["value"]
    if not lost:
        yield "In no case is torch faster beyond chance."
        return
    yield f"Torch is faster beyond chance in {len(lost)} of {len(rows)} cases:"
    yield ""
    for name in sorted(lost, key=lambda name: lost[name]):
        yield f"- {lost[name]:.2f} `{name}`"


def replaced(text: str, table: str) -> str:
    """The README with the table between its markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"README.md has no lines {BEGIN} and {END}; put them where the table belongs.")
    return f"{before}{begin}\n\n{table}\n{end}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="bench.json")
    parser.add_argument("--write", action="store_true", help="into README.md")
    options = parser.parse_args()
    text = table(read(options.results))
    if options.write:
        README.write_text(replaced(README.read_text(), text))
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
