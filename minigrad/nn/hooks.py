"""Functions that a user has called around a module's forward and backward pass."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad.core.errors import DTypeError, GraphError
from minigrad.core.function import Function
from minigrad.core.tensor import Tensor
from minigrad.nn._changes import change

if TYPE_CHECKING:
    from minigrad.nn.module import Module

__all__ = ["Handle", "Hooks"]


class Handle:
    """What registering a hook returns: ``handle.remove()``, or ``handle()``, takes it away."""

    def __init__(self, hooks: list[Callable[..., Any]], hook: Callable[..., Any]) -> None:
        self._hooks = hooks
        self._hook: Callable[..., Any] | None = hook
        hooks.append(hook)
        change()

    def remove(self) -> None:
        """Take the hook away; a second call does nothing."""
        if self._hook is not None:
            self._hooks.remove(self._hook)
            self._hook = None
            change()

    __call__ = remove


class Hooks:
    """The three lists of hooks of one module, and a call that runs them."""

    def __init__(self) -> None:
        self.before: list[Callable[..., Any]] = []
        self.after: list[Callable[..., Any]] = []
        self.backward: list[Callable[..., Any]] = []

    def call(self, module: "Module", args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``module.forward(*args, **kwargs)`` with every hook in its place."""
        for hook in list(self.before):
            changed = hook(module, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        watch = _Watch(module, list(self.backward)) if self.backward else None
        if watch is not None:
            args = watch.enter(args)
        output = module.forward(*args, **kwargs)
        for hook in list(self.after):
            changed = hook(module, args, output)
            if changed is not None:
                output = changed
        return output if watch is None else watch.leave(output)


class BackwardHook(Function):
    """The identity on several tensors; its backward lets ``callback`` see their cotangents."""

    @staticmethod
    def forward(ctx: Any, *xs: np.ndarray, callback: Callable[..., Any]) -> Any:
        ctx.callback = callback
        return xs

    @staticmethod
    def backward(ctx: Any, *grads: np.ndarray) -> Any:
        return ctx.callback(grads)


class _Watch:
    """One call of a module with backward hooks: an identity node before it and one after it.

    A hook on the input tensor itself would also see the gradients of its other uses; the node
    before sees what this call alone sends back.
    """

    def __init__(self, module: "Module", hooks: list[Callable[..., Any]]) -> None:
        self.module = module
        self.hooks = hooks
        self.places: list[int] = []  # positions of the arguments that want a gradient
        self.count = 0
        self.grad_out: tuple[np.ndarray, ...] = ()

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self.count = len(args)
        self.places = [
            i for i, arg in enumerate(args) if isinstance(arg, Tensor) and arg.requires_grad
        ]
        if not self.places:
            return args
        watched = BackwardHook.apply(*[args[i] for i in self.places], callback=self._at_input)
        changed = list(args)
        for i, x in zip(self.places, watched, strict=True):
            changed[i] = x
        return tuple(changed)

    def leave(self, output: Any) -> Any:
        several = isinstance(output, tuple | list)
        outputs = output if several else (output,)
        if not all(isinstance(y, Tensor) for y in outputs):
            raise DTypeError(
                f"register_full_backward_hook: a module whose forward returns a Tensor or a tuple "
                f"of Tensors is needed, {type(self.module).__name__}.forward returned "
                f"{type(output).__name__}. Put the hook on a module inside it."
            )
        watched = BackwardHook.apply(*outputs, callback=self._at_output)
        if isinstance(output, list):
            return list(watched)
        return watched if several else watched[0]

    def _at_output(self, grads: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        self.grad_out = grads
        if not self.places:  # nothing flows further back, so the hooks run here
            self._run((None,) * self.count)
        return grads

    def _at_input(self, grads: tuple[np.ndarray, ...]) -> Any:
        grad_in: list[Any] = [None] * self.count
        for i, grad in zip(self.places, grads, strict=True):
            grad_in[i] = grad
        result = self._run(tuple(grad_in))
        return tuple([result[i] for i in self.places])

    def _run(self, grad_in: tuple[Any, ...]) -> tuple[Any, ...]:
        for hook in self.hooks:
            changed = hook(self.module, grad_in, self.grad_out)
            if changed is None:
                continue
            grad_in = changed if isinstance(changed, tuple) else (changed,)
            if len(grad_in) != self.count:
                raise GraphError(
                    f"backward hook: None or one gradient for each of the {self.count} arguments "
                    f"of {type(self.module).__name__} was expected, the hook returned "
                    f"{len(grad_in)}. Return a tuple of {self.count}, with None where the hook "
                    f"was given None."
                )
        return grad_in
