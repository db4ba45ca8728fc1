"""Prefetching: memory is asked for while tiles are summed, and has come when it is copied.

A loop of products leaves the ways to memory idle, and a loop of copies the units of arithmetic. So
a loop over pixels asks for one line of the cache at each step, of what will be needed next::

    for i in range(stretches):
        line, step = next_lines(ahead, pixels[i])
        for _ in range(pixels[i]):
            prefetch(line)
            line += step
            ...

What will be written is prefetched for writing: its lines are brought from memory too, and taken
from other cores. An address that nothing lives at is no error: the processor forgets it.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from minigrad.kernels._jit import body, chunks_of
from minigrad.kernels._numba import config, intrinsic

__all__ = [
    "AHEAD",
    "LINE_BYTES",
    "PAGE_BYTES",
    "emit_prefetch",
    "next_lines",
    "plan_ahead",
    "plan_columns",
    "prefetch",
    "prefetch_lines",
    "prefetch_write",
    "prefetch_write_lines",
    "spread_lines",
]

# What the cache holds and moves as one.
LINE_BYTES = 64

# Lines a multiple of this apart share one set of the first cache, which holds some 8 or 12; it is
# a page of memory too.
PAGE_BYTES = 4096

# The caches to bring a line to, as LLVM numbers them.
FIRST_CACHE, SECOND_CACHE = 3, 2

# Where in its array ``ahead`` keeps blocks of lines: two, or as many as it has room for. Of each,
# the address of the first line of a column, the lines that are left of it, how many a column has,
# the columns that are left, and the bytes down to the next line.
FIRST, LEFT, LINES, COLUMNS, DOWN, BLOCK = range(6)
AHEAD = 2 * BLOCK


def emit_prefetch(builder: ir.IRBuilder, pointer: ir.Value, to_write: bool, cache: int) -> None:
    """Emit the instruction that brings a line of data to one of the caches; any address will do."""
    number, byte = ir.IntType(32), ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
    name, module = "llvm.prefetch.p0", builder.module
    prefetch = module.globals.get(name) or ir.Function(module, kind, name)
    data = number(1)
    place = builder.bitcast(pointer, byte)
    builder.call(prefetch, [place, number(int(to_write)), number(cache), data])


def _emit_at_address(to_write: bool, cache: int) -> Any:
    """Prefetch the line at an address that is a number."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        pointer = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
        emit_prefetch(builder, pointer, to_write, cache)
        return context.get_dummy_value()

    return types.void(types.intp), emit


@intrinsic
def prefetch(typing_context, address):
    """Bring the line at an address to the second cache, some time."""
    return _emit_at_address(False, SECOND_CACHE)


@intrinsic
def prefetch_write(typing_context, address):
    """Bring the line at an address that will be written, some time."""
    return _emit_at_address(True, FIRST_CACHE)


if config.DISABLE_JIT:  # there is no cache to speak of

    def prefetch(address: int) -> None:
        pass

    def prefetch_write(address: int) -> None:
        pass


@body
def plan_ahead(ahead, array, first, stop):
    """Ask for the values of an array from ``first`` up to ``stop``, after what is asked for."""
    lines = chunks_of(max(stop - first, 0) * array.itemsize, LINE_BYTES)
    _plan_block(ahead, array, first, lines, min(lines, 1), LINE_BYTES)


@body
def plan_columns(ahead, array, first, row, values, rows):
    """Ask for some values of each row, from ``first`` on, line below line.

    A row begins ``row`` values after the last one.
    """
    columns = chunks_of(values * array.itemsize, LINE_BYTES) if rows > 0 else 0
    _plan_block(ahead, array, first, rows, columns, row * array.itemsize)


@body
def _plan_block(ahead, array, first, lines, columns, down):
    """Ask for a block of lines, after what is asked for."""
    last = _next_block(ahead)
    ahead[last + FIRST] = np.intp(array.ctypes.data) + first * array.itemsize
    ahead[last + LEFT] = ahead[last + LINES] = lines
    ahead[last + COLUMNS], ahead[last + DOWN] = columns, down


@body
def _next_block(ahead):
    """Let the next block be the first, and return the place behind the last."""
    last = ahead.size - BLOCK
    for i in range(last):
        ahead[i] = ahead[BLOCK + i]
    return last


@body
def next_lines(ahead, count):
    """Take so many lines: return the address of the first, and the step from line to line."""
    if ahead[COLUMNS] <= 0:
        ahead[_next_block(ahead) + COLUMNS] = 0
    if ahead[COLUMNS] <= 0:  # all is asked for: ask for what is surely there, which costs nothing
        return np.intp(ahead.ctypes.data), np.intp(0)
    line = ahead[FIRST] + (ahead[LINES] - ahead[LEFT]) * ahead[DOWN]
    ahead[LEFT] -= count
    if ahead[LEFT] <= 0:
        ahead[LEFT] = ahead[LINES]
        ahead[FIRST] += LINE_BYTES
        ahead[COLUMNS] -= 1
    return line, ahead[DOWN]


def spread_lines(nbytes: int, times: int) -> tuple[int, int]:
    """Spread the lines of some memory over so many times of asking.

    Returns how many are asked for at a time, and the bytes from one to the next: less than a line
    where one at a time is too many.
    """
    count = chunks_of(nbytes, max(times, 1) * LINE_BYTES)
    return count, chunks_of(nbytes, max(times * count, 1))


@body(inline=True)  # a call would put the caller's tiles in memory
def prefetch_lines(line, count, step):
    """Prefetch some lines, and return the address of the next."""
    for _ in range(count):
        prefetch(line)
        line += step
    return line


@body(inline=True)
def prefetch_write_lines(line, count, step):
    """Prefetch some lines for writing, and return the address of the next."""
    for _ in range(count):
        prefetch_write(line)
        line += step
    return line
