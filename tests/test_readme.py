"""The README's code runs and prints what the README says."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", TEXT, flags=re.DOTALL)


def test_there_are_code_blocks_and_each_has_its_output():
    assert BLOCKS
    assert len(BLOCKS) == TEXT.count("```python\n")


@pytest.mark.parametrize(("code", "output"), BLOCKS)
def test_a_block_prints_what_stands_below_it(code, output):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert printed.getvalue() == output


def test_the_pictures_it_shows_exist():
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", TEXT):
        assert (ROOT / picture).is_file(), picture


def test_ci_runs_the_test_command_of_the_readme():
    ci = (ROOT / ".ci" / "run").read_text()
    install, _, test = re.search(r"^    (pip install .*?) && (pytest)$", TEXT, re.M)[0].partition(
        " && "
    )
    assert f"{install.strip().removeprefix('pip install ')}\n" in ci
    assert f"\n{test}\n" in ci
