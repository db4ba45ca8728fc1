"""What a run records, prints and writes, and how two runs are compared."""

import copy
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from minigrad import kernels
from minigrad.bench import compare, machine, report, roofline, runner
from minigrad.bench.case import Case, Work
from minigrad.bench.limits import Roofs
from minigrad.bench.suites import find_case
from minigrad.bench.targets import target_lines
from minigrad.bench.text import seconds_text
from minigrad.core.errors import DataError
from minigrad.kernels._jit import Kernel

ROOFS = Roofs(1e12, {1 << 20: 1e11, 1 << 27: 2e10})


def run(cases, settings, tell=lambda row: None, **options):
    return runner.run(cases, settings, ROOFS, tell, measure=lambda: ROOFS, **options)


TABLE = Path(__file__).resolve().parents[2] / "benchmarks" / "readme_table.py"


def measured(*names, **settings):
    told = []
    options = runner.Settings(threads=1, rounds=settings.pop("rounds", 6), **settings)
    record = run([find_case(name) for name in names], options, told.append)
    assert told == record["rows"]
    return record


@pytest.fixture(scope="module")
def record():
    return measured(
        "conv2d_forward:2x16x8x8,16x3x3,p1",
        "conv2d_grad_input:2x16x8x8,16x3x3,p1",
        "relu_forward:2x16x8x8",
        "record:50",
    )


def rival(row, times, name="torch channels_last"):
    """Enter a contender with given times into a row."""
    figures = copy.deepcopy(row["contenders"]["minigrad"])
    row["contenders"][name] = {**figures, "samples": times, "median": float(np.median(times))}
    ours = row["contenders"]["minigrad"]["samples"]
    ratio = runner.paired_ratio(ours, times)
    row["ratios"][name] = {"value": ratio.value, "low": ratio.low, "high": ratio.high}


def scaled(record, factor, name="minigrad"):
    """The same run with all times of a contender multiplied."""
    other = copy.deepcopy(record)
    for row in other["rows"]:
        figures = row["contenders"][name]
        figures["samples"] = [factor * sample for sample in figures["samples"]]
    return other


def scattered(record, seed=0):
    """The same run with samples that scatter by a known amount."""
    rng = np.random.default_rng(seed)
    other = copy.deepcopy(record)
    for row in other["rows"]:
        row["contenders"]["minigrad"]["samples"] = list(
            1e-3 * np.exp(0.01 * rng.standard_normal(15))
        )
    return other


def test_the_heading_tells_every_roof_that_was_measured():
    where = machine.environment()
    text = report.heading(where, Roofs(4.4e11, {8: 2e11, 16: 3e10}, 3.8e11), 2)
    assert text.splitlines()[-1] == (
        "roofs: 440 GFLOP/s in registers, 380 with factors from the first cache; "
        "copy 200 GB/s in cache, 30 GB/s in memory"
    )
    older = report.heading(where, Roofs(4.4e11, {8: 2e11, 16: 3e10}), 2)
    assert older.splitlines()[-1].startswith("roofs: 440 GFLOP/s in registers; copy 200 GB/s")


def test_a_row_has_what_it_takes_to_judge_it(record):
    row = record["rows"][0]
    figures = row["contenders"]["minigrad"]
    assert len(figures["samples"]) == 6
    assert figures["flops_per_second"] == pytest.approx(row["flops"] / figures["median"])
    assert figures["of_peak"] == pytest.approx(figures["flops_per_second"] / 1e12)
    assert figures["of_copy"] == pytest.approx(figures["bytes_per_second"] / 1e11)
    assert figures["check"]["right"]
    assert figures["check"]["exact"]
    assert figures["first"] > 0
    engine = record["rows"][-1]
    assert engine["contenders"]["minigrad"]["median"] < 1e-3  # of a node, not of the chain
    environment = record["environment"]
    assert {"cpu", "caches", "versions", "commit", "load", "cores"} <= environment.keys()
    assert not any("cache" in key for key in environment["kernels"])  # no path of anybody's


def test_large_arrays_have_a_copy_beside_them():
    row = measured("relu_forward:1x16x512x640")["rows"][0]
    figures = row["contenders"]["minigrad"]
    assert row["beside"].keys() == {"copy", "bare"}
    assert figures["of_copy"] == pytest.approx(row["beside"]["copy"] / figures["median"])
    row["beside"] = {"copy": row["moved"] / 5e10, "bare": row["moved"] / 4e10}
    assert list(report.row_lines(row, ROOFS))[-2] == (
        "  beside it a copy of as many bytes 50.0 GB/s, bare reading and writing 40.0 GB/s, 80% of "
        "it"
    )


