"""Second derivatives: the complex step through forward and backward, exact to rounding.

The gradient of an analytic function is analytic, so ``Im grad(x + ihv) / h`` is the Hessian times
v, and at h = 1e-20 nothing is lost, for nothing is subtracted (Squire and Trapp, 1998). Kernels are
replaced by their complex-safe twins. Branches at kinks are those of x, for real parts decide.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.core.errors import ArgumentError, ShapeError
from minigrad.core.mode import complex_step
from minigrad.core.rng import generator
from minigrad.core.tensor import Tensor, grad

__all__ = ["hessian", "hvp"]

_STEP = 1e-20


def hvp(f: Callable[..., Tensor], x: Any, v: Any) -> Any:
    """The Hessian of f at x times v: the slope of the gradient along v, exact to rounding.

    Parameters
    ----------
    f : callable
        From tensors to a tensor with one entry; of operations that have complex-safe forwards and
        backwards, as all of minigrad's.
    x : ndarray or Tensor, or a list of them
        Where. ``f`` is called with them. It may also ignore its arguments and use the tensors
        themselves, as in ``hvp(lambda *_: loss(net(images)), list(net.parameters()), v)``: their
        data are replaced for the time of the call.
    v : array, or a list of arrays
        Of the shapes of x.

    Returns
    -------
    ndarray, or a list of them
        float64, of the shapes of x.

    Raises
    ------
    ShapeError
        If v does not fit x, or f gives more than one number.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> mg.hvp(lambda x: mg.sum(x**3), np.array([1.0, 2.0]), np.array([1.0, 0.5]))
    array([6., 6.])
    """
    several = isinstance(x, list | tuple)
    points, vectors = (list(x), list(v)) if several else ([x], [v])
    tensors = [p if isinstance(p, Tensor) else Tensor(np.asarray(p, np.float64)) for p in points]
    directions = [np.asarray(u, np.float64) for u in vectors]
    if [t.shape for t in tensors] != [u.shape for u in directions]:
        raise ShapeError(
            f"hvp: a vector of the shape of x is needed, x has {[t.shape for t in tensors]}, v has "
            f"{[u.shape for u in directions]}. Pass one array for each of x."
        )
    products = _gradient_slope(f, tensors, directions)
    return products if several else products[0]


def _gradient_slope(
    f: Callable[..., Tensor], tensors: Sequence[Tensor], directions: Sequence[np.ndarray]
) -> list[np.ndarray]:
    before = [(t.data, t.requires_grad) for t in tensors]
    random_state = generator().bit_generator.state
    try:
        with complex_step(), kernels.use("reference"):
            for t, u in zip(tensors, directions, strict=True):
                t.data = t.data + 1j * _STEP * u
                t.requires_grad = True
            y = f(*tensors)
            if not isinstance(y, Tensor) or y.size != 1:
                told = f"shape {y.shape}" if isinstance(y, Tensor) else type(y).__name__
                raise ShapeError(
                    f"hvp: a function that gives a tensor with one entry is needed, this one gave "
                    f"{told}. Sum its outputs, with weights."
                )
            if not y.requires_grad:
                raise ArgumentError(
                    "hvp: a function of x is needed, this one does not depend on it. Use the "
                    "tensors that f is called with."
                )
            gradients = grad([y], list(tensors), [np.ones(y.shape)])
    finally:
        generator().bit_generator.state = random_state  # the same random masks in every call
        for t, (data, wanted) in zip(tensors, before, strict=True):
            t.data, t.requires_grad = data, wanted
    return [np.asarray(np.imag(g) / _STEP) for g in gradients]


def hessian(f: Callable[..., Tensor], x: Any) -> Any:
    """All second derivatives of f at x, column by column from :func:`hvp`.

    Parameters
    ----------
    f : callable
        As for :func:`hvp`.
    x : ndarray or Tensor, or a list of them

    Returns
    -------
    ndarray of shape x.shape + x.shape
        float64. For a list of x, a list of lists of such blocks.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> mg.hessian(lambda x: x[0] ** 2 * x[1], np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    several = isinstance(x, list | tuple)
    points = list(x) if several else [x]
    shapes = [p.shape if isinstance(p, Tensor) else np.shape(p) for p in points]
    blocks = [[np.zeros((*a, *b)) for b in shapes] for a in shapes]
    for j, shape in enumerate(shapes):
        for place in np.ndindex(shape):
            unit = [np.zeros(s) for s in shapes]
            unit[j][place] = 1
            for i, column in enumerate(hvp(f, points, unit)):
                blocks[i][j][(..., *place)] = column
    return blocks if several else blocks[0][0]
