"""How many threads kernels use, and how they enter Numba's thread pool.

The number is one for the whole process, unlike Numba's own, which each Python thread keeps for
itself. It changes how long a kernel takes and never its result.
"""

import contextlib
import functools
import operator
import os
import threading
from collections.abc import Iterator
from typing import Any

import numba
import numba.np.ufunc.parallel

from minigrad.kernels._cores import usable_cores
from minigrad.kernels._environment import MOST_THREADS, missing_layer
from minigrad.kernels._numba import config

# Any: the module makes some of its names while it runs.
pool: Any = numba.np.ufunc.parallel

_wanted: int | None = None  # None: as many as is usual


class _Local(threading.local):
    applied = 0  # the number of threads that Numba was last told on this thread


_local = _Local()

# Reentrant, for a finaliser that runs while a kernel compiles may launch a kernel of its own.
_pool_lock = threading.RLock()
_free_entry = contextlib.nullcontext()
_layer: str | None = None


def get_num_threads() -> int:
    """Return how many threads a kernel runs on."""
    return _wanted or _usual()


@functools.cache
def _usual() -> int:
    """Return how many the environment asks for, or one for each core that may be used."""
    planned = config.NUMBA_NUM_THREADS
    return planned if "NUMBA_NUM_THREADS" in os.environ else min(planned, usable_cores())


def set_num_threads(n: int) -> None:
    """Set how many threads a kernel runs on, in the whole process.

    The pool starts with the first kernel that is large enough to be shared, and its size cannot
    change afterwards: a larger number, also one above the number of cores, must be set before.

    Parameters
    ----------
    n : int
        From 1 to the size of the pool, which has at most ``MOST_THREADS``.

    Raises
    ------
    ValueError
        If n is not such a number, or is larger than a pool that has started.
    """
    global _wanted
    try:
        count = 0 if isinstance(n, bool) else operator.index(n)
    except TypeError:
        count = 0
    if count < 1:
        raise ValueError(
            f"set_num_threads: the number of threads is a positive integer. n is {n!r}. "
            "Pass 1 or more."
        )
    if count > max(MOST_THREADS, config.NUMBA_NUM_THREADS):
        raise ValueError(
            f"set_num_threads: the number of threads is at most {MOST_THREADS}. n is {n}. Pass the "
            "number of cores, beyond which threads only wait for each other."
        )
    if count > config.NUMBA_NUM_THREADS:
        _enlarge_pool(count)
    _wanted = count


def _enlarge_pool(n: int) -> None:
    """Let Numba's pool start with n threads, more than it planned.

    Numba decides the size while it is imported and offers no later change, so the three places
    that hold it are set together. The environment is one of them: Numba reads it again when any
    of its variables changes, and refuses a number that differs.
    """
    if pool._is_initialized:
        raise ValueError(
            f"set_num_threads: the pool of threads has started and cannot grow. n is {n}, the "
            f"pool has {config.NUMBA_NUM_THREADS}. Pass {config.NUMBA_NUM_THREADS} or less, "
            f"call set_num_threads({n}) before the first kernel, or set NUMBA_NUM_THREADS={n} "
            "in the environment."
        )
    os.environ["NUMBA_NUM_THREADS"] = str(n)
    config.NUMBA_NUM_THREADS = n
    pool.NUM_THREADS = n


# Turns that a thread of libgomp spins before it sleeps, some 80 microseconds: as long as Python
# takes from one kernel of a network to the next. To wake a thread may take as long again.
_SPINS = "20000"


@contextlib.contextmanager
def _brief_waiting() -> Iterator[None]:
    """Let the pool start with threads that go to sleep when they wait long for each other.

    Left to itself libgomp spins for milliseconds at the end of every parallel loop. On a quiet
    machine that costs nothing; where another process wants the core, each of the hundreds of loops
    of a training step waits for a time slice, and the step takes two to eight times as long.
    libgomp reads the variable once, when it is loaded; whoever has set a policy keeps it.
    """
    name = "GOMP_SPINCOUNT"
    if pool._is_initialized or name in os.environ or "OMP_WAIT_POLICY" in os.environ:
        yield
        return
    os.environ[name] = _SPINS
    try:
        yield
    finally:
        del os.environ[name]


def entry() -> contextlib.AbstractContextManager[object]:
    """Return what to hold while inside the pool: a lock, or nothing where nothing is needed.

    The layer ``workqueue`` aborts the process when two threads enter it. Which layer it is, is
    known once the pool has started.
    """
    global _layer
    if _layer is None and pool._is_initialized:
        _layer = numba.threading_layer()
    return _free_entry if _layer in ("omp", "tbb") else _pool_lock


def apply_num_threads() -> None:
    """Tell Numba the number set, if this thread has not told it yet."""
    wanted = get_num_threads()
    if _local.applied != wanted:
        try:
            with _brief_waiting():
                pool._launch_threads()
        except ValueError:  # in several lines, none of which names the variable
            raise missing_layer(str(config.THREADING_LAYER)) from None
        # numba.set_num_threads compares with the size it saw when it was imported.
        pool._set_num_threads(wanted)
        _local.applied = wanted
