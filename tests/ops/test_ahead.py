"""A second process compiles what the first will need, and nobody notices but by the clock."""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numba
import numpy as np
import pytest

from minigrad import kernels, models
from minigrad.core import function
from minigrad.core.function import Function
from minigrad.core.tensor import Tensor
from minigrad.kernels._jit import Kernel
from minigrad.ops import ahead, cross_entropy
from minigrad.ops._description import Call, described, recreated
from minigrad.ops.activation import ReLU
from minigrad.ops.rehearsal import Rehearsal

ROOT = Path(__file__).resolve().parents[2]


def _call(operation=ReLU, inputs=(), options=None):
    needs = (True,) * len(inputs)
    return Call(operation, tuple(inputs), needs, options or {}, "auto", False)


# Descriptions.


@pytest.mark.parametrize(
    "array",
    [
        np.ones((2, 3, 4), np.float32),
        np.ones((2, 3, 4)).transpose(2, 0, 1),
        np.ones((5, 7))[::-1, ::2],
        np.broadcast_to(np.ones(3, np.int64), (2, 3)),
        np.ones((0, 3)),
        np.array(True),
    ],
)
def test_an_array_comes_back_as_zeros_of_its_layout(array):
    call = recreated(described(_call(inputs=[array], options={"other": array})))
    for found in *call.inputs, call.options["other"]:
        assert (found.shape, found.dtype) == (array.shape, array.dtype)
        assert array.size == 0 or found.strides == array.strides
        assert not found.any()
    assert call.function is ReLU


class Mine(Function):
    """An operation of a user, in a module that must not be imported twice."""


@pytest.mark.parametrize(
    "call",
    [
        _call(Mine),
        _call(inputs=[np.array([object()])]),
        _call(inputs=[np.ones(3, complex)]),
        _call(inputs=[np.broadcast_to(np.float32(1), (1 << 27,))]),
        _call(options={"options": lambda x: x}),
        _call(options={"options": partial(os.system, "true")}),
        _call(options={"file": sys.stdout}),
    ],
)
def test_what_cannot_be_tried_out_again_is_not_described(call):
    assert described(call) is None


def test_all_operations_of_a_network_can_be_described(monkeypatch):
    seen = []
    monkeypatch.setattr(
        function,
        "before_forward",
        lambda operation, inputs, needs, options: seen.append(
            (operation.name, described(_call(operation, inputs, options)))
        ),
    )
    model = models.build("resnet20")
    with kernels.use("reference"):
        cross_entropy(model(Tensor(np.ones((2, 3, 8, 8), np.float32))), np.array([1, 2]))
    assert len(seen) > 10
    assert [name for name, description in seen if description is None] == []


# Rehearsals.


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="NUMBA_DISABLE_JIT=1: nothing is compiled")
def test_a_rehearsal_notes_what_is_to_be_compiled_and_runs_nothing():
    noted = []
    launch = Kernel.launch
    rehearsal = Rehearsal()
    with kernels.use("fast"):
        for dtype in "f8", "f8", "f4":
            rehearsal.hear(_call(ReLU, [np.ones(999, dtype)]))
    while not rehearsal.done:
        build, types = rehearsal.next()
        noted.append((build.py_func.__name__, types[0].dtype.name))
    assert Kernel.launch is launch
    # The backward of the first call comes last of all.
    assert noted == [
        ("_relu_backward_loop", "float64"),
        ("_relu_backward_loop", "float32"),
        ("_relu_forward_loop", "float32"),
        ("_relu_forward_loop", "float64"),
    ]


# The two processes.

PROGRAM = """
import os, signal, sys, time
import numpy as np
import minigrad as mg
from minigrad import kernels
from minigrad.core import function
from minigrad.ops import ahead

def wait_until(test, seconds=60):
    deadline = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)

def kept(kernel):
    files = Path(os.environ["MINIGRAD_CACHE_DIR"]).glob(f"*/*/*/*.{kernel}-*.nbc")
    return len(list(files)) == 1

def forward():
    return mg.relu(x).sum()

def backward(loss):
    compiled = []
    with kernels.watch_compilation(lambda name, seconds: compiled.append(name)):
        loss.backward()
    assert (x.grad == (x.data > 0)).all()
    return "_relu_backward_loop" in compiled

from pathlib import Path
x = mg.tensor(np.random.default_rng(0).standard_normal((30, 50), np.float32), requires_grad=True)
"""


@pytest.fixture
def run(tmp_path):
    """Run lines of Python below the program, with an empty cache at first."""
    program = tmp_path / "program.py"

    def run(lines, returncode=0, **environment):
        program.write_text(PROGRAM + lines)
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith(("MINIGRAD_", "NUMBA_"))
        }
        finished = subprocess.run(
            [sys.executable, "-W", "error", str(program)],
            env={
                **inherited,
                "PYTHONPATH": str(ROOT),
                "MINIGRAD_CACHE_DIR": str(tmp_path / "cache"),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (finished.returncode, finished.stderr) == (returncode, "")
        return finished.stdout.split()

    return run


two_cores = pytest.mark.skipif(
    not ahead.possible(), reason="one core, or no interpreter to start: there is no helper here"
)


@two_cores
def test_the_helper_compiles_what_backward_needs_and_a_warm_process_has_none(run):
    cold = run(
        "loss = forward()\n"
        "print(ahead._helper is not None)\n"
        "wait_until(lambda: kept('_relu_backward_loop'))\n"
        "print(backward(loss))"
    )
    assert cold == ["True", "False"]
    warm = run("loss = forward(); print(ahead._helper is not None); print(backward(loss))")
    assert warm == ["False", "False"]


def test_there_is_no_helper_where_none_is_wanted(run):
    lines = "loss = forward(); print(ahead._helper is not None); print(backward(loss))"
    assert run(lines, MINIGRAD_COMPILE_AHEAD="0") == ["False", "True"]


@two_cores
def test_a_helper_that_is_killed_is_not_missed(run):
    printed = run(
        "loss = forward()\n"
        "os.kill(ahead._helper.pid, signal.SIGKILL)\n"
        "print(backward(loss))\n"
        "wait_until(lambda: ahead._helper is None)\n"
        "print(function.before_forward)"
    )
    assert printed == ["True", "None"]


@two_cores
def test_a_helper_is_dismissed_when_nothing_is_new(run):
    printed = run(
        "ahead._ENOUGH = 4\n"
        "forward()\n"
        "print(function.before_forward is not None)\n"
        "forward(); forward()\n"
        "print(function.before_forward is None)\n"
        "wait_until(lambda: ahead._helper is None, seconds=9)\n"
        "print(kept('_relu_backward_loop'))"
    )
    assert printed == ["True", "True", "True"]


def _alive(pid):
    """Whether a process runs; one that has ended may wait for a parent to ask how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@two_cores
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")
@pytest.mark.parametrize(("how", "returncode"), [("", 0), ("SIGKILL", -9)])
def test_the_helper_does_not_outlive_the_process_it_helps(run, how, returncode):
    end = f"os.kill(os.getpid(), signal.{how})" if how else ""
    (pid,) = run(f"forward(); print(ahead._helper.pid, flush=True); {end}", returncode)
    deadline = time.monotonic() + 10
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(pid)


@two_cores
def test_a_forked_child_leaves_the_helper_to_its_parent(run):
    printed = run(
        "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n"
        "loss = forward()\n"
        "sys.stdout.flush()\n"
        "if os.fork() == 0:\n"
        "    print(ahead._helper, function.before_forward, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "print(ahead._helper is not None)"
    )
    assert printed == ["None", "None", "True"]
