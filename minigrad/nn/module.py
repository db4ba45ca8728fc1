"""Module: a tree of layers that knows its parameters, its buffers and its own names.

Parameters, buffers and submodules are plain attributes. Nothing is kept twice: whatever lists them
looks at the instance's attributes, which Python keeps in the order of assignment.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from minigrad.core.dtypes import is_differentiable
from minigrad.core.errors import ArgumentError, DTypeError, MinigradError
from minigrad.core.mode import state
from minigrad.core.tensor import Tensor
from minigrad.nn._changes import change
from minigrad.nn.hooks import Handle, Hooks
from minigrad.nn.parameter import Parameter
from minigrad.nn.state import LoadReport, load_state
from minigrad.ops.memory import constant, is_constant

__all__ = ["Module"]

_registrations = 0  # modules assigned or removed, anywhere: names cached before are stale


class Module:
    """Base of every layer and network.

    A subclass calls ``super().__init__()``, assigns its parameters and submodules as attributes,
    registers its buffers, and defines ``forward``. Calling the module runs ``forward`` with the
    hooks around it; what is made or goes wrong inside carries the module's dotted path, such as
    ``layer1.0.conv2``: the attribute names down the chain of calls.

    Attributes
    ----------
    training : bool
        Whether batch norm and dropout behave as in training; see :meth:`train` and :meth:`eval`.

    Examples
    --------
    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> class Twice(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.fc = nn.Linear(3, 3)
    ...     def forward(self, x):
    ...         return self.fc(self.fc(x))
    >>> net = Twice()
    >>> [(name, p.shape) for name, p in net.named_parameters()]
    [('fc.weight', (3, 3)), ('fc.bias', (3,))]
    >>> net(mg.tensor([[1.0, 2.0]]))
    Traceback (most recent call last):
    minigrad.core.errors.ShapeError: fc: linear: ...
    """

    # What holds until something else is set. A subclass without parts may leave out
    # super().__init__(); one with parts is told to call it.
    training: bool = True
    _buffers: Mapping[str, bool] = MappingProxyType({})  # name -> whether it is in the state dict
    _hooks: Hooks | None = None
    _names: tuple[int, "Mapping[Module, str]"] = (-1, MappingProxyType({}))

    def __init__(self) -> None:
        self._buffers = {}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; a subclass defines it."""
        kind = type(self).__name__
        raise NotImplementedError(
            f"{kind}: a module with a forward is needed to call it, {kind} defines none. "
            f"Write def forward(self, x) in {kind}, or call the modules it holds."
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        caller, path = state.module, state.path
        if isinstance(caller, Module):
            name = caller._name_of(self)
            state.path = f"{path}.{name}" if path else name
        state.module = self
        try:
            if self._hooks is None:
                return self.forward(*args, **kwargs)
            return self._hooks.call(self, args, kwargs)
        except MinigradError as error:
            if error.path is None:  # the innermost module it passes
                error.path = state.path
            raise
        finally:
            state.module, state.path = caller, path

    def _name_of(self, module: "Module") -> str:
        """The dotted name by which this module knows the one it calls."""
        version, names = self._names
        if version != _registrations:
            names = {child: name for name, child in self.named_modules() if child is not self}
            self.__dict__["_names"] = _registrations, names
        # One that is no attribute, say of a plain list, has no name but its class's.
        return names.get(module) or f"<{type(module).__name__}>"

    # Registration.

    def __setattr__(self, name: str, value: Any) -> None:
        global _registrations
        attributes = self.__dict__
        before = attributes.get(name)
        if isinstance(value, Parameter | Module):
            self._check_name(name, type(value).__name__)
        if isinstance(before, Parameter | Module) or name in self._buffers:
            self._check_successor(name, before, value)
        if isinstance(value, Module) or isinstance(before, Module):
            _registrations += 1
        object.__setattr__(self, name, value)
        if value is not before or value is None:
            change()

    def __delattr__(self, name: str) -> None:
        global _registrations
        _registrations += 1
        object.__delattr__(self, name)
        change()
        if name in self._buffers:
            self._buffers = {k: v for k, v in self._buffers.items() if k != name}

    def _check_name(self, name: str, kind: str) -> None:
        """Raise ArgumentError unless a parameter, a buffer or a module may be called ``name``."""
        owner = type(self).__name__
        if "_buffers" not in self.__dict__:
            raise ArgumentError(
                f"{owner}.{name}: a Module is set up before its parts are assigned, and "
                f"Module.__init__ has not run yet. Write super().__init__() as the first line of "
                f"{owner}.__init__."
            )
        if not name or "." in name or hasattr(Module, name):
            raise ArgumentError(
                f"{owner}: a name without dots that Module does not use itself is needed for the "
                f"{kind}, got {name!r}. Choose another name."
            )

    def _check_successor(self, name: str, before: Any, value: Any) -> None:
        """Raise DTypeError unless ``value`` may stand where a registered attribute stands."""
        if name in self._buffers:
            expected: Any = np.ndarray
            cure = "Assign x.data, or np.asarray(value)"
        elif isinstance(before, Parameter):
            expected = Parameter
            cure = f"Write self.{name}.data[...] = value, or assign nn.Parameter(value)"
        else:
            expected = Module
            cure = f"Assign a Module, or None, or del self.{name} first"
        if value is not None and not isinstance(value, expected):
            article = "an" if expected is np.ndarray else "a"
            raise DTypeError(
                f"{type(self).__name__}.{name}: {article} {expected.__name__} stands there and "
                f"another, or None, may follow it, got {type(value).__name__}. {cure}."
            )

    def register_buffer(self, name: str, value: np.ndarray | None, persistent: bool = True) -> None:
        """Make ``self.name`` an array that belongs to the state but is not trained.

        Parameters
        ----------
        name : str
            Of the attribute.
        value : ndarray or None
            A running average, a counter, a constant.
        persistent : bool
            Whether it belongs to the state dict.

        Raises
        ------
        ArgumentError, DTypeError
            For a name that is taken, and for a value that is no ndarray.
        """
        self._check_name(name, "buffer")
        if self.__dict__.get(name) is not None and name not in self._buffers:
            taken = type(self.__dict__[name]).__name__
            raise ArgumentError(
                f"{type(self).__name__}: a free name is needed for the buffer, and {name!r} is "
                f"taken by a {taken}. Choose another name."
            )
        before, self._buffers = self._buffers, {**self._buffers, name: persistent}
        try:
            setattr(self, name, value)
        except DTypeError:
            self._buffers = before
            raise

    # Walking the tree.

    def named_modules(self, prefix: str = "") -> "Iterator[tuple[str, Module]]":
        """This module and all below it, each once, with dotted names; parents first."""
        seen: set[Module] = set()
        stack = [(prefix, self)]
        while stack:
            path, module = stack.pop()
            if module in seen:
                continue
            seen.add(module)
            yield path, module
            below = [
                (f"{path}.{name}" if path else name, child)
                for name, child in module.named_children()
            ]
            stack += reversed(below)

    def modules(self) -> "Iterator[Module]":
        """:meth:`named_modules` without the names."""
        seen: set[Module] = set()
        stack = [self]
        while stack:
            module = stack.pop()
            if module in seen:
                continue
            seen.add(module)
            yield module
            below = [v for v in module.__dict__.values() if isinstance(v, Module)]
            stack += reversed(below)

    def named_children(self) -> "Iterator[tuple[str, Module]]":
        """The modules that are attributes of this one, in the order of assignment.

        One that is assigned twice comes under both names.
        """
        return ((k, v) for k, v in list(self.__dict__.items()) if isinstance(v, Module))

    def children(self) -> "Iterator[Module]":
        """The modules that are attributes of this one, each once."""
        return iter(dict.fromkeys(child for _, child in self.named_children()))

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter, once, with its dotted name; in the order of the state dict."""
        seen = set()
        for path, module in self.named_modules():
            for name, value in list(module.__dict__.items()):
                if isinstance(value, Parameter) and value not in seen:
                    seen.add(value)
                    yield (f"{path}.{name}" if path else name), value

    def parameters(self) -> Iterator[Parameter]:
        """:meth:`named_parameters` without the names: what an optimiser is given."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every buffer with its dotted name."""
        for path, module in self.named_modules():
            for name in module._buffers:
                value = module.__dict__.get(name)
                if value is not None:
                    yield (f"{path}.{name}" if path else name), value

    def buffers(self) -> Iterator[np.ndarray]:
        """:meth:`named_buffers` without the names."""
        return (buffer for _, buffer in self.named_buffers())

    def apply(self, function: "Callable[[Module], Any]") -> Self:
        """Call ``function(module)`` for every module of the tree, children first."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # State.

    def state_dict(self, prefix: str = "") -> dict[str, np.ndarray]:
        """Name -> array of every parameter and persistent buffer, in torchvision's order.

        At each module its parameters, then its buffers, then its children. The arrays are the
        module's own, not copies, as in torch: training on changes them. Keep a snapshot with
        ``copy.deepcopy(net.state_dict())``.

        Parameters
        ----------
        prefix : str
            Put in front of every name.

        Examples
        --------
        >>> from minigrad import nn
        >>> list(nn.BatchNorm2d(4).state_dict())
        ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
        """
        arrays = {
            prefix + name: value.data
            for name, value in self.__dict__.items()
            if isinstance(value, Parameter)
        }
        for name, persistent in self._buffers.items():
            if persistent and self.__dict__.get(name) is not None:
                arrays[prefix + name] = self.__dict__[name]
        for name, child in self.named_children():
            arrays.update(child.state_dict(f"{prefix}{name}."))
        return arrays

    def load_state_dict(
        self, arrays: Mapping[str, np.ndarray | Tensor], strict: bool = True
    ) -> LoadReport:
        """Copy ``arrays`` into the module's own, all of them or none.

        Read-only arrays, as :func:`~minigrad.fold_batch_norm` makes them, are replaced instead.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            By the names of :meth:`state_dict`. Numbers are converted to the dtype that is there.
        strict : bool
            Whether a missing or an unexpected name is an error. A wrong shape always is. Counters
            ``num_batches_tracked``, which files older than 2018 lack, may be missing in any case
            and start again at 0.

        Returns
        -------
        LoadReport
            ``(missing_keys, unexpected_keys)``, counters included.

        Raises
        ------
        StateError
            With one line for each name that does not fit; nothing was loaded then.
        """
        return load_state(self.state_dict(), self.parameters(), arrays, strict)

    # Modes.

    def train(self, mode: bool = True) -> Self:
        """Set ``training`` here and everywhere below."""
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Self:
        """Set ``training`` to False here and everywhere below."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradient of every parameter: ``grad`` becomes None."""
        for parameter in self.parameters():
            parameter.grad = None

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let every parameter have a gradient, or freeze them all."""
        for parameter in self.parameters():
            parameter.requires_grad = bool(requires_grad)
        return self

    def to_dtype(self, dtype: Any) -> Self:
        """Turn parameters and float buffers into float32 or float64; gradients are dropped."""
        if not is_differentiable(np.dtype(dtype)):
            raise ArgumentError(
                f"to_dtype: float32 or float64 was expected, got {np.dtype(dtype)}. "
                f"Call .float() or .double()."
            )
        for module in self.modules():
            for name, value in module.__dict__.items():
                if isinstance(value, Parameter):
                    data = value.data.astype(dtype, copy=False)
                    if is_constant(value.data) and not is_constant(data):
                        data = constant(data)
                    value.data = data
                    value.grad = None
                elif name in module._buffers and value is not None and value.dtype.kind == "f":
                    module.__dict__[name] = value.astype(dtype, copy=False)
        change()
        return self

    def double(self) -> Self:
        """:meth:`to_dtype` float64."""
        return self.to_dtype(np.float64)

    def float(self) -> Self:
        """:meth:`to_dtype` float32."""
        return self.to_dtype(np.float32)

    # Hooks.

    def _ensure_hooks(self) -> Hooks:
        if self._hooks is None:
            self._hooks = Hooks()
        return self._hooks

    @property
    def has_hooks(self) -> bool:
        """Whether any hook is registered on this module."""
        hooks = self._hooks
        return hooks is not None and bool(hooks.before or hooks.after or hooks.backward)

    def register_forward_pre_hook(self, hook: Callable[..., Any]) -> Handle:
        """Call ``hook(module, args)`` before forward; what it returns, if not None, is passed on.

        Returns
        -------
        Handle
            ``handle.remove()`` takes the hook away.
        """
        return Handle(self._ensure_hooks().before, hook)

    def register_forward_hook(self, hook: Callable[..., Any]) -> Handle:
        """Call ``hook(module, args, output)`` after forward; its result, if any, is the output.

        Examples
        --------
        >>> import minigrad as mg
        >>> from minigrad import nn
        >>> layer = nn.ReLU()
        >>> handle = layer.register_forward_hook(lambda module, args, out: print(out.shape))
        >>> y = layer(mg.tensor([1.0, -1.0]))
        (2,)
        >>> handle.remove()
        """
        return Handle(self._ensure_hooks().after, hook)

    def register_full_backward_hook(self, hook: Callable[..., Any]) -> Handle:
        """Call ``hook(module, grad_in, grad_out)`` when a backward pass has crossed the module.

        ``grad_out`` holds the cotangent of each output, ``grad_in`` the gradient of each positional
        argument, None where there is none. What the hook returns, if not None, replaces
        ``grad_in``. The arrays must not be written to.
        """
        return Handle(self._ensure_hooks().backward, hook)

    register_backward_hook = register_full_backward_hook  # torch's older name

    # How it looks.

    def extra_repr(self) -> str:
        """The settings that ``repr`` shows in brackets; a subclass defines it."""
        return ""

    def __repr__(self) -> str:
        children = [f"({name}): {child!r}" for name, child in self.named_children()]
        told = type(self).__name__ + "(" + self.extra_repr()
        if not children:
            return told + ")"
        lines = "\n".join(children).replace("\n", "\n  ")
        return f"{told}\n  {lines}\n)"
