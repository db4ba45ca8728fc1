"""Numba's names as we use them, which its own types get wrong.

``config`` makes its entries while it runs, ``njit`` has more options than its types know, and an
``intrinsic`` is written with one argument more than compiled code calls it with.
"""

from typing import Any

import numba
import numba.extending

__all__ = ["config", "intrinsic", "njit"]

config: Any = numba.config
intrinsic: Any = numba.extending.intrinsic
njit: Any = numba.njit
