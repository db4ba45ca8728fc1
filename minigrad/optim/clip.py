"""Clipping gradients, so that one step near a cliff does not undo many."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from minigrad.core.errors import ArgumentError
from minigrad.core.tensor import Tensor
from minigrad.ops.update import sum_of_squares

__all__ = ["clip_grad_norm", "clip_grad_value"]


def clip_grad_norm(params: Any, max_norm: float, error_if_nonfinite: bool = False) -> float:
    """Shorten the gradient to a largest norm, keeping its direction.

    With |g| the Euclidean norm of all gradients as one vector: where |g| > max_norm,
    ``g <- g * max_norm / |g|``.

    Parameters
    ----------
    params : Tensor or iterable of Tensor
        Those without a gradient are left out.
    max_norm : float
        Positive; ``inf`` measures and never shortens.
    error_if_nonfinite : bool
        Raise when the norm is NaN or infinite. Else infinite entries become NaN and the others 0,
        or all become NaN, as the formula has it.

    Returns
    -------
    norm : float
        |g| before clipping, added up in float64.

    Raises
    ------
    ArgumentError
        If `max_norm` is not positive, or the norm is not finite and that is to be an error.

    Notes
    -----
    torch divides by |g| + 1e-6, so its result is shorter by a millionth of max_norm / |g|.

    Source
    ------
    Pascanu et al., *On the difficulty of training recurrent neural networks*, 2013, algorithm 1;
    Goodfellow et al., *Deep learning*, 2016, equations 10.48 and 10.49.

    Examples
    --------
    >>> import minigrad as mg
    >>> import numpy as np
    >>> from minigrad.optim import clip_grad_norm
    >>> x = mg.tensor([0.0, 0.0], requires_grad=True)
    >>> x.grad = np.array([3.0, 4.0], np.float32)
    >>> clip_grad_norm([x], max_norm=1.0)
    5.0
    >>> x.grad
    array([0.6, 0.8], dtype=float32)
    """
    if not max_norm > 0:
        raise ArgumentError(
            f"clip_grad_norm: max_norm must be a positive number, got {max_norm!r}."
        )
    grads = _gradients(params)
    norm = math.sqrt(math.fsum(sum_of_squares(grad) for grad in grads))
    if error_if_nonfinite and not math.isfinite(norm):
        raise ArgumentError(
            f"clip_grad_norm: a finite norm was asked for, the gradients have {norm}. Run the step "
            f"under minigrad.detect_anomaly() to see where it comes from."
        )
    if not norm <= max_norm:
        with np.errstate(invalid="ignore"):  # infinity times 0
            for grad in grads:
                grad *= grad.dtype.type(max_norm / norm)
    return norm


def clip_grad_value(params: Any, clip_value: float) -> None:
    """Cut every entry of the gradient to between -clip_value and clip_value.

    Unlike :func:`clip_grad_norm` this turns the gradient.

    Parameters
    ----------
    params : Tensor or iterable of Tensor
        Those without a gradient are left out.
    clip_value : float
        Positive. A NaN stays a NaN.

    Raises
    ------
    ArgumentError
        If `clip_value` is not positive.

    Source
    ------
    Mikolov, *Statistical language models based on neural networks*, 2012, section 3.3.

    Examples
    --------
    >>> import minigrad as mg
    >>> import numpy as np
    >>> from minigrad.optim import clip_grad_value
    >>> x = mg.tensor([0.0, 0.0], requires_grad=True)
    >>> x.grad = np.array([3.0, -0.5], np.float32)
    >>> clip_grad_value([x], 1.0)
    >>> x.grad
    array([ 1. , -0.5], dtype=float32)
    """
    if not clip_value > 0:
        raise ArgumentError(
            f"clip_grad_value: clip_value must be a positive number, got {clip_value!r}."
        )
    for grad in _gradients(params):
        np.clip(grad, -clip_value, clip_value, out=grad)


def _gradients(params: Tensor | Iterable[Tensor]) -> list[np.ndarray]:
    params = [params] if isinstance(params, Tensor) else params
    return [param.grad for param in params if param.grad is not None]
