"""docs/mutants.md is what benchmarks/mutants.py writes of its kept run, and the run is good."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("mutants", ROOT / "benchmarks" / "mutants.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_the_kept_run(script):
    assert script.PAGE.read_text() == script.page(json.loads(script.KEPT.read_text()))


def test_the_kept_run_found_every_bug_and_ranked_its_operation_first(script):
    table = json.loads(script.KEPT.read_text())
    bugs = [row for row in table if row["bug"]]
    assert len(bugs) >= 120
    assert all(row["minigrad"] and row["first"] and row["lines"] <= 12 for row in bugs)
    assert not any(row["minigrad"] or row["inconclusive"] for row in table if not row["bug"])
    assert all(row[name] is not None for row in table for name in script.RIVALS)


def test_the_kept_run_is_of_these_operations_and_bugs(script):
    """An operation or a bug that is new has to be run: ``python benchmarks/mutants.py``."""
    kept = {(row["op"], row["bug"]) for row in json.loads(script.KEPT.read_text())}
    known = {
        (op.name, bug.name)
        for op in script.registry.values()
        if op.differentiable
        for bug in script.bugs_of(op)
    }
    assert {op for op, _ in kept} == {op for op, _ in known}
    assert {(op, bug) for op, bug in kept if bug} <= known
