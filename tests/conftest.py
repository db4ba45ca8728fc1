"""What every test may ask for."""

from pathlib import Path

import pytest
from hypothesis import settings

# Scripts that make golden numbers or run campaigns, and need torch to do so.
collect_ignore_glob = ["*/make_*.py", "yardstick/cases.py", "yardstick/judge.py"]

# Derandomised: a red run is red again when it is run again.
settings.register_profile("minigrad", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("minigrad")

_SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden numbers and real data beside the repository."""
    if not _SHARED.is_dir():
        pytest.skip("the folder ../shared (golden numbers, real data) is not beside this checkout")
    return _SHARED
