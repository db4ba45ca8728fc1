"""Adam, and AdamW, whose weight decay does not pass through the averages."""

from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from minigrad.ops.update import adam_step
from minigrad.optim.optimizer import FRACTION, NOT_NEGATIVE, YES_OR_NO, Optimizer, Range, remembered

__all__ = ["Adam", "AdamW"]


def _is_pair_of_fractions(value: Any) -> bool:
    return len(value) == 2 and all(FRACTION[1](beta) for beta in value)


class Adam(Optimizer):
    """Adam: steps of about the size lr in every coordinate.

    With theta a parameter, g its gradient, m, s its running averages from zero, t the step::

        g     <- g + weight_decay * theta
        m     <- beta1 * m + (1 - beta1) * g
        s     <- beta2 * s + (1 - beta2) * g^2
        theta <- theta - lr * m / (1 - beta1^t) / (sqrt(s / (1 - beta2^t)) + eps)

    The average of t terms that began at zero has the weights (1 - beta) beta^i, which sum to
    1 - beta^t: dividing by that sum takes the bias toward zero away.

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        As in :class:`Optimizer`.
    lr : float
        Learning rate.
    betas : pair of float
        What stays from step to step of m and of s.
    eps : float
        Keeps the divisor from zero.
    weight_decay : float
        Factor of an L2 penalty theta^2 / 2, which passes through m and s as the gradient does.
    amsgrad : bool
        Divide by the largest s so far, so that no coordinate's rate grows again.

    Raises
    ------
    ArgumentError
        For settings out of range.

    Source
    ------
    Kingma and Ba, *Adam: a method for stochastic optimization*, 2015, algorithm 1 and section 3.
    Reddi et al., *On the convergence of Adam and beyond*, 2018, algorithm 2, for amsgrad.

    Examples
    --------
    >>> import minigrad as mg
    >>> from minigrad.optim import Adam
    >>> x = mg.tensor([3.0, -400.0], requires_grad=True)
    >>> optimizer = Adam([x], lr=0.5)
    >>> x.grad = x.data.copy()
    >>> optimizer.step()
    >>> x.data
    array([   2.5, -399.5], dtype=float32)
    """

    ranges: ClassVar[dict[str, Range]] = {
        "lr": NOT_NEGATIVE,
        "betas": ("a pair of numbers of at least 0 and below 1", _is_pair_of_fractions),
        "eps": NOT_NEGATIVE,
        "weight_decay": NOT_NEGATIVE,
        "amsgrad": YES_OR_NO,
    }
    memories = ("mean", "square", "largest")
    decoupled: ClassVar[bool] = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(
            params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad
        )

    def update(
        self,
        data: list[np.ndarray],
        grads: list[np.ndarray],
        memories: list[dict[str, np.ndarray]],
        step: int,
        group: dict[str, Any],
    ) -> None:
        beta1, beta2 = group["betas"]
        adam_step(
            data,
            grads,
            remembered(memories, "mean", data),
            remembered(memories, "square", data),
            remembered(memories, "largest", data) if group["amsgrad"] else None,
            step,
            group["lr"],
            beta1,
            beta2,
            group["eps"],
            group["weight_decay"],
            self.decoupled,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay.

    The parameter itself shrinks, ``theta <- (1 - lr * weight_decay) * theta``, before Adam's step
    on the gradient of the loss alone; so a coordinate with large gradients decays as much as any
    other.

    Parameters
    ----------
    params, lr, betas, eps, amsgrad
        As in :class:`Adam`.
    weight_decay : float
        Rate of the shrinking, relative to `lr`.

    Raises
    ------
    ArgumentError
        For settings out of range.

    Source
    ------
    Loshchilov and Hutter, *Decoupled weight decay regularization*, 2019, algorithm 2.

    Examples
    --------
    >>> import minigrad as mg
    >>> import numpy as np
    >>> from minigrad.optim import AdamW
    >>> x = mg.tensor([100.0], requires_grad=True)
    >>> optimizer = AdamW([x], lr=0.1, weight_decay=0.5)
    >>> x.grad = np.zeros(1, np.float32)
    >>> optimizer.step()
    >>> x.data
    array([95.], dtype=float32)
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)
