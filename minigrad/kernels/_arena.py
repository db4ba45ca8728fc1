"""A long range of addresses, of which pieces are lent and come back.

Pieces that lie side by side grow together again when they come back, so the memory of many small
arrays serves a large one. A piece is cut from the shortest free span that has room for it: what
is left over is small, and the long spans stay long.

Addresses cost nothing. The system gives them memory page by page when they are first written to;
each span knows how many of its bytes have been.
"""

import bisect
import mmap
from typing import NamedTuple

__all__ = ["PAGE", "Arena", "Piece"]

PAGE = mmap.PAGESIZE

# Private: what a forked child writes is not to appear in its parent's arrays.
_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


class _Span(NamedTuple):
    """Free addresses from start to stop."""

    start: int
    stop: int
    touched: int  # of its bytes; the pages that have memory tend to come first

    @property
    def room(self) -> int:
        return self.stop - self.start


class Arena:
    """Addresses in a row, and the free spans among them in order.

    Every change is one assignment to the list, so an interrupt leaves it whole.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.pages = mmap.mmap(-1, size, **_PRIVATE)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            self.pages.madvise(mmap.MADV_HUGEPAGE)  # pages of 2 MB: 500 times fewer first touches
        self._free = [_Span(0, size, 0)]

    def take(self, size: int, touched: bool = False) -> "Piece | None":
        """Cut a piece from the beginning of the shortest free span that has room for it.

        If it is to be ``touched``, the room must have memory already.
        """
        shortest = number = None
        for at, (start, stop, held) in enumerate(self._free):
            room = stop - start
            if touched and held < size:
                continue
            if room >= size and (shortest is None or room < shortest):
                shortest, number = room, at
                if room == size:
                    break
        if number is None:
            return None
        start, stop, held = self._free[number]
        rest = _Span(start + size, stop, max(0, held - size))
        self._free[number : number + 1] = [rest] if rest.room else []
        return Piece(self, start, size)

    def give(self, piece: "Piece") -> None:
        """Make a piece free again, one span with its neighbours."""
        start, stop, touched = piece.start, piece.start + piece.size, piece.size
        at = upto = bisect.bisect(self._free, (start,))
        if at > 0 and self._free[at - 1].stop == start:
            at -= 1
            start, touched = self._free[at].start, touched + self._free[at].touched
        if upto < len(self._free) and self._free[upto].start == stop:
            stop, touched = self._free[upto].stop, touched + self._free[upto].touched
            upto += 1
        self._free[at:upto] = [_Span(start, stop, touched)]

    def idle_bytes(self) -> int:
        """Return how much memory the free spans have."""
        return sum(span.touched for span in self._free)

    @property
    def unused(self) -> bool:
        """Whether no piece of it is lent."""
        return sum(span.room for span in self._free) == self.size

    def release(self) -> int:
        """Give the memory of the free spans back, where the system takes it; return how much."""
        released = 0
        if hasattr(mmap, "MADV_DONTNEED"):
            for at, span in enumerate(self._free):
                if span.touched:
                    self.pages.madvise(mmap.MADV_DONTNEED, span.start, span.room)
                    self._free[at] = span._replace(touched=0)
                    released += span.touched
        return released


class Piece(NamedTuple):
    """Lent memory: whole pages, counted from where the arena begins."""

    arena: Arena
    start: int
    size: int
