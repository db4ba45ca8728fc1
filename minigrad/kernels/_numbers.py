"""Settings on their way into a kernel: plain tuples, or one array of whole numbers.

A launch looks up the type of each argument. That takes four microseconds for four NamedTuples of
forty integers, ten and more where other work has filled the caches, one for plain tuples, and half
a microsecond for an array of them. The compiled loop makes NamedTuples of it again.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from minigrad.kernels._numba import config, intrinsic

__all__ = ["numbers_of", "plain", "tuple_of"]


def plain(*settings: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Return NamedTuples as plain tuples."""
    return [tuple(setting) for setting in settings]


def numbers_of(rows: Iterable[Iterable[int]]) -> np.ndarray:
    """Make an array with one row for each of some settings, all of one length."""
    return np.array([tuple(row) for row in rows], np.int64)


@intrinsic(prefer_literal=True)
def tuple_of(typing_context, numbers, count):
    """Return a row as a tuple, for NamedTuples to be made of."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    result = types.UniTuple(types.int64, count.literal_value)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        data = context.make_array(numbers)(context, builder, args[0]).data
        places = [builder.gep(data, [ir.Constant(ir.IntType(64), i)]) for i in range(result.count)]
        return context.make_tuple(builder, result, [builder.load(place) for place in places])

    return result(numbers, count), emit


def _plain_tuple_of(numbers: np.ndarray, count: int) -> tuple[int, ...]:
    return tuple(numbers.tolist())


if config.DISABLE_JIT:
    tuple_of = _plain_tuple_of
