"""What the tests of kernels share."""

import pytest

from minigrad import kernels
from minigrad.kernels import _jit, _threads


@pytest.fixture
def fast_kernels():
    """Test the compiled form, also where MINIGRAD_KERNELS asks for the twins."""
    with kernels.use("fast"):
        yield


@pytest.fixture
def always_parallel(monkeypatch):
    """Share the chunks of every loop among threads, however little there is to do."""
    monkeypatch.setattr(_jit, "SERIAL_BELOW", 0)


@pytest.fixture
def pool_of_four():
    """Numbers of threads to try, as far as the pool goes; the number is restored afterwards.

    A pool that another test has started keeps its size, so it is started here with four threads if
    that is still possible: more threads than cores is a case worth testing too.
    """
    before = kernels.get_num_threads()
    if not _threads.pool._is_initialized:
        kernels.set_num_threads(4)
    size = _threads.config.NUMBA_NUM_THREADS
    yield [n for n in (1, 2, 3, 4) if n <= size]
    kernels.set_num_threads(min(before, size))
