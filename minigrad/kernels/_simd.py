"""Tiles: blocks of numbers that a loop keeps in vector registers.

LLVM's own vectoriser does not hold a block of sums in registers across a reduction, and Numba has
no vector type. Here is one: a tile of ``rows`` x ``vectors`` vectors, made and used by a handful of
intrinsics, and carried by a plain loop like any other value::

    sums = tile_zeros(ROWS, VECTORS, c)
    for k in range(steps):
        sums = tile_outer(sums, a, k, a_row, b, k * b_row, lanes)  # sums += a[:, k] * b[k, :]
    tile_store(sums, c, 0, c_row)

Arrays are flat, and places in them are given as the number of the element. The number of rows and
vectors must be literals, or constants of a module.

The width of a vector follows the host: 512 bits with AVX-512, 256 with AVX2, else 128.
``MINIGRAD_SIMD=scalar|128|256|512`` in the environment overrides it. LLVM splits vectors that are
wider than the host's; ``scalar`` means vectors of one element, which every machine has.
"""

import os
import platform
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import models, overload, register_model

from minigrad.kernels._environment import WIDTHS, check_environment
from minigrad.kernels._numba import config, intrinsic

__all__ = [
    "ROWS",
    "VECTORS",
    "VECTOR_BITS",
    "Emitter",
    "Tile",
    "by_vectors",
    "lanes",
    "lanes_of",
    "tile_add",
    "tile_by_lane",
    "tile_divide",
    "tile_gather",
    "tile_load",
    "tile_load_columns",
    "tile_load_part",
    "tile_multiply",
    "tile_outer",
    "tile_outer_far",
    "tile_store",
    "tile_store_columns",
    "tile_store_part",
    "tile_subtract",
    "tile_zeros",
]


def _host_has(feature: str) -> bool:
    return bool(llvmlite.binding.get_host_cpu_features().get(feature))


def _vector_bits() -> int:
    check_environment()
    asked = os.environ.get("MINIGRAD_SIMD")
    if config.DISABLE_JIT:
        return WIDTHS["scalar"]
    if asked is not None:
        return WIDTHS[asked]
    return 512 if _host_has("avx512f") else 256 if _host_has("avx2") else 128


VECTOR_BITS = _vector_bits()

# A full tile fills the registers: ROWS x VECTORS sums, VECTORS vectors of b and one value of a.
_registers = 32 if _host_has("avx512vl") or platform.machine() in ("aarch64", "arm64") else 16
VECTORS = 2
ROWS = (_registers - VECTORS - 1) // VECTORS  # 14, or 6


