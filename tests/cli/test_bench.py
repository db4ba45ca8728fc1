"""``minigrad bench``, ``doctor`` and ``warmup`` from the shell."""

import json
import os
import sys

import pytest

from minigrad import kernels
from minigrad.bench import runner
from minigrad.cli import bench, doctor
from minigrad.cli.main import main

SMALL = "conv2d_forward:2x3x6x5,4x3x3,p1"


@pytest.fixture(autouse=True)
def _quick_roofs(monkeypatch):
    from minigrad.bench import limits

    monkeypatch.setattr(limits, "SIZES", (16 << 10, 32 << 10))
    monkeypatch.setattr(limits, "_STEPS", 10)


def test_one_case_is_measured_and_said_how_to_repeat(capsys):
    assert main(["bench", "--only", SMALL, "--rounds", "6"]) == 0
    out = capsys.readouterr().out
    assert f"\n{SMALL}\n  minigrad " in out
    assert "exact, error" in out
    command = next(line for line in out.splitlines() if line.startswith("  $ "))
    arguments = command.removeprefix("  $ minigrad ").split()
    assert main([*arguments, "--rounds", "1"]) == 0
    assert f"\n{SMALL}\n" in capsys.readouterr().out


def test_results_are_written_and_compared(capsys, tmp_path):
    command = ["bench", "--only", SMALL, "--only", "relu_forward:2x3x6x5", "--rounds", "6"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "bench.json").read_text())
    assert [row["name"] for row in record["rows"]] == [SMALL, "relu_forward:2x3x6x5"]
    assert (tmp_path / "roofline.png").exists()
    assert main([*command, "--compare", str(tmp_path / "bench.json")]) == 0
    assert "2 rows in both" in capsys.readouterr().out


def test_the_list_names_cases_that_can_be_asked_for(capsys):
    assert main(["bench", "--list"]) == 0
    names = capsys.readouterr().out.splitlines()
    assert len(names) == len(set(names)) > 150
    assert main(["bench", "--list", *[f"--only={name}" for name in names]]) == 0
    assert capsys.readouterr().out.splitlines() == names


def test_shapes_come_from_a_file(capsys, tmp_path):
    path = tmp_path / "shapes.txt"
    path.write_text("# a comment\n2x3x6x5,4x3x3,p1  # and another\n\n1x1x3x3,1x3x3\n")
    assert main(["bench", "--list", "--shapes", str(path)]) == 0
    names = capsys.readouterr().out.splitlines()
    assert len(names) == 6
    assert names[0] == SMALL


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["everything"],
            "bench: a suite is one of engine, models, kernels, ops, roofline, got 'everything'. "
            "Pass some of them.",
        ),
        (["--rounds", "0"], "--rounds is at least 1, got 0. Pass more."),
        (["--minutes", "0"], "--minutes is more than 0, got 0. Pass more."),
        (["--minutes", "nan"], "--minutes is more than 0, got nan. Pass more."),
        (
            ["--torch-compile"],
            "--torch-compile is one more contender of torch's, but torch does not compete. "
            "Add --against torch.",
        ),
        (
            ["--only", "sgd_step:5"],
            "bench: a case begins with one of",
        ),
        (
            ["--only", "train:resnet20"],
            "bench: resnet20 takes a shape NxCxHxW, got ''. "
            "Write it like train:resnet20,16x3x32x32.",
        ),
    ],
)
def test_wrong_arguments_are_explained(capsys, arguments, message):
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_run_that_is_stopped_keeps_what_it_measured(capsys, monkeypatch, tmp_path):
    measure, stops = runner._row, iter([None, KeyboardInterrupt])

    def row(*args):
        if stop := next(stops):
            raise stop
        return measure(*args)

    monkeypatch.setattr(runner, "_row", row)
    names = [SMALL, "relu_forward:2x3x6x5", "relu_backward:2x3x6x5"]
    asked = [word for name in names for word in ("--only", name)]
    assert main(["bench", *asked, "--rounds", "1", "--out", str(tmp_path)]) == 130
    kept = json.loads((tmp_path / "bench.json").read_text())
    assert [row["name"] for row in kept["rows"]] == names[:1]
    assert kept["left_out"] == names[1:]
    told = "left out 2 cases, from relu_forward:2x3x6x5 on: the run was stopped"
    assert told in capsys.readouterr().out
    assert told in (tmp_path / "bench.txt").read_text()


