"""The exponential of a tile, a vector at a time.

Numbers are at most 0, as softmax has them: x = k log 2 + r with k whole and r at most log 2 / 2
from 0, so exp x = 2**k exp r, where a polynomial gives exp r and 2**k is written straight into the
exponent of a float. The result is within 2 units in the last place of the exact one, also where it
is denormal; a NaN stays a NaN. float64 goes to the C library, one by one.
"""

import math
from typing import Any

from llvmlite import ir
from numba import types

from minigrad.kernels._numba import config, intrinsic
from minigrad.kernels._simd import Emitter

__all__ = ["tile_exp"]

_LOWEST = -104.0  # exp of it is less than half the smallest float32 above 0
# log 2 in two parts: the first has so few digits that its product with k is exact.
_LOG2 = 355 / 512
_LOG2_REST = math.log(2) - _LOG2
# The power of two is made too large by this factor and the result divided by it, for 2**k alone may
# be too small for a float where exp r 2**k is not.
_EXCESS = 64
# Adding 3 * 2**22 leaves no digits behind the point: k stands in the last bits of the sum. What is
# added to it makes it the exponent of the power, for exponents are stored with 127 added to them.
_ROUND = 3.0 * 2**22 + 127 + _EXCESS
_MANTISSA = 23  # bits below the exponent
_TAYLOR = [1 / math.factorial(n) for n in range(7, 1, -1)]  # from r**7 down to r**2


@intrinsic
def tile_exp(typing_context, tile, peak):
    """Return exp(x - peak) of each entry x of a tile, for entries of at most ``peak``."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        result, peak = args
        to = Emitter(context, builder, tile)
        peaks = to.splat(peak, tile.vector)
        for index, _, _ in tile.cells:
            x = builder.fsub(builder.extract_value(result, index), peaks)
            value = _exp32(to, x) if tile.dtype == types.float32 else _exp64(to, x)
            result = builder.insert_value(result, value, index)
        return result

    return tile(tile, tile.dtype), emit


def _exp32(to: Any, x: ir.Value) -> ir.Value:
    builder, vector, lanes = to.builder, to.tile.vector, to.tile.lanes
    bits = ir.VectorType(ir.IntType(32), lanes)

    def each(value: float) -> ir.Constant:
        return ir.Constant(vector, [ir.Constant(ir.FloatType(), value)] * lanes)

    less = builder.fcmp_ordered("<", x, each(_LOWEST))  # a NaN is not, and makes all below NaN
    x = builder.select(less, each(0), x)  # a product that is rounded to 0 takes 100 cycles and more
    rounded = to.multiply_add(x, each(1 / math.log(2)), each(_ROUND))
    k = builder.fsub(rounded, each(_ROUND))
    r = to.multiply_add(k, each(-_LOG2_REST), to.multiply_add(k, each(-_LOG2), x))
    p = each(_TAYLOR[0])
    for coefficient in _TAYLOR[1:]:
        p = to.multiply_add(r, p, each(coefficient))
    p = builder.fadd(each(1), to.multiply_add(builder.fmul(r, r), p, r))
    exponent = builder.shl(builder.bitcast(rounded, bits), ir.Constant(bits, [_MANTISSA] * lanes))
    power = builder.bitcast(exponent, vector)
    result = builder.fmul(builder.fmul(p, power), each(2.0**-_EXCESS))
    return builder.select(less, each(0), result)


def _exp64(to: Any, x: ir.Value) -> ir.Value:
    return to.call(f"llvm.exp.v{to.tile.lanes}f64", to.tile.vector, [x])


if config.DISABLE_JIT:
    from minigrad.kernels._simd_plain import tile_exp
