"""The pytest plugin, in a project outside this repository."""

import os
import subprocess
import sys

PROJECT = """
import numpy as np
import pytest
import minigrad as mg


class Cube(mg.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save(x)
        return x**3

    @staticmethod
    def backward(ctx, grad_out):
        (x,) = ctx.saved
        return {factor} * x**2 * grad_out


@pytest.mark.gradcheck(laws=True)
def test_cube(gradcheck):
    report = gradcheck(Cube.apply, np.array([0.5, 1.0, -2.0]))
    assert "linear" in {{v.check for v in report.verdicts}}
"""


def run(folder, *arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    # Where the package is not installed, the plugin has no entry point and is named instead.
    code = (
        "import importlib.metadata as m, sys, pytest;"
        "known = any(e.name == 'minigrad' for e in m.entry_points(group='pytest11'));"
        "sys.exit(pytest.main(sys.argv[1:] + "
        "([] if known else ['-p', 'minigrad.testing.pytest_plugin'])))"
    )
    return subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            "-q",
            "--strict-markers",
            "-p",
            "no:cacheprovider",
            *arguments,
        ],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_a_right_operation_passes_and_the_page_is_written(tmp_path):
    (tmp_path / "test_cube.py").write_text(PROJECT.format(factor=3))
    found = run(tmp_path, "--gradcheck-html=checks.html")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "minigrad: 1 gradient checks, see checks.html" in found.stdout
    assert 'class="right"' in (tmp_path / "checks.html").read_text()


def test_a_wrong_operation_fails_with_the_message(tmp_path):
    (tmp_path / "test_cube.py").write_text(PROJECT.format(factor=-3))
    found = run(tmp_path)
    assert found.returncode == 1, found.stdout + found.stderr
    assert "cube: backward is wrong" in found.stdout
    assert "probably: the sign is wrong" in found.stdout
    assert list(tmp_path.glob("*.html")) == []
