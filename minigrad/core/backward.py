"""The backward pass: one loop.

Each node waits until every node that used its outputs has run, receives the sum of what they sent
back, calls its operation's backward once, and passes the results to its parents.

Which node is next? A node is made after its parents, so numbers grow from inputs to outputs. All
nodes that still wait are in a heap; the one with the largest number cannot be used by any other
that waits, so its sum is complete. Taking the largest number first needs no recursion, no separate
count of uses and no sorting of the whole graph, and it makes the order of every sum the same in
every run.

Gradients of leaves are handed out at the end: a pass that fails half-way changes no ``grad``.
"""

import heapq
import sys
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad.core import events
from minigrad.core.errors import GraphError
from minigrad.core.mode import state
from minigrad.core.node import Node

if TYPE_CHECKING:
    from minigrad.core.tensor import Tensor

__all__ = ["accumulate", "collect", "store_gradient"]


class _Sum:
    """The sum of the gradients that one value receives from its uses."""

    __slots__ = ("owned", "parts", "value")

    def __init__(self, first: np.ndarray, label: str) -> None:
        self.value = first  # maybe somebody else's array: read only
        self.owned = False  # whether value is ours to write into
        # Who sent what: kept only while somebody listens.
        self.parts = [(label, first)] if events.listening else None

    def add(self, grad: np.ndarray, label: str) -> None:
        if self.owned and self.value.dtype == grad.dtype:
            np.add(self.value, grad, out=self.value)
        else:
            self.value = np.asarray(self.value + grad)  # 0-d sums are NumPy scalars
            self.owned = True
        if self.parts is not None:
            self.parts.append((label, grad))

    def announce(self, path: str) -> None:
        """Tell listeners of a sum of two parts or more."""
        if self.parts is not None and len(self.parts) > 1:
            labels, parts = zip(*self.parts, strict=True)
            events.emit(events.Fanout(path, "engine", labels, parts))


def accumulate(
    outputs: Sequence["Tensor"], cotangents: Sequence[np.ndarray], retain_graph: bool
) -> None:
    """Add to ``grad`` of every leaf that ``outputs`` depend on."""
    leaves = _run(outputs, cotangents, None, retain_graph)
    for leaf, total in leaves.items():
        _finish_leaf(leaf, total)
        before = leaf._grad
        leaf._grad = _private(total) if before is None else np.asarray(before + total.value)


def collect(
    outputs: Sequence["Tensor"],
    cotangents: Sequence[np.ndarray],
    inputs: Sequence["Tensor"],
    retain_graph: bool,
) -> list[np.ndarray | None]:
    """The gradient of each of ``inputs``, or None where no output depends on it."""
    edges = [x._edge or (x, 0) for x in inputs]
    caught: dict[Any, _Sum | None] = dict.fromkeys(edges)
    leaves = _run(outputs, cotangents, caught, retain_graph)
    for leaf, total in leaves.items():
        if (leaf, 0) in caught:
            _finish_leaf(leaf, total)
            caught[leaf, 0] = total
    sums = [caught[edge] for edge in edges]
    return [None if total is None else _private(total) for total in sums]


