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
    "emit_prefetch",
    "next_lines",
    "plan_ahead",
    "prefetch",
    "prefetch_lines",
    "prefetch_write",
    "prefetch_write_lines",
    "spread_lines",
]

# What the cache holds and moves as one.
LINE_BYTES = 64

# The caches to bring a line to, as LLVM numbers them.
FIRST_CACHE, SECOND_CACHE = 3, 2

# Where in its array ``ahead`` keeps two runs of lines: the address of the first, and how many.
FIRST, LINES, THEN, THEN_LINES, AHEAD = range(5)


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
    address = np.intp(array.ctypes.data) + first * array.itemsize
    lines = -(-max(stop - first, 0) * array.itemsize // LINE_BYTES)
    ahead[FIRST], ahead[THEN] = ahead[THEN], address
    ahead[LINES], ahead[THEN_LINES] = ahead[THEN_LINES], lines


@body
def next_lines(ahead, count):
    """Take so many lines: return the address of the first, and the step from line to line."""
    if ahead[LINES] <= 0:
        ahead[FIRST], ahead[LINES] = ahead[THEN], ahead[THEN_LINES]
        ahead[THEN_LINES] = 0
    if ahead[LINES] <= 0:  # all is asked for: ask for what is surely there, which costs nothing
        return np.intp(ahead.ctypes.data), np.intp(0)
    line = ahead[FIRST]
    ahead[FIRST] += count * LINE_BYTES
    ahead[LINES] -= count
    return line, np.intp(LINE_BYTES)


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
