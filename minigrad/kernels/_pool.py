"""Large arrays whose memory is used again, step after step.

The system hands out memory page by page, when a page is first touched, and takes longer over it
than most kernels over their work. So the memory of a large array is not given back when the array
dies: it waits here for the next array of its size. Results do not depend on it, for kernels write
every element of the arrays they make.

An array from the pool stands on a ``_Loan``, and so does every view of it; Python deletes the loan
when the last of them is gone, and only then does the memory come back. Nothing here takes a lock:
the single operations on lists and dicts are atomic, and a loan may end at any moment, also in the
middle of one of these functions.
"""

import math
import mmap
import os
from typing import NamedTuple

import numpy as np

__all__ = ["empty", "idle_bytes", "release_memory"]

# Smaller arrays are NumPy's own affair: malloc keeps such memory itself.
_POOLED = 1 << 18


def _limit() -> int:
    """Return how many bytes may wait: a quarter of the machine's memory, or 1 GiB if unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
    except (AttributeError, ValueError, OSError):
        return 1 << 30


class Pool:
    """Blocks of memory that wait, by their size in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._idle: dict[int, list[_Block]] = {}

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Make a C-contiguous array, values undefined."""
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes < _POOLED:
            return np.empty(shape, dtype)
        return np.asarray(_Loan(self, self._take(_rounded(nbytes)), shape, dtype))

    def _take(self, size: int) -> "_Block":
        try:
            return self._idle[size].pop()
        except LookupError:
            return _from_system(size)

    def take_back(self, block: "_Block") -> None:
        """Keep memory that nobody uses any more."""
        if self.idle_bytes() + block.size > self.limit:
            self.release()  # all of it, for sizes that nobody asks for any more would stay for ever
        if block.size <= self.limit:
            self._idle.setdefault(block.size, []).append(block)

    def idle_bytes(self) -> int:
        """Return how much memory waits."""
        total = 0
        for size, blocks in list(self._idle.items()):
            total += size * len(blocks)
        return total

    def release(self) -> int:
        """Give all memory that waits back to the system, and return how many bytes that was."""
        waiting = self.idle_bytes()
        self._idle = {}
        return waiting


class _Block(NamedTuple):
    """Pages of memory, where they begin and how many bytes they are."""

    pages: mmap.mmap
    address: int
    size: int


class _Loan:
    """Memory in the hands of one array and its views."""

    __slots__ = ("__array_interface__", "_block", "_pool")

    lent_once = True  # nobody reaches the memory but through this; the engine asks

    def __init__(self, pool: Pool, block: _Block, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._pool, self._block = pool, block
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": dtype.str,
            "data": (block.address, False),
        }

    def __del__(self) -> None:
        self._pool.take_back(self._block)


def _rounded(nbytes: int) -> int:
    """Round up by an eighth at most, so that similar sizes share memory."""
    step = 1 << (nbytes.bit_length() - 4)
    return -(-nbytes // step) * step


# Private: what a forked child writes is not to appear in its parent's arrays.
_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


def _from_system(size: int) -> _Block:
    """Map pages of their own, which the system has back as soon as the array is gone."""
    pages = mmap.mmap(-1, size, **_PRIVATE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)  # pages of 2 MB: 500 times fewer first touches
    address, _ = np.frombuffer(pages, np.uint8).__array_interface__["data"]
    return _Block(pages, address, size)


_shared = Pool(_limit())
empty = _shared.empty
idle_bytes = _shared.idle_bytes
release_memory = _shared.release
