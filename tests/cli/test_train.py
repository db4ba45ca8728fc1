"""``minigrad train`` from the shell: what it writes, how it stops, how it goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from minigrad.cli.main import main
from minigrad.io import load_checkpoint

SMALL = ["--epochs", "2", "--limit", "200", "--batch-size", "25"]  # 16 steps


def start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "minigrad", "train", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def finish(process, status=0):
    out, err = process.communicate(timeout=300)
    assert process.returncode == status, out + err
    return out, err


def step_of(directory):
    """Steps done when the last checkpoint was written; 0 before the first."""
    found = (directory / "last.safetensors").exists()
    return load_checkpoint(directory)[1]["step"] if found else 0


def bits(directory):
    weights, state = load_checkpoint(directory)
    return {name: array.tobytes() for name, array in weights.items()}, state


def assert_same_run(a, b):
    (weights_a, state_a), (weights_b, state_b) = bits(a), bits(b)
    assert weights_a == weights_b
    assert state_a["optimizer"]["arrays"].keys() == state_b["optimizer"]["arrays"].keys()
    for name, array in state_a["optimizer"]["arrays"].items():
        np.testing.assert_array_equal(array, state_b["optimizer"]["arrays"][name])
    for key in ("generator", "loader", "step", "paths"):
        assert repr(state_a[key]) == repr(state_b[key])  # repr: a NaN equals itself
    for one, other in zip(state_a["history"], state_b["history"], strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run, to compare with."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    out, _ = finish(start(*SMALL, "--out", directory))
    return directory, out


def test_a_run_writes_what_it_promises(whole):
    directory, out = whole
    names = {path.name for path in directory.iterdir()}
    assert names == {
        "metrics.jsonl", "curves.png", "last.safetensors", "state.json", "paths.json", "paths.png",
    }  # fmt: skip
    records = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in records] == [1, 2]
    assert records[1]["train_loss"] < records[0]["train_loss"]
    units = json.loads((directory / "paths.json").read_text())[0]["units"]
    assert len(units) == 9
    assert units[-1]["path"] == "layer1.0"
    assert all(u["conv"] > 0 and u["identity"] > 0 for u in units)
    for picture in ("curves.png", "paths.png"):
        assert (directory / picture).read_bytes().startswith(b"\x89PNG")
    assert "test accuracy" in out
    assert re.search(r"epoch +2 +train \d", out)


def killed_in_mid_epoch(directory):
    """A run that SIGKILL ended in the middle of an epoch, and the state of its last checkpoint."""
    process = start(*SMALL, "--out", directory, "--save-every", 1)
    while step_of(directory) < 2:
        time.sleep(0.005)
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    state = load_checkpoint(directory)[1]
    return state, 0 < state["loader"]["position"] < 8


def test_killed_in_mid_epoch_and_resumed_equals_uninterrupted(whole, tmp_path):
    # A machine that sleeps at the wrong moment may let a run pass the middle: then another one.
    for attempt in range(5):
        directory = tmp_path / f"run{attempt}"
        state, in_the_middle = killed_in_mid_epoch(directory)
        if in_the_middle:
            break
    assert in_the_middle, "no run was killed in mid-epoch"
    out, _ = finish(start("--resume", directory))
    assert f"at epoch {len(state['history']) + 1}, step {state['step']}" in out
    assert_same_run(directory, whole[0])


@pytest.mark.parametrize("threads", [1, 4])
def test_any_number_of_threads_gives_the_same_bits(whole, tmp_path, threads):
    finish(start(*SMALL, "--out", tmp_path / "run", "--threads", threads))
    assert_same_run(tmp_path / "run", whole[0])


def test_ctrl_c_saves_and_says_how_to_resume(whole, tmp_path):
    directory = tmp_path / "run"
    process = start(*SMALL, "--out", directory, "--save-every", 1)
    while not (directory / "last.safetensors").exists():
        time.sleep(0.005)
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    _, err = finish(process, status=130)
    assert re.search(
        r"stopped after step \d+, in epoch \d of 2; saved\. Go on with: minigrad train --resume "
        + re.escape(str(directory)),
        err.replace("\n", " "),
    )
    finish(start("--resume", directory))
    assert_same_run(directory, whole[0])


WRONG = {
    "unknown option": (["--data", "imagenet"], "invalid choice: 'imagenet'"),
    "no epochs": (["--epochs", "0"], "--epochs is at least 1, got 0. Pass --epochs 1."),
    "nothing to resume": (
        ["--resume", "nowhere"],
        "load_checkpoint: expected last.safetensors in nowhere, found none. Give the directory "
        "that a run has saved a checkpoint to.",
    ),
    "no threads": (["--threads", "0"], "set_num_threads"),
    "negative rate": (["--lr", "-1"], "SGD: lr must be"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_told_and_exit_with_2(case, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, text = WRONG[case]
    try:
        status = main(["train", *arguments])
    except SystemExit as stop:  # argparse's own way
        status = stop.code
    assert status == 2
    assert text in capsys.readouterr().err
    assert not list(tmp_path.iterdir()), "a wrong call leaves nothing behind"


def test_resume_refuses_to_become_another_run(whole, capsys):
    directory, _ = whole
    assert main(["train", "--resume", str(directory), "--seed", "5"]) == 2
    assert capsys.readouterr().err == (
        "minigrad train: --resume continues the run as it was, with --seed 0; --seed 5 would make "
        "it another run. Leave --seed out, or start anew.\n"
    )


def test_a_folder_with_a_checkpoint_is_not_overwritten(whole, capsys):
    directory, _ = whole
    assert main(["train", "--out", str(directory)]) == 2
    assert capsys.readouterr().err == (
        f"minigrad train: --out {directory}: a new folder is needed, this one holds a checkpoint. "
        f"Continue it with --resume {directory}, or pass another folder.\n"
    )


def test_check_gradients_prints_the_verdict(tmp_path):
    out, _ = finish(
        start("--epochs", 1, "--limit", 50, "--out", tmp_path / "run", "--check-gradients")
    )
    assert "gradient checks" in out  # the table of minigrad check
    assert "1 of 1 right" in out


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    told = capsys.readouterr().out
    assert "examples:" in told
    assert "--check-gradients" in told
    assert "minigrad train --resume runs/digits-resnet20" in told