def lanes(dtype: Any) -> int:
    """Return how many values of a dtype a vector holds."""
    return max(1, VECTOR_BITS // (8 * np.dtype(dtype).itemsize))


def lanes_of(array):
    """Return how many values of an array a vector holds, in compiled code too."""
    return lanes(array.dtype)


@overload(lanes_of)
def _lanes_of(array):
    """Make it a constant of compiled code, which would else divide by the size of an item."""
    count = lanes(str(array.dtype))
    return lambda array: count


class Tile(types.Type):
    """Numba's type of a tile."""

    def __init__(self, dtype: types.Float, rows: int, vectors: int) -> None:
        self.dtype, self.rows, self.vectors = dtype, rows, vectors
        super().__init__(f"Tile({dtype}, {rows}, {vectors})")

    @property
    def lanes(self) -> int:
        return lanes(str(self.dtype))

    @property
    def vector(self) -> ir.VectorType:
        """LLVM's type of one vector."""
        element = ir.FloatType() if self.dtype == types.float32 else ir.DoubleType()
        return ir.VectorType(element, self.lanes)

    @property
    def cells(self) -> list[tuple[int, int, int]]:
        """The (index, row, vector) of each vector of the tile."""
        return [(m * self.vectors + v, m, v) for m in range(self.rows) for v in range(self.vectors)]


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    """A tile is an LLVM array of vectors, which LLVM takes apart into registers."""

    def __init__(self, manager: Any, tile: Tile) -> None:
        super().__init__(manager, tile, ir.ArrayType(tile.vector, tile.rows * tile.vectors))


class Emitter:
    """The instructions that the intrinsics below are made of."""

    def __init__(self, context: Any, builder: ir.IRBuilder, tile: Tile) -> None:
        self.context, self.builder, self.tile = context, builder, tile

    def place(self, array_type: types.Array, array: ir.Value, at: ir.Value) -> ir.Value:
        """Point at element ``at`` of a flat array."""
        data = self.context.make_array(array_type)(self.context, self.builder, array).data
        return self.builder.gep(data, [at])

    def moved(self, pointer: ir.Value, stride: ir.Value, count: int) -> ir.Value:
        """Move a pointer by so many strides."""
        return self.builder.gep(
            pointer, [self.builder.mul(stride, ir.Constant(stride.type, count))]
        )

    def cell(self, pointer: ir.Value, row: ir.Value, m: int, v: int) -> ir.Value:
        """Point at vector (m, v) of a tile in memory, whose rows are ``row`` elements apart."""
        return self.moved(self.moved(pointer, row, m), ir.Constant(row.type, self.tile.lanes), v)

    def hidden(self, pointer: ir.Value) -> ir.Value:
        """Return a pointer such that LLVM cannot see where from: it passes through no assembly."""
        same = ir.FunctionType(pointer.type, [pointer.type])
        return self.builder.asm(same, "", "=r,0", [pointer], False)

    def load(self, pointer: ir.Value) -> ir.Value:
        """Read a vector; arrays are aligned to their elements only."""
        value = self.builder.load(self.builder.bitcast(pointer, self.tile.vector.as_pointer()))
        value.align = self.tile.dtype.bitwidth // 8
        return value

    def store(self, value: ir.Value, pointer: ir.Value) -> None:
        """Write a vector."""
        place = self.builder.bitcast(pointer, self.tile.vector.as_pointer())
        self.builder.store(value, place).align = self.tile.dtype.bitwidth // 8

    def store_first(self, value: ir.Value, pointer: ir.Value, count: ir.Value) -> None:
        """Write so many lanes of a vector: none where count is 0 or less, at most all of them."""
        lanes, bits = self.tile.lanes, self.tile.dtype.bitwidth
        place = self.builder.bitcast(pointer, self.tile.vector.as_pointer())
        alignment = ir.IntType(32)(bits // 8)
        name = f"llvm.masked.store.v{lanes}f{bits}.p0"
        self.call(name, ir.VoidType(), [value, place, alignment, self.first(count)])

    def load_first(self, pointer: ir.Value, count: ir.Value, rest: Any = None) -> ir.Value:
        """Read so many lanes of a vector, those of another vector or zeros for the rest."""
        lanes, bits = self.tile.lanes, self.tile.dtype.bitwidth
        place = self.builder.bitcast(pointer, self.tile.vector.as_pointer())
        rest = ir.Constant(self.tile.vector, None) if rest is None else rest
        name = f"llvm.masked.load.v{lanes}f{bits}.p0"
        alignment = ir.IntType(32)(bits // 8)
        return self.call(name, self.tile.vector, [place, alignment, self.first(count), rest])

    def count(self, m: int, v: int, first: ir.Value, last: ir.Value, columns: ir.Value) -> ir.Value:
        """Count the lanes of vector (m, v) in some rows and in the first so many columns."""
        number = columns.type
        inside = self.builder.and_(
            self.builder.icmp_signed("<=", first, ir.Constant(number, m)),
            self.builder.icmp_signed(">", last, ir.Constant(number, m)),
        )
        left = self.builder.sub(columns, ir.Constant(number, v * self.tile.lanes))
        return self.builder.select(inside, left, ir.Constant(number, 0))

    def constant(self, number: float) -> ir.Value:
        """Fill a vector with a number known here."""
        return ir.Constant(self.tile.vector, [number] * self.tile.lanes)

    def first(self, count: ir.Value) -> ir.Value:
        """Mark the first so many lanes."""
        return self.first_of(count, self.tile.lanes)

    def first_of(self, count: ir.Value, lanes: int) -> ir.Value:
        """Mark the first so many of some lanes; as numbers of 32 bits all are compared at once."""
        most, number = ir.Constant(count.type, lanes), ir.IntType(32)
        fewer = self.builder.icmp_signed("<", count, most)
        count = self.builder.trunc(self.builder.select(fewer, count, most), number)
        vector = ir.VectorType(number, lanes)
        numbers = ir.Constant(vector, list(range(lanes)))
        return self.builder.icmp_signed("<", numbers, self.splat(count, vector))

    def numbers(self, kind: ir.Type) -> ir.Value:
        """Number the lanes."""
        lanes = self.tile.lanes
        return ir.Constant(ir.VectorType(kind, lanes), list(range(lanes)))

    def splat_of(self, scalar: ir.Value) -> ir.Value:
        """Fill a vector as long as the tile's with one value of any type."""
        return self.splat(scalar, ir.VectorType(scalar.type, self.tile.lanes))

    def splat(self, scalar: ir.Value, vector: ir.VectorType) -> ir.Value:
        """Fill a vector with one value."""
        number = ir.IntType(32)
        undefined = ir.Constant(vector, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, number(0))
        everywhere = ir.Constant(ir.VectorType(number, vector.count), [0] * vector.count)
        return self.builder.shuffle_vector(first, undefined, everywhere)

    def multiply_add(self, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        """Compute x * y + z, in one instruction where the host has it."""
        name = f"llvm.fmuladd.v{self.tile.lanes}f{self.tile.dtype.bitwidth}"
        return self.call(name, self.tile.vector, [x, y, z])

    def call(
        self, name: str, result: ir.Type, args: list[ir.Value], fastmath: tuple[str, ...] = ()
    ) -> ir.Value:
        """Call an intrinsic of LLVM, declared by hand, for llvmlite knows none on vectors."""
        module = self.builder.module
        signature = ir.FunctionType(result, [arg.type for arg in args])
        function = module.globals.get(name) or ir.Function(module, signature, name)
        return self.builder.call(function, args, fastmath=fastmath)


@intrinsic(prefer_literal=True)
def tile_zeros(typing_context, rows, vectors, like):
    """Make a tile of zeros with the dtype of an array."""
    if not all(isinstance(size, types.IntegerLiteral) for size in (rows, vectors)):
        return None
    tile = Tile(like.dtype, rows.literal_value, vectors.literal_value)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return ir.Constant(context.get_value_type(tile), None)

    return tile(rows, vectors, like), emit


@intrinsic
def tile_load(typing_context, tile, array, at, row):
    """Read a tile of the same size whose rows begin at ``at`` and every ``row`` elements."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, array_value, at, row = args
        to = Emitter(context, builder, tile)
        start = to.place(array, array_value, at)
        for index, m, v in tile.cells:
            value = builder.insert_value(value, to.load(to.cell(start, row, m, v)), index)
        return value

    return tile(tile, array, types.intp, types.intp), emit


@intrinsic
def tile_load_columns(typing_context, tile, array, at, row, columns):
    """Read the first so many columns of a tile, as ``tile_load`` does, and zeros for the rest."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, array_value, at, row, columns = args
        to = Emitter(context, builder, tile)
        start = to.place(array, array_value, at)
        for index, m, v in tile.cells:
            left = builder.sub(columns, ir.Constant(columns.type, v * tile.lanes))
            held = to.load_first(to.cell(start, row, m, v), left)
            value = builder.insert_value(value, held, index)
        return value

    index = types.intp
    return tile(tile, array, index, index, index), emit


@intrinsic
def tile_load_part(typing_context, tile, array, at, row, first, last, columns):
    """Read rows from ``first`` up to ``last`` and the first so many columns; the rest is zeros.

    Memory that is not read may lie anywhere, even outside of the array.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, array_value, at, row, first, last, columns = args
        to = Emitter(context, builder, tile)
        start = to.place(array, array_value, at)
        for index, m, v in tile.cells:
            count = to.count(m, v, first, last, columns)
            held = to.load_first(to.cell(start, row, m, v), count)
            value = builder.insert_value(value, held, index)
        return value

    index = types.intp
    return tile(tile, array, index, index, index, index, index), emit


@intrinsic
def tile_gather(typing_context, tile, array, at, step, count):
    """Read the only vector of a tile: values ``step`` elements apart, so many, and then zeros."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, array_value, at, step, count = args
        to = Emitter(context, builder, tile)
        first = builder.ptrtoint(to.place(array, array_value, at), step.type)
        size = ir.Constant(step.type, tile.dtype.bitwidth // 8)
        steps = builder.mul(to.numbers(step.type), to.splat_of(builder.mul(step, size)))
        addresses = builder.add(to.splat_of(first), steps)
        pointers = ir.VectorType(to.place(array, array_value, at).type, tile.lanes)
        name = f"llvm.masked.gather.v{tile.lanes}f{tile.dtype.bitwidth}.v{tile.lanes}p0"
        alignment = ir.IntType(32)(tile.dtype.bitwidth // 8)
        held = to.call(name, tile.vector, [
            builder.inttoptr(addresses, pointers), alignment, to.first(count),
            ir.Constant(tile.vector, None),
        ])  # fmt: skip
        return builder.insert_value(value, held, 0)

    index = types.intp
    return tile(tile, array, index, index, index), emit


@intrinsic
def tile_store(typing_context, tile, array, at, row):
    """Write a tile to rows that begin at ``at`` and every ``row`` elements."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, array_value, at, row = args
        to = Emitter(context, builder, tile)
        start = to.place(array, array_value, at)
        for index, m, v in tile.cells:
            to.store(builder.extract_value(value, index), to.cell(start, row, m, v))
        return context.get_dummy_value()

    return types.void(tile, array, types.intp, types.intp), emit


@intrinsic
def tile_store_columns(typing_context, tile, array, at, row, columns):
    """Write the first so many columns of a tile, as ``tile_store`` does."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, array_value, at, row, columns = args
        to = Emitter(context, builder, tile)
        start = to.place(array, array_value, at)
        for index, m, v in tile.cells:
            left = builder.sub(columns, ir.Constant(columns.type, v * tile.lanes))
            to.store_first(builder.extract_value(value, index), to.cell(start, row, m, v), left)
        return context.get_dummy_value()

    index = types.intp
    return types.void(tile, array, index, index, index), emit


@intrinsic
def tile_store_part(typing_context, tile, array, at, row, rows, columns):
    """Write the first so many rows and columns of a tile, as ``tile_store`` does."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, array_value, at, row, rows, columns = args
        to = Emitter(context, builder, tile)
        start = to.place(array, array_value, at)
        for index, m, v in tile.cells:
            count = to.count(m, v, ir.Constant(rows.type, 0), rows, columns)
            to.store_first(builder.extract_value(value, index), to.cell(start, row, m, v), count)
        return context.get_dummy_value()

    index = types.intp
    return types.void(tile, array, index, index, index, index), emit


@intrinsic
def tile_outer(typing_context, tile, a, a_at, a_row, b, b_at, b_vector):
    """Add an outer product to a tile: ``tile[m, v] += a[a_at + m a_row] * b[b_at + v b_vector:]``.

    Rows of a and vectors of b may lie any distance apart.
    """
    return _outer(tile, a, b, one_pointer=False)


@intrinsic
def tile_outer_far(typing_context, tile, a, a_at, a_row, b, b_at, b_vector):
    """Do the same as ``tile_outer`` where a_row is known to no compiler.

    A loop then has one pointer to a, and steps from row to row. Of itself LLVM has a pointer for
    each row and moves them all, more than there are registers. Where it knows the distances, or
    sees from where they are, this is slower.
    """
    return _outer(tile, a, b, one_pointer=True)


def _outer(tile: Any, a: Any, b: Any, one_pointer: bool) -> Any:

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, a_value, a_at, a_row, b_value, b_at, b_vector = args
        to = Emitter(context, builder, tile)
        a_start, b_start = to.place(a, a_value, a_at), to.place(b, b_value, b_at)
        if one_pointer:
            a_start = to.hidden(a_start)
        b_vectors = [to.load(to.moved(b_start, b_vector, v)) for v in range(tile.vectors)]
        for index, m, v in tile.cells:
            if v == 0:  # each value of a just before its use: all at once would need registers
                splat = to.splat(builder.load(to.moved(a_start, a_row, m)), tile.vector)
            held = builder.extract_value(value, index)
            total = to.multiply_add(splat, b_vectors[v], held)
            value = builder.insert_value(value, total, index)
        return value

    index = types.intp
    return tile(tile, a, index, index, b, index, index), emit


def by_vectors(tile: Tile, operation: Any) -> Any:
    """Emit an operation of the IR builder on each vector of two tiles of one size."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        result = args[0]
        for index, _, _ in tile.cells:
            parts = [builder.extract_value(operand, index) for operand in args]
            result = builder.insert_value(result, operation(builder, *parts), index)
        return result

    return tile(tile, tile), emit


@intrinsic
def tile_by_lane(typing_context, tile, a, a_at, a_row, b, b_at):
    """Add products lane by lane: ``tile[m] += a[a_at + m a_row:] * b[b_at:]``, for each row."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, a_value, a_at, a_row, b_value, b_at = args
        to = Emitter(context, builder, tile)
        a_start, b_start = to.place(a, a_value, a_at), to.place(b, b_value, b_at)
        factors = [to.load(to.cell(b_start, b_at, 0, v)) for v in range(tile.vectors)]
        for index, m, v in tile.cells:
            held = builder.extract_value(value, index)
            total = to.multiply_add(to.load(to.cell(a_start, a_row, m, v)), factors[v], held)
            value = builder.insert_value(value, total, index)
        return value

    index = types.intp
    return tile(tile, a, index, index, b, index), emit


@intrinsic
def tile_add(typing_context, x, y):
    """Add two tiles of one size."""
    return by_vectors(x, ir.IRBuilder.fadd)


@intrinsic
def tile_subtract(typing_context, x, y):
    """Subtract a tile from another of its size."""
    return by_vectors(x, ir.IRBuilder.fsub)


@intrinsic
def tile_multiply(typing_context, x, y):
    """Multiply two tiles of one size, entry by entry."""
    return by_vectors(x, ir.IRBuilder.fmul)


@intrinsic
def tile_divide(typing_context, x, y):
    """Divide a tile by another of its size, entry by entry."""
    return by_vectors(x, ir.IRBuilder.fdiv)


if config.DISABLE_JIT:
    from minigrad.kernels._simd_plain import (
        tile_add,
        tile_by_lane,
        tile_divide,
        tile_gather,
        tile_load,
        tile_load_columns,
        tile_load_part,
        tile_multiply,
        tile_outer,
        tile_outer_far,
        tile_store,
        tile_store_columns,
        tile_store_part,
        tile_subtract,
        tile_zeros,
    )
