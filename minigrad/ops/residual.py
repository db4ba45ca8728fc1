"""The residual unit as one fused, hand-written operation: y = act(F(x) + S(x)).

F is the convolution path, S the identity path. The forward runs the same layers in the same order
as the composed form (:mod:`minigrad.nn.residual`), but they make one node of the graph, whose
backward can be read from top to bottom: :meth:`ResidualUnit.backward` and its five steps.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minigrad import kernels
from minigrad.core import events
from minigrad.core.decisions import held
from minigrad.core.errors import ArgumentError, ShapeError
from minigrad.core.function import Function
from minigrad.core.node import Node
from minigrad.core.tensor import Tensor
from minigrad.kernels._layout import channels_last_order
from minigrad.ops._images import check_images
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.activation import ReLU, held_relu
from minigrad.ops.arithmetic import added
from minigrad.ops.conv import Conv2d, out_shape
from minigrad.ops.norm import BatchNorm, normalised
from minigrad.ops.shares import late_backward, may_wait, shares_added
from minigrad.ops.steps import (
    Step,
    conv_step,
    joined,
    norm_step,
    relu_step,
    zero_pad_steps,
)
from minigrad.ops.stopped import Stopped, stopped

__all__ = [
    "ResidualUnit",
    "Unit",
    "convolution_path_backward",
    "identity_path_backward",
    "residual",
    "run_unit",
    "unit_of",
]


def path_forward(
    x: np.ndarray, path: Sequence[Step], parameters: Sequence[Any], needs: Sequence[bool]
) -> tuple[np.ndarray, list[Node]]:
    """Run the layers of a path on ``x``, one after the other.

    Parameters
    ----------
    x : ndarray
    path : sequence of Step
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
    contexts, used, x_needs = [], 0, needs[0]
    for step in path:
        own = slice(used, used + len(step.parameters))
        own_needs = tuple(needs[1:][own])
        ctx = Node(step.function, (x_needs, *own_needs))
        options = step.options(x, *parameters[own])
        x = step.function.forward(ctx, x, *parameters[own], **options)
        contexts.append(ctx)
        used = own.stop
        x_needs = any(ctx.needs)  # the next layer must hand down what this one waits for
        if not x_needs:
            ctx.save()  # nobody comes back for it: let its memory serve the next layers
    return x, contexts


def path_backward(
    contexts: Sequence[Node], grad_out: np.ndarray | Stopped
) -> tuple[Any, list[np.ndarray | None]]:
    """Undo the layers of a path, the last one first.

    A batch norm takes a cotangent that the relu behind the sum has stopped as it is; other layers
    want an array.

    Returns
    -------
    grad_x : ndarray or None
    grads : list of ndarray or None
        One for each parameter of the path, in the order of the forward pass.
    """
    grad: Any = grad_out
    grads: list[np.ndarray | None] = []
    for ctx in reversed(contexts):
        result: Any = (None,) * len(ctx.needs)
        if any(ctx.needs):
            grad = grad if ctx.function is BatchNorm else np.asarray(grad)
            result = ctx.function.backward(ctx, grad)
        grad, *own = result if isinstance(result, tuple) else (result,)
        grads = [*own, *grads]
    return grad, grads


def meets_at_once(conv_path: Sequence[Step], activation: Sequence[Step]) -> bool:
    """Whether F ends in a batch norm and the sum in a relu, as in the units of 2015."""
    ends = [step.function for step in (*conv_path[-1:], *activation)]
    return ends == [BatchNorm, ReLU]


def meets_in_convolution(ctx: Any, conv_path: Sequence[Step], activation: Sequence[Step]) -> bool:
    """Whether F ends in a convolution that may finish the sum, for nobody goes back through it.

    So it is in a folded network.
    """
    last = [step.function for step in conv_path[-1:]]
    behind = [step.function for step in activation]
    forward_only = not any(ctx.needs) and not held()
    return forward_only and last == [Conv2d] and behind in ([], [ReLU])


