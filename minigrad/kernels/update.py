"""Optimiser steps: one pass over memory for each parameter, which is changed where it stands.

Without fast-math each operation rounds as its twin's does, so both give the same bits.
"""

import math

import numpy as np

from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import flat, memory_order
from minigrad.kernels.reference import update as twins


def _in_one_order(order: tuple[int, ...], *arrays: np.ndarray | None) -> bool:
    """Whether each array lies in memory in this order, without gaps: its flat form is a view."""
    return all(a is None or a.transpose(order).flags.c_contiguous for a in arrays)


def _flat_or_empty(
    array: np.ndarray | None, like: np.ndarray, order: tuple[int, ...]
) -> np.ndarray:
    """The flat form; an empty array stands for None, of which a kernel would be compiled anew."""
    return np.empty(0, like.dtype) if array is None else flat(array, order)


def _numbers(like: np.ndarray, *settings: float) -> tuple[np.floating, ...]:
    """The settings in the dtype of the parameter, lest float32 loops compute in float64."""
    return tuple(like.dtype.type(setting) for setting in settings)


@body
def _chunk(chunk: int, chunks: int, size: int) -> slice:
    """The part of an array that is a chunk. Indices from 0 let the compiler use vectors."""
    start, stop = chunk_bounds(chunk, chunks, size)
    return slice(start, stop)


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
def _sgd_loop(param, grad, velocity, settings, nesterov, chunks):
    for chunk in prange(chunks):
        part = _chunk(chunk, chunks, param.size)
        _sgd(param[part], grad[part], velocity[part], settings, nesterov)


def sgd_step(
    param: np.ndarray,
    grad: np.ndarray,
    velocity: np.ndarray | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    """Move a parameter against its gradient, in place."""
    order = memory_order(param)
    if not _in_one_order(order, param, velocity):
        twins.sgd_step(param, grad, velocity, lr, momentum, dampening, weight_decay, nesterov)
        return
    _sgd_loop.launch(
        param.size,
        flat(param, order),
        flat(grad, order),
        _flat_or_empty(velocity, param, order),
        _numbers(param, lr, momentum, 1 - dampening, weight_decay),
        nesterov,
        chunks_of(param.size),
    )


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
def _adam_loop(param, grad, mean, square, largest, settings, chunks):
    for chunk in prange(chunks):
        part = _chunk(chunk, chunks, param.size)
        _adam(param[part], grad[part], mean[part], square[part], largest[part], settings)


def adam_step(
    param: np.ndarray,
    grad: np.ndarray,
    mean: np.ndarray,
    square: np.ndarray,
    largest: np.ndarray | None,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """Move a parameter by Adam's rule, in place."""
    order = memory_order(param)
    if not _in_one_order(order, param, mean, square, largest):
        twins.adam_step(
            param, grad, mean, square, largest, step, lr, beta1, beta2, eps, weight_decay, decoupled
        )
        return
    settings = _numbers(
        param,
        lr / (1 - beta1**step),
        1 - lr * weight_decay if decoupled else 1,
        0 if decoupled else weight_decay,
        1 - beta1,
        beta2,
        1 - beta2,
        math.sqrt(1 - beta2**step),
        eps,
    )
    _adam_loop.launch(
        param.size,
        flat(param, order),
        flat(grad, order),
        flat(mean, order),
        flat(square, order),
        _flat_or_empty(largest, param, order),
        settings,
        chunks_of(param.size),
    )


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
def _rmsprop_loop(param, grad, square, mean, velocity, settings, chunks):
    for chunk in prange(chunks):
        part = _chunk(chunk, chunks, param.size)
        _rmsprop(param[part], grad[part], square[part], mean[part], velocity[part], settings)


def rmsprop_step(
    param: np.ndarray,
    grad: np.ndarray,
    square: np.ndarray,
    mean: np.ndarray | None,
    velocity: np.ndarray | None,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
) -> None:
    """Move a parameter by RMSprop's rule, in place."""
    order = memory_order(param)
    if not _in_one_order(order, param, square, mean, velocity):
        twins.rmsprop_step(
            param, grad, square, mean, velocity, lr, alpha, eps, weight_decay, momentum
        )
        return
    _rmsprop_loop.launch(
        param.size,
        flat(param, order),
        flat(grad, order),
        flat(square, order),
        _flat_or_empty(mean, param, order),
        _flat_or_empty(velocity, param, order),
        _numbers(param, lr, alpha, 1 - alpha, eps, weight_decay, momentum),
        chunks_of(param.size),
    )


@body
def _squares(x):
    total = 0.0
    for value in x:
        total += np.float64(value) * np.float64(value)
    return total


@kernel
def _squares_loop(x, partial, chunks):
    for chunk in prange(chunks):
        partial[chunk] = _squares(x[_chunk(chunk, chunks, x.size)])


def sum_of_squares(x: np.ndarray) -> float:
    """Return the sum of the squares of x, added up in float64."""
    chunks = chunks_of(x.size)
    partial = np.empty(chunks)
    _squares_loop.launch(x.size, flat(x, memory_order(x)), partial, chunks)
    return float(partial.sum())
