"""Which algorithm computes a convolution.

``TABLE`` says it by shape, for all callers that do not ask for one: the first row that fits. It was
made from ``benchmarks/conv_shapes.py``. This file imports no Numba, so that an algorithm can be
named before anything is compiled.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import numpy as np

# In the order in which one that cannot serve a case hands it on.
ALGORITHMS = ("winograd", "direct", "im2col", "reference")

Shape = tuple[int, ...]


class Case(NamedTuple):
    """What is to be computed, as far as a choice may depend on it."""

    product: str  # "forward", "grad_input" or "grad_weight"
    dtype: np.dtype
    x_shape: Shape
    weight_shape: Shape
    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


class Row(NamedTuple):
    """A row of the table: cases that ``fits`` accepts are served by ``algorithm``."""

    algorithm: str
    fits: Callable[[Case], bool]


def serves(algorithm: str, case: Case) -> bool:
    """Tell whether an algorithm can compute a case; all but winograd compute every one."""
    return algorithm != "winograd" or (
        case.product != "grad_weight"
        and case.dtype == np.float32
        and case.weight_shape[2:] == (3, 3)
        and case.stride == case.dilation == (1, 1)
        and case.groups == 1
    )


def _pays_for_winograd(case: Case) -> bool:
    """Tell whether winograd is faster; its error is two to four times that of direct.

    With few channels its transforms cost more than they save, and with few pixels that of the
    filters does. A tile is 4 x 4 pixels; in small images much of it hangs over the edge.
    """
    N, C, H, W = case.x_shape
    inside = H * W / ((H + 3) // 4 * ((W + 3) // 4) * 16) if H and W else 0
    return min(C, case.weight_shape[0]) >= 32 and inside > 0.7 and N * H * W >= 1024


TABLE = (
    Row("winograd", lambda case: serves("winograd", case) and _pays_for_winograd(case)),
    Row("direct", lambda case: True),
)

_local = threading.local()


@contextmanager
def conv_algorithm(algorithm: str) -> Iterator[None]:
    """Let convolutions of this thread use one algorithm while the block lasts.

    Parameters
    ----------
    algorithm : {"auto", "im2col", "direct", "winograd", "reference"}
        "auto" goes by the table of shapes. "winograd" computes 3 x 3 filters with stride 1 in
        float32, and neither groups nor the gradient of the weight; what it cannot compute,
        "direct" does.
    """
    if algorithm not in ("auto", *ALGORITHMS):
        raise ValueError(
            f"conv_algorithm: an algorithm of convolution is needed, got {algorithm!r}. Pass "
            f"'auto', {', '.join(map(repr, ALGORITHMS[:-1]))} or {ALGORITHMS[-1]!r}."
        )
    outer = in_use()
    _local.algorithm = algorithm
    try:
        yield
    finally:
        _local.algorithm = outer


def asking(algorithm: str) -> AbstractContextManager[None]:
    """Ask for an algorithm, or with "auto" for nothing: the context outside then decides."""
    return nullcontext() if algorithm == "auto" else conv_algorithm(algorithm)


def in_use() -> str:
    """Return the algorithm that this thread asks for, or "auto"."""
    return getattr(_local, "algorithm", "auto")


def choose(case: Case) -> str:
    """Return the algorithm that serves a case here."""
    asked = in_use()
    if asked == "auto":
        return next(row.algorithm for row in TABLE if row.fits(case))
    able = ALGORITHMS[ALGORITHMS.index(asked) :]
    return next(algorithm for algorithm in able if serves(algorithm, case))
