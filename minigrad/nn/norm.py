"""Normalisation layers."""

from typing import Any

import numpy as np

from minigrad import ops
from minigrad.core.dtypes import DEFAULT
from minigrad.core.errors import ShapeError
from minigrad.core.tensor import Tensor
from minigrad.nn import init
from minigrad.nn._settings import empty, positive
from minigrad.nn.module import Module

__all__ = ["BatchNorm1d", "BatchNorm2d", "LocalResponseNorm"]


class _BatchNorm(Module):
    """y = gamma (x - mean) / sqrt(var + eps) + beta, with one mean and variance a channel."""

    running_mean: np.ndarray | None
    running_var: np.ndarray | None
    num_batches_tracked: np.ndarray | None
    axes: tuple[int, ...]  # numbers of axes that x may have
    told: str

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__()
        positive(type(self).__name__, num_features=num_features)
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.weight = init.ones_(empty(num_features)) if affine else None
        self.bias = init.zeros_(empty(num_features)) if affine else None
        tracked = track_running_stats
        self.register_buffer("running_mean", np.zeros(num_features, DEFAULT) if tracked else None)
        self.register_buffer("running_var", np.ones(num_features, DEFAULT) if tracked else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if tracked else None)

    def forward(self, x: Any) -> Tensor:
        self._check_axes(x)
        y = ops.batch_norm(x, self.weight, self.bias, **self.settings())
        self.count_batch()
        return y

    def settings(self) -> dict[str, Any]:
        """What ``ops.batch_norm`` takes besides x, weight and bias, as things stand now."""
        return {
            "running_mean": self.running_mean,
            "running_var": self.running_var,
            # Without running statistics those of the batch serve in evaluation too.
            "training": self.training or self.running_mean is None,
            "momentum": self._momentum(),
            "eps": self.eps,
        }

    def count_batch(self) -> None:
        """Count a batch that has moved the running statistics."""
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked[...] += 1

    def _momentum(self) -> float:
        """The weight of the new batch; the k-th weighs 1/k in the plain average of all."""
        if self.momentum is not None:
            return self.momentum
        count = self.num_batches_tracked
        return 0.0 if count is None else 1 / (int(count) + 1)

    def _check_axes(self, x: Any) -> None:
        shape = getattr(x, "shape", ())
        if len(shape) not in self.axes:
            raise ShapeError(
                f"{type(self).__name__}: x of shape {self.told} is expected, got {shape}. "
                f"Use BatchNorm2d for images and BatchNorm1d for features."
            )

    def reset_running_stats(self) -> None:
        """Forget the running statistics: mean 0, variance 1, no batch seen."""
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean[...] = 0
            self.running_var[...] = 1
        if self.num_batches_tracked is not None:
            self.num_batches_tracked[...] = 0

    def extra_repr(self) -> str:
        told = f"{self.num_features}"
        defaults = {"eps": 1e-5, "momentum": 0.1, "affine": True, "track_running_stats": True}
        for name, default in defaults.items():
            if getattr(self, name) != default:
                told += f", {name}={getattr(self, name)}"
        return told


class BatchNorm1d(_BatchNorm):
    """Batch norm of features (N, C), or of sequences (N, C, L).

    See :class:`BatchNorm2d`.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> from minigrad import nn
    >>> y = nn.BatchNorm1d(1)(mg.tensor([[1.0], [3.0]]))
    >>> y.data.round(3)
    array([[-1.],
           [ 1.]], dtype=float32)
    """

    axes = (2, 3)
    told = "(N, C) or (N, C, L)"


class BatchNorm2d(_BatchNorm):
    """Batch norm of images (N, C, H, W): y = gamma (x - mean) / sqrt(var + eps) + beta.

    In training the mean and the (biased) variance of each channel are those of the batch, and the
    running ones move towards them: running = (1 - momentum) running + momentum new, with the
    unbiased variance. In evaluation the running ones are used.

    Parameters
    ----------
    num_features : int
        C.
    eps : float
        Added to the variance.
    momentum : float or None
        Weight of the new batch in the running statistics; None for the plain average of all.
    affine : bool
        Whether gamma and beta are there.
    track_running_stats : bool
        Whether running statistics are kept; without, evaluation uses those of the batch.

    Attributes
    ----------
    weight, bias : Parameter, (C,), or None
        gamma, which starts at 1, and beta, which starts at 0.
    running_mean, running_var : ndarray, (C,), or None
    num_batches_tracked : ndarray of int64, (), or None

    Notes
    -----
    Source: Ioffe and Szegedy, "Batch Normalization", 2015, algorithms 1 and 2.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> from minigrad import nn
    >>> bn = nn.BatchNorm2d(3)
    >>> bn(mg.tensor(np.ones((2, 3, 4, 4), "f"))).shape, int(bn.num_batches_tracked)
    ((2, 3, 4, 4), 1)
    """

    axes = (4,)
    told = "(N, C, H, W)"


class LocalResponseNorm(Module):
    """Divide each channel by what its neighbours say: AlexNet's normalisation.

    y_c = x_c / (k + alpha/size * sum of x_j^2 over the ``size`` channels j around c)^beta.

    Parameters
    ----------
    size : int
        How many neighbouring channels, c among them.
    alpha, beta, k : float
        As in the formula.

    Notes
    -----
    Source: Krizhevsky, Sutskever, Hinton, 2012, section 3.3, whose alpha is torch's alpha/size.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        positive("LocalResponseNorm", size=size)
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, x: Any) -> Tensor:
        return ops.local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
