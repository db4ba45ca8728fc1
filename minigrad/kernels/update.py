"""Optimiser steps: one launch, and one pass over memory, for all parameters, changed in place.

The loops take addresses, for a launch takes a fixed number of arrays, and a network has any. Row i
of a table of addresses is parameter i: itself, its gradient, and what is remembered of it. Without
fast-math each operation rounds as its twin's does, so both give the same bits.
"""

import ctypes
import math
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types

from minigrad.kernels._jit import CHUNK, Kernel, body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import flat, memory_order
from minigrad.kernels._numba import config, intrinsic
from minigrad.kernels.reference import update as twins

Arrays = Sequence[np.ndarray]


@intrinsic
def _pointer(typing_context, address, like):
    """Point at values of the dtype of an array."""
    kind = types.CPointer(like.dtype)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return builder.inttoptr(args[0], context.get_value_type(kind))

    return kind(types.int64, like), emit


@body
def _values(address, start, stop, like):
    """Return the values of a flat array from ``start`` to ``stop``; address 0 has none."""
    if address == 0:
        return like[:0]
    return numba.carray(_pointer(address + start * like.itemsize, like), stop - start)


if config.DISABLE_JIT:

    def _pointer(address: int, like: np.ndarray) -> Any:
        number = np.ctypeslib.as_ctypes_type(like.dtype)
        return ctypes.cast(int(address), ctypes.POINTER(number))


def _without_gaps(
    param: np.ndarray, grad: np.ndarray, *memory: np.ndarray | None
) -> tuple[np.ndarray | None, ...] | None:
    """Return the arrays of a parameter, all in one order of memory; None where that has gaps."""
    order = tuple(range(param.ndim)) if param.flags.c_contiguous else memory_order(param)
    if all(a is None or a.transpose(order).flags.c_contiguous for a in (param, *memory)):
        return param, flat(grad, order), *memory
    return None


