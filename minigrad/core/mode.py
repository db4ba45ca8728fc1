"""What holds for the code running now, in this thread: gradients, debugging, module path."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["complex_step", "detect_anomaly", "no_grad", "state"]


class _State(threading.local):
    """One set of switches a thread."""

    def __init__(self) -> None:  # runs in each thread that comes here
        self.grad_enabled = True
        self.anomaly = False
        self.complex_allowed = False
        self.path = ""  # dotted path of the module being called, e.g. "layer3.0.conv2"
        self.module: object = None  # the module being called
        self.branches: Any = None  # who records or replays decisions at kinks: core/decisions.py
        self.calls: list[Any] | None = None  # the operations called, while somebody lists them


state = _State()


@contextmanager
def no_grad() -> Iterator[None]:
    """Within it, no operation is recorded and every result has ``requires_grad=False``.

    Also a decorator: ``@no_grad()``.

    Examples
    --------
    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> with mg.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """
    before, state.grad_enabled = state.grad_enabled, False
    try:
        yield
    finally:
        state.grad_enabled = before


@contextmanager
def detect_anomaly() -> Iterator[None]:
    """Within it, the first NaN or Inf of a forward or backward pass is an error that says where.

    The error names the operation, the module path and the line that created the node. Every saved
    array is fingerprinted whole (outside, large ones only by sample), so that an in-place write to
    a single entry is caught at backward. Costs a pass over every array: for debugging.

    Raises
    ------
    GraphError
        Within the block, where a non-finite number first appears.

    Examples
    --------
    >>> import minigrad as mg
    >>> x = mg.tensor([0.0], requires_grad=True)
    >>> with mg.detect_anomaly():
    ...     y = mg.log(x)
    Traceback (most recent call last):
    minigrad.core.errors.GraphError: detect_anomaly: the forward of log...non-finite number...
    """
    before, state.anomaly = state.anomaly, True
    try:
        # NumPy's own warnings would come first and say less.
        with np.errstate(all="ignore"):
            yield
    finally:
        state.anomaly = before


@contextmanager
def complex_step() -> Iterator[None]:
    """Within it, tensors may be complex128: for derivatives by the complex step.

    For an analytic f, Im f(x + ih) / h is f'(x) to rounding at h = 1e-20, because nothing is
    subtracted (Squire and Trapp, SIAM Review 40, 1998).
    """
    before, state.complex_allowed = state.complex_allowed, True
    try:
        yield
    finally:
        state.complex_allowed = before
