"""What the kernels know about the machine they run on, for people who ask."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
from numba.core import event

from minigrad.kernels import _cache, _simd, _threads
from minigrad.kernels._environment import SettingError


def host() -> dict[str, Any]:
    """Describe the CPU as the compiler sees it, the threads and the cache of compiled kernels.

    It starts the pool of threads, for the threading layer is known only then.

    Returns
    -------
    dict
        ``cpu``, ``vector_bits``, ``threads``, ``pool``, ``threading_layer`` (None where the one
        that is asked for cannot be loaded), ``jit``, ``cache_folder`` (None where kernels are
        compiled anew in each process), ``cache_bytes`` and ``cache_files``, both of the folder of
        these very kernels.
    """
    folder = _cache.folder_in_use()
    sizes = [path.stat().st_size for path in _files(folder)]
    return {
        "cpu": llvmlite.binding.get_host_cpu_name(),
        "vector_bits": _simd.VECTOR_BITS,
        "threads": _threads.get_num_threads(),
        "pool": _threads.config.NUMBA_NUM_THREADS,
        "threading_layer": _threading_layer(),
        "jit": not _threads.config.DISABLE_JIT,
        "cache_folder": None if folder is None else str(folder),
        "cache_bytes": sum(sizes),
        "cache_files": len(sizes),
    }


def _threading_layer() -> str | None:
    try:
        _threads.apply_num_threads()
    except SettingError:
        return None
    return numba.threading_layer()


def _files(folder: Path | None) -> list[Path]:
    return [] if folder is None else [path for path in folder.rglob("*") if path.is_file()]


@contextlib.contextmanager
def watch_compilation(tell: Callable[[str, float], None]) -> Iterator[None]:
    """Call ``tell(function, seconds)`` after each function compiled while the block lasts.

    What comes from the disk cache is not compiled. The seconds of a function include those of the
    functions it calls, which are told before it.
    """

    class Listener(event.Listener):
        def __init__(self) -> None:
            self.starts: list[float] = []

        def on_start(self, happening: Any) -> None:
            self.starts.append(time.perf_counter())

        def on_end(self, happening: Any) -> None:
            name = happening.data["dispatcher"].py_func.__name__
            tell(name, time.perf_counter() - self.starts.pop())

    with event.install_listener("numba:compile", Listener()):
        yield
