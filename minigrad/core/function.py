"""An operation: a forward and a backward on plain arrays, and the call that records it."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np

from minigrad.core.dtypes import narrowed
from minigrad.core.errors import DTypeError, GraphError
from minigrad.core.mode import state
from minigrad.core.node import Node, calling_line
from minigrad.core.tensor import Tensor

__all__ = ["Call", "Function"]


class Call(NamedTuple):
    """What went into one call and came out of it, for those who list calls in ``state.calls``."""

    node: Node
    inputs: tuple[Any, ...]
    options: dict[str, Any]
    outputs: tuple[np.ndarray, ...]
    path: str


# Called with (function, inputs, needs, options) before each forward, while somebody wants to know.
before_forward: Callable[[type["Function"], list[Any], list[bool], dict[str, Any]], None] | None
before_forward = None


class Function:
    """Base of every operation: two static methods next to each other.

    ``forward(ctx, *inputs, **options)`` takes arrays (or Python numbers, or None) and returns an
    array or a tuple of arrays. What backward needs it keeps with ``ctx.save(...)``, settings as
    attributes of ``ctx``.

    ``backward(ctx, *grad_outs)`` takes one cotangent for each output and returns one gradient for
    each input of forward, None where ``ctx.needs[i]`` is False. It is a pure function of
    ``ctx.saved`` and the cotangents: linear in them, callable many times, and it writes into
    nothing it was given. It may return a cotangent, or a view of it, as a gradient.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> class Cube(mg.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save(x)
    ...         return x**3
    ...     @staticmethod
    ...     def backward(ctx, grad_out):
    ...         (x,) = ctx.saved
    ...         return 3 * x**2 * grad_out
    >>> x = mg.tensor(2.0, requires_grad=True)
    >>> Cube.apply(x).backward()
    >>> x.grad
    array(12., dtype=float32)
    """

    name: ClassVar[str] = "function"
    narrows: ClassVar[bool] = True  # a result is float64 only if an input is an array of float64

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__.lower()

    @staticmethod
    def forward(ctx: Any, *inputs: Any, **options: Any) -> Any:
        raise NotImplementedError("a Function defines forward(ctx, *inputs, **options)")

    @staticmethod
    def backward(ctx: Any, *grad_outs: Any) -> Any:
        raise NotImplementedError("a Function defines backward(ctx, *grad_outs)")

    @classmethod
    def apply(cls, *inputs: Any, **options: Any) -> Any:
        """Run forward on ``inputs`` and record it if one of them wants a gradient.

        Parameters
        ----------
        *inputs : Tensor, ndarray, number or None
        **options
            Handed to forward as they are.

        Returns
        -------
        Tensor or tuple of Tensor
            Of float64 only where an input is an array of float64: integers and numbers adapt to
            float32, which is also what they alone make.
        """
        switches = state.__dict__  # this thread's, found once rather than at each of four reads
        recording, anomaly = switches["grad_enabled"], switches["anomaly"]
        arrays: list[Any] = []
        needs: list[bool] = []
        parents: list[tuple[Any, int] | None] = []
        for value in inputs:
            edge = None
            if isinstance(value, Tensor):
                if recording and value.requires_grad:
                    # Where its gradient goes: the node that made it, or itself if it is a leaf.
                    edge = value._edge or (value, 0)
                value = value._data
            arrays.append(value)
            needs.append(edge is not None)
            parents.append(edge)
        if before_forward is not None:
            before_forward(cls, arrays, needs, options)
        node = Node(cls, tuple(needs))
        result = cls.forward(node, *arrays, **options)
        several = isinstance(result, tuple)
        if several:
            outputs = tuple([_output(cls, y, arrays) for y in result])
        else:  # nearly always, and a comprehension takes longer than what is done in it
            outputs = (_output(cls, result, arrays),)
        if anomaly:
            _check_forward(cls, arrays, outputs)
        if switches["calls"] is not None:
            call = Call(node, tuple(arrays), options, outputs, switches["path"])
            switches["calls"].append(call)
        recorded = True in needs
        if recorded:
            node.record(tuple(parents), outputs, switches["path"], anomaly)
        if not several:
            return Tensor._of(outputs[0], (node, 0) if recorded else None)
        edges = [(node, i) if recorded else None for i in range(len(outputs))]
        return tuple([Tensor._of(y, edge) for y, edge in zip(outputs, edges, strict=True)])


# Bound to names of their own: each look-up in a module counts where nodes cost microseconds.
_Array, _as_array, _SCALARS = np.ndarray, np.asarray, (np.generic, int, float, complex)
_FLOAT64 = np.dtype(np.float64)


def _output(function: type[Function], y: Any, inputs: list[Any]) -> np.ndarray:
    """``y`` as an ndarray, which NumPy's scalars become, and float64 only where that is right."""
    if not isinstance(y, _Array):
        if not isinstance(y, _SCALARS):
            raise DTypeError(
                f"{function.__name__}.forward returns an array or a tuple of arrays, it returned "
                f"{type(y).__name__}. Return the ndarray itself, not a Tensor."
            )
        y = _as_array(y)
    return narrowed(y, inputs) if y.dtype == _FLOAT64 and function.narrows else y


def _check_forward(function: type[Function], inputs: list[Any], outputs: tuple[Any, ...]) -> None:
    """Under detect_anomaly: raise where the first NaN or Inf appears."""
    for i, array in enumerate(inputs):
        if isinstance(array, np.ndarray) and not np.isfinite(array).all():
            raise GraphError(
                f"detect_anomaly: input {i} of {_place(function)} already holds a non-finite "
                f"number, and no operation made it. Check the data with np.isfinite."
            )
    for array in outputs:
        if not np.isfinite(array).all():
            bad = np.unravel_index(int(np.argmin(np.isfinite(array))), array.shape)
            index = tuple(int(i) for i in bad)
            raise GraphError(
                f"detect_anomaly: the forward of {_place(function)} made a non-finite number "
                f"({array[bad]} at index {index} of shape {array.shape}) from finite inputs. "
                f"Keep its input inside the operation's domain."
            )


def _place(function: type[Function]) -> str:
    where = f" in {state.path}" if state.path else ""
    return f"{function.name}{where} at {calling_line()}"
