"""Writing past the caches.

To write a part of a line, a cache must hold the line: it is read from memory first, and written
there when another takes its place. A line that is written as a whole need not be read. *Streaming*
stores say so, and leave the caches to others. They are for arrays too large to stay in a cache
until somebody reads them: two cores of a Xeon copy memory at 34 GB/s with them and 25 without, and
write sums of two arrays in 0.73 of the time.

They write whole vectors, so the array has to begin with a line; and neighbours at about the same
time, for memory is written row by row of its own: tiles of convolutions, which lie here and there,
take longer so.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from minigrad.kernels._ahead import LINE_BYTES
from minigrad.kernels._jit import body
from minigrad.kernels._numba import config, intrinsic
from minigrad.kernels._runs import copy_run
from minigrad.kernels._simd import Emitter, lanes_of, tile_load, tile_store, tile_zeros

__all__ = ["end_of_stream", "is_far", "stream_run", "tile_stream"]

# Bytes of an array, at least: a smaller one may well stay in a cache, were it the last one. A
# training step of ResNet-20, whose largest arrays take 8 MiB, is no faster for streaming them.
FAR_BYTES = 16 * 1024 * 1024


@body
def is_far(out):
    """Tell whether streaming stores may write to an array, and should."""
    address = np.intp(out.ctypes.data)
    return out.size * out.itemsize >= FAR_BYTES and address % LINE_BYTES == 0


@intrinsic
def tile_stream(typing_context, tile, array, at, row):
    """Write a tile as ``tile_store`` does, past the caches.

    Each vector has to begin at a multiple of its size. Other threads may read it after
    ``end_of_stream``.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, array_value, at, row = args
        to = Emitter(context, builder, tile)
        start = to.place(array, array_value, at)
        once = builder.module.add_metadata([ir.IntType(32)(1)])
        for index, m, v in tile.cells:
            place = builder.bitcast(to.cell(start, row, m, v), tile.vector.as_pointer())
            store = builder.store(builder.extract_value(value, index), place)
            store.align = tile.lanes * tile.dtype.bitwidth // 8
            store.set_metadata("nontemporal", once)
        return context.get_dummy_value()

    return types.void(tile, array, types.intp, types.intp), emit


@intrinsic
def end_of_stream(typing_context):
    """Wait until all that was streamed before is where others see it."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), emit


if config.DISABLE_JIT:
    tile_stream = tile_store

    def end_of_stream() -> None:
        pass


@body
def stream_run(to, to_at, x, x_at, count):
    """Copy values of x past the caches, to a place where a line begins."""
    width, one = lanes_of(to), tile_zeros(1, 1, to)
    whole = count // width * width
    for i in range(0, whole, width):
        tile_stream(tile_load(one, x, x_at + i, 0), to, to_at + i, 0)
    copy_run(to, to_at + whole, x, x_at + whole, count - whole)
