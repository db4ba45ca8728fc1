"""A checkpoint is whole, whatever happens to the process that writes it."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from minigrad.core.errors import ArgumentError, DTypeError, StateError
from minigrad.io import load_checkpoint, save_checkpoint, save_safetensors

WEIGHTS = {"conv.weight": np.arange(24, dtype="f4").reshape(2, 3, 2, 2), "n": np.array(5)}
STATE = {
    "step": 10,
    "rng": np.random.default_rng(3).bit_generator.state,
    "optimizer": {"lr": 0.1, "betas": (0.9, 0.999), "slots": [{"velocity": np.ones(3)}, {}]},
    "best": float("-inf"),
}


def test_round_trip(tmp_path):
    save_checkpoint(tmp_path / "runs" / "new", WEIGHTS, STATE)
    weights, state = load_checkpoint(tmp_path / "runs" / "new")
    assert list(weights) == list(WEIGHTS)
    for name, array in WEIGHTS.items():
        assert weights[name].dtype == array.dtype
        np.testing.assert_array_equal(weights[name], array)
    velocity = state["optimizer"]["slots"][0].pop("velocity")
    np.testing.assert_array_equal(velocity, np.ones(3))
    assert state == STATE | {"optimizer": {**STATE["optimizer"], "slots": [{}, {}]}}


def test_the_copy_can_be_read_and_is_not(tmp_path):
    save_checkpoint(tmp_path, WEIGHTS, STATE)
    assert json.loads((tmp_path / "state.json").read_text())["step"] == 10
    (tmp_path / "state.json").write_text("spoilt")
    assert load_checkpoint(tmp_path)[1]["step"] == 10


def test_same_state_same_bytes(tmp_path):
    for name in "ab":
        save_checkpoint(tmp_path / name, WEIGHTS, STATE)
    for name in ("last.safetensors", "state.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_saving_removes_what_killed_writers_left(tmp_path):
    (tmp_path / ".last.safetensors.01234567.tmp").write_bytes(b"half")
    save_checkpoint(tmp_path, WEIGHTS, STATE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.safetensors", "state.json"]


def test_what_cannot_be_saved_leaves_the_old_checkpoint(tmp_path):
    save_checkpoint(tmp_path, WEIGHTS, STATE)
    with pytest.raises(DTypeError):
        save_checkpoint(tmp_path, WEIGHTS, {"step": 11, "model": object()})
    with pytest.raises(ArgumentError) as caught:
        save_checkpoint(tmp_path, {"state/w": np.ones(1)}, {"step": 11})
    assert str(caught.value) == (
        "save_checkpoint: the weight 'state/w' begins with 'state/', which is kept for the arrays "
        "of the state. Rename it."
    )
    assert load_checkpoint(tmp_path)[1]["step"] == 10


def test_missing(tmp_path):
    with pytest.raises(StateError) as caught:
        load_checkpoint(tmp_path)
    assert str(caught.value) == (
        f"load_checkpoint: expected last.safetensors in {tmp_path}, found none. Give the directory "
        "that a run has saved a checkpoint to."
    )


def test_truncated(tmp_path):
    save_checkpoint(tmp_path, WEIGHTS, STATE)
    whole = (tmp_path / "last.safetensors").read_bytes()
    (tmp_path / "last.safetensors").write_bytes(whole[:-1])
    with pytest.raises(StateError) as caught:
        load_checkpoint(tmp_path)
    assert str(caught.value) == (
        "load_checkpoint: safetensors file last.safetensors: expected 'conv.weight' inside the "
        "127 bytes of data, found offsets 32 to 128: the file is truncated or damaged. The "
        f"checkpoint in {tmp_path} cannot be resumed; begin the run again."
    )


def test_weights_alone(tmp_path):
    save_safetensors(tmp_path / "last.safetensors", WEIGHTS)
    with pytest.raises(StateError) as caught:
        load_checkpoint(tmp_path)
    assert str(caught.value) == (
        "load_checkpoint: expected a 'minigrad checkpoint 1' in "
        f"{tmp_path / 'last.safetensors'}, found the format None. Weights alone are read with "
        "load_weights."
    )


def test_state_of_other_arrays(tmp_path):
    metadata = {"format": "minigrad checkpoint 1", "state": '{"v": {"__array__": "state/v"}}'}
    save_safetensors(tmp_path / "last.safetensors", WEIGHTS, metadata)
    with pytest.raises(StateError) as caught:
        load_checkpoint(tmp_path)
    assert str(caught.value) == (
        "decode_state: expected the array 'state/v', which the state refers to, found 2 arrays "
        "without it. Text and arrays come from two different saves."
    )


# Processes that die while they write. Weights, arrays of the state and counters all carry the step,
# so a mixture of two checkpoints cannot pass.

WRITER = """
import os, signal, sys
import numpy as np
from minigrad.io import save_checkpoint

def save(step, items):
    weights = {"w": np.full(items, step, "f4"), "step": np.array(step)}
    save_checkpoint(sys.argv[1], weights, {"step": step, "velocity": np.full(items, -step)})
"""

DIES_AT_A_CALL = """
save(1, 1000)
left = int(sys.argv[2])

def dying(call):
    def wrapper(*arguments):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return call(*arguments)
    return wrapper

os.fsync, os.replace = dying(os.fsync), dying(os.replace)
save(2, 1000)
"""

WRITES_FOR_EVER = """
step = 0
while True:
    step += 1
    save(step, 200_000)
    print(step, flush=True)
"""


def loaded_step(directory):
    weights, state = load_checkpoint(directory)
    step = state["step"]
    assert np.all(weights["w"] == step)
    assert weights["step"] == step
    assert np.all(state["velocity"] == -step)
    return step


def test_killed_at_every_call_that_matters(tmp_path):
    steps = []
    while True:
        command = [sys.executable, "-c", WRITER + DIES_AT_A_CALL, tmp_path, str(len(steps))]
        code = subprocess.run(command, check=False, timeout=60).returncode
        if code == 0:
            break
        assert code == -signal.SIGKILL
        steps.append(loaded_step(tmp_path))
    # The first file: fsync, rename, fsync of the directory; then the same for the copy.
    assert steps == [1, 1, 2, 2, 2, 2]
    assert loaded_step(tmp_path) == 2
    assert sorted(os.listdir(tmp_path)) == ["last.safetensors", "state.json"]


def test_killed_at_any_moment(tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(8):
        command = [sys.executable, "-c", WRITER + WRITES_FOR_EVER, tmp_path]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            saved = int(process.stdout.readline())
            try:
                process.wait(timeout=rng.uniform(0, 0.05))
            except subprocess.TimeoutExpired:
                process.kill()
            saved = max([saved, *map(int, process.stdout.read().split())])
        assert process.returncode == -signal.SIGKILL
        # What was announced is there, or the one that was just being written.
        assert loaded_step(tmp_path) in (saved, saved + 1)
