"""How kernels keep up with torch on shapes that no table lists: odd widths, few channels, batch 1.

    python benchmarks/drawn.py                          # 40 draws of seed 0, about two minutes
    python benchmarks/drawn.py --seed 1 --count 200 --minutes 10
    python benchmarks/drawn.py --only "conv2d_forward:1x3x7x9,17x3x3,p1 float64"

Each draw is a convolution, whose three products are cases of their own, or now and then another
kernel. A case takes turns with torch's channels_last on equal numbers of threads, and the results
of both are checked in the same run. What counts is torch's time over minigrad's: above 1 minigrad
is faster. Every case below --least is printed with the line that repeats it.

Convolutions are drawn from N 1 to 64, C and F 1 to 600, H and W 1 to 120, filters of 1, 2, 3, 4, 5
or 7 taps along each axis, strides and dilations 1 to 3, paddings up to the filter's reach, one
group, a group a channel or any number that divides; one in eight is in float64. Draw i of a seed is
always the same, so a long campaign can be run in pieces:

    python benchmarks/drawn.py --start 40 --count 40 --keep rows.jsonl
    python benchmarks/drawn.py --count 0 --keep rows.jsonl     # measures nothing, sums all up
"""

import argparse
import dataclasses
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.bench.against import CHANNELS_LAST, DEFAULT, Torch
from minigrad.bench.case import Case, Draw, Work, normal, verify
from minigrad.bench.conv_cases import PRODUCTS
from minigrad.bench.norm_cases import NORMS
from minigrad.bench.shapes import Conv, Pair
from minigrad.bench.statistics import geometric_mean, paired_ratio
from minigrad.bench.suites import find_case
from minigrad.bench.text import seconds_text
from minigrad.bench.timing import first_call, interleave

WIDTHS = (1, 2, 3, 5, 7, 8, 16, 17, 24, 33, 48, 64, 100, 128, 200, 256, 512)
TAPS = (1, 2, 3, 4, 5, 7)

# A case of more would be waited for; torch may be ten times below the machine's peak.
_MOST_FLOPS, _MOST_BYTES = 3e9, 64e6
_WIDE = 1 / 8  # draws in float64

OTHERS = (
    *NORMS, "relu_forward", "relu_backward", "max_pool2d_forward", "max_pool2d_backward",
    *(
        f"{way}:{step}"
        for step in (
            "batch_norm_eval", "add_relu", "avg_pool", "global_avg_pool", "upsample", "softmax",
            "cross_entropy", "linear",
        )
        for way in ("forward", "backward")
    ),
    "update:sgd", "update:adam",
)  # fmt: skip


def _spread(rng: np.random.Generator, most: int) -> int:
    """Draw a size, as often between 1 and 2 as between 32 and 64."""
    return round(2 ** rng.uniform(0, math.log2(most)))


def _one_of(rng: np.random.Generator, values: Sequence[int], often: Sequence[float]) -> int:
    return int(rng.choice(values, p=np.divide(often, sum(often))))


def _pair(rng: np.random.Generator, values: Sequence[int], often: Sequence[float]) -> Pair:
    """Draw a number for both axes, or in one of five draws one for each."""
    down, across = (_one_of(rng, values, often) for _ in range(2))
    return (down, across) if rng.random() < 0.2 else (down, down)


def _width(rng: np.random.Generator) -> int:
    return int(rng.choice(WIDTHS)) if rng.random() < 0.7 else _spread(rng, 600)


