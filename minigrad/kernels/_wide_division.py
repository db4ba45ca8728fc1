"""Division in 128 bits, for LLVM.

To count a loop's rounds beforehand LLVM may divide in twice the width of the numbers, which takes a
call of ``__udivti3``, part of every C compiler's own library. Numba offers LLVM the C library but
not that one. Unasked for, a kernel then ends the process: ``LLVM ERROR: Symbol not found``, or from
the cache on disk a call of address 0.
"""

import contextlib
import ctypes

import llvmlite.binding as llvm

NAMES = "__udivti3", "__umodti3", "__divti3", "__modti3"

# Where a C program finds them: in what is loaded already, or in GCC's library.
_LIBRARIES = None, "libgcc_s.so.1"


def offer() -> None:
    """Tell LLVM where the functions are, if this system has them."""
    for library in _LIBRARIES:
        with contextlib.suppress(OSError, AttributeError, TypeError):  # none such; Windows
            found = ctypes.CDLL(library)
            for name in NAMES:
                address = ctypes.cast(getattr(found, name), ctypes.c_void_p).value
                llvm.add_symbol(name, address)
            return
