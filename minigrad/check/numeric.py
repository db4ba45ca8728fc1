"""Derivatives without backward: by the complex step and by differences."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["complex_step_gradients", "directional_difference"]

_STEP = 1e-20  # nothing is subtracted, so it may be as small as the numbers allow

Arrays = Sequence[np.ndarray]


def inner(a: Arrays, b: Arrays) -> complex:
    """Sum of the products of all entries, without conjugation."""
    return sum((np.sum(x * y) for x, y in zip(a, b, strict=True)), 0.0)


def complex_step_gradients(
    f: Callable[[list[np.ndarray]], Arrays], inputs: Arrays, cotangents: Arrays
) -> list[np.ndarray]:
    """Gradient of <cotangents, f(inputs)>, entry by entry, exact to rounding.

    For an analytic f, ``Im f(x + ih) / h = f'(x) + O(h**2)``, and at h = 1e-20 the error term is
    below rounding because nothing is subtracted.

    Parameters
    ----------
    f : callable
        From complex128 arrays to a sequence of complex128 arrays.
    inputs, cotangents : sequence of float64 ndarray
        Where to differentiate; the weights of the outputs.

    Returns
    -------
    list of ndarray
        One for each input, float64, of its shape.

    Source
    ------
    Squire and Trapp, Using complex variables to estimate derivatives, SIAM Review 40 (1998), eq. 3.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([1.0, 2.0])
    >>> complex_step_gradients(lambda a: [a[0] ** 3], [x], [np.ones(2)])
    [array([ 3., 12.])]
    """
    points = [x.astype(np.complex128) for x in inputs]
    gradients = []
    for point in points:
        gradient = np.zeros(point.shape)
        for index in np.ndindex(point.shape):
            point[index] += 1j * _STEP
            gradient[index] = np.imag(inner(cotangents, f(points))) / _STEP
            point[index] = point[index].real
        gradients.append(gradient)
    return gradients


def directional_difference(
    f: Callable[[list[np.ndarray]], Arrays],
    inputs: Arrays,
    direction: Arrays,
    cotangents: Arrays,
    step: float = 1e-3,
) -> tuple[float, float]:
    """Slope of <cotangents, f> along ``direction``, by differences, with a bound on its error.

    Centred differences at four halvings of the step, extrapolated by three Richardson columns,
    whose truncation error falls as step**8. The bound is the change in the last column plus a
    rounding term, ``30 eps |f| / smallest step``, where ``|f|`` adds the absolute values of the
    terms of the inner product, so that it does not vanish where they cancel.

    Returns
    -------
    slope, bound : float

    Source
    ------
    Ridders, Accurate computation of F'(x) and F'(x) F''(x), Advances in Engineering Software 4
    (1982).

    Examples
    --------
    >>> import numpy as np
    >>> x, one = np.array([0.5]), np.ones(1)
    >>> slope, bound = directional_difference(lambda a: [np.sin(a[0])], [x], [one], [one])
    >>> bool(abs(slope - np.cos(0.5)) < bound < 1e-9)
    True
    """

    size = 0.0

    def value(t: float) -> float:
        nonlocal size
        outputs = f([np.asarray(x + t * u) for x, u in zip(inputs, direction, strict=True)])
        terms = [w * y for w, y in zip(cotangents, outputs, strict=True)]
        size = max(size, sum(float(np.abs(term).sum()) for term in terms))
        return sum(float(term.sum()) for term in terms)

    halvings = [step / 2**k for k in range(4)]
    pairs = [(value(h), value(-h)) for h in halvings]
    column = [(up - down) / (2 * h) for h, (up, down) in zip(halvings, pairs, strict=True)]
    previous = column[-1]
    for order in (4.0, 16.0, 64.0):
        previous = column[-1]
        column = [
            (order * fine - coarse) / (order - 1) for coarse, fine in itertools.pairwise(column)
        ]
    rounding = 30 * np.finfo(np.float64).eps * size / halvings[-1]
    return column[-1], abs(column[-1] - previous) + rounding