def _padding(rng: np.random.Generator, taps: int, dilation: int) -> int:
    """None, as much as keeps the size, or anything that the filter can reach."""
    reach = dilation * (taps - 1)
    return (0, reach // 2, reach // 2, int(rng.integers(0, reach + 1)))[rng.integers(4)]


def _grouped(rng: np.random.Generator) -> tuple[int, int, int]:
    """Draw C, F and groups."""
    C, F = _width(rng), _width(rng)
    kind = rng.random()
    if kind < 0.7:
        return C, F, 1
    if kind < 0.85:  # depthwise
        return C, C * _one_of(rng, (1, 2, 3), (6, 2, 1)), C
    groups = _one_of(rng, (2, 3, 4, 8, 32), (4, 1, 2, 2, 1))
    return groups * -(-C // groups), groups * -(-F // groups), groups


def draw_conv(rng: np.random.Generator) -> Conv:
    """Draw a convolution that has an output and is not too large."""
    while True:
        C, F, groups = _grouped(rng)
        KH, KW = _pair(rng, TAPS, (4, 1, 6, 1, 2, 1))
        stride, dilation = _pair(rng, (1, 2, 3), (6, 3, 1)), _pair(rng, (1, 2, 3), (8, 2, 1))
        padding = _padding(rng, KH, dilation[0]), _padding(rng, KW, dilation[1])
        N, H, W = _spread(rng, 64), _spread(rng, 120), _spread(rng, 120)
        if rng.random() < 0.5:
            W = H
        conv = Conv(N, C, H, W, F, KH, KW, stride, padding, dilation, groups)
        if min(conv.out) > 0 and conv.flops < _MOST_FLOPS and conv.bytes < _MOST_BYTES:
            return conv


def _draw_other(rng: np.random.Generator) -> str:
    """Draw the name of a case of another kernel."""
    kind = str(rng.choice(OTHERS))
    if kind.startswith("update"):
        shapes = [(_width(rng), _width(rng), *_pair(rng, (1, 3), (1, 1))) for _ in range(3)]
        return f"{kind}," + "+".join("x".join(map(str, shape)) for shape in shapes)
    N, C, H, W = _spread(rng, 64), _width(rng), _spread(rng, 120), _spread(rng, 120)
    while 4 * N * C * H * W > _MOST_BYTES / 4:
        N, H = max(N // 2, 1), max(H // 2, 1)
    if kind.endswith(("softmax", "cross_entropy", "linear")):
        return f"{kind},{N * H}x{max(C, 2)}"
    if not kind.startswith("max_pool"):
        return f"{kind}{',' if ':' in kind else ':'}{N}x{C}x{H}x{W}"
    taps = _one_of(rng, (2, 3, 5), (2, 2, 1))
    padding = max(taps // 2 if rng.random() < 0.5 else 0, -(-(taps - min(H, W)) // 2))
    stride, padding = int(rng.integers(1, taps + 1)), min(padding, taps // 2)
    return f"{kind}:{N}x{C}x{max(H, taps)}x{max(W, taps)},{taps}x{taps},s{stride},p{padding}"


def drawn(seed: int, number: int) -> list[str]:
    """Name the cases of a draw, each with its dtype where that is float64."""
    rng = np.random.default_rng((seed, number))
    if number % 4 == 3:
        return [_draw_other(rng)]
    wide = " float64" if rng.random() < _WIDE else ""
    conv = draw_conv(rng)
    return [f"{product}:{conv}{wide}" for product in PRODUCTS]


def make(name: str, rival: Torch | None) -> Case:
    """Make the case of a name; its contenders are minigrad and one layout of torch."""
    text, _, dtype = name.partition(" ")
    case = find_case(text, rival)

    def work(draw: Draw) -> Work:
        made = case.work(lambda rng, shape: draw(rng, shape).astype(dtype or "float32"))
        if CHANNELS_LAST in made.contenders:
            made.contenders.pop(DEFAULT, None)
        return made

    return dataclasses.replace(case, work=work, small=work if case.small else None)


def measure(name: str, rival: Torch | None, rounds: int, checked: bool = True) -> dict[str, Any]:
    """Check a case and time it; a row of the result."""
    case = make(name, rival)
    work = case.work(normal)
    verdicts = verify(case, work) if checked else {}
    wrong = {who: str(verdict) for who, verdict in verdicts.items() if not verdict.right}
    for call in work.contenders.values():
        first_call(call)  # else a sample would be as few calls as fill the time of this one
    timings = list(interleave(work.contenders, 0.0, rounds).values()) if rounds else []
    row: dict[str, Any] = {"name": name, "wrong": wrong}
    if len(timings) == 2:
        ours, theirs = timings
        ratio = paired_ratio(ours.samples, theirs.samples).value
        row |= {"ours": ours.median, "theirs": theirs.median, "ratio": ratio}
    return row


def _told(row: dict[str, Any]) -> str:
    times = ""
    if "ratio" in row:
        ours, theirs = seconds_text(row["ours"]), seconds_text(row["theirs"])
        times = f"{row['ratio']:6.2f}  {ours:>9} against {theirs:>9}  "
    wrong = "".join(f"  {who}: {what}" for who, what in row["wrong"].items())
    return f"{times}{row['name']}{wrong}"


def _family(name: str) -> str:
    """The kernel and, of convolutions, what is special about them."""
    text, _, dtype = name.partition(" ")
    kind, _, shape = text.partition(":")
    if kind not in PRODUCTS:
        step = shape.partition(",")[0]
        return f"{kind} {step}" if kind in ("forward", "backward", "update") else kind
    return f"{kind}{', float64' if dtype else ''}{', groups' if ',g' in shape else ''}"


def report(rows: Sequence[dict[str, Any]], least: float) -> Iterator[str]:
    """Say how ratios are distributed, and which cases are slow or wrong."""
    timed = [row for row in rows if "ratio" in row]
    families: dict[str, list[float]] = {}
    for row in timed:
        families.setdefault(_family(row["name"]), []).append(row["ratio"])
    families["all"] = [row["ratio"] for row in timed]
    yield "torch's time over minigrad's: geometric mean, 5 % quantile, least"
    for family, ratios in families.items():
        if ratios:
            low = float(np.quantile(ratios, 0.05))
            figures = f"{geometric_mean(ratios):6.2f} {low:6.2f} {min(ratios):6.2f}"
            yield f"{figures}  {family}, {len(ratios)} cases"
    slow = sorted((row for row in timed if row["ratio"] < least), key=lambda row: row["ratio"])
    yield f"{len(slow)} of {len(timed)} below {least:g}"
    yield from map(_repeatable, slow)
    wrong = [row for row in rows if row["wrong"]]
    yield f"{len(wrong)} of {len(rows)} wrong"
    yield from map(_repeatable, wrong)


def _repeatable(row: dict[str, Any]) -> str:
    return f'{_told(row)}\n        python benchmarks/drawn.py --only "{row["name"]}"'


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--start", type=int, default=0, help="number of the first draw")
    made.add_argument("--count", type=int, default=40, help="how many draws; every fourth is no "
                      "convolution")  # fmt: skip
    made.add_argument("--minutes", type=float, default=5.0, help="after so long none begins")
    made.add_argument("--rounds", type=int, default=7, help="of each case; 0 only checks results")
    made.add_argument("--unchecked", action="store_true", help="trust results, for haste")
    made.add_argument("--least", type=float, default=0.5, help="list the cases below this ratio")
    made.add_argument("--only", nargs="+", metavar="CASE", help="measure these instead")
    made.add_argument("--keep", type=Path, metavar="FILE", help="add rows to this file of JSON "
                      "lines, and sum up all that are in it")  # fmt: skip
    made.add_argument("--quiet", action="store_true", help="print no progress")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    numbers = range(options.start, options.start + options.count)
    names = options.only or [name for i in numbers for name in drawn(options.seed, i)]
    rival = Torch(kernels.get_num_threads())
    end = time.perf_counter() + 60 * options.minutes
    rows = []
    for i, name in enumerate(names):
        if time.perf_counter() > end:
            print(f"time is over: {len(names) - i} of {len(names)} cases are left out")
            break
        rows.append(measure(name, rival, options.rounds, not options.unchecked))
        if options.keep:
            with options.keep.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
        if not options.quiet:
            print(f"{i + 1:4d}/{len(names)}  {_told(rows[-1])}")
            sys.stdout.flush()
    if options.keep:
        rows = [json.loads(line) for line in options.keep.read_text().splitlines()]
    print("\n".join(report(rows, options.least)))


if __name__ == "__main__":
    main()
