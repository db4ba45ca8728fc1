"""Has a saved array been written to? Fingerprints compared before backward tell."""

from typing import Any

import numpy as np

__all__ = ["fingerprints"]

_Array = np.ndarray  # under a name of its own, for every node comes here twice

_WHOLE = 2048  # arrays of up to this many entries are read whole; reading costs less than the op
_SAMPLE = 64  # of larger ones this many entries at least, evenly spread from the last one back


def fingerprints(saved: tuple[Any, ...], whole: bool) -> list[int]:
    """One number for each saved array, equal only if its entries are (but for chance, 2**-64).

    An optimiser step or ``x.data *= 2`` changes every entry and is always seen. A write to a few
    entries of a large array can slip between the samples; ``whole=True`` reads every entry.
    """
    found = []
    for array in saved:
        if isinstance(array, _Array):
            small = whole or array.size <= _WHOLE
            found.append(hash(array.tobytes()) if small else _sampled(array))
    return found


def _sampled(array: np.ndarray) -> int:
    # array.flat visits any strides without a copy of the whole.
    return hash(array.flat[:: -(array.size // _SAMPLE)].tobytes())
