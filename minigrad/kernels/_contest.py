"""The contest of a pooling window, for neighbouring channels side by side: the larger value wins.

The best values so far and the places they came from are a tile of two rows, of one vector or of
several, which stays in registers while the taps of a window come by: what else a tap costs is paid
once for all of its vectors. ``count`` channels take part, at most as many as a row has lanes::

    held = contest(tile, first)                    # nobody has won yet; the first tap stands
    for ...:
        held = challenge(held, x, at, tap, count)  # values of x from ``at`` on, at place ``tap``
    settle(held, out, place, to, count)

Places are whole numbers held as floats, so that one comparison selects both rows. Backward, the
cotangents that a pixel has won are added up in a tile of one row by ``add_won``.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from minigrad.kernels._numba import config, intrinsic
from minigrad.kernels._simd import Emitter

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

    def pair(self, v: int) -> tuple[int, int]:
        """Return the indices of vector v in both rows of the tile."""
        return v, self.tile.vectors + v

    def of_vector(self, v: int, at: ir.Value, count: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Return where vector v of a row that begins at ``at`` lies, and the lanes left for it."""
        before = ir.Constant(at.type, v * self.tile.lanes)
        return self.builder.add(at, before), self.builder.sub(count, before)

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
def contest(typing_context, tile, first):
    """Begin with minus infinity and the place of a first tap, in a tile like one of two rows."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        held, first = args
        judge = _Judge(context, builder, tile)
        row = judge.constant(float("-inf")), judge.splat_number(first)
        for index, m, _ in tile.cells:
            held = builder.insert_value(held, row[m], index)
        return held

    return tile(tile, types.intp), emit


@intrinsic
def challenge(typing_context, held, x, at, tap, count):
    """Let the values from ``at`` on win where they are larger, or NaN."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        held_value, x_value, at, tap, count = args
        judge = _Judge(context, builder, held)
        number = judge.splat_number(tap)
        for v in range(held.vectors):
            value = judge.read(x, x_value, *judge.of_vector(v, at, count))
            best, place = (builder.extract_value(held_value, cell) for cell in judge.pair(v))
            larger = builder.fcmp_ordered(">", value, best)
            wins = builder.or_(larger, builder.fcmp_unordered("uno", value, value))
            for kept, new, cell in zip((best, place), (value, number), judge.pair(v), strict=True):
                held_value = builder.insert_value(held_value, builder.select(wins, new, kept), cell)
        return held_value

    index = types.intp
    return held(held, x, index, index, index), emit


@intrinsic
def settle(typing_context, held, out, place, to, count):
    """Write the best values and their places."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        held_value, out_value, place_value, to, count = args
        judge = _Judge(context, builder, held)
        places = ir.VectorType(context.get_value_type(place.dtype), held.lanes)
        for v in range(held.vectors):
            here = judge.of_vector(v, to, count)
            best, number = (builder.extract_value(held_value, cell) for cell in judge.pair(v))
            judge.write(best, out, out_value, *here)
            judge.write(builder.fptoui(number, places), place, place_value, *here)
        return context.get_dummy_value()

    return types.void(held, out, place, types.intp, types.intp), emit


@intrinsic
def add_won(typing_context, total, grad_out, place, at, tap, count):
    """Add ``count`` cotangents from ``at`` on where their window was won at place ``tap``."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        total_value, grad_value, place_value, at, tap, count = args
        judge = _Judge(context, builder, total)
        for index, _, v in total.cells:
            here, left = judge.of_vector(v, at, count)
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
    Held = tuple[np.ndarray, np.ndarray]

    def contest(tile: np.ndarray, first: int) -> Held:
        return np.full_like(tile[0], -np.inf), np.full_like(tile[0], first)

    def challenge(held: Held, x: np.ndarray, at: int, tap: int, count: int) -> Held:
        value, (best, place) = x[at : at + count], held
        wins = (value > best) | (value != value)
        return np.where(wins, value, best), np.where(wins, tap, place)

    def settle(held: Held, out: np.ndarray, place: np.ndarray, to: int, count: int) -> None:
        out[to : to + count], place[to : to + count] = held

    def add_won(
        total: np.ndarray, grad_out: np.ndarray, place: np.ndarray, at: int, tap: int, count: int
    ) -> np.ndarray:
        won = place[at : at + count] == tap
        return total + np.where(won, grad_out[at : at + count], 0)
