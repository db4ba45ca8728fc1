"""Twins of the optimiser steps: the formulas in NumPy, in place, in the order of the sources."""

import math

import numpy as np


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
    """Move a parameter against its gradient, in place; see ``minigrad.ops.update.sgd_step``."""
    if weight_decay:
        grad = grad + weight_decay * param
    if velocity is not None:
        velocity *= momentum
        velocity += (1 - dampening) * grad
        grad = grad + momentum * velocity if nesterov else velocity
    param -= lr * grad


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
    """Move a parameter by Adam's rule, in place; see ``minigrad.ops.update.adam_step``."""
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
    """Move a parameter by RMSprop's rule, in place; see ``minigrad.ops.update.rmsprop_step``."""
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


def sum_of_squares(x: np.ndarray) -> float:
    """Return the sum of the squares of x, added up in float64."""
    return float(np.sum(np.square(x, dtype=np.float64)))
