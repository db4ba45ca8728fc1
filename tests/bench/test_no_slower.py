"""The longest loops of the networks keep their speed, as a part of what the machine can do.

The kept run of the benchmark says at which part of the peak, or of a copy, each of them ran. An
edit that costs a factor, as one in the wrong place has done, no test of results can see. The
measure is the best of many calls beside the best of the roof, so a busy machine passes; half the
kept part is asked for, so only a real loss fails: one by more than two on a quiet machine. Where
others use a core the roof comes down more than the loops do, and it takes a loss by four.
"""

import time
from pathlib import Path

import pytest

from minigrad import kernels
from minigrad.bench import limits, machine, report
from minigrad.bench.case import normal
from minigrad.bench.suites import find_case

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"

NAMES = [
    "conv2d_forward:128x16x32x32,16x3x3,p1",  # Winograd, one vector of channels
    "conv2d_forward:16x64x56x56,64x3x3,p1",  # Winograd
    "conv2d_forward:16x512x7x7,512x3x3,p1",  # Winograd, few tiles
    "conv2d_grad_input:16x128x28x28,128x3x3,p1",
    "conv2d_grad_weight:16x128x28x28,128x3x3,p1",
    "conv2d_forward:16x64x56x56,128x3x3,s2,p1",  # direct
    "conv2d_grad_input:8x128x56x56,128x3x3,s2,p1",
    "conv2d_grad_weight:8x256x56x56,64x1x1",
    "batch_norm_relu_training:128x16x32x32",
    "batch_norm_relu_backward:128x16x32x32",
]

SECONDS = 4.0  # of trying, before a loop is called slow


@pytest.fixture(scope="module")
def kept():
    """The rows of a kept run by name, and its roofs, where one was measured on such a machine."""
    here = measured_on(machine.environment())
    runs = [report.read(path) for path in sorted(RESULTS.rglob("bench.json"))]
    for record in runs:
        if measured_on(record["environment"]) == here:
            rows = {row["name"]: row for row in record["rows"]}
            return rows, limits.Roofs.read(record["roofs"])
    elsewhere = [measured_on(record["environment"]) for record in runs]
    pytest.skip(f"kept runs were measured on {elsewhere}, not on {here}")


def measured_on(environment):
    """What a speed depends on: the CPU, its cores, and the bits of a vector."""
    return environment["cpu"], environment["cores"], environment["kernels"]["vector_bits"]


def part_kept(row, roofs):
    """Which part of its roof a row reached at best."""
    least = row["contenders"]["minigrad"]["least"]
    if row["flops"]:
        return row["flops"] / least / roofs.flops
    return row["bytes"] / least / roofs.bandwidth(row["bytes"])


def part_now(name, wanted):
    """Which part it reaches here: the best found until it is as much as is wanted, or time over."""
    case = find_case(name)
    call = case.work(normal).contenders["minigrad"]
    call()
    least, roof, start = float("inf"), 0.0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        if case.flops:
            roof = max(roof, limits.measure_peak(10))
        else:
            roof = max(roof, limits.measure_copy(case.bytes // 2, 3))
        least = min(least, *limits.times(call, 5))
        part = (case.flops or case.bytes) / least / roof
        if part >= wanted and time.perf_counter() - start > 0.2:  # the roof has had its chances
            break
    return part


@pytest.mark.parametrize("name", NAMES)
def test_a_loop_keeps_half_of_its_part_of_the_roof(kept, name):
    rows, roofs = kept
    wanted = part_kept(rows[name], roofs) / 2
    found = part_now(name, wanted)
    assert found >= wanted, f"{name}: {found:.0%} of the roof, at least {wanted:.0%} wanted"


def test_a_loop_that_takes_six_times_as_long_is_caught(kept, monkeypatch):
    rows, roofs = kept
    name = "conv2d_forward:16x64x56x56,64x3x3,p1"
    forward = kernels.conv2d_forward

    def slow(*args):
        return [forward(*args) for _ in range(6)][-1]

    monkeypatch.setattr(kernels, "conv2d_forward", slow)
    monkeypatch.setitem(globals(), "SECONDS", 1.0)
    wanted = part_kept(rows[name], roofs) / 2
    assert part_now(name, wanted) < wanted
