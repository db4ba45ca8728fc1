"""The yardstick itself: what it says of right and wrong answers, and a few of its operations."""

import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import minigrad as mg
from minigrad.core.errors import ShapeError

HERE = Path(__file__).resolve().parent
SECONDS = 300


def loaded(name):
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def raising(error):
    def form(input, other):
        raise error

    return form


def noisy(input, other):
    warnings.warn("almost", RuntimeWarning, stacklevel=1)
    return input * other


def writing(input, other):
    out = input * other.data.copy()
    other.data[0] = 7
    return out


# For input * other: a form, what is to be said of it, and a word of why.
VERDICTS = {
    "right": (mg.mul, "right", ""),
    "value": (lambda input, other: input * other * (1 + 1e-6), "WRONG", "outputs[0] at (0, 0) is"),
    "gradient": (lambda input, other: input.detach() * other + 0 * input, "WRONG", "gradients[0]"),
    "shape": (lambda input, other: (input * other)[0], "WRONG", "of shape (3,), torch's float64"),
    "dtype": (lambda input, other: (input * other).float(), "WRONG", "is float32 of shape"),
    "graph": (lambda input, other: (input * other).detach(), "WRONG", "0 outputs have a gradient"),
    "argument": (writing, "WRONG", "arguments[1] at (0,) is"),
    "refusal": (raising(ShapeError("a sentence")), "refused", "a sentence"),
    "signature": (lambda input: input, "refused", "TypeError: too many positional arguments"),
    "exception": (raising(ValueError("numpy")), "CRASH", "ValueError: numpy"),
    "warning": (noisy, "CRASH", "RuntimeWarning: almost"),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_the_judge(name):
    torch = pytest.importorskip("torch")
    form, kind, text = VERDICTS[name]
    x = torch.tensor(np.arange(1.0, 7).reshape(2, 3), requires_grad=name != "argument")
    sample = SimpleNamespace(input=x, args=(torch.tensor([1.0, 2, 3]).double(),), kwargs={})
    verdict = loaded("judge").judge(form, SimpleNamespace(op=torch.mul), sample)
    assert verdict.kind == kind
    assert text in verdict.text


def test_an_answer_where_torch_refuses_is_wrong():
    torch = pytest.importorskip("torch")
    sample = SimpleNamespace(input=torch.ones(3), args=(torch.ones(3),), kwargs={})
    verdict = loaded("judge").judge(mg.mul, None, sample, refused_by_torch=True)
    assert verdict.kind == "WRONG"
    assert verdict.text.startswith("torch refuses, minigrad gives tensor(")


def test_a_process_that_dies_is_a_crash_and_the_others_are_still_run(tmp_path, monkeypatch):
    (tmp_path / "cases.py").write_text(
        "import json, os, sys\n"
        "names = [word[5:] for word in sys.argv[1:] if word.startswith('--op=')]\n"
        "tell = lambda **message: print(json.dumps(message), flush=True)\n"
        "tell(names=names)\n"
        "for name in names:\n"
        "    tell(begins=f'case of {name}')\n"
        "    if name == 'b':\n"
        "        os._exit(3)\n"
        "    tell(op=name, label='', kind='right', text='')\n"
        "    tell(ends=name)\n"
    )
    opinfo = loaded("opinfo")
    monkeypatch.setattr(opinfo, "HERE", tmp_path)
    results = opinfo.measure(["a", "b", "c"], ["float64"])
    assert [(result.op, result.kind) for result in results] == [
        ("a", "right"), ("b", "CRASH"), ("c", "right")
    ]  # fmt: skip
    assert results[1].label == "case of b"
    assert results[1].text == "exit status 3"


def command(*arguments):
    environment = {**os.environ, "MINIGRAD_KERNELS": "reference"}  # nothing to compile
    return subprocess.run(
        [sys.executable, str(HERE / "opinfo.py"), *arguments],
        capture_output=True, text=True, timeout=SECONDS, env=environment,
    )  # fmt: skip


def test_help_teaches_without_torch():
    done = command("--help")
    assert done.returncode == 0
    assert "python tests/yardstick/opinfo.py --op add" in done.stdout


def test_a_few_operations_are_right_or_refused():
    pytest.importorskip("torch")
    pytest.importorskip("expecttest", reason="torch's test inputs need expecttest")
    names = ["add", "var", "cat", "__getitem__", "cross_entropy", "conv2d", "batch_norm"]
    done = command("--dtype=float32", *[f"--op={name}" for name in names])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WRONG: 0" in done.stdout
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    for name in names[:4] + [f"nn.functional.{name}" for name in names[4:]]:
        assert int(rows[name][2]) > 0, f"no case of {name} is right"


def test_an_unknown_operation_is_told():
    pytest.importorskip("torch")
    pytest.importorskip("expecttest", reason="torch's test inputs need expecttest")
    done = command("--op", "fold")
    assert done.returncode == 1
    assert "no operation is called fold. Known are: " in done.stderr


def test_the_kept_log_is_clean():
    rows = (HERE / "opinfo.log").read_text().splitlines()
    assert "CRASH: 0" in rows
    assert "WRONG: 0" in rows
    assert rows[0].startswith("torch ")
