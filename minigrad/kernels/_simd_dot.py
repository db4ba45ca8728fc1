"""Tiles of dot products: sums along vectors, for rows that begin anywhere.

A tile of outer products (``_simd.py``) spreads one value over a vector. Here both factors are
vectors, multiplied lane by lane; so a sum lies scattered over the lanes of its vector until
``tile_totals`` folds them, once at the end. Many vectors are folded together, each step halves
their number, and 16 of 16 lanes take 15 sums::

    a0 a1 a2 a3  }   a0+a1 b0+b1 a2+a3 b2+b3  }
    b0 b1 b2 b3  }                            }   a b c d, each the sum of its lanes
    c0 c1 c2 c3  }   c0+c1 d0+d1 c2+c3 d2+d3  }
    d0 d1 d2 d3  }
"""

from typing import Any

from llvmlite import ir
from numba import types

from minigrad.kernels._numba import config, intrinsic
from minigrad.kernels._simd import Emitter, Tile

__all__ = ["tile_dot", "tile_dot_some", "tile_totals"]


@intrinsic
def tile_dot(typing_context, tile, x, rows, at, weight, weight_at, weight_step, columns):
    """Add products lane by lane, for the first so many columns.

    ``tile[m, v] += x[rows[m] + at:] * weight[weight_at + v weight_step:]``.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, x_value, rows_value, at, weight_value, weight_at, step, columns = args
        to = Emitter(context, builder, tile)
        start, first = to.place(x, x_value, at), to.place(weight, weight_value, weight_at)
        pointers = [builder.gep(start, [row]) for row in _values(to, rows, rows_value)]
        return _multiplied(to, value, pointers, first, step, columns)

    n = types.intp
    return tile(tile, x, rows, n, weight, n, n, n), emit


@intrinsic
def tile_dot_some(
    typing_context, tile, x, rows, at, weight, weight_at, weight_step, c, columns, kept, zeros
):  # fmt: skip
    """Do the same from column c on, with zeros in the place of rows that are not kept.

    Where a loop changes c alone, LLVM chooses between x and zeros before it.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, x_value, rows_value, at, weight_value, weight_at, step, c, columns = args[:9]
        to = Emitter(context, builder, tile)
        start, first = to.place(x, x_value, at), to.place(weight, weight_value, weight_at)
        none = to.place(zeros, args[10], ir.Constant(c.type, 0))
        pointers = []
        flags = _values(to, kept, args[9])
        for row, flag in zip(_values(to, rows, rows_value), flags, strict=True):
            inside = builder.icmp_signed("!=", flag, ir.Constant(flag.type, 0))
            place = builder.select(inside, builder.gep(start, [row]), none)
            pointers.append(builder.gep(place, [c]))
        return _multiplied(to, value, pointers, builder.gep(first, [c]), step, columns)

    n = types.intp
    return tile(tile, x, rows, n, weight, n, n, n, n, kept, zeros), emit


def _values(to: Emitter, array: Any, value: ir.Value) -> list[ir.Value]:
    """Read a value of an array for each row of a tile."""
    numbers = [ir.Constant(ir.IntType(64), m) for m in range(to.tile.rows)]
    return [to.builder.load(to.place(array, value, number)) for number in numbers]


def _multiplied(
    to: Emitter, value: ir.Value, rows: list[ir.Value], weight: ir.Value, step: ir.Value,
    columns: ir.Value,
) -> ir.Value:  # fmt: skip
    """Add the products of each row with each vector of the weight."""
    tile, builder = to.tile, to.builder
    factors = [to.load_first(to.moved(weight, step, v), columns) for v in range(tile.vectors)]
    for index, m, v in tile.cells:
        if v == 0:
            held = to.load_first(rows[m], columns)
        total = to.multiply_add(held, factors[v], builder.extract_value(value, index))
        value = builder.insert_value(value, total, index)
    return value


@intrinsic
def tile_totals(typing_context, tile):
    """Add the lanes of each vector up: a tile of one row, with a value for each of them."""
    lanes, count = tile.lanes, tile.rows * tile.vectors
    result = Tile(tile.dtype, 1, -(-count // lanes))

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        none = ir.Constant(tile.vector, None)
        cells = [builder.extract_value(args[0], index) for index in range(count)]
        cells += [none] * (-count % lanes)
        number, step = ir.VectorType(ir.IntType(32), lanes), 1
        while step < lanes:
            low = [k if not k & step else lanes + k - step for k in range(lanes)]
            high = [k + step if not k & step else lanes + k for k in range(lanes)]
            cells = [
                builder.fadd(*(
                    builder.shuffle_vector(cells[i], cells[i + 1], ir.Constant(number, half))
                    for half in (low, high)
                ))
                for i in range(0, len(cells), 2)
            ]  # fmt: skip
            step *= 2
        value = ir.Constant(context.get_value_type(result), None)
        for index, cell in enumerate(cells):
            value = builder.insert_value(value, cell, index)
        return value

    return result(tile), emit


if config.DISABLE_JIT:
    from minigrad.kernels._simd_plain import tile_dot, tile_dot_some, tile_totals
