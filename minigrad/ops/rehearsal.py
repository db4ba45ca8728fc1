"""The program of the process that compiles ahead; ``ahead.py`` starts it and says what for.

It rehearses the calls it hears of: it makes them on zeros, forward and backward, and a launch of a
kernel is only noted, so that nothing is computed and next to no memory is touched. What the calls
return is of no interest, and neither are their errors.

Of the kernels noted it compiles first those that will be needed last: those of the backward pass,
which begins with the last call, then those of the forward pass from its end. The other process
comes from the front, and the two do not wait for each other until they meet.
"""

import contextlib
import os
import queue
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from minigrad.core.backward import accumulate
from minigrad.core.tensor import Tensor
from minigrad.kernels import conv_choice, serial_only
from minigrad.kernels._jit import Kernel
from minigrad.ops._description import LENGTH_BYTES, Call, recreated

__all__ = ["Rehearsal", "main"]

# Seconds without a message after which none is waited for.
_PATIENCE = 10.0

Note = tuple[Any, tuple[Any, ...]]  # a build of a kernel, and the types of its arguments


class Rehearsal:
    """The kernels that calls need, and which of them is best compiled next."""

    def __init__(self) -> None:
        self._known: set[Note] = set()
        self._forward: list[Note] = []
        self._backward: deque[Note] = deque()

    def hear(self, call: Call) -> None:
        """Run an operation forward, and backward where it wants a gradient."""
        inputs = [
            Tensor(value, requires_grad=needed) if isinstance(value, np.ndarray) else value
            for value, needed in zip(call.inputs, call.needs, strict=True)
        ]
        with (
            conv_choice.conv_algorithm(call.algorithm),
            serial_only() if call.serial else contextlib.nullcontext(),
        ):
            with self._noting() as notes:
                results = call.function.apply(*inputs, **call.options)
            self._forward += notes
            results = results if isinstance(results, tuple) else (results,)
            outputs = [y for y in results if y.requires_grad]
            with self._noting() as notes:
                accumulate(outputs, [np.zeros_like(y.data) for y in outputs], retain_graph=False)
            self._backward += reversed(notes)

    @contextlib.contextmanager
    def _noting(self) -> Iterator[list[Note]]:
        """List the kernels launched within the block, and not before, instead of running them."""
        notes: list[Note] = []

        def note(kernel: Kernel, work: int, *args: Any) -> None:
            found = kernel.wanted(work, *args)
            if found not in self._known:
                self._known.add(found)
                notes.append(found)

        launch = Kernel.launch
        setattr(Kernel, "launch", note)  # noqa: B010 (mypy: a method is no variable)
        try:
            yield notes
        finally:
            setattr(Kernel, "launch", launch)  # noqa: B010

    @property
    def done(self) -> bool:
        """Whether nothing is noted that is not compiled."""
        return not (self._forward or self._backward)

    def next(self) -> Note:
        """Take the kernel that is best compiled now."""
        return self._backward.popleft() if self._backward else self._forward.pop()


def main() -> None:
    """Compile for the calls that come in, as long as some come in."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is meant for the other process
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    messages: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(messages,), daemon=True).start()
    _serve(messages)
    os._exit(0)


def _receive(messages: "queue.SimpleQueue[bytes]") -> None:
    """Pass messages on; when no more can come, end the process, whatever it is doing."""
    pipe = sys.stdin.buffer
    while length := pipe.read(LENGTH_BYTES):
        messages.put(pipe.read(int.from_bytes(length)))
    os._exit(0)


def _compile(build: Any, types: tuple[Any, ...]) -> None:
    """Compile a kernel, unless it is in the cache or another process is compiling it."""
    if build._cache.may_compile(types, build.targetctx):
        build.compile(types)


def _serve(messages: "queue.SimpleQueue[bytes]") -> None:
    """Hear all that has come, compile one kernel, and look again what has come."""
    rehearsal, patience = Rehearsal(), _PATIENCE
    while True:
        try:
            message = messages.get(timeout=patience if rehearsal.done else 0)
        except queue.Empty:
            if rehearsal.done:
                return
            with contextlib.suppress(Exception):
                _compile(*rehearsal.next())
        else:
            if not message:  # no more is to come
                patience = 0
                continue
            with contextlib.suppress(Exception):
                rehearsal.hear(recreated(message))
