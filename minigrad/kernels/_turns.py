"""Processes take turns: what one of them compiles, the others wait for instead of compiling it too.

All processes that keep kernels in a folder share one empty file there, and a kernel stands for one
byte of it, which a process locks while it compiles. The system takes a lock away when its owner
dies, however that happens. A process that was stopped keeps its own, so nobody waits for ever: who
has waited in vain compiles without the turn, and keeps nothing, for the owner may be writing.

A turn also keeps the index of a kernel whole, which Numba reads, changes and writes again.
"""

import contextlib
import errno
import functools
import os
import time
import zlib
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: everybody compiles at once
    fcntl = None  # type: ignore[assignment]  # told apart below

__all__ = ["Turn"]

# Seconds: several times what the slowest kernel takes to compile, on a busy machine.
PATIENCE = 30.0
_LOOK_AGAIN = 0.005

_TAKEN = (errno.EACCES, errno.EAGAIN)


class Turn:
    """The right to compile one kernel; at most one process has it at a time."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._byte = zlib.crc32(name.encode())

    def take(self, patience: float = PATIENCE) -> bool:
        """Wait until nobody else has the turn; return False if that took too long."""
        deadline = time.monotonic() + patience
        while not self._take_now():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_AGAIN)
        return True

    def give(self) -> None:
        """Let others have the turn."""
        file = _file(self._folder)
        if fcntl is not None and file is not None:
            with contextlib.suppress(OSError):  # as below
                fcntl.lockf(file, fcntl.LOCK_UN, 1, self._byte)

    def _take_now(self) -> bool:
        file = _file(self._folder)
        if fcntl is None or file is None:
            return True
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._byte)
        except OSError as problem:
            # Where a file system has no locks, everybody may compile.
            return problem.errno not in _TAKEN
        return True


@functools.cache
def _file(folder: Path) -> int | None:
    """Open the file of a folder once: closing any descriptor of it would give all turns back."""
    try:
        return os.open(folder / "turns", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return None