def norm_add_relu(
    ctx: Any,
    f: np.ndarray,
    s: np.ndarray,
    norm: Step,
    parameters: Sequence[Any],
    needs: Sequence[bool],
) -> np.ndarray:
    """Run the last norm of F, the sum and the activation in one pass: y = relu(norm(f) + s).

    It saves what the layers save when they run one after the other, and the backward is theirs.
    """
    weight, bias = parameters
    f_needs = any(ctx.conv_path[-1].needs) if ctx.conv_path else ctx.needs[0]
    last = Node(BatchNorm, (f_needs, *needs))
    relu: Any = Node(ReLU, (any(ctx.needs),))
    settings = norm.options(f, weight, bias)
    y, mask, mean, inv_std = normalised(last, f, weight, bias, True, s, **settings)
    last.save(f, weight, mean, inv_std)
    relu.save(mask)
    relu.order = channels_last_order(f.ndim)
    ctx.conv_path.append(last)
    ctx.activation = [relu]
    if held():
        sum_ = kernels.batch_norm_forward(f, weight, bias, mean, inv_std) + s
        return held_relu("residual", sum_)
    return y


def activation_backward(ctx: Any, grad_out: np.ndarray) -> Any:
    """Undo the last activation, if there is one: the gradient at the sum F(x) + S(x).

    Where F ends in a batch norm and nobody listens, the paths apply the bits of the relu
    themselves, as they read.
    """
    if ctx.at_once and not events.listening:
        (mask,) = ctx.activation[0].saved
        return stopped(grad_out, mask)
    return path_backward(ctx.activation, grad_out)[0]


def convolution_path_backward(ctx: Any, grad_sum: np.ndarray | Stopped) -> tuple[Any, list[Any]]:
    """The gradient that comes back through the convolution path F.

    Unless somebody listens, the sum finishes it, where F begins with a convolution.

    Parameters
    ----------
    ctx : Node
        Of a :class:`ResidualUnit`.
    grad_sum : ndarray or Stopped
        Gradient at the sum F(x) + S(x).

    Returns
    -------
    grad_conv : ndarray, Unfinished or None
        ``dF/dx^T grad_sum``, of the shape of x.
    grads : list
        For each parameter of F.
    """
    if events.listening or not may_wait(ctx.conv_path):
        return path_backward(ctx.conv_path, grad_sum)
    grad, grads = path_backward(ctx.conv_path[1:], grad_sum)
    grad, *own = late_backward(ctx.conv_path[0], np.asarray(grad))
    return grad, [*own, *grads]


def identity_path_backward(ctx: Any, grad_sum: np.ndarray | Stopped) -> tuple[Any, list[Any]]:
    """The gradient that comes back along the identity path S.

    For a plain shortcut this is ``grad_sum`` itself: the term that does not vanish.

    Parameters
    ----------
    ctx : Node
        Of a :class:`ResidualUnit`.
    grad_sum : ndarray or Stopped
        Gradient at the sum F(x) + S(x).

    Returns
    -------
    grad_identity : ndarray, Stopped or None
        ``dS/dx^T grad_sum``, of the shape of x.
    grads : list
        For each parameter of S.
    """
    return path_backward(ctx.identity_path, grad_sum)


def check_meeting(f_shape: tuple[int, ...], s_shape: tuple[int, ...]) -> None:
    if f_shape != s_shape:
        raise ShapeError(
            f"residual: the two paths meet in a sum, F(x) has shape {f_shape} and S(x) has "
            f"shape {s_shape}. Give the identity path a projection (conv_step with the stride "
            f"of the convolution path), or zero_pad_steps."
        )


