"""Comparisons, element by element: results are booleans and have no gradient."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.core.tensor import Tensor
from minigrad.ops._registry import Sample, operation
from minigrad.ops.arithmetic import bad_pairs, check_operands

__all__ = ["equal", "greater", "greater_equal", "less", "less_equal", "not_equal"]


def _samples(rng: np.random.Generator) -> list[Sample]:
    x = rng.integers(0, 3, (2, 3, 5)).astype(float)
    return [Sample(x, rng.integers(0, 3, (3, 1)).astype(float)), Sample(x, 1)]


def _compare(ufunc: Callable[..., np.ndarray], x: Any, y: Any) -> Tensor:
    check_operands(ufunc.__name__, x, y)
    x, y = (v.data if isinstance(v, Tensor) else v for v in (x, y))
    return Tensor(np.asarray(ufunc(np.real(x), np.real(y))))


@operation(None, samples=_samples, wrong=lambda rng: bad_pairs("equal"), differentiable=False)
def equal(x: Any, y: Any) -> Tensor:
    """Whether x == y, element by element with broadcasting; a bool tensor without gradient.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.equal(mg.tensor([1.0, 2.0]), 2).data
    array([False,  True])
    """
    return _compare(np.equal, x, y)


@operation(None, samples=_samples, wrong=lambda rng: bad_pairs("not_equal"), differentiable=False)
def not_equal(x: Any, y: Any) -> Tensor:
    """Whether x != y, element by element with broadcasting; a bool tensor without gradient.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.not_equal(mg.tensor([1.0, 2.0]), 2).data
    array([ True, False])
    """
    return _compare(np.not_equal, x, y)


@operation(None, samples=_samples, wrong=lambda rng: bad_pairs("less"), differentiable=False)
def less(x: Any, y: Any) -> Tensor:
    """Whether x < y, element by element with broadcasting; a bool tensor without gradient.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.less(mg.tensor([1.0, 2.0]), 2).data
    array([ True, False])
    """
    return _compare(np.less, x, y)


@operation(None, samples=_samples, wrong=lambda rng: bad_pairs("less_equal"), differentiable=False)
def less_equal(x: Any, y: Any) -> Tensor:
    """Whether x <= y, element by element with broadcasting; a bool tensor without gradient.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.less_equal(mg.tensor([1.0, 2.0]), 1).data
    array([ True, False])
    """
    return _compare(np.less_equal, x, y)


@operation(None, samples=_samples, wrong=lambda rng: bad_pairs("greater"), differentiable=False)
def greater(x: Any, y: Any) -> Tensor:
    """Whether x > y, element by element with broadcasting; a bool tensor without gradient.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.greater(mg.tensor([1.0, 2.0]), 1).data
    array([False,  True])
    """
    return _compare(np.greater, x, y)


@operation(
    None, samples=_samples, wrong=lambda rng: bad_pairs("greater_equal"), differentiable=False
)
def greater_equal(x: Any, y: Any) -> Tensor:
    """Whether x >= y, element by element with broadcasting; a bool tensor without gradient.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.greater_equal(mg.tensor([1.0, 2.0]), 2).data
    array([False,  True])
    """
    return _compare(np.greater_equal, x, y)