def test_a_run_that_measured_nothing_leaves_an_earlier_one_alone(monkeypatch, tmp_path):
    (tmp_path / "bench.json").write_text("earlier")

    def row(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "_row", row)
    assert main(["bench", "--only", SMALL, "--out", str(tmp_path)]) == 130
    assert (tmp_path / "bench.json").read_text() == "earlier"


def _no_file(folder):
    return ["--compare", str(folder / "none.json")], "which cannot be read so: [Errno 2]"


def _broken_json(folder):
    (folder / "old.json").write_text("{")
    return ["--compare", str(folder / "old.json")], "which cannot be read so: Expecting"


def _other_json(folder):
    (folder / "old.json").write_text("[1]")
    return ["--compare", str(folder / "old.json")], "which holds something else. Make one with"


def _no_rows(folder):
    (folder / "old.json").write_text('{"format": 2, "environment": {}, "settings": {}}')
    return ["--compare", str(folder / "old.json")], "which has no roofs, rows, left_out, stability"


def _nested_json(folder):
    (folder / "old.json").write_text("[" * 100_000)
    return ["--compare", str(folder / "old.json")], "which cannot be read so: maximum recursion"


def _no_folder(folder):
    (folder / "file").touch()
    return ["--out", str(folder / "file")], (
        f"minigrad bench: results are written to a folder, {folder / 'file'} cannot be written to: "
        f"[Errno 17] File exists: '{folder / 'file'}'. Name another one with --out DIR."
    )


def _no_shapes(folder):
    (folder / "shapes.txt").write_text("# nothing yet\n")
    return ["--shapes", str(folder / "shapes.txt")], (
        f"minigrad bench: --shapes: a file with a convolution a line was expected, "
        f"{folder / 'shapes.txt'} has none. Write lines like 128x16x32x32,16x3x3,p1."
    )


@pytest.mark.parametrize(
    "make", [_no_file, _broken_json, _other_json, _no_rows, _nested_json, _no_folder, _no_shapes]
)
def test_what_cannot_be_read_or_written_is_said_before_anything_is_measured(
    capsys, tmp_path, monkeypatch, make
):
    arguments, message = make(tmp_path)
    monkeypatch.setattr(bench.limits, "measure_roofs", lambda: pytest.fail("it measures"))
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_without_torch_the_comparison_says_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["bench", "--only", SMALL, "--against", "torch"]) == 2
    assert capsys.readouterr().err == (
        "minigrad bench: --against torch needs torch, which is not installed. "
        'Install it with: pip install "minigrad[compare]".\n'
    )


def test_without_matplotlib_the_run_is_kept_and_the_picture_left_out(capsys, monkeypatch, tmp_path):
    for name in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    command = ["bench", "--only", SMALL, "--rounds", "1", "--out", str(tmp_path)]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "drawing the roofline needs matplotlib, which is not installed" in out
    assert {path.name for path in tmp_path.iterdir()} == {"bench.json", "bench.txt"}
    assert main(["bench", "roofline", *command[1:]]) == 2
    assert capsys.readouterr().err.startswith("minigrad bench: drawing the roofline needs")


def test_who_stops_a_run_sees_no_traceback(capsys, monkeypatch):
    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr(bench.limits, "measure_roofs", stop)
    assert main(["bench", "--only", SMALL]) == 130
    assert capsys.readouterr().err == "\nminigrad bench: stopped\n"


def test_a_wrong_result_ends_with_status_1(capsys, monkeypatch):
    right = kernels.conv2d_forward
    monkeypatch.setattr(
        kernels, "conv2d_forward", lambda x, *rest: right(x, *rest) + (x.dtype == "float32")
    )
    assert main(["bench", "--only", SMALL, "--rounds", "1"]) == 1
    assert f"WRONG RESULT: minigrad in {SMALL}" in capsys.readouterr().out


