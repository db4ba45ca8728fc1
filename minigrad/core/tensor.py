"""Tensor: an array, its gradient, and the node that made it."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from minigrad.core import backward as _backward
from minigrad.core.dtypes import as_array, check_data
from minigrad.core.errors import ArgumentError, DTypeError, GraphError, ShapeError
from minigrad.core.node import Node

__all__ = ["Tensor", "grad", "tensor"]


_new = object.__new__


class Tensor:
    """An ndarray whose history is remembered, so that gradients can flow back through it.

    Wraps ``data`` without a copy; :func:`tensor` copies. Operators and methods (``x + y``,
    ``x.sum(axis=0)``, ...) are the operations of :mod:`minigrad.ops`, bound by its table
    ``ops/_methods.py``.

    Parameters
    ----------
    data : ndarray
        float32 or float64; integers and bool too where no gradient is asked for.
    requires_grad : bool
        Whether :meth:`backward` is to leave a gradient in ``grad``.
    name : str, optional
        Shown by ``repr`` and in events.

    Raises
    ------
    DTypeError
        For data without a gradient when one is asked for, or not numeric at all.
    """

    __slots__ = (
        "__weakref__", "_data", "_edge", "_grad", "_hooks", "name", "requires_grad",
    )  # fmt: skip

    # NumPy function -> operation, filled by ops/_methods.py.
    _numpy_table: ClassVar[dict[Any, Callable[..., Any]]] = {}

    _edge: tuple[Node, int] | None  # the node that made it, and which of its outputs it is
    _hooks: list[Callable[[np.ndarray], Any]] | None

    def __init__(
        self, data: np.ndarray, requires_grad: bool = False, name: str | None = None
    ) -> None:
        if not isinstance(data, np.ndarray):
            raise DTypeError(
                f"Tensor: an ndarray to wrap was expected, got {type(data).__name__}. "
                f"Use minigrad.tensor(...), which makes one from numbers and lists."
            )
        check_data(data, requires_grad)
        self._data = data
        self._grad: np.ndarray | None = None
        self._edge = None
        self._hooks = None
        self.requires_grad = requires_grad
        self.name = name

    @classmethod
    def _of(cls, data: np.ndarray, edge: tuple[Node, int] | None) -> "Tensor":
        """The result of an operation, unchecked; ``edge`` is its node and output index."""
        self = _new(Tensor)
        self._data = data
        self._grad = None
        self._edge = edge
        self._hooks = None
        self.requires_grad = edge is not None and data.dtype.kind in "fc"
        self.name = None
        return self

    # What it holds.

    @property
    def data(self) -> np.ndarray:
        """The ndarray itself, not a copy. Writing into it is seen by nobody until backward."""
        return self._data

    @data.setter
    def data(self, value: np.ndarray) -> None:
        if not isinstance(value, np.ndarray):
            raise DTypeError(
                f"Tensor.data: an ndarray was expected, got {type(value).__name__}. "
                f"Assign np.asarray(value)."
            )
        check_data(value, self.requires_grad)
        self._data = value

    @property
    def grad(self) -> np.ndarray | None:
        """The gradient that backward passes have added up, or None before the first."""
        return self._grad

    @grad.setter
    def grad(self, value: np.ndarray | None) -> None:
        if value is not None and (
            not isinstance(value, np.ndarray) or value.shape != self._data.shape
        ):
            told = f"shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
            raise ShapeError(
                f"Tensor.grad: None or an ndarray of the tensor's shape {self._data.shape} was "
                f"expected, got {told}. Set it to None to clear it."
            )
        self._grad = value

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self._data.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """Number of entries."""
        return self._data.size

    @property
    def dtype(self) -> np.dtype:
        """NumPy dtype of the entries."""
        return self._data.dtype

    @property
    def _node(self) -> Node | None:
        return self._edge[0] if self._edge else None

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made it."""
        return self._edge is None

    def item(self) -> Any:
        """The only entry as a Python number.

        Raises
        ------
        ShapeError
            If there is not exactly one entry.
        """
        if self._data.size != 1:
            raise ShapeError(
                f"item: a tensor with one entry is needed, this one has shape {self.shape}. "
                f"Reduce it first, for example with .sum() or .mean()."
            )
        return self._data.item()

    def numpy(self) -> np.ndarray:
        """The ndarray itself: the same as ``data``."""
        return self._data

    def detach(self) -> "Tensor":
        """A tensor on the same array, cut from the history: gradients stop here."""
        return Tensor._of(self._data, None)

    # Gradients.

    def backward(self, grad_out: Any = None, retain_graph: bool = False) -> None:
        """Add the gradient of this tensor to ``grad`` of every leaf it was made from.

        Parameters
        ----------
        grad_out : array of this tensor's shape, optional
            The cotangent: gradient of the final quantity with respect to this tensor. May be left
            out for a tensor with one entry, where it is 1.
        retain_graph : bool
            Keep the graph for another backward pass; else it is released on the way.

        Raises
        ------
        GraphError
            If nothing here wants a gradient, the graph was released already, or a saved array
            was changed in place.
        ShapeError
            If ``grad_out`` is missing or has another shape.
        """
        _backward.accumulate([self], [self._cotangent(grad_out)], retain_graph)

    def _cotangent(self, grad_out: Any) -> np.ndarray:
        """``grad_out`` checked, as a plain array of this tensor's shape and dtype."""
        if not self.requires_grad:
            raise GraphError(
                f"backward: a tensor that depends on one with requires_grad=True is needed, this "
                f"one ({self._told()}) does not. Make the inputs with tensor(..., "
                f"requires_grad=True), and run the forward pass outside no_grad()."
            )
        if grad_out is None:
            if self._data.size != 1:
                raise ShapeError(
                    f"backward: without grad_out a tensor with one entry is needed, this one has "
                    f"shape {self.shape}. Pass grad_out of that shape, or reduce it with .sum()."
                )
            return np.ones(self.shape, self.dtype)
        array = grad_out.data if isinstance(grad_out, Tensor) else np.asarray(grad_out)
        if array.shape != self.shape:
            raise ShapeError(
                f"backward: grad_out of the tensor's shape {self.shape} is needed, got shape "
                f"{array.shape}. Broadcast it first with np.broadcast_to."
            )
        if array.dtype.kind not in ("fiubc" if self.dtype.kind == "c" else "fiub"):
            raise DTypeError(
                f"backward: grad_out of real numbers is needed, got dtype {array.dtype}. "
                f"Pass an array of {self.dtype}."
            )
        return array.astype(self.dtype, copy=False)

    def register_hook(self, hook: Callable[[np.ndarray], Any]) -> Callable[[], None]:
        """Call ``hook(grad)`` with this tensor's whole gradient in each backward pass.

        What the hook returns, if not None, takes the gradient's place. The hook must not write
        into the array it is given.

        Returns
        -------
        callable
            Call it to remove the hook.
        """
        if not self.requires_grad:
            raise GraphError(
                "register_hook: a tensor with requires_grad=True is needed, this one has no "
                "gradient. Make it with tensor(..., requires_grad=True)."
            )
        if self._edge is None:
            if self._hooks is None:
                self._hooks = []
            hooks = self._hooks
        else:
            node, index = self._edge
            if node.hooks is None:
                node.hooks = {}
            hooks = node.hooks.setdefault(index, [])
        hooks.append(hook)
        return lambda: hooks.remove(hook) if hook in hooks else None

    def retain_grad(self) -> None:
        """Have backward leave the gradient in ``grad`` although this tensor is no leaf."""
        if self._node is not None:
            # A weak reference: the graph must not hold its outputs.
            self.register_hook(_backward.store_gradient(self))

    # How it looks.

    def _told(self) -> str:
        kind = "leaf" if self._node is None else self._node.told()
        return f"shape {self.shape}, dtype {self.dtype}, origin {kind}"

    def __repr__(self) -> str:
        numbers = np.array2string(
            self._data, separator=", ", threshold=20, edgeitems=3, precision=5, prefix="tensor("
        )
        told = [f"shape={self.shape}", f"dtype={self.dtype}"]
        if self.name:
            told.append(f"name={self.name!r}")
        if self._node is not None:
            told.append(f"origin={self._node.told()}")
        elif self.requires_grad:
            told.append("origin=leaf, requires_grad=True")
        else:
            told.append("origin=constant")
        return f"tensor({numbers}, {', '.join(told)})"

    def __len__(self) -> int:
        if not self._data.ndim:
            raise DTypeError("len: a tensor with axes is needed, this one is 0-d. Use .item().")
        return len(self._data)

    def __iter__(self) -> Iterator["Tensor"]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        if self._data.size != 1:
            raise ShapeError(
                f"bool: a tensor with one entry is needed, this one has shape {self.shape}. "
                f"Say which you mean: (x.data != 0).any() or .all()."
            )
        return bool(self._data)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return self._data.__index__()

    __hash__ = object.__hash__  # by identity, though == compares entries

    def __getitem__(self, index: Any) -> "Tensor":
        raise NotImplementedError("bound by minigrad.ops")  # replaced by ops/_methods.py

    def __setitem__(self, index: Any, value: Any) -> None:
        raise GraphError(
            "x[...] = value: a tensor is not written to, because its history would no longer tell "
            "how it was made. Build a new one with minigrad.where or minigrad.concat, or write "
            "into x.data[...] before x is used."
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "Tensor":
        if self._node is not None:
            raise GraphError(
                f"deepcopy: a leaf is needed, this tensor was made by {self._node.told()} and its "
                f"history cannot be copied. Copy x.detach() instead."
            )
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        Tensor.__init__(twin, self._data.copy(order="K"), self.requires_grad, self.name)
        twin._grad = None if self._grad is None else self._grad.copy(order="K")
        return twin

    # NumPy's functions on a tensor.

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.requires_grad:
            raise GraphError(
                "np.asarray(x): a tensor without history is needed, x has requires_grad=True and "
                "an array would lose it silently. Use x.data, or x.detach()."
            )
        return np.array(self._data, dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        op = self._numpy_table.get(ufunc)
        if op is None or method != "__call__" or options:
            raise _no_numpy(ufunc, method, options, self._numpy_table)
        return op(*inputs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        op = self._numpy_table.get(func)
        if op is None:
            raise _no_numpy(func, "__call__", {}, self._numpy_table)
        taken = inspect.signature(op)
        try:
            taken.bind(*args, **kwargs)
        except TypeError:
            unknown = {key: value for key, value in kwargs.items() if key not in taken.parameters}
            raise _no_numpy(func, "__call__", unknown, self._numpy_table) from None
        return op(*args, **kwargs)


def _no_numpy(func: Any, method: str, options: dict[str, Any], table: dict[Any, Any]) -> DTypeError:
    name = f"np.{getattr(func, '__name__', func)}"
    if method != "__call__":
        name += f".{method}"
    op = table.get(func)
    if op is not None and options:
        told = ", ".join(options)
        cure = f"Call minigrad.{op.__name__}(x) without {told}"
    elif op is not None and method == "__call__":
        taken = ", ".join(inspect.signature(op).parameters)
        cure = f"Call minigrad.{op.__name__} with the arguments {taken}"
    elif op is not None:
        cure = f"Call minigrad.{op.__name__}(x), or minigrad.sum(x, axis=...) to reduce"
    else:
        cure = "Write it with the operations of minigrad"
    return DTypeError(
        f"{name}: a NumPy function that minigrad can differentiate was expected, and this one is "
        f"called on a Tensor in a way it cannot. {cure}, or call {name} on x.data."
    )


def tensor(
    value: Any, dtype: Any = None, requires_grad: bool = False, name: str | None = None
) -> Tensor:
    """A new tensor with a copy of ``value``.

    Parameters
    ----------
    value : number, nested list, ndarray or Tensor
        Python floats become float32; arrays keep their dtype.
    dtype : dtype, optional
        float32, float64, an integer type or bool.
    requires_grad : bool
        Whether gradients are wanted; only for float32 and float64.
    name : str, optional
        Shown by ``repr``.

    Returns
    -------
    Tensor

    Raises
    ------
    DTypeError
        For integer data with ``requires_grad=True``, ragged lists, and what is not numeric.

    Examples
    --------
    >>> import minigrad as mg
    >>> mg.tensor([1.0, 2.0], requires_grad=True)
    tensor([1., 2.], shape=(2,), dtype=float32, origin=leaf, requires_grad=True)
    """
    if isinstance(value, Tensor):
        value = value.data
    return Tensor(as_array(value, dtype), requires_grad, name)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool = False,
    allow_unused: bool = False,
) -> list[np.ndarray]:
    """Gradients of ``outputs`` with respect to ``inputs``, leaving every ``grad`` alone.

    Only what lies between ``outputs`` and ``inputs`` is computed.

    Parameters
    ----------
    outputs, inputs : Tensor or sequence of Tensor
        ``inputs`` may be leaves or results of operations.
    grad_outputs : array or sequence of arrays, optional
        A cotangent for each output; may be left out where an output has one entry.
    retain_graph : bool
        Keep the graph for another pass.
    allow_unused : bool
        Give None for an input that no output depends on, instead of raising.

    Returns
    -------
    list of ndarray
        One for each input, of its shape and dtype.

    Raises
    ------
    GraphError
        If an input is not part of the graph, and for the reasons of :meth:`Tensor.backward`.

    Examples
    --------
    >>> import minigrad as mg
    >>> x = mg.tensor(1.5, requires_grad=True)
    >>> h = 2 * x
    >>> mg.grad(h + h * h, [x, h])
    [array(14., dtype=float32), array(7., dtype=float32)]
    """
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if grad_outputs is None:
        grad_outputs = [None] * len(outputs)
    elif not isinstance(grad_outputs, list | tuple):
        grad_outputs = [grad_outputs]
    if len(grad_outputs) != len(outputs):
        raise ArgumentError(
            f"grad: one cotangent for each of the {len(outputs)} outputs is needed, got "
            f"{len(grad_outputs)}. Pass None for an output with one entry."
        )
    for kind, values in (("output", outputs), ("input", inputs)):
        for value in values:
            if not isinstance(value, Tensor):
                raise DTypeError(
                    f"grad: each {kind} is a Tensor, got {type(value).__name__}. "
                    f"Make it with minigrad.tensor(..., requires_grad=True)."
                )
    cotangents = [out._cotangent(g) for out, g in zip(outputs, grad_outputs, strict=True)]
    results = _backward.collect(outputs, cotangents, inputs, retain_graph)
    for i, result in enumerate(results):
        if result is None and not allow_unused:
            raise GraphError(
                f"grad: input {i} ({inputs[i]._told()}) plays no part in the outputs. "
                f"Pass allow_unused=True to get None for it."
            )
    return results  # type: ignore[return-value]  # None only where the caller allowed it
