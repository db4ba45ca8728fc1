"""Exchanging the rows and lanes of a tile, in registers.

Values that lie a row apart become neighbours in a vector. Gathering them one by one takes an access
to the cache for each; here whole vectors are read, and then their halves, quarters and so on
exchanged: for 16 rows of 16 lanes four times 16 shuffles.
"""

from typing import Any

from llvmlite import ir

from minigrad.kernels._numba import config, intrinsic
from minigrad.kernels._simd import Tile, lanes

__all__ = ["tile_square", "tile_transpose"]


@intrinsic
def tile_square(typing_context, like):
    """Make a tile of zeros with as many rows as a vector has lanes, for an array's dtype."""
    tile = Tile(like.dtype, lanes(str(like.dtype)), 1)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return ir.Constant(context.get_value_type(tile), None)

    return tile(like), emit


@intrinsic
def tile_transpose(typing_context, tile):
    """Transpose a tile of one vector a row, and as many rows as lanes."""
    if tile.vectors != 1 or tile.rows != tile.lanes:
        return None

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        lanes = tile.lanes
        rows = [builder.extract_value(args[0], i) for i in range(lanes)]
        number = ir.VectorType(ir.IntType(32), lanes)
        step = 1
        while step < lanes:  # squares of step x step values change places with their mirror image
            low = [k if not k & step else lanes + k - step for k in range(lanes)]
            high = [k + step if not k & step else lanes + k for k in range(lanes)]
            for i in range(lanes):
                if not i & step:
                    upper, lower = rows[i], rows[i + step]
                    rows[i] = builder.shuffle_vector(upper, lower, ir.Constant(number, low))
                    rows[i + step] = builder.shuffle_vector(upper, lower, ir.Constant(number, high))
            step *= 2
        value = args[0]
        for i, row in enumerate(rows):
            value = builder.insert_value(value, row, i)
        return value

    return tile(tile), emit


if config.DISABLE_JIT:
    from minigrad.kernels._simd_plain import tile_square, tile_transpose
