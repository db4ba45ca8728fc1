"""Where kernels must not start threads: in a forked child and in data workers.

This file imports no Numba, so that a data loader can say ``serial_only`` at no cost.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Local(threading.local):
    serial = False  # whether a thread has asked for serial builds


_local = _Local()
_forked = False


def _mark_forked_child() -> None:
    """Remember that this process has lost the threads its parent started.

    A forked child inherits the memory of the thread pool without its threads: GNU OpenMP then
    aborts the process and other layers wait for ever. The serial builds always work.
    """
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_forked_child)


@contextmanager
def serial_only() -> Iterator[None]:
    """Run the kernels of this thread without a thread pool while the block lasts."""
    outer = _local.serial
    _local.serial = True
    try:
        yield
    finally:
        _local.serial = outer


def must_be_serial() -> bool:
    """Tell whether kernels called here must run in their serial build."""
    return _forked or _local.serial
