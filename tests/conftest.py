"""What every test may ask for."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from minigrad.kernels import conv_choice

# What a test counts or times is not to depend on a helper that compiles beside it.
os.environ.setdefault("MINIGRAD_COMPILE_AHEAD", "0")

# Scripts that make golden numbers or run campaigns, and need torch to do so.
collect_ignore_glob = ["*/make_*.py", "yardstick/cases.py", "yardstick/judge.py"]

# Derandomised: a red run is red again when it is run again.
settings.register_profile("minigrad", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("minigrad")

_SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--conv-algorithm",
        default="auto",
        metavar="NAME",
        help="compute all convolutions by im2col, direct, winograd or reference",
    )


@pytest.fixture(scope="session", autouse=True)
def one_conv_algorithm(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let all tests use the algorithm that the command line forces, if it forces one."""
    with conv_choice.conv_algorithm(request.config.getoption("--conv-algorithm")):
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden numbers and real data beside the repository."""
    if not _SHARED.is_dir():
        pytest.skip("the folder ../shared (golden numbers, real data) is not beside this checkout")
    return _SHARED


@pytest.fixture(scope="session", autouse=os.environ.get("NUMBA_DISABLE_JIT") == "1")
def poisoned_memory():
    """Without the JIT, fill new arrays with huge numbers: reading what nobody wrote overflows.

    Compiled kernels read the same memory, but no warning tells of it.
    """
    empty = np.empty

    def poisoned(*args, **options):
        array = empty(*args, **options)
        if array.dtype.kind == "f":
            array.fill(np.finfo(array.dtype).max)
        return array

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "empty", poisoned)
        yield
