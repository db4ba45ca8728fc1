"""Large arrays whose memory is used again, step after step.

The system hands out memory page by page, when a page is first touched, and takes longer over it
than most kernels over their work. So the memory of a large array is not given back when the array
dies: it waits here for other arrays. Results do not depend on it, for kernels write every element
of the arrays they make. A training step of ResNet-20, batch 128, meets 16,654 page faults without
the pool and 2 with it, and takes 107 ms for 134 (``python benchmarks/page_faults.py``).

An array from the pool stands on a ``_Loan``, and so does every view of it; Python deletes the loan
when the last of them is gone, and only then does the memory come back. A loan may end at any
moment, on any thread, also in the middle of one of these functions. So nobody waits for the lock:
what comes back joins a queue, and who asks while the lock is held gets memory from NumPy.

The last few that came back wait as they are: a step often asks for one of their sizes, and the
likeliest is still in a cache. More of them become free spans again, and grow together with others.
"""

import math
import os
import threading
from collections import deque
from collections.abc import Callable

import numpy as np

from minigrad.kernels._arena import PAGE, Arena, Piece

__all__ = ["empty", "idle_bytes", "release_memory"]

# Smaller arrays are NumPy's own affair: malloc keeps such memory itself.
_POOLED = 1 << 18

# Addresses that are taken from the system at once.
_ARENA = 1 << 30

# Memory that waits as it came back, at most: the more, the less grows together with other memory. A
# step of ResNet-50 has 142 times to put memory where it belongs with 1, 45 with 3, 34 with 4.
_WAITING = 3

_BYTE = np.dtype(np.uint8)


def _limit() -> int:
    """Return how many bytes may wait: a quarter of the machine's memory, or 1 GiB if unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
    except (AttributeError, ValueError, OSError):
        return 1 << 30


class Pool:
    """Memory that is lent to arrays, and waits for the next ones in between."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._arenas: list[Arena] = []
        self._addresses = 0  # of all arenas
        self._returned: deque[Piece] = deque()
        self._waiting: list[Piece] = []  # the oldest that came back; for who holds the lock
        self._lock = threading.Lock()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Make a C-contiguous array, values undefined."""
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes < _POOLED or not self._lock.acquire(blocking=False):
            return np.empty(shape, dtype)
        try:
            size = -(-nbytes // PAGE) * PAGE
            piece = self._returned_of(size) or self._take(size)
        except (OSError, OverflowError):  # no such range of addresses: NumPy knows what to say
            return np.empty(shape, dtype)
        finally:
            self._lock.release()
        loan = _Loan(size, _BYTE, piece.arena.pages, piece.start)
        loan.pool, loan.piece, loan.lent_once = self, piece, True
        return np.ndarray(shape, dtype, loan)

    def _returned_of(self, size: int) -> Piece | None:
        """Return what came back last of a size, if anything did."""
        waiting = self._waiting
        while self._returned:
            waiting.append(self._returned.popleft())
        for at in range(len(waiting) - 1, -1, -1):
            if waiting[at].size == size:
                return waiting.pop(at)
        return None

    def _take(self, size: int) -> Piece:
        if len(self._waiting) < _WAITING:
            for arena in self._arenas:
                if piece := arena.take(size, touched=True):
                    return piece
        self._settle()
        for arena in self._arenas:
            if piece := arena.take(size):
                return piece
        self._release()  # what waits is too short for this, and may be for ever
        arena = Arena(max(size, min(_ARENA, self.limit)))
        self._arenas.append(arena)
        self._addresses += arena.size
        piece = arena.take(size)
        assert piece is not None  # all of it is free
        return piece

    def take_back(self, piece: Piece) -> None:
        """Keep memory that nobody uses any more."""
        self._returned.append(piece)
        # Too much can only wait where there are more addresses than may wait.
        if self._addresses > self.limit and self._lock.acquire(blocking=False):
            try:
                self._settle()
            finally:
                self._lock.release()

    def _settle(self) -> None:
        """Put what has come back where it belongs, and release all of it if it is too much."""
        while self._returned:
            self._waiting.append(self._returned.popleft())
        while self._waiting:
            piece = self._waiting.pop()
            piece.arena.give(piece)
        if self._addresses > self.limit < self._idle_bytes():
            self._release()

    def _idle_bytes(self) -> int:
        return sum(arena.idle_bytes() for arena in self._arenas)

    def idle_bytes(self) -> int:
        """Return how much memory waits."""
        return self._alone(self._idle_bytes)

    def release(self) -> int:
        """Give all memory that waits back to the system, and return how many bytes that was."""
        return self._alone(self._release)

    def _alone(self, act: Callable[[], int]) -> int:
        if not self._lock.acquire(timeout=1):
            return 0  # a finaliser asks, in the middle of one of these functions
        try:
            self._settle()
            return act()
        finally:
            self._lock.release()

    def _release(self) -> int:
        released = sum(arena.idle_bytes() for arena in self._arenas if arena.unused)
        self._arenas = [arena for arena in self._arenas if not arena.unused]
        self._addresses = sum(arena.size for arena in self._arenas)
        return released + sum(arena.release() for arena in self._arenas)


class _Loan(np.ndarray):
    """The bytes of a piece, on which one array and its views stand.

    NumPy makes an array on another one in half the time it takes over ``__array_interface__``.
    """

    __slots__ = ("lent_once", "piece", "pool")

    pool: Pool
    piece: Piece
    lent_once: bool  # nobody reaches the memory but through this; the engine asks

    def __del__(self) -> None:
        try:
            pool, piece = self.pool, self.piece
        except AttributeError:
            return  # a part or a copy of a loan, of somebody who has asked an array for its base
        pool.take_back(piece)


_shared = Pool(_limit())
empty = _shared.empty
idle_bytes = _shared.idle_bytes
release_memory = _shared.release
