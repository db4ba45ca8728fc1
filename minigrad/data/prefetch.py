"""Make results one thread ahead of the loop that uses them."""

import queue
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["prefetch"]


def prefetch(make: Callable[[int], Any], indices: range, depth: int) -> Iterator[Any]:
    """Yield ``make(i)`` for each index, computed in one worker thread at most ``depth`` ahead.

    The order, the results and the exceptions are those of ``map(make, indices)``. The worker
    starts with the first ``next`` and ends with the last result, the first exception, or when the
    iterator is closed: a ``break`` out of a ``for`` loop closes it as soon as nothing refers to it.

    Parameters
    ----------
    make : callable
        Called in the worker thread, one call at a time.
    indices : range
        What it is called with.
    depth : int
        How many results may wait, at least 1.

    Examples
    --------
    >>> list(prefetch(lambda i: i * i, range(4), depth=2))
    [0, 1, 4, 9]
    """
    results: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    room = threading.Semaphore(depth)  # bounds the queue, and is all the worker ever waits for
    stop = threading.Event()

    def work() -> None:
        for i in indices:
            room.acquire()
            if stop.is_set():
                return
            try:
                results.put((make(i), None))
            except BaseException as error:
                results.put((None, error))
                return

    worker = threading.Thread(target=work, name="minigrad-prefetch", daemon=True)
    worker.start()
    try:
        for _ in indices:
            result, error = results.get()
            room.release()
            if error is not None:
                raise error
            yield result
    finally:
        stop.set()
        room.release()
        # At interpreter exit daemon threads are frozen already: to join one does nothing, hangs
        # or raises, depending on the version of Python.
        if not sys.is_finalizing():
            worker.join()
