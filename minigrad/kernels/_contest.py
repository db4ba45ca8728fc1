"""The contest of a pooling window, for neighbouring channels side by side: the larger value wins.

The best values so far and the places they came from are a tile of two rows, which stays in
registers while the taps of a window come by. ``count`` channels take part, at most as many as a
vector has lanes::

    held = contest(x, first)                       # nobody has won yet; the first tap stands
    for ...:
        held = challenge(held, x, at, tap, count)  # values of x from ``at`` on, at place ``tap``
    settle(held, out, place, to, count)

Places are whole numbers held as floats, so that one comparison selects both rows. Backward, the
cotangents that a pixel has won are added up in a tile of one row by ``add_won``, of one vector or
of several: then what else a tap costs is paid once for all of them.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from minigrad.kernels._numba import config, intrinsic
from minigrad.kernels._simd import Emitter, Tile

__all__ = ["add_won", "challenge", "contest", "settle"]


class _Judge(Emitter):
    """The instructions that the intrinsics below are made of.

    Of a vector they read and write the first ``count`` lanes; where the compiler knows that these
    are all of them, a masked access becomes a plain one.
    """

    def splat_number(self, number: ir.Value) -> ir.Value:
        """Fill a vector of floats with a whole number."""
        vector = self.tile.vector
        return self.splat(self.builder.sitofp(number, vector.element), vector)

    def masked(self, kind: Any, array: ir.Value, at: ir.Value, count: ir.Value) -> Any:
        """Return what an access needs: type and name of a vector, where it begins, its lanes."""
        lanes = self.tile.lanes
        vector = ir.VectorType(self.context.get_value_type(kind.dtype), lanes)
        letter = "f" if isinstance(kind.dtype, types.Float) else "i"
        wanted = self.first_of(count, lanes)
        pointer = self.builder.bitcast(self.place(kind, array, at), vector.as_pointer())
        alignment = ir.IntType(32)(kind.dtype.bitwidth // 8)
        return vector, f"v{lanes}{letter}{kind.dtype.bitwidth}.p0", pointer, alignment, wanted

    def read(self, *where: Any) -> ir.Value:
        vector, name, pointer, alignment, wanted = self.masked(*where)
        return self.call(
            f"llvm.masked.load.{name}", vector, [pointer, alignment, wanted, vector(None)]
        )

    def write(self, value: ir.Value, *where: Any) -> None:
        _, name, pointer, alignment, wanted = self.masked(*where)
        self.call(f"llvm.masked.store.{name}", ir.VoidType(), [value, pointer, alignment, wanted])


@intrinsic
def contest(typing_context, x, first):
    """Begin with minus infinity and the place of a first tap."""
    tile = Tile(x.dtype, 2, 1)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        judge = _Judge(context, builder, tile)
        lowest = ir.Constant(tile.vector, [float("-inf")] * tile.lanes)
        held = ir.Constant(context.get_value_type(tile), ir.Undefined)
        held = builder.insert_value(held, lowest, 0)
        return builder.insert_value(held, judge.splat_number(args[1]), 1)

    return tile(x, types.intp), emit


@intrinsic
def challenge(typing_context, held, x, at, tap, count):
    """Let the values from ``at`` on win where they are larger, or NaN."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        held_value, x_value, at, tap, count = args
        judge = _Judge(context, builder, held)
        value = judge.read(x, x_value, at, count)
        best, place = (builder.extract_value(held_value, row) for row in range(2))
        larger = builder.fcmp_ordered(">", value, best)
        wins = builder.or_(larger, builder.fcmp_unordered("uno", value, value))
        best = builder.select(wins, value, best)
        place = builder.select(wins, judge.splat_number(tap), place)
        return builder.insert_value(builder.insert_value(held_value, best, 0), place, 1)

    index = types.intp
    return held(held, x, index, index, index), emit


@intrinsic
def settle(typing_context, held, out, place, to, count):
    """Write the best values and their places."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        held_value, out_value, place_value, to, count = args
        judge = _Judge(context, builder, held)
        best, number = (builder.extract_value(held_value, row) for row in range(2))
        judge.write(best, out, out_value, to, count)
        item = context.get_value_type(place.dtype)
        whole = builder.fptoui(number, ir.VectorType(item, held.lanes))
        judge.write(whole, place, place_value, to, count)
        return context.get_dummy_value()

    return types.void(held, out, place, types.intp, types.intp), emit


@intrinsic
def add_won(typing_context, total, grad_out, place, at, tap, count):
    """Add ``count`` cotangents from ``at`` on where their window was won at place ``tap``."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        total_value, grad_value, place_value, at, tap, count = args
        judge = _Judge(context, builder, total)
        for index, _, v in total.cells:
            before = ir.Constant(at.type, v * total.lanes)
            here, left = builder.add(at, before), builder.sub(count, before)
            grad = judge.read(grad_out, grad_value, here, left)
            winners = judge.read(place, place_value, here, left)
            number = judge.splat(builder.trunc(tap, winners.type.element), winners.type)
            won = builder.icmp_unsigned("==", winners, number)
            share = builder.select(won, grad, ir.Constant(grad.type, None))
            held = builder.extract_value(total_value, index)
            total_value = builder.insert_value(total_value, builder.fadd(held, share), index)
        return total_value

    index = types.intp
    return total(total, grad_out, place, index, index, index), emit


if config.DISABLE_JIT:  # vectors hold one element

    def contest(x: np.ndarray, first: int) -> tuple[float, int]:
        return -np.inf, first

    def challenge(
        held: tuple[float, int], x: np.ndarray, at: int, tap: int, count: int
    ) -> tuple[float, int]:
        return (x[at], tap) if x[at] > held[0] or x[at] != x[at] else held

    def settle(
        held: tuple[float, int], out: np.ndarray, place: np.ndarray, to: int, count: int
    ) -> None:
        out[to], place[to] = held

    def add_won(
        total: np.ndarray, grad_out: np.ndarray, place: np.ndarray, at: int, tap: int, count: int
    ) -> np.ndarray:
        won = place[at : at + count] == tap
        return total + np.where(won, grad_out[at : at + count], 0)
