"""The exponential of float32, written so that the compiler makes vectors of the loop around it.

``exp`` takes numbers of at most 0, as softmax has them: x = k log 2 + r with k whole and r at most
log 2 / 2 from 0, so exp x = 2**k exp r, where a polynomial gives exp r and 2**k is written straight
into the exponent of a float. The result is within 2 units in the last place of the exact one, also
where it is denormal; a NaN stays a NaN. float64 goes to the C library, one by one.
"""

from typing import Any

import numba
import numba.extending
import numpy as np
from llvmlite import ir
from numba import types

__all__ = ["exp"]

# Any: the one makes its names while it runs; what the other makes takes one argument less when
# compiled code calls it.
config: Any = numba.config
intrinsic: Any = numba.extending.intrinsic

_LOWEST = np.float32(-104)  # exp of it is less than half the smallest number above 0
_PER_LOG2 = np.float32(1 / np.log(2))
# log 2 in two parts: the first has so few digits that its product with k is exact.
_LOG2 = np.float32(355 / 512)
_LOG2_REST = np.float32(np.log(2) - 355 / 512)
# Adding it leaves no digits behind the point; taking it away again leaves a whole number.
_ROUND = np.float32(3 * 2**22)
# The Taylor series of exp, up to r**7 / 7!.
_C2, _C3, _C4 = np.float32(1 / 2), np.float32(1 / 6), np.float32(1 / 24)
_C5, _C6, _C7 = np.float32(1 / 120), np.float32(1 / 720), np.float32(1 / 5040)
_HALF, _ONE, _ZERO = np.float32(0.5), np.float32(1), np.float32(0)


@intrinsic
def _power_of_two(typing_context, k):
    """Return 2**k for a whole float32 from -126 to 127, by way of the bits of its exponent."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        number = ir.IntType(32)
        exponent = builder.add(builder.fptosi(args[0], number), number(127))
        return builder.bitcast(builder.shl(exponent, number(23)), ir.FloatType())

    return types.float32(types.float32), emit


def _exp32(x):
    held = x if x > _LOWEST else _LOWEST  # a NaN is put back below
    k = (held * _PER_LOG2 + _ROUND) - _ROUND
    r = (held - k * _LOG2) - k * _LOG2_REST
    p = _C4 + r * (_C5 + r * (_C6 + r * _C7))
    p = _ONE + (r + r * r * (_C2 + r * (_C3 + r * p)))
    # In two steps, for 2**k alone may be too small for a float that p 2**k is not too small for.
    first = (k * _HALF + _ROUND) - _ROUND
    value = p * _power_of_two(first) * _power_of_two(k - first)
    return x if x != x else value


def exp(x):
    """Return the exponential of a number that is 0 at most, or NaN."""
    return np.exp(x)


@numba.extending.overload(exp, inline="always")
def _choose(x):
    return _exp32 if x == types.float32 else lambda x: np.exp(x)
