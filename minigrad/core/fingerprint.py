"""Has a saved array been written to? Fingerprints compared before backward tell."""

from typing import Any

import numpy as np

__all__ = ["fingerprints"]

_Array = np.ndarray  # under a name of its own, for every node comes here twice

_WHOLE = 2048  # arrays of up to this many entries are copied whole; that costs less than the op
_SAMPLE = 64  # of larger ones this many entries at least, evenly spread from the last one back


def fingerprints(saved: tuple[Any, ...], whole: bool) -> list[bytes | int]:
    """For each saved array what is equal only if its entries are: bytes of them, or a number.

    An optimiser step or ``x.data *= 2`` changes every entry and is always seen. A write to a few
    entries of a large array can slip between the samples; ``whole=True`` reads every entry, and
    keeps a number rather than a copy of them, which another array has by chance only, 2**-64.
    """
    found: list[bytes | int] = []
    for array in saved:
        if isinstance(array, _Array):
            if array.size <= _WHOLE:  # to make a number of them takes ten times as long
                found.append(array.tobytes())
            else:
                found.append(hash(array.tobytes()) if whole else _sampled(array))
    return found


def _sampled(array: np.ndarray) -> bytes:
    # array.flat visits any strides without a copy of the whole.
    return array.flat[:: -(array.size // _SAMPLE)].tobytes()
