"""The suite ``engine``: microseconds that a node of the graph costs, arithmetic aside.

``record:10000`` makes a chain of so many products, ``both:10000`` runs it back as well.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.bench.against import Torch
from minigrad.bench.case import Case, Draw, Work
from minigrad.core.errors import ArgumentError
from minigrad.core.tensor import tensor

__all__ = ["WAYS", "engine_case", "engine_cases"]

WAYS = ("record", "both")
_FACTOR = 1.0001


def engine_cases(rival: Torch | None = None) -> list[Case]:
    """All cases of the suite."""
    return [engine_case(way, "10000", rival) for way in WAYS]


def engine_case(way: str, text: str, rival: Torch | None = None) -> Case:
    """Make the case of a chain: ``record`` or ``both``, and how many nodes."""
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentError(
            f"bench: a chain has a number of nodes, got {text!r}. Write it like {way}:10000."
        )
    nodes = int(text)

    def work(draw: Draw) -> Work:
        ours = _chain(lambda: tensor(1.0, requires_grad=True), nodes, way)
        contenders = {"minigrad": ours}
        if rival is not None:
            torch = rival.torch
            contenders["torch"] = _chain(
                lambda: torch.tensor(1.0, requires_grad=True), nodes, way
            )  # fmt: skip
        return Work(contenders, lambda: [np.asarray(_FACTOR**nodes)])

    return Case("engine", f"{way}:{nodes}", work, group="engine", per=nodes)


def _chain(leaf: Callable[[], Any], nodes: int, way: str) -> Callable[[], Any]:
    def run() -> Any:
        x = y = leaf()
        for _ in range(nodes):
            y = y * _FACTOR
        if way == "record":
            return y
        y.backward()
        return x.grad

    return run
