"""fork: one tensor handed to several paths, and the sum of what they send back, announced.

With ``add`` it makes the residual unit: add's backward copies the cotangent to both paths, fork's
adds what comes back from them. The adjoint of adding is copying, the adjoint of copying is adding.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.core import events
from minigrad.core.errors import ArgumentError
from minigrad.core.function import Function
from minigrad.core.tensor import Tensor
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.arithmetic import added, bad_single, check_operands

__all__ = ["fork"]


class Fork(Function):
    """y_1 = y_2 = ... = x."""

    @staticmethod
    def forward(ctx: Any, x: Any, *, labels: tuple[str, ...]) -> Any:
        ctx.labels = labels
        return (np.asarray(x),) * len(labels)

    @staticmethod
    def backward(ctx: Any, *grad_outs: np.ndarray) -> Any:
        if events.listening:
            events.emit(events.Fanout(ctx.path, "fork", ctx.labels, grad_outs))
        # In the order of the labels, so that the announced parts sum to grad_x bit for bit; into
        # a new array, so that no part is changed after it was announced.
        grad_x = added(grad_outs[0], grad_outs[1])
        for grad in grad_outs[2:]:
            grad_x = added(grad_x, grad)
        return grad_x


def _forks(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((2, 3))),
        Sample(rng.standard_normal(5), labels=("left", "middle", "right")),
        Sample(rng.standard_normal(())),
    ]


def _bad_forks(rng: np.random.Generator) -> list[Wrong]:
    return [
        Wrong(
            ArgumentError,
            f"fork: two or more different names for the paths are needed, got {labels!r}. Pass for "
            f"example labels=('conv', 'identity').",
            np.ones(3),
            labels,
        )
        for labels in ["conv", ("conv",), ("conv", "conv"), (0, 1), 2]
    ] + bad_single("fork")


@operation(Fork, samples=_forks, wrong=_bad_forks)
def fork(x: Any, labels: Sequence[str] = ("conv", "identity")) -> tuple[Tensor, ...]:
    """Hand x to several named paths: y_1 = y_2 = ... = x, without a copy.

    Using x twice gives the same gradient. A fork names the paths, so that a listener of
    :mod:`minigrad.core.events` learns what came back along each.

    Parameters
    ----------
    x : Tensor, ndarray or number
    labels : sequence of str
        A name for each path.

    Returns
    -------
    tuple of Tensor
        As many as labels, all on the memory of x.

    Raises
    ------
    ArgumentError
        Without two different labels.

    Gradient
    --------
    grad_x = grad_1 + grad_2 + ..., summed in the order of the labels into a new array and announced
    as ``Fanout(path, "fork", labels, parts)``: the parts sum to grad_x bit for bit. Saves nothing.

    Source
    ------
    He, Zhang, Ren and Sun, Identity mappings in deep residual networks (2016), eq. 5: the gradient
    at a unit's input is the sum of the identity path's and the convolution path's.

    Examples
    --------
    >>> import minigrad as mg
    >>> x = mg.tensor(3.0, requires_grad=True)
    >>> conv, identity = mg.fork(x)
    >>> (conv * conv + identity).backward()
    >>> x.grad
    array(7., dtype=float32)
    """
    check_operands("fork", x)
    names = tuple(labels) if isinstance(labels, list | tuple) else ()
    if not all(isinstance(name, str) for name in names) or len(set(names)) < max(2, len(names)):
        raise ArgumentError(
            f"fork: two or more different names for the paths are needed, got {labels!r}. Pass for "
            f"example labels=('conv', 'identity')."
        )
    return Fork.apply(x, labels=names)
