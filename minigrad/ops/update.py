"""Optimiser steps on plain arrays, in place: what :mod:`minigrad.optim` calls.

They are no operations of the graph and have no gradient. Each takes lists of arrays, for the
parameters of a network change together, and changes them where they stand, in whatever memory order
they have, so that whoever shares the memory sees the change.
"""

from collections.abc import Sequence

import numpy as np

from minigrad import kernels
from minigrad.core.errors import ArgumentError, DTypeError, ShapeError
from minigrad.ops.memory import is_constant

__all__ = ["adam_step", "rmsprop_step", "sgd_step", "sum_of_squares"]


Arrays = Sequence[np.ndarray]


def _check(name: str, params: Arrays, grads: Arrays, *memories: Arrays | None) -> None:
    """The compiled loops neither convert nor broadcast, and would write to read-only memory."""
    columns = [params, grads, *[memory for memory in memories if memory is not None]]
    if len({len(column) for column in columns}) > 1:
        raise ArgumentError(
            f"{name}: a gradient, and each memory, is needed for every parameter, got lists of "
            f"{[len(column) for column in columns]} arrays. Pass lists of one length."
        )
    for row in zip(*columns, strict=True):
        _check_one(name, *row)


def _check_one(name: str, param: np.ndarray, grad: np.ndarray, *memory: np.ndarray) -> None:
    for array in (grad, *memory):
        if array.shape != param.shape:
            raise ShapeError(
                f"{name}: the parameter has shape {param.shape}, its gradient or memory has "
                f"{array.shape}. Pass arrays of one shape."
            )
        if array.dtype != param.dtype:
            raise DTypeError(
                f"{name}: the parameter has dtype {param.dtype}, its gradient or memory has "
                f"{array.dtype}. Pass arrays of one dtype; after model.double() or model.float() "
                f"make the optimiser anew."
            )
    for array in (param, *memory):
        if not array.flags.writeable:
            raise ArgumentError(
                f"{name}: arrays to change in place are needed, got a {_told_read_only(array)}"
            )


def _told_read_only(array: np.ndarray) -> str:
    if is_constant(array):
        return (
            "constant one, as fold_batch_norm makes them. Train the model that was folded, or "
            "copy.deepcopy of the folded one."
        )
    return "read-only one. Pass array.copy()."


