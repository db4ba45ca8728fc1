"""docs/kernels.md names every file and every variable, and its code prints what it says."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "kernels.md"
TEXT = PAGE.read_text()
KERNELS = ROOT / "minigrad" / "kernels"


def test_the_way_leads_past_every_file():
    table, _, _ = TEXT.partition("## Words")
    named = re.findall(r"`(\w+\.py)`", table)
    files = {path.name for path in KERNELS.glob("*.py")}
    unnamed, gone = sorted(files - {*named}), sorted({*named} - files)
    assert not unnamed, f"name {unnamed} in docs/kernels.md, in the row of their idea"
    assert not gone, f"there are no {gone} any more: take them out of docs/kernels.md"
    assert len(named) == len(files), "one row for a file"


def test_every_variable_of_the_environment_is_explained():
    sources = [path.read_text() for path in (ROOT / "minigrad").rglob("*.py")]
    used = set(re.findall(r"\bMINIGRAD_[A-Z_]+", "\n".join(sources)))
    assert used == set(re.findall(r"\bMINIGRAD_[A-Z_]+", TEXT))


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)]+)\)", TEXT))
def test_links_lead_somewhere(link):
    assert (PAGE.parent / link).exists()


@pytest.mark.parametrize("test", re.findall(r"`(tests/[\w/]+\.py)`", TEXT))
def test_the_tests_it_speaks_of_exist(test):
    assert (ROOT / test).is_file()


def test_its_code_prints_what_stands_below_it():
    ((code, output),) = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", TEXT, re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(PAGE), "exec"), {})
    assert printed.getvalue() == output
