"""The one kind of event: gradients are summed where a value was used more than once.

``fork``, the fused residual units and the backward loop's own implicit sums all announce it, so no
sum at a fan-out escapes a listener. With nobody listening it costs one boolean test::

    if events.listening:
        events.emit(Fanout(path, labels, parts))
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

__all__ = ["Fanout", "emit", "listen", "listening"]

listening = False
_listeners: list[Callable[["Fanout"], None]] = []


@dataclass(frozen=True)
class Fanout:
    """A sum of gradients at a fan-out.

    Attributes
    ----------
    path : str
        Dotted path of the module in whose call the fan-out was made (``layer1.0``), "" outside.
    source : str
        Who sums: ``"fork"``, ``"residual"``, or ``"engine"`` for an implicit sum.
    labels : tuple of str
        A name for each part, in the order of the sum: ``("conv", "identity")`` at a residual unit.
    parts : tuple of ndarray
        The partial gradients, all of one shape. Their sum, taken in this order, is the gradient
        handed on, bit for bit. They are the engine's own arrays: read them, copy them, never write.
    """

    path: str
    source: str
    labels: tuple[str, ...]
    parts: tuple[np.ndarray, ...]


def emit(event: Fanout) -> None:
    """Hand ``event`` to every listener, in the order in which they came."""
    for callback in list(_listeners):
        callback(event)


@contextmanager
def listen(callback: Callable[[Fanout], None]) -> Iterator[None]:
    """Call ``callback(event)`` for each sum at a fan-out within the block."""
    global listening
    _listeners.append(callback)
    listening = True
    try:
        yield
    finally:
        _listeners.remove(callback)
        listening = bool(_listeners)