def test_the_doctor_prints_all_findings(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for about in ("CPU", "vectors", "threads", "threading layer", "cache", "BLAS", "versions"):
        assert f"\n{about}" in f"\n{out}"


HOST = {
    "cpu": "znver5", "vector_bits": 512, "threads": 4, "pool": 4, "threading_layer": "omp",
    "jit": True, "cache_folder": "somewhere", "cache_bytes": 5_000_000, "cache_files": 7,
}  # fmt: skip


def test_the_doctor_says_of_how_many_cores_a_container_may_use(monkeypatch):
    monkeypatch.setattr(kernels, "present_cores", lambda: 4)
    monkeypatch.setattr(kernels, "cpu_quota", lambda: 1.5)
    found = {finding.about: finding for finding in doctor.findings(HOST, {})}
    assert ", 4 cores, of which 1.5 may be used at a time" in found["CPU"].found
    monkeypatch.setattr(kernels, "cpu_quota", lambda: None)
    found = {finding.about: finding for finding in doctor.findings(HOST, {})}
    assert ", 4 cores" in found["CPU"].found
    assert "of which" not in found["CPU"].found


def hints(monkeypatch, host=None, environ=None):
    monkeypatch.setattr(kernels, "usable_cores", lambda: 4)
    monkeypatch.setattr(doctor.machine, "load", lambda: 0.1)
    monkeypatch.setattr(doctor.ahead, "possible", lambda: True)
    found = doctor.findings({**HOST, **(host or {})}, environ or {})
    return {finding.about: finding.hint for finding in found if finding.hint}


@pytest.mark.parametrize(
    ("host", "environ", "about", "word"),
    [
        ({"vector_bits": 128}, {}, "vectors", "a quarter"),
        ({}, {"MINIGRAD_SIMD": "128"}, "vectors", "Unset it"),
        ({"threads": 8}, {}, "threads", "wait for each other"),
        ({"threads": 1}, {}, "threads", "there are 4 cores"),
        ({"threading_layer": "workqueue"}, {}, "threading layer", "tbb"),
        ({"jit": False}, {}, "kernels", "NUMBA_DISABLE_JIT"),
        ({"cache_folder": None}, {}, "cache", "MINIGRAD_CACHE_DIR"),
        ({"cache_files": 0}, {}, "cache", "warmup"),
        ({}, {"MINIGRAD_COMPILE_AHEAD": "0"}, "compiling", "idle"),
    ],
)
def test_the_doctor_hints_where_something_is_poor(monkeypatch, host, environ, about, word):
    healthy = {"extras"}  # what is installed here is no matter of this test
    with kernels.use("fast"):
        assert hints(monkeypatch).keys() <= healthy
        found = hints(monkeypatch, host, environ)
    assert found.keys() - healthy == {about}
    assert word in found[about]


def test_the_doctor_notices_the_twins(monkeypatch):
    with kernels.use("reference"):
        assert "naive twins" in hints(monkeypatch)["kernels"]


def test_warmup_compiles_and_says_how_long_it_took(capsys):
    arguments = ["warmup", "resnet20", "--shape", "1x8x8", "--batch-size", "4"]
    assert main(arguments) == 0
    assert main(arguments) == 0
    out = capsys.readouterr().out.splitlines()
    second = out[len(out) // 2 :]
    assert second[0].startswith("resnet20, batches of 4x1x8x8, ")
    assert "nothing to compile; again " in second[1]
    assert second[1].startswith("training step: ")
    assert second[2].startswith("evaluation: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet21"], "Did you mean"),
        (
            ["--shape", "8x8"],
            "--shape is the shape CxHxW of an image, got '8x8'. Pass --shape 3x32x32.",
        ),
        (["--batch-size", "0"], "--batch-size is at least 1, got 0. Pass --batch-size 1."),
    ],
)
def test_warmup_explains_wrong_arguments(capsys, arguments, message):
    assert main(["warmup", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_help_compiles_nothing_and_imports_no_numba():
    import subprocess
    import sys

    code = (
        "import sys, minigrad.cli.main\n"
        "print(sorted({'numba', 'torch', 'matplotlib', 'rich'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert run.stdout.strip() == "[]"
