"""How much memory a call needs beyond what the process has: its peak, as the system counts it.

Python's own counters see neither what kernels allocate inside nor what torch does. Linux keeps the
largest resident size of a process and can be told to forget it; elsewhere the answer is None.
"""

import ctypes
import ctypes.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minigrad import kernels

__all__ = ["peak", "peak_alone", "peak_rise"]

_SELF = Path("/proc/self")


def peak_rise(call: Callable[[], Any]) -> int | None:
    """Return by how many bytes resident memory rises above where it was, at most, in a call.

    The result counts, which must live somewhere; memory that waits for reuse is given back first.
    """
    try:
        _return_free_memory()
        (_SELF / "clear_refs").write_text("5")  # forget the peak so far
        before = _status("VmRSS")
        call()
        return max(0, _status("VmHWM") - before)
    except (OSError, KeyError):
        return None


def peak() -> int | None:
    """Return the most bytes that this process has had since the last :func:`peak_rise` began."""
    try:
        return _status("VmHWM")
    except (OSError, KeyError):
        return None


def _status(field: str) -> int:
    """Read a size in bytes from what Linux tells of this process."""
    lines = (_SELF / "status").read_text().splitlines()
    sizes = dict(line.split(":", 1) for line in lines)
    return int(sizes[field].split()[0]) * 1024


def _return_free_memory() -> None:
    """Hand free memory back to the system, or the call would find it there and count as 0."""
    kernels.release_memory()
    library = ctypes.CDLL(ctypes.util.find_library("c"))
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def peak_alone(name: str, contender: str, threads: int) -> tuple[int, int] | None:
    """Return the rise, and the peak, in a process of its own, which has kept no earlier buffer."""
    command = [sys.executable, "-m", "minigrad.bench.alone", name, contender, str(threads)]
    run = subprocess.run(command, capture_output=True, text=True)
    printed = run.stdout.split()
    if run.returncode != 0 or len(printed) != 2 or not all(map(str.isdecimal, printed)):
        return None
    return int(printed[0]), int(printed[1])
