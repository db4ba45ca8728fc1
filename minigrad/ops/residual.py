"""The residual unit as one fused, hand-written operation: y = act(F(x) + S(x)).

F is the convolution path, S the identity path. The forward runs the same layers in the same order
as the composed form (:mod:`minigrad.nn.residual`), but they make one node of the graph, whose
backward can be read from top to bottom: :meth:`ResidualUnit.backward` and its five steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minigrad.core import events
from minigrad.core.function import Function
from minigrad.core.node import Node

__all__ = ["Layer", "ResidualUnit", "convolution_path_backward", "identity_path_backward"]


@dataclass(frozen=True)
class Layer:
    """One layer of a path: an operation, how many parameters it takes, and its settings."""

    function: type[Function]
    parameters: int = 0
    options: dict[str, Any] = field(default_factory=dict)


def path_forward(
    x: np.ndarray, layers: Sequence[Layer], parameters: Sequence[Any], needs: Sequence[bool]
) -> tuple[np.ndarray, list[Node]]:
    """Run ``layers`` on ``x``, one after the other.

    Parameters
    ----------
    x : ndarray
    layers : sequence of Layer
    parameters : sequence of ndarray or None
        Of all layers, in order.
    needs : sequence of bool
        Whether x, and each parameter, wants a gradient.

    Returns
    -------
    y : ndarray
    contexts : list
        What each layer saved, for :func:`path_backward`.
    """
    contexts, used, input_needs = [], 0, needs[0]
    for layer in layers:
        own = slice(used, used + layer.parameters)
        own_needs = tuple(needs[1:][own])
        ctx = Node(layer.function, (input_needs, *own_needs))
        x = layer.function.forward(ctx, x, *parameters[own], **layer.options)
        contexts.append(ctx)
        used += layer.parameters
        input_needs = input_needs or any(own_needs)  # what comes after must hand it down
    return x, contexts


def path_backward(
    contexts: Sequence[Node], grad_out: np.ndarray
) -> tuple[np.ndarray | None, list[np.ndarray | None]]:
    """Undo the layers of a path, the last one first.

    Returns
    -------
    grad_x : ndarray or None
    grads : list of ndarray or None
        One for each parameter of the path, in the order of the forward pass.
    """
    grad: Any = grad_out
    grads: list[np.ndarray | None] = []
    for ctx in reversed(contexts):
        asked = any(ctx.needs)
        result = ctx.function.backward(ctx, grad) if asked else (None,) * len(ctx.needs)
        grad, *own = result if isinstance(result, tuple) else (result,)
        grads = own + grads
    return grad, grads


def convolution_path_backward(ctx: Any, grad_sum: np.ndarray) -> tuple[Any, list[Any]]:
    """The gradient that comes back through the convolution path F.

    Parameters
    ----------
    ctx : Node
        Of a :class:`ResidualUnit`.
    grad_sum : ndarray
        Gradient at the sum F(x) + S(x).

    Returns
    -------
    grad_conv : ndarray or None
        ``dF/dx^T grad_sum``, of the shape of x.
    grads : list
        For each parameter of F.
    """
    return path_backward(ctx.conv_path, grad_sum)


def identity_path_backward(ctx: Any, grad_sum: np.ndarray) -> tuple[Any, list[Any]]:
    """The gradient that comes back along the identity path S.

    For a plain shortcut this is ``grad_sum`` itself: the term that does not vanish.

    Parameters
    ----------
    ctx : Node
        Of a :class:`ResidualUnit`.
    grad_sum : ndarray
        Gradient at the sum F(x) + S(x).

    Returns
    -------
    grad_identity : ndarray or None
        ``dS/dx^T grad_sum``, of the shape of x.
    grads : list
        For each parameter of S.
    """
    return path_backward(ctx.identity_path, grad_sum)


class ResidualUnit(Function):
    """y = act(F(x) + S(x))."""

    @staticmethod
    def forward(
        ctx: Any,
        x: np.ndarray,
        *parameters: Any,
        conv_path: Sequence[Layer],
        identity_path: Sequence[Layer] = (),
        activation: Sequence[Layer] = (),
    ) -> np.ndarray:
        split = sum(layer.parameters for layer in conv_path)
        x_needs, own = ctx.needs[:1], ctx.needs[1:]
        f, ctx.conv_path = path_forward(x, conv_path, parameters[:split], x_needs + own[:split])
        s, ctx.identity_path = path_forward(
            x, identity_path, parameters[split:], x_needs + own[split:]
        )
        y, ctx.activation = path_forward(f + s, activation, (), (True,))
        contexts = (*ctx.conv_path, *ctx.identity_path, *ctx.activation)
        # All that the layers saved, so that an in-place write to any of it is caught.
        ctx.save(*(array for layer in contexts for array in layer.saved))
        return y

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> tuple[np.ndarray | None, ...]:
        # 1. Undo the last activation. A pre-activation unit has none.
        grad_sum, _ = path_backward(ctx.activation, grad_out)
        # 2. The convolution path: back through F.
        grad_conv, conv_grads = convolution_path_backward(ctx, grad_sum)
        # 3. The identity path: back along S.
        grad_identity, identity_grads = identity_path_backward(ctx, grad_sum)
        if not ctx.needs[0]:
            return (None, *conv_grads, *identity_grads)
        # 4. Announce the two shares.
        if events.listening:
            parts = (grad_conv, grad_identity)
            events.emit(events.Fanout(ctx.path, "residual", ("conv", "identity"), parts))
        # 5. The adjoint of copying is adding: x went both ways, so both ways come back.
        return (grad_conv + grad_identity, *conv_grads, *identity_grads)
