"""dropout and drop_path: parts of a tensor set to zero at random while training.

What is kept is scaled by 1 / (1 - p), so that its mean stays and nothing is to do at test time.
"""

import math
from typing import Any

import numpy as np

from minigrad.core import rng as _random
from minigrad.core.decisions import decide
from minigrad.core.dtypes import NUMBERS
from minigrad.core.errors import ArgumentError, DTypeError, ShapeError
from minigrad.core.function import Function
from minigrad.core.tensor import Tensor
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.activation import bad_floating, check_floating

__all__ = ["drop_path", "dropout"]


def _scaled(x: np.ndarray, keep: np.ndarray, scale: float) -> np.ndarray:
    """x times the scale where it is kept, else times 0, in the memory order of x."""
    factor = np.multiply(keep, scale, dtype=x.real.dtype)
    return np.multiply(x, factor, out=np.empty_like(x, subok=False))


class Dropout(Function):
    """y = x keep / (1 - p)."""

    @staticmethod
    def forward(ctx: Any, x: np.ndarray, *, keep: np.ndarray, p: float) -> Any:
        ctx.save(keep)
        ctx.scale = 1 / (1 - p) if p < 1 else 0.0
        return _scaled(x, keep, ctx.scale)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        (keep,) = ctx.saved
        return _scaled(grad_out, keep, ctx.scale)


class DropPath(Dropout):
    """y = x keep / (1 - p), with one ``keep`` for each sample."""


def kept(shape: tuple[int, ...], p: float, rng: np.random.Generator | None) -> np.ndarray:
    """True with probability 1 - p in each place.

    Numbers are drawn in the order of the indices, whatever the order in memory, and are of one
    precision, so a seed means the same mask everywhere.
    """
    generator = _random.generator() if rng is None else rng
    return decide("dropout", lambda: generator.random(shape, np.float32) >= p)


def _check_settings(name: str, p: Any, rng: Any) -> None:
    number = isinstance(p, NUMBERS)
    if not number or not 0 <= p <= 1:  # a NaN is not either
        raise ArgumentError(
            f"{name}: p, the probability of dropping, is from 0 to 1, got {p!r}. Pass for "
            f"example 0.5."
        )
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise DTypeError(
            f"{name}: rng is a numpy Generator or None, got {type(rng).__name__}. Pass "
            f"np.random.default_rng(seed), or call minigrad.manual_seed(seed) and pass nothing."
        )


def _bad_settings(name: str) -> list[Wrong]:
    range_text = (
        f"{name}: p, the probability of dropping, is from 0 to 1, got %s. Pass for example 0.5."
    )
    x = np.ones((2, 3))
    return [
        *bad_floating(name, 0.5),
        Wrong(ArgumentError, range_text % "1.5", x, p=1.5),
        Wrong(ArgumentError, range_text % "-0.1", x, p=-0.1),
        Wrong(ArgumentError, range_text % "nan", x, p=math.nan),
        Wrong(ArgumentError, range_text % "'half'", x, p="half", training=False),
        Wrong(
            DTypeError,
            f"{name}: rng is a numpy Generator or None, got int. Pass np.random.default_rng(seed), "
            f"or call minigrad.manual_seed(seed) and pass nothing.",
            x,
            0.5,
            rng=7,
        ),
    ]


def _dropout_samples(rng: np.random.Generator) -> list[Sample]:
    normal, seeded = rng.standard_normal, np.random.default_rng
    return [
        Sample(normal((2, 3, 5)), rng=seeded(1)),
        Sample(normal((2, 5, 7, 3)).transpose(0, 3, 1, 2), p=0.25, rng=seeded(2)),
        Sample(normal((2, 3)), 1.0, rng=seeded(3)),
        Sample(normal(()), 0.25, rng=seeded(4)),
    ]


