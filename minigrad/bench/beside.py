"""What the machine does with as many bytes as a case moves, timed in turns with it.

On a machine that others use too, the speed of memory changes from minute to minute: a case whose
arrays no cache holds is compared with what memory does in the same rounds.

``COPY`` reads half of the bytes and writes the other half. A kernel that reads more than it writes,
or writes more, cannot always be as fast: a processor takes in and gives out at the same time. So
``BARE`` reads and writes as much as the case does, and computes nothing: it copies as much as is
both read and written, and then only reads, or only writes, the rest.
"""

from collections.abc import Callable

import numpy as np

from minigrad import kernels
from minigrad.bench.case import Case
from minigrad.bench.limits import LARGE, from_a_line

__all__ = ["BARE", "COPY", "beside"]

COPY, BARE = "copy", "bare"

# Bytes are counted in these: whole vectors of any width.
_UNIT = 4096


def beside(case: Case) -> dict[str, Callable[[], object]]:
    """Return what to time beside a case, by name; nothing where its speed is not that of memory."""
    if case.flops or case.bytes <= LARGE:
        return {}
    written, moved = _whole(case.written), _whole(case.bytes + case.again)
    read, half = moved - written, _whole(moved // 2)
    x, out = from_a_line(max(read, half)), from_a_line(max(written, half))
    both, values = min(read, written) // 4, np.arange(1, 1 + _UNIT // 4, dtype=np.float32)
    parts = {name: (x[:n], out[:n]) for name, n in ((COPY, half // 4), (BARE, both))}

    def bare() -> None:
        kernels.copy(*parts[BARE])
        kernels.read(x[both : read // 4])
        kernels.fill(values, out[both : written // 4])

    return {COPY: lambda: kernels.copy(*parts[COPY]), BARE: bare}


def _whole(nbytes: int) -> int:
    return nbytes // _UNIT * _UNIT
