"""The contest of a pooling window, for all channels of a pixel: the larger value wins.

The best value so far and its place in the window are two arrays of different types, whose loops
the compiler makes vectors of only where there are very many channels. Two intrinsics take eight
channels at a time, and the loops around them any number.
"""

from typing import Any

import numba
import numba.extending
import numpy as np
from llvmlite import ir
from numba import types

from minigrad.kernels._jit import body

__all__ = ["add_won", "take_larger"]

# Any: the one makes its names while it runs; what the other makes takes one argument less when
# compiled code calls it.
config: Any = numba.config
intrinsic: Any = numba.extending.intrinsic

_LANES = 8


class _Emitter:
    """The instructions that both intrinsics are made of."""

    def __init__(self, context: Any, builder: ir.IRBuilder) -> None:
        self.context, self.builder = context, builder

    def vector(self, kind: types.Array) -> ir.VectorType:
        return ir.VectorType(self.context.get_value_type(kind.dtype), _LANES)

    def point(self, kind: types.Array, array: ir.Value, at: ir.Value) -> ir.Value:
        data = self.context.make_array(kind)(self.context, self.builder, array).data
        place = self.builder.gep(data, [at])
        return self.builder.bitcast(place, self.vector(kind).as_pointer())

    def load(self, kind: Any, pointer: ir.Value) -> ir.Value:
        value = self.builder.load(pointer)
        value.align = kind.dtype.bitwidth // 8
        return value

    def store(self, kind: Any, value: ir.Value, pointer: ir.Value) -> None:
        self.builder.store(value, pointer).align = kind.dtype.bitwidth // 8

    def splat(self, scalar: ir.Value) -> ir.Value:
        vector = ir.VectorType(scalar.type, _LANES)
        undefined = ir.Constant(vector, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, ir.IntType(32)(0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)
        return self.builder.shuffle_vector(first, undefined, everywhere)


@intrinsic
def _take_larger(typing_context, x, at, tap, first, best, place, to):
    """Let eight values win where they are larger or NaN, or all of them if they are the first."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        x_value, at, tap, first, best_value, place_value, to = args
        do = _Emitter(context, builder)
        best_at, place_at = do.point(best, best_value, to), do.point(place, place_value, to)
        value = do.load(x, do.point(x, x_value, at))
        before, place_before = do.load(best, best_at), do.load(place, place_at)
        larger = builder.fcmp_ordered(">", value, before)
        wins = builder.or_(larger, builder.fcmp_unordered("uno", value, value))
        wins = builder.or_(wins, do.splat(builder.trunc(first, ir.IntType(1))))
        do.store(best, builder.select(wins, value, before), best_at)
        do.store(place, builder.select(wins, do.splat(tap), place_before), place_at)
        return context.get_dummy_value()

    index = types.intp
    return types.void(x, index, place.dtype, types.uint8, best, place, index), emit


@intrinsic
def _add_won(typing_context, grad_out, place, at, tap, grad_x, to):
    """Add eight cotangents where their window was won from this place."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        grad_value, place_value, at, tap, grad_x_value, to = args
        do = _Emitter(context, builder)
        sum_at = do.point(grad_x, grad_x_value, to)
        grad = do.load(grad_out, do.point(grad_out, grad_value, at))
        winners = do.load(place, do.point(place, place_value, at))
        won = builder.icmp_unsigned("==", winners, do.splat(tap))
        share = builder.select(won, grad, ir.Constant(grad.type, None))
        do.store(grad_x, builder.fadd(do.load(grad_x, sum_at), share), sum_at)
        return context.get_dummy_value()

    index = types.intp
    return types.void(grad_out, place, index, place.dtype, grad_x, index), emit


if config.DISABLE_JIT:

    def _take_larger(x, at, tap, first, best, place, to):
        value, before = x[at : at + _LANES], best[to : to + _LANES]
        wins = (value > before) | (value != value) | bool(first)
        place[to : to + _LANES][wins] = tap
        before[wins] = value[wins]

    def _add_won(grad_out, place, at, tap, grad_x, to):
        won = place[at : at + _LANES] == tap
        grad_x[to : to + _LANES] += np.where(won, grad_out[at : at + _LANES], 0)


@body
def take_larger(x, at, tap, first, best, place, to, count):
    """Let values of x from ``at`` on win against the best from ``to`` on, and note their place."""
    whole = count // _LANES * _LANES
    for c in range(0, whole, _LANES):
        _take_larger(x, at + c, tap, first, best, place, to + c)
    for c in range(whole, count):
        value = x[at + c]
        if first or value > best[to + c] or value != value:  # a NaN differs from itself
            best[to + c] = value
            place[to + c] = tap


@body
def add_won(grad_out, place, at, tap, grad_x, to, count):
    """Add the cotangents from ``at`` on whose window was won from this place."""
    whole = count // _LANES * _LANES
    for c in range(0, whole, _LANES):
        _add_won(grad_out, place, at + c, tap, grad_x, to + c)
    for c in range(whole, count):
        if place[at + c] == tap:
            grad_x[to + c] += grad_out[at + c]
