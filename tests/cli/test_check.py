"""``minigrad check`` from the shell: what it prints and writes, and its exit status."""

import json

import pytest

from minigrad.cli.main import main
from minigrad.ops.activation import ReLU

MINE = """
import numpy as np
import minigrad as mg


class Swish(mg.Function):
    @staticmethod
    def forward(ctx, x):
        s = 1 / (1 + np.exp(-x))
        ctx.save(x, s)
        return x * s

    @staticmethod
    def backward(ctx, grad_out):
        x, s = ctx.saved
        return grad_out * s{missing}


def swish(x):
    return Swish.apply(x)


def case():
    return swish, np.linspace(-2.0, 2.0, 5)


def halves(x, y):
    return x - y
"""


@pytest.fixture
def mine(tmp_path):
    def write(missing):
        path = tmp_path / "mine.py"
        path.write_text(MINE.format(missing=missing))
        return str(path)

    return write


def test_operations_and_units_by_name(capsys):
    assert main(["check", "relu", "mul", "drop-path"]) == 0
    out = capsys.readouterr().out
    assert "3 of 3 right" in out
    assert "relu" in out


def test_a_wrong_operation_is_status_1_and_told(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(ReLU, "backward", staticmethod(lambda ctx, grad_out: grad_out))
    pages = tmp_path / "found.html", tmp_path / "found.json"
    told = ["check", "relu", "exp", "--html", str(pages[0]), "--json", str(pages[1])]
    assert main(told) == 1
    out = capsys.readouterr().out
    assert "1 of 2 right" in out
    assert ": backward is wrong" in out
    assert "  gradient of x (" in out
    assert 'class="wrong"' in pages[0].read_text()
    relu, exp = json.loads(pages[1].read_text())
    assert (relu["target"], relu["ok"], exp["ok"]) == ("relu", False, True)


def test_a_function_of_a_file(capsys, mine):
    right = mine(" * (1 + x * (1 - s))")
    assert main(["check", f"{right}:swish", "--shape", "3x4"]) == 0
    assert main(["check", f"{right}:case"]) == 0
    assert main(["check", f"{right}:halves", "--shape", "3x4", "--shape", "4"]) == 0
    assert main(["check", f"{mine('')}:swish", "--shape", "3x4"]) == 1
    assert "swish: backward is wrong" in capsys.readouterr().out


def test_a_network_on_images(capsys):
    assert main(["check", "--model", "resnet20", "--batch-size", "3"]) == 0
    out = capsys.readouterr().out
    assert "resnet20 on 3 images" in out
    assert "1 of 1 right" in out


def test_the_list(capsys):
    assert main(["check", "--list"]) == 0
    names = capsys.readouterr().out.split()
    assert {"conv2d", "bottleneck", "resnet20"} <= set(names)
    assert "equal" not in names


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["conv3d"],
            "the name of an operation, a unit or a network is needed, got 'conv3d'. "
            "'minigrad check --list' shows them all.",
        ),
        (
            ["equal"],
            "an operation with a gradient is needed, equal has none. Leave it out.",
        ),
        (
            ["nowhere.py:f"],
            "a Python file is needed before the colon, 'nowhere.py' is none. Write for "
            "example mine.py:swish.",
        ),
        (
            ["--model", "resnet20", "--batch-size", "1"],
            "--batch-size is from 2 to the 1438 images there are, got 1. Pass for example "
            "--batch-size 4.",
        ),
    ],
)
def test_wrong_arguments_are_status_2_and_told(capsys, arguments, text):
    assert main(["check", *arguments]) == 2
    assert capsys.readouterr().err == f"minigrad check: {text}\n"


def test_wrong_arguments_for_a_file(capsys, mine):
    path = mine("")
    assert main(["check", f"{path}:nothing"]) == 2
    assert "it has no 'nothing'" in capsys.readouterr().err
    assert main(["check", f"{path}:swish"]) == 2
    assert "inputs are needed. Pass --shape 3x4 for each" in capsys.readouterr().err
    assert main(["check", f"{path}:swish", "--shape", "3by4"]) == 2
    assert "--shape is sizes with an x between them, got '3by4'" in capsys.readouterr().err
