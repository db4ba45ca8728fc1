"""``minigrad bench``: how fast everything is, beside the machine's limits and torch."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minigrad.bench import compare, kernel_cases, limits, machine, report, roofline, runner, suites
from minigrad.bench.against import Torch
from minigrad.bench.case import Case
from minigrad.core.errors import ArgumentError, DataError, MissingExtra
from minigrad.ops.threads import get_num_threads, set_num_threads

__all__ = ["add_parser", "run"]

_SUITES = (*suites.SUITES, "roofline")

_EPILOG = """\
examples:
  minigrad bench                              everything, five minutes
  minigrad bench --against torch              the same beside torch
  minigrad bench kernels --only conv2d_forward:128x16x32x32,16x3x3,p1
  minigrad bench kernels --only 'conv2d_*:16x*' --against torch
  minigrad bench models --only train:resnet56,64x3x32x32
  minigrad bench --against torch --compare runs/bench/bench.json

Contenders take turns in one process with equal threads; the headline is the median, beside it the
least time and the middle half (IQR). Results are checked in the same run: "exact" is bit for bit on
whole numbers, "error" is the largest difference from float64 as a part of the result's size. Peak
and copy are measured, not read off a data sheet. "memory" is what a call needs at its peak beyond
what the process had. torch has images in both its layouts, but for convolutions and networks of
large images, which take it longer in its default one. Ctrl-C ends a run and keeps what it has. The
exit status is 1 if a result is wrong.
"""


def add_parser(commands: Any) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "bench",
        help="measure kernels, operations, networks and the engine",
        description="Measure, check and compare: kernels, operations, networks and the engine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(_SUITES)} (default all)")
    add(
        "--only",
        action="append",
        metavar="CASE",
        help="a case, listed or not, a pattern, or what names begin with",
    )
    add("--shapes", type=Path, metavar="FILE", help="convolutions, one a line, for 'kernels'")
    add("--list", action="store_true", help="print the names of the cases and stop")
    add("--against", choices=("torch",), help="let torch compete")
    add("--torch-compile", action="store_true", help="and torch.compile, half a minute a network")
    add("--threads", type=int, metavar="N", help="of every contender (default all cores)")
    add("--minutes", type=float, default=5.0, metavar="X", help="begin no case later (default 5)")
    add("--rounds", type=int, metavar="N", help="of each case (default as many as fit)")
    add("--memory", action=argparse.BooleanOptionalAction, default=True, help="measure memory too")
    add("--out", type=Path, metavar="DIR", help="for bench.json, bench.txt and roofline.png")
    add("--compare", type=Path, metavar="JSON", help="an earlier bench.json")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure what was asked for."""
    _check(options)
    earlier = report.read(options.compare) if options.compare else None
    folder = None if options.list else _folder(options)
    if options.threads is not None:
        set_num_threads(options.threads)
    threads = get_num_threads()
    rival = Torch(threads, options.torch_compile) if options.against else None
    cases = _cases(options, rival)
    if options.list:
        print("\n".join(case.name for case in cases))
        return 0
    roofs = limits.measure_roofs()
    print(report.heading(machine.environment(), roofs, threads), flush=True)
    settings = runner.Settings(
        threads,
        options.minutes,
        options.rounds,
        options.memory,
        options.against,
        options.torch_compile,
    )
    record = runner.run(cases, settings, roofs, lambda row: _show(row, roofs))
    print()
    if not (options.only or options.shapes) and "kernels" in (options.suites or _SUITES):
        print(f"kernels without a case of their own: {', '.join(kernel_cases.not_timed())}")
    for line in report.closing(record):
        print(line)
    if folder is not None and record["rows"]:
        _write(folder, options.suites or _SUITES, record)
    for line in compare.comparison_lines(earlier, record) if earlier else ():
        print(line)
    if record["stopped"]:
        return 130
    return 1 if report.wrong_rows(record["rows"]) else 0


def _check(options: argparse.Namespace) -> None:
    for suite in options.suites:
        if suite not in _SUITES:
            raise ArgumentError(
                f"bench: a suite is one of {', '.join(_SUITES)}, got {suite!r}. Pass some of them."
            )
    if options.rounds is not None and options.rounds < 1:
        raise ArgumentError(f"--rounds is at least 1, got {options.rounds}. Pass more.")
    if not options.minutes > 0:
        raise ArgumentError(f"--minutes is more than 0, got {options.minutes:g}. Pass more.")
    if options.torch_compile and not options.against:
        raise ArgumentError(
            "--torch-compile is one more contender of torch's, but torch does not compete. "
            "Add --against torch."
        )
    if "roofline" in options.suites:
        roofline.load_matplotlib()  # better now than when all is measured


def _folder(options: argparse.Namespace) -> Path | None:
    """Where results go: where asked to, or beside earlier ones if this is no excerpt."""
    if options.out is None and (options.only or options.shapes):
        return None
    folder: Path = options.out or Path("runs") / "bench"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as problem:
        raise DataError(
            f"bench: results are written to a folder, {folder} cannot be written to: {problem}. "
            "Name another one with --out DIR."
        ) from None
    return folder


def _cases(options: argparse.Namespace, rival: Torch | None) -> list[Case]:
    asked = options.suites or [*_SUITES]
    if options.shapes:
        return kernel_cases.kernel_cases(rival, _table(options.shapes))
    if options.only:
        return suites.select(options.only, asked, rival)
    if asked == ["roofline"]:  # a few points to see below the roofs
        return suites.select(["conv2d_*:128x*"], ["kernels"], rival)
    return suites.cases(asked, rival)


def _table(path: Path) -> list[str]:
    """The shapes in a file: one a line, # begins a comment."""
    try:
        lines = [line.partition("#")[0].split() for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(
            f"--shapes: a file with a convolution a line was expected, {path} cannot be read: "
            f"{problem}. Write lines like 128x16x32x32,16x3x3,p1."
        ) from None
    shapes = [shape for line in lines for shape in line]
    if not shapes:
        raise DataError(
            f"--shapes: a file with a convolution a line was expected, {path} has none. Write "
            "lines like 128x16x32x32,16x3x3,p1."
        )
    return shapes


def _show(row: dict[str, Any], roofs: limits.Roofs) -> None:
    print()
    print("\n".join(report.row_lines(row, roofs)), flush=True)


def _write(folder: Path, asked: Sequence[str], record: dict[str, Any]) -> None:
    """Write the files; the picture only where it can be drawn."""
    report.write(record, folder / "bench.json")
    written = [str(folder / "bench.json"), str(folder / "bench.txt")]
    if "roofline" in asked:
        try:
            roofline.draw(record, folder / "roofline.png")
            written.append(str(folder / "roofline.png"))
        except MissingExtra as problem:
            print(problem)
    print(f"written: {', '.join(written)}")
