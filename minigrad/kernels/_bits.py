"""Masks of one bit an element, made and used a vector at a time.

A comparison of vectors yields a vector of bits, which in memory is the mask itself: the lowest bit
of the first byte belongs to the first element. The compiler does not find this in a loop over
bits, so two intrinsics say it; the loops around them take runs of any length.

Arrays are flat. The first element of x belongs to the first bit of the mask.
"""

from typing import Any

import numba
import numba.extending
import numpy as np
from llvmlite import ir
from numba import types

from minigrad.kernels._jit import body

__all__ = [
    "keep_marked",
    "keep_positive",
    "tile_keep_marked",
    "tile_keep_marked_part",
    "tile_keep_positive",
]

# Any: the one makes its names while it runs; what the other makes takes one argument less when
# compiled code calls it.
config: Any = numba.config
intrinsic: Any = numba.extending.intrinsic

# Elements of a vector: LLVM splits it where the host's are shorter.
_LANES = 16


class _Emitter:
    """The instructions that both intrinsics are made of."""

    def __init__(self, context: Any, builder: ir.IRBuilder, dtype: types.Float) -> None:
        self.context, self.builder = context, builder
        element = ir.FloatType() if dtype == types.float32 else ir.DoubleType()
        self.vector, self.bits = ir.VectorType(element, _LANES), ir.IntType(_LANES)
        self.zeros = ir.Constant(self.vector, None)

    def place(self, kind: types.Array, array: ir.Value, at: ir.Value, item: ir.Type) -> ir.Value:
        data = self.context.make_array(kind)(self.context, self.builder, array).data
        return self.builder.bitcast(self.builder.gep(data, [at]), item.as_pointer())

    def values(self, kind: types.Array, array: ir.Value, at: ir.Value) -> ir.Value:
        """Point at the vector that begins with an element."""
        return self.place(kind, array, at, self.vector)

    def mask(self, kind: types.Array, array: ir.Value, at: ir.Value) -> ir.Value:
        """Point at the bits of that vector."""
        byte = self.builder.lshr(at, ir.Constant(at.type, 3))
        return self.place(kind, array, byte, self.bits)

    def load(self, pointer: ir.Value, alignment: int) -> ir.Value:
        value = self.builder.load(pointer)
        value.align = alignment
        return value


@intrinsic
def _keep_positive(typing_context, x, out, mask, at):
    """Write the elements of one vector that are not <= 0, else 0, and the bits that say which."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        x_value, out_value, mask_value, at = args
        to, alignment = _Emitter(context, builder, x.dtype), x.dtype.bitwidth // 8
        value = to.load(to.values(x, x_value, at), alignment)
        passed = builder.fcmp_unordered(">", value, to.zeros)  # unordered: a NaN passes
        kept = builder.select(passed, value, to.zeros)
        builder.store(kept, to.values(out, out_value, at)).align = alignment
        bits = builder.bitcast(passed, to.bits)
        builder.store(bits, to.mask(mask, mask_value, at)).align = 1
        return context.get_dummy_value()

    return types.void(x, out, mask, types.intp), emit


@intrinsic
def _keep_marked(typing_context, x, mask, out, at):
    """Write the elements of one vector whose bit is set, else 0."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        x_value, mask_value, out_value, at = args
        to, alignment = _Emitter(context, builder, x.dtype), x.dtype.bitwidth // 8
        value = to.load(to.values(x, x_value, at), alignment)
        bits = to.load(to.mask(mask, mask_value, at), 1)
        marked = builder.bitcast(bits, ir.VectorType(ir.IntType(1), _LANES))
        kept = builder.select(marked, value, to.zeros)
        builder.store(kept, to.values(out, out_value, at)).align = alignment
        return context.get_dummy_value()

    return types.void(x, mask, out, types.intp), emit


@intrinsic
def tile_keep_marked(typing_context, tile, mask, at):
    """Keep what of a tile, whose first element has bit number ``at``, is marked, and 0 else.

    The tile has one row, and ``at`` is a whole number of vectors.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        result, mask_value, at = args
        data = context.make_array(mask)(context, builder, mask_value).data
        for index, _, v in tile.cells:
            first = builder.add(at, ir.Constant(at.type, v * tile.lanes))
            value = builder.extract_value(result, index)
            result = builder.insert_value(result, _marked(builder, tile, value, data, first), index)
        return result

    return tile(tile, mask, types.intp), emit


@intrinsic
def tile_keep_marked_part(typing_context, tile, mask, at, row, rows, columns):
    """Keep what is marked of the first rows and columns of a tile; the rest is zeros already.

    The bits of a row begin ``row`` behind those of the row before, a whole number of vectors.
    Bits for the rest are not read: there may be none.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        result, mask_value, at, row, rows, columns = args
        data = context.make_array(mask)(context, builder, mask_value).data
        number = at.type
        for index, m, v in tile.cells:
            there = builder.and_(
                builder.icmp_signed("<", ir.Constant(number, m), rows),
                builder.icmp_signed("<", ir.Constant(number, v * tile.lanes), columns),
            )
            first = builder.add(at, builder.mul(row, ir.Constant(number, m)))
            first = builder.add(first, ir.Constant(number, v * tile.lanes))
            first = builder.select(there, first, ir.Constant(number, 0))  # bits that are there
            value = builder.extract_value(result, index)
            result = builder.insert_value(result, _marked(builder, tile, value, data, first), index)
        return result

    index = types.intp
    return tile(tile, mask, index, index, index, index), emit


