"""Processes take turns at compiling a kernel, and do not wait for ever."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minigrad.kernels import _turns
from minigrad.kernels._turns import Turn

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(_turns.fcntl is None, reason="this system has no locks of files")

OWNER = """
import sys, time
from pathlib import Path
from minigrad.kernels._turns import Turn
print(Turn(Path(sys.argv[1]), "a kernel").take(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def owner(tmp_path):
    """Another process that has a turn."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_a_turn_is_waited_for(owner, tmp_path):
    turn = Turn(tmp_path, "a kernel")
    assert not turn.take(patience=0)
    start = time.monotonic()
    assert not turn.take(patience=0.2)
    assert time.monotonic() - start >= 0.2


def test_another_kernel_has_its_own_turn(owner, tmp_path):
    turn = Turn(tmp_path, "another kernel")
    assert turn.take(patience=0)
    turn.give()


def test_the_turn_of_a_killed_process_is_free(owner, tmp_path):
    owner.kill()
    owner.wait()
    turn = Turn(tmp_path, "a kernel")
    assert turn.take(patience=0)
    turn.give()


def test_a_stopped_process_keeps_its_turn_but_not_the_others_waiting(owner, tmp_path):
    os.kill(owner.pid, signal.SIGSTOP)
    assert not Turn(tmp_path, "a kernel").take(patience=0.1)
    os.kill(owner.pid, signal.SIGCONT)


def test_without_a_folder_everybody_has_the_turn(tmp_path):
    turn = Turn(tmp_path / "gone", "a kernel")
    assert turn.take(patience=0)
    turn.give()
