"""The files a run leaves for people: metrics.jsonl, curves.png, paths.json, paths.png."""

import json
from pathlib import Path

from minigrad.inspect import curves, paths
from minigrad.io.atomic import atomic_write
from minigrad.train import Run, last_shares

__all__ = ["write_outputs"]


def write_outputs(run: Run, directory: Path, title: str) -> None:
    """Write all of them, from what the run has recorded; nothing to draw yet, nothing drawn."""
    write_metrics(run, directory)
    with atomic_write(directory / "paths.json") as file:
        file.write(json.dumps(run.paths, indent=1).encode() + b"\n")
    if run.history:
        curves.draw(run.history, directory / "curves.png", title)
    records = [(label, found) for label, found in last_shares(run) if found]
    if records:
        paths.draw(records, directory / "paths.png")


def write_metrics(run: Run, directory: Path) -> None:
    """One line of JSON for each finished epoch; whole after every epoch, so it can be followed."""
    lines = "".join(json.dumps(record) + "\n" for record in run.history)
    with atomic_write(directory / "metrics.jsonl") as file:
        file.write(lines.encode())