class ResidualUnit(Function):
    """y = act(F(x) + S(x))."""

    @staticmethod
    def forward(
        ctx: Any,
        x: np.ndarray,
        *parameters: Any,
        conv_path: Sequence[Step],
        identity_path: Sequence[Step],
        activation: Sequence[Step],
    ) -> np.ndarray:
        split = sum(len(step.parameters) for step in conv_path)
        x_needs, needs = ctx.needs[:1], ctx.needs[1:]
        ctx.at_once = at_once = meets_at_once(conv_path, activation)
        in_conv = meets_in_convolution(ctx, conv_path, activation)
        before = conv_path[:-1] if at_once or in_conv else conv_path
        f, ctx.conv_path = path_forward(x, before, parameters[:split], x_needs + needs[:split])
        s, ctx.identity_path = path_forward(
            x, identity_path, parameters[split:], x_needs + needs[split:]
        )
        own = slice(split - 2, split)  # the parameters of a norm or a convolution at F's end
        if in_conv:
            weight, bias = parameters[own]
            options = conv_path[-1].options(f, weight, bias)
            check_meeting(out_shape(f, weight, **options), s.shape)
            last = Node(Conv2d, needs[own])
            return Conv2d.forward(last, f, weight, bias, **options, other=s, relu=bool(activation))
        check_meeting(f.shape, s.shape)
        if at_once:
            y = norm_add_relu(ctx, f, s, conv_path[-1], parameters[own], needs[own])
        else:
            y, ctx.activation = path_forward(added(f, s), activation, (), (any(ctx.needs),))
        layers = (*ctx.conv_path, *ctx.identity_path, *ctx.activation)
        # All that the layers saved, so that an in-place write to any of it is caught.
        ctx.save(*[array for layer in layers for array in layer.saved])
        return y

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> tuple[np.ndarray | None, ...]:
        # 1. Undo the last activation. A pre-activation unit has none.
        grad_sum = activation_backward(ctx, grad_out)
        # 2. The convolution path: back through F.
        grad_conv, conv_grads = convolution_path_backward(ctx, grad_sum)
        # 3. The identity path: back along S.
        grad_identity, identity_grads = identity_path_backward(ctx, grad_sum)
        if not ctx.needs[0]:
            return None, *conv_grads, *identity_grads
        # 4. Announce the two shares.
        if events.listening:
            parts = (grad_conv, grad_identity)
            events.emit(events.Fanout(ctx.path, "residual", ("conv", "identity"), parts))
        # 5. The adjoint of copying is adding: x went both ways, so both ways come back.
        grad_x = shares_added(grad_conv, grad_identity)
        return grad_x, *conv_grads, *identity_grads


class Unit(NamedTuple):
    """What :class:`ResidualUnit` takes besides x."""

    parameters: tuple[Any, ...]
    paths: dict[str, tuple[Step, ...]]


def unit_of(
    conv_path: Iterable[Step], identity_path: Iterable[Step], activation: Iterable[Step]
) -> Unit:
    """Check the paths of a unit, and join the layers that are faster as one."""
    paths = [tuple(conv_path), tuple(identity_path), tuple(activation)]
    for step in (step for path in paths for step in path):
        if not isinstance(step, Step):
            raise ArgumentError(
                f"residual: a path is a list of steps, got {type(step).__name__} in it. Make each "
                f"layer with conv_step, norm_step, relu_step, drop_path_step or zero_pad_steps."
            )
    parameters = tuple([p for path in paths[:2] for step in path for p in step.parameters])
    names = "conv_path", "identity_path", "activation"
    joint = joined(paths[0]), joined(paths[1]), paths[2]
    return Unit(parameters, dict(zip(names, joint, strict=True)))


def run_unit(x: Any, unit: Unit) -> Tensor:
    """Run a unit on x."""
    check_images("residual", x)
    return ResidualUnit.apply(x, *unit.parameters, **unit.paths)


def _units(rng: np.random.Generator) -> list[Sample]:
    x = rng.standard_normal((2, 3, 5, 7))

    def conv(F: int, C: int, K: int, **options: Any) -> Step:
        return conv_step(rng.standard_normal((F, C, K, K)) / K, **options)

    def norm(C: int, **options: Any) -> Step:
        return norm_step(rng.uniform(0.5, 1.5, C), rng.standard_normal(C), **options)

    frozen = {"running_mean": np.zeros(3), "running_var": np.ones(3), "training": False}
    relu = relu_step()
    basic = [conv(4, 3, 3, stride=2, padding=1), norm(4), relu, conv(4, 4, 3, padding=1), norm(4)]
    bottleneck = [
        conv(2, 3, 1), norm(2), relu, conv(2, 2, 3, padding=1), norm(2), relu, conv(3, 2, 1),
        norm(3),
    ]  # fmt: skip
    preact = [norm(3), relu, conv(3, 3, 3, padding=1), norm(3), relu, conv(3, 3, 3, padding=1)]
    stays = [conv(3, 3, 3, padding=1), norm(3, **frozen)]
    return [
        Sample(x, basic, [conv(4, 3, 1, stride=2), norm(4)]),
        Sample(x, basic, zero_pad_steps(2, 0, 1)),
        Sample(x, bottleneck),
        Sample(x, preact, activation=()),
        Sample(x, stays),
    ]


