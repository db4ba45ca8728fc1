"""RMSprop: gradients divided by their running root mean square."""

from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from minigrad.ops.update import rmsprop_step
from minigrad.optim.optimizer import FRACTION, NOT_NEGATIVE, YES_OR_NO, Optimizer, Range, remembered

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    """RMSprop.

    With theta a parameter, g its gradient, s, m its running averages and v its velocity, all from
    zero::

        g     <- g + weight_decay * theta
        s     <- alpha * s + (1 - alpha) * g^2
        m     <- alpha * m + (1 - alpha) * g           if centred, else m = 0
        v     <- momentum * v + g / (sqrt(s - m^2) + eps)
        theta <- theta - lr * v

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        As in :class:`Optimizer`.
    lr : float
        Learning rate.
    alpha : float
        What stays of the averages from step to step.
    eps : float
        Keeps the divisor from zero.
    weight_decay : float
        Factor of an L2 penalty theta^2 / 2.
    momentum : float
        Share of the velocity that stays; 0 needs no velocity.
    centered : bool
        Divide by the standard deviation of the gradient rather than its root mean square.

    Raises
    ------
    ArgumentError
        For settings out of range.

    Source
    ------
    Hinton, *Neural networks for machine learning*, lecture 6e, 2012. Graves, *Generating sequences
    with recurrent neural networks*, 2013, equations 38 to 45, for `centered` and `momentum`; eps
    stands outside the root as in ``torch.optim.RMSprop``.

    Examples
    --------
    >>> import minigrad as mg
    >>> from minigrad.optim import RMSprop
    >>> x = mg.tensor([3.0, -400.0], requires_grad=True)
    >>> optimizer = RMSprop([x], lr=0.05)
    >>> x.grad = x.data.copy()
    >>> optimizer.step()
    >>> x.data
    array([   2.5, -399.5], dtype=float32)
    """

    ranges: ClassVar[dict[str, Range]] = {
        "lr": NOT_NEGATIVE,
        "alpha": FRACTION,
        "eps": NOT_NEGATIVE,
        "weight_decay": NOT_NEGATIVE,
        "momentum": NOT_NEGATIVE,
        "centered": YES_OR_NO,
    }
    memories = ("square", "mean", "velocity")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
        )

    def update(
        self,
        data: list[np.ndarray],
        grads: list[np.ndarray],
        memories: list[dict[str, np.ndarray]],
        step: int,
        group: dict[str, Any],
    ) -> None:
        rmsprop_step(
            data,
            grads,
            remembered(memories, "square", data),
            remembered(memories, "mean", data) if group["centered"] else None,
            remembered(memories, "velocity", data) if group["momentum"] else None,
            group["lr"],
            group["alpha"],
            group["eps"],
            group["weight_decay"],
            group["momentum"],
        )