def _run(
    outputs: Sequence["Tensor"],
    cotangents: Sequence[np.ndarray],
    caught: dict[Any, _Sum | None] | None,
    retain_graph: bool,
) -> "dict[Tensor, _Sum]":
    """The loop. Returns the sum for each leaf; fills ``caught`` for nodes that it names."""
    leaves: dict[Tensor, _Sum] = {}
    waiting: dict[Node, list[_Sum | None]] = {}
    heap: list[tuple[int, Node]] = []
    anomaly = state.anomaly

    def send(edge: tuple[Any, int], grad: np.ndarray, label: str) -> None:
        target, index = edge
        if not isinstance(target, Node):
            if target in leaves:
                leaves[target].add(grad, label)
            else:
                leaves[target] = _Sum(grad, label)
            return
        sums = waiting.get(target)
        if sums is None:
            sums = waiting[target] = [None] * len(target.outputs)
            heapq.heappush(heap, (-target.number, target))
        total = sums[index]
        if total is None:
            sums[index] = _Sum(grad, label)
        else:
            total.add(grad, label)

    for output, cotangent in zip(outputs, cotangents, strict=True):
        send(output._edge or (output, 0), cotangent, "backward")
    wanted = None if caught is None else _leading_to(caught, list(waiting))

    while heap:
        node = heapq.heappop(heap)[1]
        sums = waiting.pop(node)
        node.check_unreleased()
        first = sums[0]
        if len(sums) == 1 and first is not None and first.parts is None and node.hooks is None:
            grads_out = [first.value]  # of nearly every node: nothing to finish
        else:
            grads_out = [_finish(node, i, total) for i, total in enumerate(sums)]
        needs = node.needs
        if caught is not None and wanted is not None:
            for i, total in enumerate(sums):
                if (node, i) in caught and total is not None:
                    caught[node, i] = _Sum(grads_out[i], "")
            if node not in wanted:
                continue
            needs = wanted[node]  # only what is asked for: an op looks at ctx.needs
        edges, label = node.parents, node.function.name
        for i, grad in enumerate(_call(node, grads_out, needs)):
            if needs[i]:
                grad = _checked(node, i, grad)
                if anomaly:
                    _check_finite(node, grads_out, i, grad)
                send(edges[i], grad, label)
        if not retain_graph:
            node.release()
    return leaves


def _leading_to(caught: dict[Any, Any], roots: list[Node]) -> dict[Node, tuple[bool, ...]]:
    """Which inputs of nodes below ``roots`` lead to what is asked for; other nodes need not run."""
    seen, stack = set(roots), list(roots)
    while stack:
        for edge in stack.pop().parents:
            if edge is not None and isinstance(edge[0], Node) and edge[0] not in seen:
                seen.add(edge[0])
                stack.append(edge[0])
    wanted: dict[Node, tuple[bool, ...]] = {}
    for node in sorted(seen, key=lambda n: n.number):  # parents before their users
        needs = tuple(
            [edge is not None and (edge in caught or edge[0] in wanted) for edge in node.parents]
        )
        if True in needs:
            wanted[node] = needs
    return wanted


def _finish(node: Node, index: int, total: _Sum | None) -> np.ndarray:
    """The whole gradient of one output, after its hooks; zeros if nothing came back to it."""
    if total is None:
        return np.zeros(*node.outputs[index])
    total.announce(node.path)
    hooks = node.hooks.get(index) if node.hooks else None
    return _run_hooks(hooks, total.value) if hooks else total.value


def _finish_leaf(leaf: "Tensor", total: _Sum) -> None:
    """Leave in ``total`` the whole gradient of a leaf, after its hooks."""
    total.announce(leaf.name or "")
    if leaf._hooks:
        value = _run_hooks(leaf._hooks, total.value)
        total.value, total.owned = value, total.owned and value is total.value


# What getrefcount says of an array that one object holds: it counts its own argument too.
_one_sum = _Sum(np.empty(0), "")
_HELD_ONCE = sys.getrefcount(_one_sum.value)


def _private(total: _Sum) -> np.ndarray:
    """The array of a sum if nobody else can reach it, else a copy of it.

    What came down may be the cotangent itself, a saved array, or the gradient of another leaf. The
    sum lets go of what it copied: the last of the leaves that share an array keeps it.
    """
    if not _unshared(total):
        total.value = total.value.copy(order="K")
    return total.value