def test_the_text_of_a_row(record):
    lines = list(report.row_lines(record["rows"][0], ROOFS))
    assert lines[0] == "conv2d_forward:2x16x8x8,16x3x3,p1"
    assert "GFLOP/s" in lines[1]
    assert "exact, error" in lines[1]
    assert lines[-1] == (
        "  $ minigrad bench kernels --only conv2d_forward:2x16x8x8,16x3x3,p1 --threads 1"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.234, "1.23 s "), (0.0123, "12.3 ms"), (4.56e-4, "456 us"), (7.89e-9, "0.01 us")],
)
def test_times_have_three_digits(seconds, text):
    assert seconds_text(seconds) == text


def test_what_must_be_said_aloud(record):
    loud = copy.deepcopy(record)
    loud["stability"] = {
        "unstable": True, "median_spread": 0.3, "peak_drift": -0.2, "load_after": 5.0,
    }  # fmt: skip
    loud["left_out"] = ["train:resnet20,128x3x32x32"]
    loud["rows"][0]["contenders"]["minigrad"]["check"]["right"] = False
    loud["rows"][1]["contenders"]["minigrad"]["of_peak"] = 1.3
    text = "\n".join(report.closing(loud))
    assert "unstable machine: the middle half of the times spreads over 30%" in text
    assert "left out 1 case, from train:resnet20,128x3x32x32 on: 5 minutes are over" in text
    assert "WRONG RESULT: minigrad in conv2d_forward:2x16x8x8,16x3x3,p1" in text
    assert "above the roof: minigrad in conv2d_grad_input" in text


def test_no_case_begins_after_the_time_is_over():
    ticks = iter([0.0, 1.0, 999.0, 1000.0])
    cases = [find_case("relu_forward:1x1x2x3"), find_case("relu_backward:1x1x2x3")]
    settings = runner.Settings(threads=1, minutes=1, rounds=1)
    found = run(cases, settings, clock=lambda: next(ticks))
    assert [row["name"] for row in found["rows"]] == ["relu_forward:1x1x2x3"]
    assert found["left_out"] == ["relu_backward:1x1x2x3"]


def test_a_wrong_result_is_recorded():
    def work(draw):
        return Work({"minigrad": lambda: np.ones(3)}, lambda: [np.zeros(3)])

    settings = runner.Settings(threads=1, rounds=1)
    found = run([Case("kernels", "lie", work)], settings)
    assert [name for _, name in report.wrong_rows(found["rows"])] == ["minigrad"]


def test_after_too_few_rounds_json_holds_nothing_that_is_no_json(tmp_path):
    def work(draw):
        ours, theirs = (lambda: np.ones(3)), (lambda: np.full(4, np.nan))
        return Work({"minigrad": ours, "torch": theirs}, lambda: [np.ones(3)])

    settings = runner.Settings(threads=1, rounds=1)
    found = run([Case("kernels", "few", work)], settings)
    report.write(found, tmp_path / "bench.json")
    (row,) = report.read(tmp_path / "bench.json")["rows"]
    assert row["ratios"]["torch"]["low"] is None
    assert row["contenders"]["torch"]["check"] == {"exact": None, "error": None, "right": False}
    assert "too few rounds to say more" in "\n".join(report.row_lines(row, ROOFS))
    with pytest.raises(ValueError, match="JSON"):
        report.write({"seconds": float("inf")}, tmp_path / "bench.json")


