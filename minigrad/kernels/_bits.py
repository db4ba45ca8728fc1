"""Masks of one bit an element, made and used a vector at a time.

A comparison of vectors yields a vector of bits, which in memory is the mask itself: the lowest bit
of the first byte belongs to the first element. The compiler does not find this in a loop over
bits, so intrinsics say it; the loops around them take runs of any length.

Arrays are flat. The first element of x belongs to the first bit of the mask.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from minigrad.kernels._ahead import LINE_BYTES, prefetch_write_lines
from minigrad.kernels._jit import body
from minigrad.kernels._numba import config, intrinsic
from minigrad.kernels._simd import Tile, lanes, tile_load, tile_store
from minigrad.kernels._stream import tile_stream

__all__ = [
    "MARKS",
    "NO_MASK",
    "is_marked",
    "keep_last_positive",
    "keep_marked",
    "keep_positive",
    "line_ahead",
    "tile_keep_marked",
    "tile_keep_marked_part",
    "tile_keep_positive",
    "tile_mark_positive",
    "tile_of_marks",
    "write_marks",
]

# Elements of a tile that makes or takes whole bytes of bits, however short vectors are, and whose
# float32 values fill a line of the cache.
MARKS = 16

# Stands for None, of which a kernel would be compiled anew.
NO_MASK = np.empty(0, np.uint8)

# How far ahead of what is written memory is prefetched: as long as that takes to come.
_AHEAD = 2_048


@intrinsic
def tile_of_marks(typing_context, like):
    """Make a tile of one row of MARKS zeros, with the dtype of an array."""
    tile = Tile(like.dtype, 1, MARKS // lanes(str(like.dtype)))

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return ir.Constant(context.get_value_type(tile), None)

    return tile(like), emit


@intrinsic
def tile_mark_positive(typing_context, tile, mask, at):
    """Keep what of a tile of marks is not <= 0, and 0 else; write the bits that say which.

    The first element of the tile has bit number ``at``, a whole number of bytes.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        result, mask_value, at = args
        bits, zeros = ir.IntType(MARKS), ir.Constant(tile.vector, None)
        marks = ir.Constant(bits, 0)
        for index, _, v in tile.cells:
            value = builder.extract_value(result, index)
            passed = builder.fcmp_unordered(">", value, zeros)  # unordered: a NaN passes
            kept = builder.select(passed, value, zeros)
            result = builder.insert_value(result, kept, index)
            mark = builder.bitcast(passed, ir.IntType(tile.lanes))
            mark = builder.zext(mark, bits) if tile.lanes < MARKS else mark
            marks = builder.or_(marks, builder.shl(mark, ir.Constant(bits, v * tile.lanes)))
        data = context.make_array(mask)(context, builder, mask_value).data
        place = builder.gep(data, [builder.lshr(at, ir.Constant(at.type, 3))])
        builder.store(marks, builder.bitcast(place, bits.as_pointer())).align = 1
        return result

    return tile(tile, mask, types.intp), emit


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

    def tile_of_marks(like: np.ndarray) -> np.ndarray:
        return np.zeros((1, MARKS), like.dtype)

    def tile_mark_positive(tile: np.ndarray, mask: np.ndarray, at: int) -> np.ndarray:
        passed = ~(tile <= 0)
        mask[at // 8 : (at + MARKS) // 8] = np.packbits(passed, bitorder="little")
        return np.where(passed, tile, tile.dtype.type(0))

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
def line_ahead(out):
    """Return the address of the line to prefetch while the first element is written."""
    return np.intp(out.ctypes.data) + _AHEAD


@body(inline=True)
def write_marks(tile, out, at, far, line):
    """Write a tile of marks, past the caches if out is ``far``; return what to prefetch next.

    The processor reads ahead by itself what is read, but not what is to be written.
    """
    if far:
        tile_stream(tile, out, at, 0)
        return line
    line = prefetch_write_lines(line, MARKS * out.itemsize // LINE_BYTES, LINE_BYTES)
    tile_store(tile, out, at, 0)
    return line


@body
def keep_last_positive(x, out, mask, whole):
    """Do the work of ``keep_positive`` on what no tile of marks has room for."""
    zero = x.dtype.type(0)
    for byte in range(whole // 8, mask.size):
        mask[byte] = 0
    for i in range(whole, x.size):
        passed = not x[i] <= zero
        out[i] = x[i] if passed else zero
        mask[i // 8] |= np.uint8(passed) << np.uint8(i % 8)


@body
def keep_positive(x, out, mask, far):
    """Write max(x, 0) to out, and the bits of what passed to mask."""
    some, whole, line = tile_of_marks(x), x.size // MARKS * MARKS, line_ahead(out)
    for at in range(0, whole, MARKS):
        passed = tile_mark_positive(tile_load(some, x, at, 0), mask, at)
        line = write_marks(passed, out, at, far, line)
    keep_last_positive(x, out, mask, whole)


@body
def is_marked(mask, i):
    """Return whether bit number i is set."""
    return mask[i // 8] >> np.uint8(i % 8) & np.uint8(1) != 0


@body
def keep_marked(x, mask, out, far):
    """Write the elements of x whose bit is set to out, which may be x itself, and else 0."""
    some, whole, line = tile_of_marks(x), x.size // MARKS * MARKS, line_ahead(out)
    for at in range(0, whole, MARKS):
        kept = tile_keep_marked(tile_load(some, x, at, 0), mask, at)
        line = write_marks(kept, out, at, far, line)
    for i in range(whole, x.size):
        out[i] = x[i] if is_marked(mask, i) else x.dtype.type(0)