def _marked(
    builder: ir.IRBuilder, tile: Any, value: ir.Value, data: ir.Value, first: ir.Value
) -> ir.Value:
    """Keep what of a vector is marked, its bits beginning with number ``first``."""
    bits, zeros = ir.IntType(tile.lanes), ir.Constant(tile.vector, None)
    item = ir.IntType(max(8, tile.lanes))
    pointer = builder.gep(data, [builder.lshr(first, ir.Constant(first.type, 3))])
    marks = builder.load(builder.bitcast(pointer, item.as_pointer()))
    marks.align = 1
    if tile.lanes < 8:  # several vectors share a byte
        within = builder.trunc(builder.and_(first, ir.Constant(first.type, 7)), item)
        marks = builder.trunc(builder.lshr(marks, within), bits)
    marked = builder.bitcast(marks, ir.VectorType(ir.IntType(1), tile.lanes))
    return builder.select(marked, value, zeros)


@intrinsic
def tile_keep_positive(typing_context, tile):
    """Keep what of a tile is not <= 0, and 0 else, without the bits that say which."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        (result,) = args
        zeros = ir.Constant(tile.vector, None)
        for index, _, _ in tile.cells:
            value = builder.extract_value(result, index)
            passed = builder.fcmp_unordered(">", value, zeros)  # unordered: a NaN passes
            result = builder.insert_value(result, builder.select(passed, value, zeros), index)
        return result

    return tile(tile), emit


if config.DISABLE_JIT:

    def _keep_positive(x: np.ndarray, out: np.ndarray, mask: np.ndarray, at: int) -> None:
        value = x[at : at + _LANES]
        passed = ~(value <= 0)
        mask[at // 8 : (at + _LANES) // 8] = np.packbits(passed, bitorder="little")
        out[at : at + _LANES] = np.where(passed, value, 0)

    def _keep_marked(x: np.ndarray, mask: np.ndarray, out: np.ndarray, at: int) -> None:
        marked = np.unpackbits(mask[at // 8 : (at + _LANES) // 8], bitorder="little")
        out[at : at + _LANES] = np.where(marked, x[at : at + _LANES], 0)

    def tile_keep_marked(tile: np.ndarray, mask: np.ndarray, at: int) -> np.ndarray:
        first = np.arange(at, at + tile.size)
        return np.where(mask[first // 8] >> (first % 8) & 1, tile, tile.dtype.type(0))

    def tile_keep_marked_part(
        tile: np.ndarray, mask: np.ndarray, at: int, row: int, rows: int, columns: int
    ) -> np.ndarray:
        m, j = np.indices(tile.shape)
        first = np.where((m < rows) & (j < columns), at + m * row + j, 0)
        return np.where(mask[first // 8] >> (first % 8) & 1, tile, tile.dtype.type(0))

    def tile_keep_positive(tile: np.ndarray) -> np.ndarray:
        return np.where(tile <= 0, 0, tile)


@body
def keep_positive(x, out, mask):
    """Write max(x, 0) to out, which may be x itself, and the bits of what passed to mask."""
    zero, whole = x.dtype.type(0), x.size // _LANES * _LANES
    for at in range(0, whole, _LANES):
        _keep_positive(x, out, mask, at)
    mask[whole // 8 :] = 0
    for i in range(whole, x.size):
        passed = not x[i] <= zero
        out[i] = x[i] if passed else zero
        mask[i // 8] |= np.uint8(passed) << np.uint8(i % 8)


@body
def keep_marked(x, mask, out):
    """Write the elements of x whose bit is set to out, which may be x itself, and else 0."""
    zero, whole = x.dtype.type(0), x.size // _LANES * _LANES
    for at in range(0, whole, _LANES):
        _keep_marked(x, mask, out, at)
    for i in range(whole, x.size):
        out[i] = x[i] if mask[i // 8] >> np.uint8(i % 8) & np.uint8(1) else zero