def test_the_time_of_a_network_is_accounted_for():
    row = measured("train:resnet20,2x3x16x16", rounds=1, memory=False)["rows"][0]
    profile = row["profile"]
    parts = [kernel["seconds"] for kernel in profile["kernels"].values()]
    assert parts == sorted(parts, reverse=True)
    assert sum(parts) + profile["outside"] == pytest.approx(profile["seconds"])
    assert 0 < profile["outside"] < profile["seconds"]
    conv = profile["kernels"]["conv2d_forward"]
    assert conv["calls"] == 19
    assert conv["flops"] == sum(  # of its three stages, from the definition
        2 * 2 * (16 // s) ** 2 * 9 * (3 * 16 * (s == 1) + 6 * (16 * s) ** 2 - 128 * s**2 * (s > 1))
        for s in (1, 2, 4)
    )
    assert 0 < sum(conv["loops"].values()) < conv["seconds"]
    works = conv["works"]
    assert sum(work["calls"] for work in works) == conv["calls"]
    assert sum(work["calls"] * work["flops"] for work in works) == conv["flops"]
    assert sum(work["seconds"] for work in works) == pytest.approx(conv["seconds"])
    assert not any(work["alone"] for work in works)  # its filters are all 3 x 3
    text = "\n".join(report.row_lines(row, ROOFS))
    assert "of minigrad's" in text
    assert "conv2d_forward, 19 calls, " in text
    assert "outside kernels" in text
    assert "products of matrices" not in text


def test_products_of_matrices_in_a_network_are_held_against_a_library():
    row = measured("grad:resnet50,2x3x32x32", rounds=1, memory=False)["rows"][0]
    kernels_of = row["profile"]["kernels"]
    for name in ("conv2d_forward", "conv2d_grad_input", "conv2d_grad_weight"):
        works = [work for work in kernels_of[name]["works"] if work["alone"]]
        # Two in each of 16 units, and one more where the first stage widens.
        assert sum(work["calls"] for work in works) == 33
        assert all(list(work["alone"]) == ["minigrad", "numpy"] for work in works)
        assert all(seconds > 0 for work in works for seconds in work["alone"].values())
    text = "\n".join(report.row_lines(row, ROOFS))
    assert "  99 of its calls are products of matrices: " in text
    assert " ms by numpy" in text


def test_kernels_are_unwatched_again():
    before = kernels.relu_forward, Kernel.launch
    seen = []
    with kernels.watch_kernels(seen.append):
        kernels.relu_forward(np.ones((2, 3), "f"))
    kernels.relu_forward(np.ones((2, 3), "f"))
    assert [call.name for call in seen] == ["relu_forward"]
    assert (kernels.relu_forward, Kernel.launch) == before


def test_json_brings_everything_back(record, tmp_path):
    path = tmp_path / "new" / "bench.json"
    report.write(record, path)
    assert report.read(path) == json.loads(json.dumps(record))


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "bench.json"
    path.write_text('{"format": 99}')
    with pytest.raises(DataError) as caught:
        report.read(path)
    assert str(caught.value) == (
        f"bench: results of format 2 were expected in {path}, it has format 99. "
        "Measure again with this version."
    )
    path.write_text("no json")
    with pytest.raises(DataError, match="the JSON of an earlier run was expected"):
        report.read(path)


def _spoil(path, value):
    """A change to a record: the entry at a path of keys gets a value."""

    def change(record):
        *way, last = path
        for key in way:
            record = record[key]
        record[last] = value

    return change


_TIMES = ("rows", 1, "contenders", "minigrad", "samples")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_spoil(("rows", 0), {}), "has no times of minigrad in row 0, or times that are none"),
        (_spoil(("rows", 1), None), "has no times of minigrad in row 1, or times that are none"),
        (_spoil(("rows", 1, "name"), 5), "has no times of minigrad in row 1, or times"),
        (_spoil(("rows", 1, "contenders"), {}), "has no times of minigrad in row 1, or times"),
        (_spoil(("rows", 1, "ratios"), {"torch": {}}), "has no times of minigrad in row 1, or"),
        (_spoil(_TIMES, []), "has no times of minigrad in row 1, or times that are none"),
        (_spoil(_TIMES, "a"), "has no times of minigrad in row 1, or times that are none"),
        (_spoil(_TIMES, [0.1, 0.0]), "has no times of minigrad in row 1, or times that are none"),
        (_spoil(_TIMES, [0.1, float("nan")]), "has no times of minigrad in row 1, or times"),
        (_spoil(_TIMES, [1e308]), "has no times of minigrad in row 1, or times that are none"),
        (_spoil(("stability",), {}), "does not say whether the machine was unstable"),
    ],
)
def test_a_run_that_cannot_be_compared_is_refused(record, tmp_path, change, told):
    spoilt = copy.deepcopy(record)
    change(spoilt)
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(spoilt))
    with pytest.raises(DataError) as caught:
        report.read(path)
    assert f"the JSON of an earlier run was expected in {path}, which {told}" in str(caught.value)