def _bad_units(rng: np.random.Generator) -> list[Wrong]:
    x, weight = np.ones((2, 3, 5, 7)), np.ones((4, 3, 3, 3))
    return [
        Wrong(
            ShapeError,
            "residual: the two paths meet in a sum, F(x) has shape (2, 4, 3, 5) and S(x) has shape "
            "(2, 3, 5, 7). Give the identity path a projection (conv_step with the stride of the "
            "convolution path), or zero_pad_steps.",
            x,
            [conv_step(weight)],
        ),
        Wrong(
            ArgumentError,
            "residual: a path is a list of steps, got ndarray in it. Make each layer with "
            "conv_step, norm_step, relu_step, drop_path_step or zero_pad_steps.",
            x,
            [weight],
        ),
        Wrong(
            ShapeError,
            "conv2d: weight expects 3 input channels, x has 2. x is (1, 2, 5, 5) as "
            "(N, C, H, W); weight is (4, 3, 3, 3) as (F, C/groups, KH, KW); groups=1. Pass an x "
            "with 3 channels, or a weight of shape (4, 2, 3, 3).",
            np.ones((1, 2, 5, 5)),
            [conv_step(weight)],
        ),
    ]


@operation(ResidualUnit, samples=_units, wrong=_bad_units)
def residual(
    x: Any,
    conv_path: Iterable[Step],
    identity_path: Iterable[Step] = (),
    activation: Iterable[Step] = (relu_step(),),
) -> Tensor:
    """One residual unit in one node: y = act(F(x) + S(x)).

    Basic, bottleneck and pre-activation units are all of this form and differ in their paths.

    Parameters
    ----------
    x : Tensor or ndarray, (N, C, H, W), float32 or float64
    conv_path : iterable of Step
        The layers of F, from :func:`conv_step`, :func:`norm_step`, :func:`relu_step` and
        :func:`drop_path_step`.
    identity_path : iterable of Step
        The layers of S: none for the identity, a projection, or :func:`zero_pad_steps`.
    activation : iterable of Step
        Behind the sum: relu, or none for a pre-activation unit.

    Returns
    -------
    Tensor
        (N, F, OH, OW): the shape in which both paths end.

    Raises
    ------
    ShapeError
        If the paths end in different shapes, or a layer does not fit what comes down its path.
    ArgumentError
        If a path holds something else than steps.

    Gradient
    --------
    With g = grad_out act'(F(x) + S(x)), in five steps: g; grad_conv = F'(x)^T g; grad_identity =
    S'(x)^T g, which is g itself for a plain shortcut; both are announced to whoever listens
    (:mod:`minigrad.core.events`); grad_x = grad_conv + grad_identity. Saves what the layers save.

    Source
    ------
    He et al., Deep residual learning for image recognition, CVPR 2016, eq. 1 and 2, figure 5; He et
    al., Identity mappings in deep residual networks, ECCV 2016, eq. 5.

    Examples
    --------
    With a convolution path of zeros all that is left is the identity path:

    >>> import numpy as np, minigrad as mg
    >>> from minigrad.ops.residual import residual
    >>> from minigrad.ops.steps import conv_step
    >>> x = mg.tensor(np.ones((1, 1, 1, 3)), requires_grad=True)
    >>> y = residual(x, [conv_step(np.zeros((1, 1, 1, 1)))])
    >>> y.backward(np.array([[[[1.0, 2.0, 3.0]]]]))
    >>> x.grad
    array([[[[1., 2., 3.]]]])
    """
    return run_unit(x, unit_of(conv_path, identity_path, activation))
