"""A node of the graph: one call of one operation."""

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad.core.errors import GraphError
from minigrad.core.fingerprint import fingerprints

if TYPE_CHECKING:
    from minigrad.core.function import Function

__all__ = ["Node", "calling_line"]

_numbers = itertools.count()
_PACKAGE = str(Path(__file__).resolve().parents[1])


class Node:
    """One call of one operation; ``forward`` and ``backward`` receive it as ``ctx``.

    A node points up the graph only: to its parents and to what the operation saved, never to its
    outputs or to the nodes that use them. So there are no cycles, and a graph nobody refers to any
    more is freed by reference counts alone.

    Attributes
    ----------
    number : int
        Grows with creation: a node's number is larger than those of all its parents.
    function : type
        The :class:`~minigrad.core.function.Function` that was called.
    parents : tuple
        For each input of ``forward``: ``(node, i)`` for the i-th output of a node, ``(tensor, 0)``
        for a leaf that wants a gradient, or None for an input that wants none.
    needs : tuple of bool
        For each input, whether ``backward`` has to compute its gradient.
    saved : tuple
        What ``forward`` saved. None after the graph was released.
    outputs : tuple
        ``(shape, dtype)`` of each output.
    hooks : dict or None
        Output index -> functions called with that output's gradient.
    path : str
        Dotted path of the module in whose call the node was made.
    line : str
        ``file:line`` of the user's code that made it; only under ``detect_anomaly``.
    """

    # __dict__ holds what forward keeps by name: ctx.axis = axis.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "function",
        "hooks",
        "line",
        "needs",
        "number",
        "outputs",
        "parents",
        "path",
        "prints",
        "saved",
    )

    function: "type[Function]"
    parents: tuple[Any, ...]
    outputs: tuple[tuple[tuple[int, ...], np.dtype], ...]
    hooks: dict[int, list[Any]] | None
    saved: tuple[Any, ...] | None
    prints: list[bytes | int]
    line: str

    def __init__(self, function: "type[Function]", needs: tuple[bool, ...]) -> None:
        self.function = function
        self.needs = needs
        self.saved = ()

    def save(self, *arrays: Any) -> None:
        """Keep ``arrays`` for backward, which finds them in ``ctx.saved``."""
        self.saved = arrays

    def record(
        self, parents: tuple[Any, ...], outputs: tuple[np.ndarray, ...], path: str, anomaly: bool
    ) -> None:
        """Make the call a part of the graph."""
        self.number = next(_numbers)
        self.parents = parents
        if len(outputs) == 1:
            (y,) = outputs
            self.outputs = ((y.shape, y.dtype),)
        else:
            self.outputs = tuple([(y.shape, y.dtype) for y in outputs])
        self.hooks = None
        self.path = path
        self.line = calling_line() if anomaly else ""
        self.prints = fingerprints(self.saved, anomaly) if self.saved else []

    def check_unreleased(self) -> None:
        """Raise GraphError if an earlier backward pass has released what this node saved."""
        if self.saved is None:
            raise GraphError(
                f"backward: the graph reaches {self.told()}, whose saved arrays were released by "
                f"an earlier backward pass. Pass retain_graph=True to the earlier pass, or run "
                f"the forward pass again."
            )

    def check_unchanged(self) -> None:
        """Raise GraphError if an array that this node saved was written to since."""
        if not self.prints:
            return
        assert self.saved is not None
        whole = self.line != ""
        if fingerprints(self.saved, whole) == self.prints:
            return
        arrays = [array for array in self.saved if isinstance(array, np.ndarray)]
        pairs = zip(self.prints, fingerprints(self.saved, whole), strict=True)
        changed = next(a for a, (old, new) in zip(arrays, pairs, strict=True) if old != new)
        raise GraphError(
            f"backward: {self.told()} saved an array of shape {changed.shape} and dtype "
            f"{changed.dtype} in its forward pass, and the array was changed in place since, so "
            f"its gradient would be wrong. Call backward before changing it, or change a copy: "
            f"x.data = x.data.copy() first, then write."
        )

    def told(self) -> str:
        """How messages speak of the node: the operation, its module and its line."""
        where = f" in {self.path}" if self.path else ""
        return f"{self.function.name}{where}" + (f" (made at {self.line})" if self.line else "")

    def release(self) -> None:
        """Let go of everything the node holds; it cannot be run again."""
        self.saved = None
        self.parents = ()
        self.__dict__.clear()


def calling_line() -> str:
    """``file:line`` of the innermost frame outside the package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