def test_a_run_does_not_differ_from_its_like(record):
    lines = list(compare.comparison_lines(scattered(record, 0), scattered(record, 1)))
    assert "no significant difference in any row" in lines
    assert any("no significant difference" in line for line in lines[1:-1])


def test_a_run_twice_as_fast_is_seen(record):
    old, new = scattered(record, 0), scaled(scattered(record, 1), 0.5)
    found = compare.changes(old, new)
    assert len(found) == 4
    assert all(change.significant for change in found)
    assert [change.ratio for change in found] == pytest.approx([2.0] * 4, rel=0.02)
    assert "4 rows faster, 0 slower, 0 as before" in list(compare.comparison_lines(old, new))


def test_a_difference_of_one_percent_is_none(record):
    old = scattered(record, 0)
    assert not any(change.significant for change in compare.changes(old, scaled(old, 1.01)))


def test_where_torch_competes_a_slower_machine_is_no_slower_code(record):
    old = scattered(record, 0)
    for row in old["rows"]:
        rival(row, [2 * t for t in row["contenders"]["minigrad"]["samples"]])
    weather = scaled(scaled(old, 3.0), 3.0, "torch channels_last")
    found = compare.changes(old, weather)
    assert [change.ratio for change in found] == pytest.approx([1.0] * 4)
    assert not any(change.significant for change in found)
    assert all(change.yardstick == "torch channels_last" for change in found)
    slower = compare.changes(old, scaled(weather, 1.5))
    assert all(change.significant and change.ratio < 1 for change in slower)


def test_runs_of_two_machines_are_told_apart_before_they_are_compared(record):
    other = copy.deepcopy(record)
    other["environment"]["cpu"], other["environment"]["cores"] = "Z80", 1
    lines = list(compare.comparison_lines(other, record))
    assert lines[1].startswith("not the same machine: Z80 with 1 cores, 1 threads before, ")
    assert not any("not the same" in line for line in compare.comparison_lines(record, record))


def test_a_line_reproduces_with_all_contenders():
    settings = runner.Settings(threads=2, against="torch", compiled=True)
    assert runner._reproduce(find_case("both:30"), settings) == (
        "minigrad bench engine --only both:30 --against torch --torch-compile --threads 2"
    )


def test_targets_are_judged(record):
    rows = copy.deepcopy(record["rows"])
    for row, factor in zip(rows[:2], (2.0, 0.8), strict=True):
        rival(row, [factor * t for t in row["contenders"]["minigrad"]["samples"]])
    rival(rows[3], [2 * t for t in rows[3]["contenders"]["minigrad"]["samples"]], "torch")
    rows[3]["name"], rows[3]["profile"] = "both:50", {"kernels": {}}
    rows[3]["contenders"]["minigrad"]["rise"] = 3_000_000
    rows[3]["contenders"]["torch"]["rise"] = 2_000_000
    lines = list(target_lines(rows, ROOFS))
    assert lines.pop(2).startswith("    0.80 conv2d_grad_input:2x16x8x8,16x3x3,p1: ")
    assert lines == [
        "targets: 1 of 3 met",
        "  MISSED conv 3x3 stride 1 against torch channels_last: 1.15, in every row 0.9 wanted, "
        "1.26, least 0.80 found",
        "  met    both:* against torch: 1 wanted, 2.00 found",
        "  MISSED memory of both:50: 2 MB wanted, 3 MB found",
    ]
    assert list(target_lines(record["rows"], ROOFS)) == []


def test_a_target_that_takes_a_compiler_says_how_it_is_measured(record):
    rows = copy.deepcopy(record["rows"][:1])
    rows[0]["name"] = "grad:resnet18,16x3x224x224"
    rival(rows[0], [3 * t for t in rows[0]["contenders"]["minigrad"]["samples"]])
    lines = list(target_lines(rows, ROOFS))
    assert lines[-1] == (
        "  absent grad:* against torch.compile: 1, in every row 1 wanted, not measured here: run "
        "'minigrad bench models --against torch --torch-compile --minutes 15'"
    )
    judged = len(lines) - 2
    rival(rows[0], rows[0]["contenders"]["minigrad"]["samples"], "torch.compile")
    assert f"targets: {judged + 1} of {judged + 1} met" in list(target_lines(rows, ROOFS))