@operation(Dropout, samples=_dropout_samples, wrong=lambda rng: _bad_settings("dropout"))
def dropout(
    x: Any, p: float = 0.5, training: bool = True, rng: np.random.Generator | None = None
) -> Tensor:
    """Set each entry to zero with probability p and scale the others: y = x keep / (1 - p).

    Parameters
    ----------
    x : Tensor, ndarray or float
    p : float
        Probability of dropping, from 0 to 1.
    training : bool
        False: x itself is returned, and nothing is drawn.
    rng : numpy.random.Generator, optional
        Where the mask is drawn from; else the library's own (:func:`minigrad.manual_seed`). The
        mask follows from its state and the shape alone.

    Returns
    -------
    Tensor
        Of the shape of x; x itself where p is 0. A dropped NaN is still a NaN.

    Raises
    ------
    ArgumentError
        If p is not from 0 to 1.
    DTypeError
        If x is not of float32 or float64, or rng is no Generator.

    Gradient
    --------
    grad_x = grad_out keep / (1 - p). Saves the mask: x.size bytes.

    Source
    ------
    Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, JMLR 15
    (2014), sec. 4; scaling at training instead of test time: sec. 10.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> mg.dropout(mg.tensor([1.0, 2.0, 3.0, 4.0]), 0.5, rng=np.random.default_rng(6)).data
    array([0., 4., 6., 0.], dtype=float32)
    """
    shape = check_floating("dropout", x)
    _check_settings("dropout", p, rng)
    if not training or p == 0:
        return _itself(x)
    return Dropout.apply(_itself(x), keep=kept(shape, p, rng), p=float(p))


def _itself(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else Tensor(np.asarray(x))


def _drop_path_samples(rng: np.random.Generator) -> list[Sample]:
    normal, seeded = rng.standard_normal, np.random.default_rng
    return [
        Sample(normal((7, 3, 5)), 0.5, rng=seeded(1)),
        Sample(normal((7, 2, 5, 3)).transpose(0, 3, 1, 2), p=0.25, rng=seeded(2)),
        Sample(normal((2, 3)), 1.0, rng=seeded(3)),
    ]


def _bad_drop_path(rng: np.random.Generator) -> list[Wrong]:
    return [
        *_bad_settings("drop_path"),
        Wrong(
            ShapeError,
            "drop_path: samples along axis 0 are dropped, x has no axes. Pass an x of shape "
            "(N, ...).",
            np.asarray(1.0),
            0.5,
        ),
    ]


@operation(DropPath, samples=_drop_path_samples, wrong=_bad_drop_path)
def drop_path(
    x: Any, p: float, training: bool = True, rng: np.random.Generator | None = None
) -> Tensor:
    """Set whole samples to zero with probability p and scale the others: stochastic depth.

    y_n = x_n keep_n / (1 - p). At the end of a convolution path it switches the residual unit off
    for a part of the batch, and only the identity path remains.

    Parameters
    ----------
    x : Tensor or ndarray, shape (N, ...)
    p : float
        Probability of dropping a sample, from 0 to 1.
    training : bool
        False: x itself is returned, and nothing is drawn.
    rng : numpy.random.Generator, optional
        Where the mask is drawn from; else the library's own (:func:`minigrad.manual_seed`).

    Returns
    -------
    Tensor
        Of the shape of x; x itself where p is 0.

    Raises
    ------
    ArgumentError
        If p is not from 0 to 1.
    DTypeError
        If x is not of float32 or float64, or rng is no Generator.
    ShapeError
        If x has no axes.

    Gradient
    --------
    grad_x_n = grad_out_n keep_n / (1 - p). Saves the mask: N bytes.

    Notes
    -----
    The paper keeps x as it is in training and multiplies by 1 - p at test time (eq. 5), and it
    draws once for the whole batch.

    Source
    ------
    Huang et al., Deep networks with stochastic depth, ECCV 2016, eq. 2.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> x = mg.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> mg.drop_path(x, 0.5, rng=np.random.default_rng(6)).data
    array([[ 0.,  0.],
           [ 6.,  8.],
           [10., 12.]], dtype=float32)
    """
    shape = check_floating("drop_path", x)
    _check_settings("drop_path", p, rng)
    if not shape:
        raise ShapeError(
            "drop_path: samples along axis 0 are dropped, x has no axes. Pass an x of shape "
            "(N, ...)."
        )
    if not training or p == 0:
        return _itself(x)
    one_each = (shape[0],) + (1,) * (len(shape) - 1)
    return DropPath.apply(x, keep=kept(one_each, p, rng), p=float(p))
