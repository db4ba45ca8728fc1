"""Arrays that nobody can change, ever, and what kernels made of them.

Before a convolution its weight is brought to another form, packed or transformed. In training that
is due each step. In evaluation it need not be, but for an ordinary array nobody can say so: whoever
holds it, or a view of it, may write to it, and even one marked read-only can be marked writeable
again. So forms are kept for constant arrays alone. Those stand on ``bytes``, which Python never
changes and which NumPy therefore refuses to make writeable.

The forms hang on the memory itself. They go when the array goes, and cannot be taken for those of
another one. A copy of the array, deep or pickled, is an ordinary array again.
"""

import itertools
import weakref
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from minigrad.kernels import _pool

__all__ = ["constant", "is_constant", "prepared", "release_prepared"]

# Makes an array of a shape and dtype, values undefined.
Empty = Callable[[tuple[int, ...], np.dtype], np.ndarray]


class _Forms(dict[Hashable, np.ndarray]):
    """What was made of one constant array, by how it was made."""

    __slots__ = ("__weakref__",)


class _Memory(bytes):
    """The memory of a constant array, with its forms."""

    forms: _Forms


# Forms live longer than the arrays of a step, between which they would stand in the way of large
# ones. Little of their memory waits when they die, and of little memory addresses are cheap.
_lender = _pool.Pool(limit=1 << 26)

_numbers = itertools.count()
_all_forms: weakref.WeakValueDictionary[int, _Forms] = weakref.WeakValueDictionary()


def constant(array: np.ndarray) -> np.ndarray:
    """Copy an array into memory that can never be written to."""
    memory = _Memory(array.tobytes())
    memory.forms = _all_forms[next(_numbers)] = _Forms()
    return np.ndarray(array.shape, array.dtype, memory)


def is_constant(array: np.ndarray) -> bool:
    """Tell whether ``constant`` made this very array; a view of it does not count."""
    return type(array.base) is _Memory


def prepared(array: np.ndarray, how: Hashable, make: Callable[[Empty], np.ndarray]) -> np.ndarray:
    """Return ``make(empty)``, a form of the array; that of a constant one is made only once.

    Parameters
    ----------
    array : ndarray
    how : hashable
        All that decides the form beside shape, dtype and values of the array.
    make : callable
        Is given what to take memory from: what is kept does not come from the pool, for it would
        stand between the arrays of a step.

    Notes
    -----
    Two threads may both make a form; one of the two is kept. Nobody may write to it.
    """
    memory: Any = array.base
    if type(memory) is not _Memory or not array.flags.c_contiguous or array.nbytes != len(memory):
        return make(_pool.empty)
    key = how, array.shape, array.dtype
    found = memory.forms.get(key)
    return memory.forms.setdefault(key, make(_lender.empty)) if found is None else found


def release_prepared() -> int:
    """Forget all forms, which are made again when they are needed, and return their bytes."""
    released = 0
    for reference in _all_forms.valuerefs():
        forms = reference()
        if forms is not None:
            released += sum([form.nbytes for form in list(forms.values())])
            forms.clear()
    _lender.release()
    return released