def _launch(
    loop: Kernel,
    twin: Callable[..., None],
    columns: Sequence[Arrays | None],
    settings: Sequence[float],
    *flags: bool,
) -> None:
    """Run a loop over all parameters of a dtype at once.

    A parameter whose memory has gaps cannot be walked through by address: the twin takes it.
    """
    rows: dict[np.dtype, list[tuple]] = {}
    for row in twins.rows(*columns):
        arrays = _without_gaps(*row)
        if arrays is None:
            twin(*row)
        elif row[0].size:
            rows.setdefault(row[0].dtype, []).append(arrays)
    for dtype, members in rows.items():
        addresses = np.array([[_address(array) for array in row] for row in members])
        sizes = np.array([row[0].size for row in members])
        counts = -(-sizes // CHUNK)
        owners = np.repeat(np.arange(len(members)), counts)
        firsts = np.cumsum(counts) - counts
        numbers = tuple(dtype.type(setting) for setting in settings)
        like = np.empty(0, dtype)
        loop.launch(int(sizes.sum()), addresses, sizes, owners, firsts, like, numbers, *flags)


def _address(array: np.ndarray | None) -> int:
    return 0 if array is None else array.__array_interface__["data"][0]


@body
def _part(chunk, sizes, owners, firsts):
    """Return which parameter a chunk belongs to, and where in it the chunk starts and stops."""
    owner = owners[chunk]
    size = sizes[owner]
    start, stop = chunk_bounds(chunk - firsts[owner], chunks_of(size), size)
    return owner, start, stop


@body
def _row3(addresses, start, stop, like):
    """Return the arrays of one parameter, cut to a chunk: itself, its gradient and one memory."""
    return (
        _values(addresses[0], start, stop, like),
        _values(addresses[1], start, stop, like),
        _values(addresses[2], start, stop, like),
    )


@body
def _row5(addresses, start, stop, like):
    """Return the arrays of a parameter with three memories."""
    return (
        *_row3(addresses, start, stop, like),
        _values(addresses[3], start, stop, like),
        _values(addresses[4], start, stop, like),
    )


@body
def _sgd(param, grad, velocity, settings, nesterov):
    lr, momentum, fresh, weight_decay = settings
    for i in range(param.size):
        g = grad[i]
        if weight_decay != 0:
            g += weight_decay * param[i]
        if velocity.size:
            v = momentum * velocity[i] + fresh * g
            velocity[i] = v
            g = g + momentum * v if nesterov else v
        param[i] -= lr * g


@kernel
def _sgd_loop(addresses, sizes, owners, firsts, like, settings, nesterov):
    for chunk in prange(owners.size):
        owner, start, stop = _part(chunk, sizes, owners, firsts)
        param, grad, velocity = _row3(addresses[owner], start, stop, like)
        _sgd(param, grad, velocity, settings, nesterov)


def sgd_step(
    params: Arrays,
    grads: Arrays,
    velocities: Arrays | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    """Move parameters against their gradients, in place."""

    def twin(param: Any, grad: Any, velocity: Any) -> None:
        twins.sgd_move(param, grad, velocity, lr, momentum, dampening, weight_decay, nesterov)

    settings = lr, momentum, 1 - dampening, weight_decay
    _launch(_sgd_loop, twin, (params, grads, velocities), settings, nesterov)


@body
def _adam(param, grad, mean, square, largest, settings):
    rate, keep, weight_decay, fresh1, beta2, fresh2, correction, eps = settings
    for i in range(param.size):
        p = param[i] * keep
        g = grad[i]
        if weight_decay != 0:
            g += weight_decay * p
        m = mean[i] + fresh1 * (g - mean[i])
        s = beta2 * square[i] + fresh2 * g * g
        mean[i] = m
        square[i] = s
        if largest.size:
            if not s <= largest[i]:  # a NaN goes through, as in np.maximum
                largest[i] = s
            s = largest[i]
        param[i] = p - rate * m / (np.sqrt(s) / correction + eps)


@kernel
def _adam_loop(addresses, sizes, owners, firsts, like, settings):
    for chunk in prange(owners.size):
        owner, start, stop = _part(chunk, sizes, owners, firsts)
        param, grad, mean, square, largest = _row5(addresses[owner], start, stop, like)
        _adam(param, grad, mean, square, largest, settings)


def adam_step(
    params: Arrays,
    grads: Arrays,
    means: Arrays,
    squares: Arrays,
    largest: Arrays | None,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """Move parameters by Adam's rule, in place."""

    def twin(param: Any, grad: Any, *memory: Any) -> None:
        mean, square, biggest = memory
        twins.adam_move(
            param, grad, mean, square, biggest, step, lr, beta1, beta2, eps, weight_decay, decoupled
        )

    settings = (
        lr / (1 - beta1**step),
        1 - lr * weight_decay if decoupled else 1,
        0 if decoupled else weight_decay,
        1 - beta1,
        beta2,
        1 - beta2,
        math.sqrt(1 - beta2**step),
        eps,
    )
    _launch(_adam_loop, twin, (params, grads, means, squares, largest), settings)


@body
def _rmsprop(param, grad, square, mean, velocity, settings):
    lr, alpha, fresh, eps, weight_decay, momentum = settings
    zero = param.dtype.type(0)
    for i in range(param.size):
        g = grad[i]
        if weight_decay != 0:
            g += weight_decay * param[i]
        s = alpha * square[i] + fresh * g * g
        square[i] = s
        if mean.size:
            m = mean[i] + fresh * (g - mean[i])
            mean[i] = m
            s -= m * m
            s = zero if s < zero else s  # rounding alone can make a variance negative
        g = g / (np.sqrt(s) + eps)
        if velocity.size:
            g = momentum * velocity[i] + g
            velocity[i] = g
        param[i] -= lr * g


@kernel
def _rmsprop_loop(addresses, sizes, owners, firsts, like, settings):
    for chunk in prange(owners.size):
        owner, start, stop = _part(chunk, sizes, owners, firsts)
        param, grad, square, mean, velocity = _row5(addresses[owner], start, stop, like)
        _rmsprop(param, grad, square, mean, velocity, settings)


def rmsprop_step(
    params: Arrays,
    grads: Arrays,
    squares: Arrays,
    means: Arrays | None,
    velocities: Arrays | None,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
) -> None:
    """Move parameters by RMSprop's rule, in place."""

    def twin(param: Any, grad: Any, *memory: Any) -> None:
        square, mean, velocity = memory
        twins.rmsprop_move(
            param, grad, square, mean, velocity, lr, alpha, eps, weight_decay, momentum
        )

    settings = lr, alpha, 1 - alpha, eps, weight_decay, momentum
    _launch(_rmsprop_loop, twin, (params, grads, squares, means, velocities), settings)


@body
def _squares(x):
    total = 0.0
    for value in x:
        total += np.float64(value) * np.float64(value)
    return total


@kernel
def _squares_loop(x, partial, chunks):
    for chunk in prange(chunks):
        start, stop = chunk_bounds(chunk, chunks, x.size)
        partial[chunk] = _squares(x[start:stop])


def sum_of_squares(x: np.ndarray) -> float:
    """Return the sum of the squares of x, added up in float64."""
    chunks = chunks_of(x.size)
    partial = np.empty(chunks)
    _squares_loop.launch(x.size, flat(x, memory_order(x)), partial, chunks)
    return float(partial.sum())