def test_large_arrays_are_held_against_a_copy(record):
    rows = copy.deepcopy(record["rows"][2:3])
    rows[0]["group"] = "max pool, large arrays"
    for part, verdict in ((0.695, "MISSED"), (0.7, "met   ")):
        rows[0]["contenders"]["minigrad"]["of_copy"] = part
        assert (
            f"  {verdict} max pool, large arrays, of the speed of a copy: 70% wanted, 70% found"
            in list(target_lines(rows, ROOFS))
        )


def test_the_error_of_winograd_stands_beside_that_of_direct(record):
    loud = copy.deepcopy(record)
    for row, error in zip(loud["rows"], (6e-6, 8e-6), strict=False):
        row["name"] = f"conv2d_forward_algorithms:{error:g}"
        for name, value in (("direct", 2e-6), ("winograd", error)):
            rival(row, [1.0] * 6, f"minigrad {name}")
            row["contenders"][f"minigrad {name}"]["check"] = {"exact": None, "error": value}
    assert "winograd's error: at most 4.0 times that of direct, conv2d_forward:8e-06" in list(
        report._winograd_errors(loud["rows"])
    )


def test_winograd_alone_may_claim_more_than_the_peak(record):
    loud = copy.deepcopy(record)
    row = loud["rows"][0]
    rival(row, [1.0] * 6)
    for figures in row["contenders"].values():
        figures["of_peak"] = 1.3
    row["algorithm"] = "winograd"
    assert [n for _, n in report.above_roof(loud["rows"], loud["roofs"])] == ["torch channels_last"]


def test_the_roofline_is_drawn(record, tmp_path):
    path = tmp_path / "roofline.png"
    roofline.draw(json.loads(json.dumps(record)), path)
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(roofline._points(record)) == 2


def test_winograd_has_a_colour_of_its_own_in_the_roofline(record):
    row = next(row for row in record["rows"] if row["flops"])
    drawn = {}
    for algorithm in "direct", "winograd":
        changed = {**record, "rows": [{**row, "algorithm": algorithm}]}
        drawn[algorithm] = [who for _, _, who, _ in roofline._points(changed)]
    assert "minigrad" in drawn["direct"]
    assert "minigrad, Winograd" in drawn["winograd"]
    assert {*drawn["direct"], *drawn["winograd"]} <= {*roofline._COLOURS}


def test_the_readme_gets_wins_and_losses(record):
    spec = importlib.util.spec_from_file_location("readme_table", TABLE)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    old = scattered(record, 0)
    for row, factor in zip(old["rows"][:2], (2.0, 0.5), strict=True):
        rival(row, [factor * t for t in row["contenders"]["minigrad"]["samples"]])
    old["environment"]["versions"]["torch"] = "2.13.0"
    text = script.table(old)
    (line,) = [line for line in text.splitlines() if line.startswith("| conv 3x3 stride 1")]
    assert line.endswith("| **1.00** (0.50 to 2.00) | faster in 1, slower in 1 |")
    assert line.count("GFLOP/s") == 2
    assert "torch, in its better layout, is faster beyond chance in 1 of 2 cases." in text
    assert "- 0.50 `conv2d_grad_input:2x16x8x8,16x3x3,p1`, the only one of 2 cases" in text
    row = {"suite": "ops", "name": "forward:bn_relu,2x3x4x5", "group": "bn relu, small arrays"}
    assert script._work([row]) == "BN+ReLU with its graph, small arrays"
    later = scaled({**old, "rows": old["rows"][:1]}, 0.5)
    assert script.joined([old, later])["rows"] == [*later["rows"], *old["rows"][1:]]
    old["rows"][0]["contenders"]["minigrad"]["rise"] = 5_000_000
    later["rows"][0]["contenders"]["minigrad"]["rise"] = None
    kept = script.joined([old, later])["rows"][0]["contenders"]["minigrad"]
    assert kept == {**later["rows"][0]["contenders"]["minigrad"], "rise": 5_000_000}
    readme = f"above\n{script.BEGIN}\nold\n{script.END}\nbelow\n"
    new = script.replaced(readme, text)
    assert new == f"above\n{script.BEGIN}\n\n{text}\n{script.END}\nbelow\n"
    assert script.replaced(new, text) == new
    with pytest.raises(SystemExit, match="put them where the table belongs"):
        script.replaced("no markers", text)
