"""The pytest plugin: a fixture ``gradcheck``, a marker, and a page of all checks.

It is registered by entry point and does nothing until it is used::

    def test_my_operation(gradcheck):
        gradcheck(my_operation, x, w)          # fails with the message of the checker

    @pytest.mark.gradcheck(laws=True)          # settings for every check of a test
    def test_all_of_it(gradcheck): ...

``pytest --gradcheck-html=checks.html`` writes all verdicts of the run.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest  # pytest imports this file: it is there

from minigrad.check.gradcheck import gradcheck as _gradcheck
from minigrad.check.report import GradcheckError, Report, html_page

_reports = pytest.StashKey[list[Report]]()


def pytest_addoption(parser: Any) -> None:
    group = parser.getgroup("minigrad")
    group.addoption("--gradcheck-html", metavar="FILE", help="write all gradient checks to a page")


def pytest_configure(config: Any) -> None:
    config.stash[_reports] = []
    config.addinivalue_line(
        "markers", "gradcheck(**settings): settings of minigrad.gradcheck for this test's checks"
    )


@pytest.fixture
def gradcheck(request: Any) -> Callable[..., Report]:
    """``minigrad.gradcheck`` with the settings of the test's marker; fails the test if wrong."""
    marker = request.node.get_closest_marker("gradcheck")
    settings = dict(marker.kwargs) if marker else {}
    reports = request.config.stash[_reports]

    def check(target: Any, *inputs: Any, **more: Any) -> Report:
        raises = {**settings, **more}.pop("raise_exception", True)
        given = {k: v for k, v in {**settings, **more}.items() if k != "raise_exception"}
        report = _gradcheck(target, *inputs, raise_exception=False, **given)
        reports.append(report)
        if raises and not report.ok:
            raise GradcheckError(report)
        return report

    return check


def pytest_sessionfinish(session: Any) -> None:
    path = session.config.getoption("--gradcheck-html")
    if path:
        Path(path).write_text(html_page(session.config.stash[_reports]))


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    path = config.getoption("--gradcheck-html")
    if path:
        count = len(config.stash[_reports])
        terminalreporter.write_line(f"minigrad: {count} gradient checks, see {path}")
