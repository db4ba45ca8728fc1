"""batch_norm and the relu behind it as one operation, which passes over memory less often."""

from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.core.decisions import held
from minigrad.core.errors import ArgumentError, ShapeError
from minigrad.core.tensor import Tensor
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.activation import held_relu
from minigrad.ops.norm import BatchNorm, check_norm, normalised

__all__ = ["batch_norm_relu"]


class BatchNormReLU(BatchNorm):
    """y = max(weight (x - mean) / sqrt(var + eps) + bias, 0), channel by channel."""

    @staticmethod
    def forward(
        ctx: Any, x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None, **settings: Any
    ) -> np.ndarray:
        y, mask, mean, inv_std = normalised(ctx, x, weight, bias, True, **settings)
        ctx.save(x, weight, mean, inv_std, mask)  # the mask tells undo_norm of the relu
        if held():
            normal = kernels.batch_norm_forward(x, weight, bias, mean, inv_std)
            return held_relu("batch_norm_relu", normal)
        return y


def _batches(rng: np.random.Generator) -> list[Sample]:
    normal = rng.standard_normal
    running = {"running_mean": normal(3), "running_var": rng.uniform(0.5, 2, 3)}
    image = 3 * normal((2, 3, 5, 7)) + 1
    return [
        Sample(image, normal(3), normal(3)),
        Sample(image, None, normal(3), **running, momentum=0.25, eps=0.5),
        Sample(image, normal(3), None, **running, training=False),
        Sample(normal((5, 3)), None, None),
        Sample(normal((0, 3, 5, 7)), normal(3), normal(3)),
    ]


def _bad_batches(rng: np.random.Generator) -> list[Wrong]:
    return [
        Wrong(
            ShapeError,
            "batch_norm: x of shape (N, C, ...) is needed, got (3,). Give it a batch axis in "
            "front.",
            np.ones(3),
        ),
        Wrong(
            ArgumentError,
            "batch_norm: training=False normalises with running_mean and running_var, got None. "
            "Pass both, or training=True.",
            np.ones((2, 3, 5, 7)),
            training=False,
        ),
    ]


@operation(BatchNormReLU, samples=_batches, wrong=_bad_batches)
def batch_norm_relu(
    x: Any,
    weight: Any = None,
    bias: Any = None,
    running_mean: np.ndarray | None = None,
    running_var: np.ndarray | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel and keep what is positive: y = relu(batch_norm(x, ...)).

    The same bits as the two operations, in two passes over memory each way where they take four.

    Parameters
    ----------
    x, weight, bias, running_mean, running_var, training, momentum, eps
        As for :func:`~minigrad.ops.norm.batch_norm`.

    Returns
    -------
    Tensor
        Of the shape of x.

    Raises
    ------
    ShapeError, ArgumentError, DTypeError
        As ``batch_norm`` does.

    Gradient
    --------
    That of ``batch_norm`` for grad_out where y > 0 and 0 elsewhere, also at the kink. Saves x,
    weight, 16 bytes a channel and one bit for each entry of x.

    Source
    ------
    Ioffe and Szegedy, Batch Normalization (2015), section 3.2: the place between the product and
    the nonlinearity.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> mg.ops.batch_norm_relu(np.array([[1.0], [3.0]]), eps=0).data
    array([[0.],
           [1.]])
    """
    check_norm(x, weight, bias, running_mean, running_var, training, momentum)
    return BatchNormReLU.apply(
        x,
        weight,
        bias,
        running_mean=running_mean,
        running_var=running_var,
        training=training,
        momentum=momentum,
        eps=eps,
    )
