"""Variables of the environment that ask for what cannot be, told in one sentence."""

import os
import subprocess
import sys

import pytest

from minigrad import kernels
from minigrad.cli.main import main

WRONG = {
    "MINIGRAD_KERNELS": (
        ["foo", "", "Fast"],
        "MINIGRAD_KERNELS chooses the form of the kernels. It is {value!r}. Set it to fast or "
        "reference, or leave it unset.",
    ),
    "MINIGRAD_SIMD": (
        ["7", "", "SCALAR"],
        "MINIGRAD_SIMD chooses the width of vectors in bits. It is {value!r}. Set it to scalar, "
        "128, 256 or 512, or leave it unset for the host's own width.",
    ),
    "NUMBA_NUM_THREADS": (
        ["0", "-3", "abc", "", "1025", "99999"],
        "NUMBA_NUM_THREADS chooses the number of threads. It is {value!r}. Set it to a number from "
        "1 to 1024, or leave it unset for all cores.",
    ),
    "NUMBA_THREADING_LAYER": (
        ["foo", ""],
        "NUMBA_THREADING_LAYER chooses the library that makes threads. It is {value!r}. Set it to "
        "omp, tbb or workqueue, or leave it unset.",
    ),
    "NUMBA_THREADING_LAYER_PRIORITY": (
        ["omp", ""],
        "NUMBA_THREADING_LAYER_PRIORITY chooses which library that makes threads is tried first. "
        "It is {value!r}. Set it to omp, tbb and workqueue in some order, or leave it unset.",
    ),
}
EACH = [(name, value, text) for name, (values, text) in WRONG.items() for value in values]
FIRST = [(name, values[0], text) for name, (values, text) in WRONG.items()]

CALL = "import numpy as np, minigrad as mg; mg.conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)))"


def _python(*arguments, **environment):
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("name", "value", "text"), EACH)
def test_a_command_says_what_is_wrong_in_one_sentence(name, value, text, monkeypatch, capsys):
    monkeypatch.setenv(name, value)
    assert main(["check", "--list"]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"minigrad check: {text.format(value=value)}\n")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MINIGRAD_KERNELS", "reference"),
        ("MINIGRAD_SIMD", "scalar"),
        ("NUMBA_NUM_THREADS", "1024"),
        ("NUMBA_THREADING_LAYER", "ThreadSafe"),
        ("NUMBA_THREADING_LAYER_PRIORITY", "omp workqueue tbb"),
    ],
)
def test_what_can_be_is_no_finding(name, value):
    assert kernels.wrong_settings({name: value}) == []


@pytest.mark.parametrize(("name", "value", "text"), FIRST)
def test_the_first_kernel_of_a_program_says_it_too(name, value, text):
    run = _python("-c", CALL, **{name: value})
    assert run.stderr.endswith(f"SettingError: {text.format(value=value)}\n")


def test_the_doctor_finds_all_of_it_and_the_rest():
    run = _python("-m", "minigrad", "doctor", **{name: value for name, value, _ in FIRST})
    assert (run.returncode, run.stderr) == (0, "")
    lines = run.stdout.splitlines()
    for name, value, text in FIRST:
        found = next(i for i, line in enumerate(lines) if line.split()[0] == name)
        assert f"and is {value!r}; the rest is as without it" in lines[found]
        assert lines[found + 1].split("hint: ")[1] == text.split("{value!r}. ")[1]
    assert any(line.startswith("threading layer ") for line in lines)
    assert any(line.split()[:2] == ["kernels", "fast"] for line in lines)


def test_a_layer_that_cannot_be_loaded_is_a_finding_and_an_error():
    run = _python("-m", "minigrad", "doctor", NUMBA_THREADING_LAYER="safe")
    assert (run.returncode, run.stderr) == (0, "")
    if "threading layer  tbb\n" in run.stdout:
        pytest.skip("here the layer tbb can be loaded")
    assert "none can be loaded for 'safe'\n" in run.stdout
    assert (
        "hint: no kernel that shares its work can run. Install what NUMBA_THREADING_LAYER asks "
        "for (pip install tbb), or unset it.\n"
    ) in run.stdout
    code = "from minigrad.kernels import _threads; _threads.apply_num_threads()"
    assert _python("-c", code, NUMBA_THREADING_LAYER="safe").stderr.endswith(
        "SettingError: NUMBA_THREADING_LAYER chooses the library that makes threads. It is 'safe', "
        "for which none can be loaded here. Install it (pip install tbb), set the variable to omp "
        "or workqueue, or leave it unset.\n"
    )


def test_a_command_refuses_more_threads_than_a_system_bears(capsys):
    assert main(["warmup", "--threads", "99999"]) == 2
    assert capsys.readouterr().err == (
        "minigrad warmup: set_num_threads: the number of threads is at most 1024. n is 99999. Pass "
        "the number of cores, beyond which threads only wait for each other.\n"
    )


def test_images_that_no_memory_could_hold_are_refused(capsys):
    assert main(["warmup", "--shape", "3x99999999x99999999"]) == 2
    assert capsys.readouterr().err == (
        "minigrad warmup: this machine has not the memory that was asked for (for images of shape "
        "(128, 3, 99999999, 99999999)). Pass smaller shapes or batches, or a smaller network.\n"
    )


@pytest.mark.parametrize("error", [MemoryError(), MemoryError("Unable to allocate 1. TiB")])
def test_a_command_without_memory_says_so(error, monkeypatch, capsys):
    def fail(options):
        raise error

    monkeypatch.setattr("minigrad.cli.warmup._batch_shape", fail)
    assert main(["warmup"]) == 2
    assert capsys.readouterr().err == (
        f"minigrad warmup: this machine has not the memory that was asked for "
        f"({error or 'no more was given'}). Pass smaller shapes or batches, or a smaller network.\n"
    )
