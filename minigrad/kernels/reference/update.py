"""Twins of the optimiser steps: the formulas in NumPy, in place, in the order of the sources."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Arrays = Sequence[np.ndarray]


def rows(*columns: Any) -> list[Any]:
    """Return the arrays of each parameter; where a column is None, so is its place in every row."""
    count = len(columns[0])
    full = [[None] * count if column is None else column for column in columns]
    return list(zip(*full, strict=True))


def sgd_move(
    param: np.ndarray,
    grad: np.ndarray,
    velocity: np.ndarray | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    """Move one parameter against its gradient."""
    if weight_decay:
        grad = grad + weight_decay * param
    if velocity is not None:
        velocity *= momentum
        velocity += (1 - dampening) * grad
        grad = grad + momentum * velocity if nesterov else velocity
    param -= lr * grad


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
    """Move parameters against their gradients, in place; see ``minigrad.ops.update.sgd_step``."""
    for param, grad, velocity in rows(params, grads, velocities):
        sgd_move(param, grad, velocity, lr, momentum, dampening, weight_decay, nesterov)


def adam_move(
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
    """Move one parameter by Adam's rule."""
    if weight_decay and decoupled:
        param *= 1 - lr * weight_decay
    elif weight_decay:
        grad = grad + weight_decay * param
    mean += (1 - beta1) * (grad - mean)
    square *= beta2
    square += (1 - beta2) * grad * grad
    if largest is not None:
        np.maximum(largest, square, out=largest)
        square = largest
    root = np.sqrt(square) / math.sqrt(1 - beta2**step) + eps
    param -= lr / (1 - beta1**step) * mean / root


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
    """Move parameters by Adam's rule, in place; see ``minigrad.ops.update.adam_step``."""
    for param, grad, mean, square, biggest in rows(params, grads, means, squares, largest):
        adam_move(
            param, grad, mean, square, biggest, step, lr, beta1, beta2, eps, weight_decay, decoupled
        )


def rmsprop_move(
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
    """Move one parameter by RMSprop's rule."""
    if weight_decay:
        grad = grad + weight_decay * param
    square *= alpha
    square += (1 - alpha) * grad * grad
    variance = square
    if mean is not None:
        mean += (1 - alpha) * (grad - mean)
        # A variance; rounding alone can make it negative.
        variance = np.maximum(square - mean * mean, 0)
    change = grad / (np.sqrt(variance) + eps)
    if velocity is not None:
        velocity *= momentum
        velocity += change
        change = velocity
    param -= lr * change


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
    """Move parameters by RMSprop's rule, in place; see ``minigrad.ops.update.rmsprop_step``."""
    for param, grad, square, mean, velocity in rows(params, grads, squares, means, velocities):
        rmsprop_move(param, grad, square, mean, velocity, lr, alpha, eps, weight_decay, momentum)


def sum_of_squares(x: np.ndarray) -> float:
    """Return the sum of the squares of x, added up in float64."""
    return float(np.sum(np.square(x, dtype=np.float64)))
