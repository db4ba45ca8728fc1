"""What the report says below a target that was missed."""

import pytest

from minigrad.bench.limits import Roofs
from minigrad.bench.reasons import bandwidth_reasons, least_seconds, ratio_reasons

ROOFS = Roofs(1e12, {1 << 20: 1e11, 1 << 27: 2e10})


def made(name, ours, theirs, flops=0, moved=0, profile=None):
    """A row whose contenders took so many seconds."""
    row = {"name": name, "flops": flops, "bytes": moved, "profile": profile}
    row |= {"moved": moved, "contenders": {}}
    for contender, seconds in (("minigrad", ours), ("torch", theirs)):
        row["contenders"][contender] = figures = {"median": seconds}
        if flops:
            figures["of_peak"] = flops / seconds / 1e12
        if moved:
            figures["bytes_per_second"] = moved / seconds
            figures["of_copy"] = moved / seconds / ROOFS.bandwidth(moved)
    row["ratios"] = {"torch": {"value": theirs / ours}}
    return row


def test_a_product_is_held_against_the_peak():
    row = made("conv", 4e-3, 3e-3, flops=2 * 10**9, moved=1 << 20)
    assert list(ratio_reasons([row], "torch", 1.0, ROOFS)) == [
        "  0.75 conv: 4.00 ms, 3.00 ms wanted; 50% of peak, torch 67%; 2.00 ms with all that is "
        "slower at its roof"
    ]


def test_a_pass_over_memory_is_held_against_a_copy():
    row = made("pass", 4e-2, 3e-2, moved=1 << 28)
    assert list(ratio_reasons([row], "torch", 1.0, ROOFS)) == [
        "  0.75 pass: 40.0 ms, 30.0 ms wanted; 34% of a copy, torch 45%; 13.4 ms with all that is "
        "slower at its roof"
    ]
    assert list(bandwidth_reasons([row], 0.7)) == ["  pass: 6.7 GB/s, 34% of a copy"]
    assert list(bandwidth_reasons([row], 0.3)) == []


@pytest.mark.parametrize(
    ("bare", "told"), [(1.5e-2, "67% of it, which is less than is wanted"), (1.25e-2, "80% of it")]
)
def test_a_pass_that_reads_more_than_it_writes_may_be_unable_to_reach_a_copy(bare, told):
    row = made("pass", 2e-2, 3e-2, moved=10**8)
    row["beside"] = {"copy": 1e-2, "bare": bare}
    row["contenders"]["minigrad"]["of_copy"] = 0.5
    assert list(bandwidth_reasons([row], 0.7)) == [
        "  pass: 5.0 GB/s, 50% of a copy; a copy of as many bytes 10.0 GB/s, bare reading and "
        f"writing {0.1 / bare:.1f} GB/s, {told}"
    ]


def test_what_multiplies_less_counts_as_it_is():
    row = made("winograd", 1e-3, 1.2e-3, flops=2 * 10**9)
    assert least_seconds(row, ROOFS) == 1e-3
    assert list(ratio_reasons([row], "torch", 1.4, ROOFS)) == [
        "  1.20 winograd: 1.00 ms, 857 us wanted; 200% of peak, torch 167%"
    ]


def test_a_row_without_roofs_tells_its_times():
    row = made("engine", 2e-6, 1e-6)
    assert list(ratio_reasons([row], "torch", 1.0, ROOFS)) == [
        "  0.50 engine: 2.00 us, 1.00 us wanted"
    ]


@pytest.fixture
def network():
    """Of 100 ms: 40 at half the peak, 20 above it, 24 at half the speed of a copy, 16 outside."""
    size = 4 * 10**7
    alone = {"minigrad": 0.04, "numpy": 0.036, "torch": 0.03}  # in a slower hour
    kernels = {
        "conv2d_forward": {
            "works": [work(2, 0.04, 10**10, 9, 9, alone), work(1, 0.02, 3 * 10**10, 9, 9)],
        },
        "batch_norm_training": {"works": [work(2, 0.024, 0, 2 * size, 3 * size)]},
    }
    profile = {"seconds": 0.1, "outside": 0.016, "kernels": kernels}
    return lambda theirs, ours=0.1: made("grad:net", ours, theirs, profile=profile)


def work(calls, seconds, flops, nbytes, moved, alone=()):
    """Calls of a kernel with one amount of work: their time, and what there is in one."""
    return {
        "calls": calls, "seconds": seconds, "flops": flops, "bytes": nbytes, "moved": moved,
        "alone": dict(alone),
    }  # fmt: skip


def test_a_network_is_accounted_for_call_by_call(network):
    assert least_seconds(network(0.1), ROOFS) == pytest.approx(0.02 + 0.02 + 0.012)
    told = list(ratio_reasons([network(0.15)], "torch", 2.0, ROOFS))
    assert told == [
        "  1.50 grad:net: 100 ms, 75.0 ms wanted; 52.0 ms with all that is slower at its roof; "
        "62.0 ms if products of matrices are no faster than the fastest library makes them",
        "    slower than the roofs by conv2d_forward 20.0 ms, outside kernels 16.0 ms, "
        "batch_norm_training 12.0 ms",
    ]


def test_a_network_is_accounted_for_by_parts_of_its_time(network):
    # It was watched in a slower hour, in 100 ms.
    assert least_seconds(network(0.1, ours=0.05), ROOFS) == pytest.approx(0.026)


def test_a_network_that_libraries_keep_from_its_target(network):
    told = list(ratio_reasons([network(0.12)], "torch", 2.0, ROOFS))
    assert told[0] == (
        "  1.20 grad:net: 100 ms, 60.0 ms wanted; 52.0 ms with all that is slower at its roof; "
        "62.0 ms if products of matrices are no faster than the fastest library makes them, which "
        "is more than is wanted"
    )


def test_a_product_that_is_faster_than_libraries_counts_as_it_is(network):
    row = network(0.1)
    product, _ = row["profile"]["kernels"]["conv2d_forward"]["works"]
    product["alone"] = {"minigrad": 0.02, "numpy": 0.03, "torch": 0.06}
    assert least_seconds(row, ROOFS, by_libraries=True) == pytest.approx(0.04 + 0.02 + 0.012)


def test_a_network_that_the_roofs_keep_from_its_target(network):
    told = list(ratio_reasons([network(0.08)], "torch", 2.0, ROOFS))
    assert told[0].startswith(
        "  0.80 grad:net: 100 ms, 40.0 ms wanted; 52.0 ms with all that is slower at its roof, so "
        "the rest has to come from what is above the roof already; 62.0 ms if products"
    )


def test_the_worst_rows_are_told_and_the_others_counted():
    rows = [made(f"row {i}", 1.0, 0.1 * i) for i in range(1, 7)] + [made("good", 1.0, 2.0)]
    told = list(ratio_reasons(rows, "torch", 1.0, ROOFS))
    assert [line.split(":")[0] for line in told] == [
        "  0.10 row 1", "  0.20 row 2", "  0.30 row 3", "  and 3 more below 1",
    ]  # fmt: skip
