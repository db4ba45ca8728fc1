"""What a tile of one row comes to as one number: its largest entry, or its sum.

A vector is folded in halves: 16 lanes take four steps, and each waits for the one before. So a loop
folds what it has gathered, and not what it reads.
"""

import math
from typing import Any

from llvmlite import ir
from numba import types

from minigrad.kernels._numba import config, intrinsic
from minigrad.kernels._simd import Emitter, by_vectors

__all__ = ["tile_fill", "tile_larger", "tile_largest", "tile_load_or_lowest", "tile_total"]


def _larger(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)


@intrinsic
def tile_larger(typing_context, x, y):
    """Return the larger entry of each two; where one of them is NaN, that of y."""
    return by_vectors(x, _larger)


@intrinsic
def tile_load_or_lowest(typing_context, tile, array, at, columns):
    """Read the first so many columns of a tile of one row, and minus infinity for the rest.

    It never is the largest, and its exponential adds nothing to a sum.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, array_value, at, columns = args
        to = Emitter(context, builder, tile)
        start = to.place(array, array_value, at)
        for index, _, v in tile.cells:
            left = builder.sub(columns, ir.Constant(columns.type, v * tile.lanes))
            pointer = to.moved(start, ir.Constant(at.type, tile.lanes), v)
            held = to.load_first(pointer, left, to.constant(-math.inf))
            value = builder.insert_value(value, held, index)
        return value

    return tile(tile, array, types.intp, types.intp), emit


@intrinsic
def tile_fill(typing_context, tile, value):
    """Make a tile of the same size that holds one number everywhere."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        result, number = args
        vector = Emitter(context, builder, tile).splat(number, tile.vector)
        for index, _, _ in tile.cells:
            result = builder.insert_value(result, vector, index)
        return result

    return tile(tile, tile.dtype), emit


def _part(builder: ir.IRBuilder, vector: ir.Value, first: int, count: int) -> ir.Value:
    """Take so many lanes of a vector."""
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), count), list(range(first, first + count)))
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), lanes)


@intrinsic
def tile_largest(typing_context, tile):
    """Return the largest entry of a tile; where one of them is NaN, any entry."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        best, *others = (builder.extract_value(args[0], index) for index, _, _ in tile.cells)
        for other in others:
            best = _larger(builder, best, other)
        lanes = tile.lanes
        while lanes > 1:  # LLVM's own reduction compares one by one, for the sake of NaN
            lanes //= 2
            best = _larger(builder, *(_part(builder, best, at, lanes) for at in (0, lanes)))
        return builder.extract_element(best, ir.IntType(32)(0))

    return tile.dtype(tile), emit


@intrinsic
def tile_total(typing_context, tile):
    """Return the sum of a tile in float64."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        to, total = Emitter(context, builder, tile), ir.Constant(ir.DoubleType(), -0.0)
        wide = ir.VectorType(ir.DoubleType(), tile.lanes)
        for index, _, _ in tile.cells:
            value = builder.extract_value(args[0], index)
            value = builder.fpext(value, wide) if tile.dtype == types.float32 else value
            name = f"llvm.vector.reduce.fadd.v{tile.lanes}f64"
            total = to.call(name, ir.DoubleType(), [total, value], fastmath=("reassoc",))
        return total

    return types.float64(tile), emit


if config.DISABLE_JIT:
    from minigrad.kernels._simd_plain import (
        tile_fill,
        tile_larger,
        tile_largest,
        tile_load_or_lowest,
        tile_total,
    )
