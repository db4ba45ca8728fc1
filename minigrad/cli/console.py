"""What ``minigrad train`` and ``minigrad check`` show, by rich."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minigrad.check.report import Report
from minigrad.core.errors import MissingExtra
from minigrad.train import Run

__all__ = ["Progress", "checked", "summary"]


def _rich() -> Any:
    try:
        import rich
        import rich.console
        import rich.markup
        import rich.progress
        import rich.table
    except ImportError:
        raise MissingExtra(
            "minigrad: showing progress needs rich, which is not installed. "
            'Install it with: pip install "minigrad[demos]".'
        ) from None
    return rich


class Progress:
    """A bar over all steps, with loss, accuracy, images a second and the time left."""

    def __init__(self, run: Run, epochs: int) -> None:
        rich = _rich()
        columns = rich.progress
        self._epochs = epochs
        self._bar = columns.Progress(
            columns.TextColumn("{task.description}"),
            columns.BarColumn(bar_width=None),
            columns.TextColumn("{task.completed}/{task.total}"),
            columns.TextColumn("loss {task.fields[loss]:.3f}"),
            columns.TextColumn("acc {task.fields[accuracy]:.1%}"),
            columns.TextColumn("{task.fields[speed]:.0f} img/s"),
            columns.TimeRemainingColumn(),
        )
        self._task = self._bar.add_task(
            "compiling kernels",  # what the first step does, for half a minute on a new machine
            total=epochs * len(run.train_loader),
            completed=run.step,
            loss=float("nan"),
            accuracy=0.0,
            speed=0.0,
        )
        self._tick = time.perf_counter()
        self._images = run.images

    def _title(self, run: Run) -> str:
        return f"epoch {min(run.epoch + 1, self._epochs)}/{self._epochs}"

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, run: Run) -> None:
        """Show where the run stands after a step."""
        now = time.perf_counter()
        speed = (run.images - self._images) / (now - self._tick)
        self._tick, self._images = now, run.images
        self._bar.update(
            self._task,
            completed=run.step,
            description=self._title(run),
            loss=run.loss_sum / run.images,
            accuracy=run.correct / run.images,
            speed=speed,
        )

    def epoch(self, run: Run) -> None:
        """Leave one line for the epoch above the bar: losses, accuracies, rate and time."""
        self._bar.console.print(_line(run.history[-1]), highlight=False)
        self._tick, self._images = time.perf_counter(), 0


def _line(record: dict[str, Any]) -> str:
    return (
        f"epoch {record['epoch']:3d}  train {record['train_loss']:.4f} "
        f"{record['train_accuracy']:6.2%}  test {record['test_loss']:.4f} "
        f"{record['test_accuracy']:6.2%}  lr {record['lr']:.4f}  {record['seconds']:.1f} s"
    )


def summary(run: Run, directory: Path, threads: int) -> None:
    """The closing table: last and best epoch, time, and where everything was written."""
    rich = _rich()
    last = run.history[-1]
    best = max(run.history, key=lambda record: record["test_accuracy"])
    seconds = sum(record["seconds"] for record in run.history)
    images = len(run.train_loader.dataset) * len(run.history)
    table = rich.table.Table(title=f"{directory}", show_header=False, title_justify="left")
    table.add_row("test accuracy", f"{last['test_accuracy']:.2%}")
    table.add_row("best epoch", f"{best['epoch']} with {best['test_accuracy']:.2%}")
    table.add_row("test loss", f"{last['test_loss']:.4f}")
    table.add_row("train loss", f"{last['train_loss']:.4f}")
    parameters = sum(p.size for p in run.model.parameters())
    table.add_row("parameters", f"{parameters:,}")
    table.add_row("training", f"{seconds:.1f} s, {images / seconds:.0f} img/s, {threads} threads")
    table.add_row("written", ", ".join(sorted(p.name for p in directory.iterdir())))
    rich.console.Console().print(table)


_COLORS = {"right": "green", "wrong": "bold red", "inconclusive": "yellow"}


def checked(reports: Sequence[Report], seconds: float) -> None:
    """What ``minigrad check`` found: a line for each target, then each failure in full.

    ``open`` counts inconclusive verdicts; ``bounds`` is the largest error, in units of its bound;
    ``passes`` are forward passes.
    """
    rich = _rich()
    console = rich.console.Console()
    table = rich.table.Table(title="gradient checks", title_justify="left")
    for column, justify in (
        ("target", "left"), ("verdict", "left"), ("right", "right"), ("wrong", "right"),
        ("open", "right"), ("bounds", "right"), ("passes", "right"),
    ):  # fmt: skip
        table.add_column(column, justify=justify, min_width=len(column))
    for report in reports:
        kinds = [v.kind for v in report.verdicts]
        verdict = "right" if report.ok else "wrong" if report.wrong else "inconclusive"
        counts = [str(kinds.count(kind)) for kind in _COLORS]
        worst = f"{report.worst.bounds:.2g}" if report.verdicts else "-"
        table.add_row(
            rich.markup.escape(report.target), f"[{_COLORS[verdict]}]{verdict}[/]", *counts, worst,
            str(report.forwards),
        )  # fmt: skip
    console.print(table)
    for report in reports:
        if not report.ok:
            console.print(report.message(), markup=False, highlight=False, soft_wrap=True)
    right = sum(report.ok for report in reports)
    console.print(f"{right} of {len(reports)} right, {seconds:.1f} s", highlight=False)