def _unshared(total: _Sum) -> bool:
    """Whether nobody but the sum can reach the memory of its array, so that it needs no copy.

    An operation forgets a gradient that it made; one that it handed on, or keeps, is held by
    somebody else too, or is a view of an array that is. One that runs backwards through memory is
    copied as well: others, torch among them, take no negative strides. So is a part of an array,
    which would keep the whole of it alive.
    """
    if sys.getrefcount(total.value) > _HELD_ONCE or not total.value.flags.writeable:
        return False
    array: Any = total.value
    if array.base is not None and min(array.strides, default=0) < 0:
        return False
    while array.base is not None:
        if sys.getrefcount(array.base) > _HELD_ONCE:
            return False
        array = array.base
        lent_once = getattr(array, "lent_once", False)
        if lent_once or not isinstance(array, np.ndarray):
            return lent_once  # memory from elsewhere: its lender knows
        if array.size > total.value.size:
            return False
    return True


def _run_hooks(hooks: Sequence[Callable[[np.ndarray], Any]], grad: np.ndarray) -> np.ndarray:
    shape = grad.shape
    for hook in list(hooks):
        result = hook(grad)
        if result is None:
            continue
        if not isinstance(result, np.ndarray) or result.shape != shape:
            told = f"shape {result.shape}" if hasattr(result, "shape") else type(result).__name__
            raise GraphError(
                f"hook: None or a new gradient of shape {shape} was expected, the hook returned "
                f"{told}. Return an ndarray of that shape."
            )
        grad = result.astype(grad.dtype, copy=False)
    return grad


def _call(node: Node, grads_out: list[np.ndarray], needs: tuple[bool, ...]) -> tuple[Any, ...]:
    """Run one operation's backward, for the inputs whose gradient is needed now."""
    node.check_unchanged()
    before, node.needs = node.needs, needs
    try:
        result = node.function.backward(node, *grads_out)
    finally:
        node.needs = before
    grads = result if isinstance(result, tuple) else (result,)
    if len(grads) != len(needs):
        raise GraphError(
            f"{node.function.__name__}.backward returns one gradient for each of its "
            f"{len(needs)} inputs, it returned {len(grads)}. Return None for an input without."
        )
    return grads


# Bound to names of their own, as in core/function.py.
_Array, _Scalar, _as_array = np.ndarray, np.generic, np.asarray


def _checked(node: Node, i: int, grad: Any) -> np.ndarray:
    """``grad`` if it fits input ``i`` of ``node``."""
    target, index = node.parents[i]
    if isinstance(target, Node):
        shape, dtype = target.outputs[index]
    else:
        shape, dtype = target._data.shape, target._data.dtype
    if isinstance(grad, _Scalar):
        grad = _as_array(grad)
    if not isinstance(grad, _Array) or grad.shape != shape:
        told = f"shape {grad.shape}" if isinstance(grad, _Array) else type(grad).__name__
        raise GraphError(
            f"{node.function.__name__}.backward returns a gradient of shape {shape} for input {i}, "
            f"it returned {told}. A gradient has the shape of its input; sum over broadcast axes."
        )
    # A complex gradient belongs to a complex step, where real weights meet a complex input.
    return grad if grad.dtype == dtype or grad.dtype.kind == "c" else grad.astype(dtype)


def _check_finite(node: Node, grads_out: list[np.ndarray], i: int, grad: np.ndarray) -> None:
    """Under detect_anomaly: raise where the first NaN or Inf of the pass appears."""
    if not all(np.isfinite(g).all() for g in grads_out):
        raise GraphError(
            f"detect_anomaly: the cotangent that reaches {node.told()} already holds a non-finite "
            f"number, and no backward made it. Check the grad_out given to backward, and hooks."
        )
    if not np.isfinite(grad).all():
        raise GraphError(
            f"detect_anomaly: the backward of {node.told()} made a non-finite number in the "
            f"gradient of input {i} from a finite cotangent. Keep that input away from where "
            f"the derivative is infinite."
        )


def store_gradient(tensor: "Tensor") -> Callable[[np.ndarray], None]:
    """A hook that leaves a copy of the gradient in ``tensor.grad`` while the tensor lives."""
    reference = weakref.ref(tensor)

    def store(grad: np.ndarray) -> None:
        target = reference()
        if target is not None:
            before = target._grad
            target._grad = np.array(grad if before is None else before + grad)

    return store