def sgd_step(
    params: Arrays,
    grads: Arrays,
    velocities: Arrays | None,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> None:
    """Move parameters against their gradients.

    With theta a parameter, g the gradient, v the velocity::

        g     <- g + weight_decay * theta
        v     <- momentum * v + (1 - dampening) * g
        theta <- theta - lr * v                        plain
        theta <- theta - lr * (g + momentum * v)       Nesterov
        theta <- theta - lr * g                        without velocity

    Parameters
    ----------
    params, grads : lists of ndarray, float32 or float64
        A gradient is of the shape and dtype of its parameter.
    velocities : list of ndarray like params, or None for no momentum
        Zeros before the first step.
    lr, momentum, dampening, weight_decay : float
    nesterov : bool

    Raises
    ------
    ShapeError, DTypeError
        If the arrays of a parameter differ in shape or dtype.
    ArgumentError
        If an array that is to change is read-only, or the lists differ in length.

    Source
    ------
    Sutskever et al., *On the importance of initialization and momentum in deep learning*, 2013,
    equations 1 to 4, with lr taken out of the velocity as torch does.

    Examples
    --------
    >>> import numpy as np
    >>> from minigrad.ops.update import sgd_step
    >>> theta = np.array([1.0, 2.0])
    >>> sgd_step([theta], grads=[np.array([10.0, 0.0])], velocities=None, lr=0.01)
    >>> theta
    array([0.9, 2. ])
    """
    _check("sgd_step", params, grads, velocities)
    kernels.sgd_step(params, grads, velocities, lr, momentum, dampening, weight_decay, nesterov)


def adam_step(
    params: Arrays,
    grads: Arrays,
    means: Arrays,
    squares: Arrays,
    largest: Arrays | None,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> None:
    """Move parameters by the running mean of the gradient over the root of its running square.

    With theta a parameter, g the gradient, m, s the running averages, t the step::

        g     <- g + weight_decay * theta              unless decoupled
        theta <- (1 - lr * weight_decay) * theta       if decoupled
        m     <- beta1 * m + (1 - beta1) * g
        s     <- beta2 * s + (1 - beta2) * g^2
        theta <- theta - lr * m / (1 - beta1^t) / (sqrt(s / (1 - beta2^t)) + eps)

    The divisors 1 - beta^t undo the bias of averages that begin at zero. With `largest` (AMSGrad)
    the largest s so far stands in the place of s, so a rate never grows again.

    Parameters
    ----------
    params, grads : lists of ndarray, float32 or float64
        A gradient is of the shape and dtype of its parameter.
    means, squares : lists of ndarray like params
        Zeros before the first step.
    largest : list of ndarray like params, or None
        Zeros before the first step.
    step : int
        1 at the first step.
    lr, beta1, beta2, eps, weight_decay : float
    decoupled : bool
        Whether the decay acts on the parameter (AdamW) or through the gradient (Adam).

    Raises
    ------
    ShapeError, DTypeError
        If the arrays of a parameter differ in shape or dtype.
    ArgumentError
        If an array that is to change is read-only, or the lists differ in length.

    Source
    ------
    Kingma and Ba, *Adam*, 2015, algorithm 1. Loshchilov and Hutter, *Decoupled weight decay
    regularization*, 2019, algorithm 2. Reddi et al., *On the convergence of Adam and beyond*, 2018,
    algorithm 2.

    Examples
    --------
    The first step has the size lr, however large the gradient:

    >>> import numpy as np
    >>> from minigrad.ops.update import adam_step
    >>> theta, m, s = np.zeros(2), np.zeros(2), np.zeros(2)
    >>> adam_step([theta], [np.array([1000.0, -0.1])], [m], [s], None, step=1, lr=0.01)
    >>> theta.round(6)
    array([-0.01,  0.01])
    """
    _check("adam_step", params, grads, means, squares, largest)
    kernels.adam_step(
        params, grads, means, squares, largest, step, lr, beta1, beta2, eps, weight_decay, decoupled
    )


def rmsprop_step(
    params: Arrays,
    grads: Arrays,
    squares: Arrays,
    means: Arrays | None,
    velocities: Arrays | None,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
) -> None:
    """Move parameters by the gradient over the root of its running square.

    With theta a parameter, g the gradient, s, m the running averages, v the velocity::

        g     <- g + weight_decay * theta
        s     <- alpha * s + (1 - alpha) * g^2
        m     <- alpha * m + (1 - alpha) * g           if centred, else m = 0
        u     <- g / (sqrt(s - m^2) + eps)
        v     <- momentum * v + u                      with momentum, else v = u
        theta <- theta - lr * v

    Parameters
    ----------
    params, grads : lists of ndarray, float32 or float64
        A gradient is of the shape and dtype of its parameter.
    squares : list of ndarray like params
        Zeros before the first step.
    means : list of ndarray like params, or None for the uncentred rule
        Zeros before the first step.
    velocities : list of ndarray like params, or None for no momentum
        Zeros before the first step.
    lr, alpha, eps, weight_decay, momentum : float

    Raises
    ------
    ShapeError, DTypeError
        If the arrays of a parameter differ in shape or dtype.
    ArgumentError
        If an array that is to change is read-only, or the lists differ in length.

    Notes
    -----
    s - m^2 is a variance; where rounding makes it negative it counts as 0, and torch gives NaN.

    Source
    ------
    Hinton, *Neural networks for machine learning*, lecture 6e, 2012. Graves, *Generating sequences
    with recurrent neural networks*, 2013, equations 38 to 45, with eps outside the root as torch
    has it.

    Examples
    --------
    >>> import numpy as np
    >>> from minigrad.ops.update import rmsprop_step
    >>> theta, s = np.zeros(2), np.zeros(2)
    >>> rmsprop_step([theta], [np.array([1000.0, -0.1])], [s], None, None, lr=0.01)
    >>> theta.round(6)
    array([-0.1,  0.1])
    """
    _check("rmsprop_step", params, grads, squares, means, velocities)
    kernels.rmsprop_step(
        params, grads, squares, means, velocities, lr, alpha, eps, weight_decay, momentum
    )


def sum_of_squares(x: np.ndarray) -> float:
    """Sum of the squares of an array, added up in float64 in an order fixed by its shape.

    Examples
    --------
    >>> import numpy as np
    >>> from minigrad.ops.update import sum_of_squares
    >>> sum_of_squares(np.array([[3.0], [4.0]]))
    25.0
    """
    return kernels.sum_of_squares(x)
