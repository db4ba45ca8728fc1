"""What a tile of one row comes to as one number: its largest entry, or its sum.

LLVM folds a vector in halves: 16 lanes take four steps, and each waits for the one before. So a
loop folds what it has gathered, and not what it reads.
"""

from typing import Any

from llvmlite import ir
from numba import types

from minigrad.kernels._simd import Emitter, config, intrinsic

__all__ = ["tile_largest", "tile_total"]


@intrinsic
def tile_largest(typing_context, tile):
    """Return the largest entry of a tile; where one of them is NaN, any entry."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        to = Emitter(context, builder, tile)
        best, *others = (builder.extract_value(args[0], index) for index, _, _ in tile.cells)
        for other in others:
            best = builder.select(builder.fcmp_ordered(">", best, other), best, other)
        name = f"llvm.vector.reduce.fmax.v{tile.lanes}f{tile.dtype.bitwidth}"
        return to.call(name, tile.vector.element, [best])

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
    from minigrad.kernels._simd_plain import tile_largest, tile_total
