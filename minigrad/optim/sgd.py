"""Stochastic gradient descent, plain, with momentum and with Nesterov's."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from minigrad.core.errors import ArgumentError
from minigrad.ops.update import sgd_step
from minigrad.optim.optimizer import FINITE, NOT_NEGATIVE, YES_OR_NO, Optimizer, Range, remembered

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent.

    With theta a parameter, g its gradient, v its velocity, which begins as the first g::

        g     <- g + weight_decay * theta
        v     <- momentum * v + (1 - dampening) * g
        theta <- theta - lr * v                        plain
        theta <- theta - lr * (g + momentum * v)       Nesterov

    Parameters
    ----------
    params : iterable of Tensor, or of dict
        As in :class:`Optimizer`.
    lr : float
        Learning rate.
    momentum : float
        Share of the velocity that stays from step to step; 0 needs no velocity.
    dampening : float
        Share of the gradient that does not enter the velocity.
    weight_decay : float
        Factor of an L2 penalty theta^2 / 2 on every parameter of the group.
    nesterov : bool
        Look ahead along the velocity.

    Raises
    ------
    ArgumentError
        For settings out of range, or Nesterov without momentum or with dampening.

    Source
    ------
    Polyak, *Some methods of speeding up the convergence of iteration methods*, 1964. Sutskever et
    al., *On the importance of initialization and momentum in deep learning*, 2013, equations 1 to
    4. The learning rate multiplies the velocity rather than entering it, as in ``torch.optim.SGD``.

    Examples
    --------
    >>> import minigrad as mg
    >>> from minigrad.optim import SGD
    >>> x = mg.tensor([3.0], requires_grad=True)
    >>> optimizer = SGD([x], lr=0.1, momentum=0.9)
    >>> for _ in range(100):
    ...     optimizer.zero_grad()
    ...     (x * x).backward()
    ...     optimizer.step()
    >>> bool(abs(x.item()) < 0.05)
    True
    """

    ranges: ClassVar[dict[str, Range]] = {
        "lr": NOT_NEGATIVE,
        "momentum": NOT_NEGATIVE,
        "dampening": FINITE,
        "weight_decay": NOT_NEGATIVE,
        "nesterov": YES_OR_NO,
    }
    memories = ("velocity",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
        )

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        super()._check_settings(settings)
        if settings["nesterov"] and (settings["momentum"] == 0 or settings["dampening"] != 0):
            raise ArgumentError(
                f"SGD: nesterov needs momentum and no dampening, got "
                f"momentum={settings['momentum']!r} and dampening={settings['dampening']!r}. Pass "
                f"momentum=0.9, dampening=0."
            )

    def update(
        self,
        data: list[np.ndarray],
        grads: list[np.ndarray],
        memories: list[dict[str, np.ndarray]],
        step: int,
        group: dict[str, Any],
    ) -> None:
        velocities, dampening = None, group["dampening"]
        if group["momentum"]:
            if "velocity" not in memories[0]:
                dampening = 0.0  # from zero, an undamped step makes the velocity the gradient
            velocities = remembered(memories, "velocity", data)
        sgd_step(
            data,
            grads,
            velocities,
            group["lr"],
            group["momentum"],
            dampening,
            group["weight_decay"],
            group["nesterov"],
        )
