"""Compiling ahead: a second process compiles what the backward pass will need.

A network whose kernels are not in the cache spends its first step on compiling them, one at a time,
for Numba compiles on one thread of a process. So the first operation that has to wait for a kernel
starts a process that helps (``rehearsal.py``). It is told of each operation before the operation
runs, by what decides which kernels are needed (``_description.py``), and compiles those that nobody
else does: later ones of the forward pass, and those of the backward pass, which comes last. What it
has compiled is found in the cache, and the processes take turns at each kernel
(``kernels/_turns.py``).

The helper ends with this process, or when nothing new is to be expected. It changes no result, and
where it cannot help nobody notices. There is none with ``MINIGRAD_COMPILE_AHEAD=0`` in the
environment, on a machine with one core, or without a folder for the cache.
"""

import atexit
import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from minigrad.core import function
from minigrad.core.function import Function
from minigrad.kernels import _cores, _misses, _serial, conv_choice
from minigrad.ops._description import LENGTH_BYTES, Call, described

__all__ = ["VARIABLE", "possible"]

VARIABLE = "MINIGRAD_COMPILE_AHEAD"

# The helper finds its modules where this process finds them.
_PROGRAM = """
import sys
sys.path[:] = sys.argv[1:]
from minigrad.ops.rehearsal import main
main()
"""

# Descriptions are told apart by all they say, and a number in one may change at every call.
_MOST = 1000

# After so many calls in a row that are like earlier ones no other is expected.
_ENOUGH = 300

# Seconds in which a process ends that is killed.
_PROMPT = 2.0


class _Helper:
    """The process that compiles ahead, and what it was told."""

    def __init__(self) -> None:
        paths = [path or os.getcwd() for path in sys.path]
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *paths],
            env={**os.environ, VARIABLE: "0"},  # a helper has no helper
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        assert process.stdin is not None  # it was asked for
        self._pipe = process.stdin
        os.set_blocking(self._pipe.fileno(), False)
        self._told: set[bytes] = set()
        self._repeats = 0
        self._unsent = b""
        self._sending = threading.Lock()
        self.pid, self._kill = process.pid, process.kill
        self._waiting = threading.Thread(target=_await_end, args=(process,), daemon=True)
        self._waiting.start()

    def tell(self, call: Call) -> None:
        """Tell of a call, if it is the first of its kind."""
        description = described(call)
        if description is None or description in self._told or len(self._told) == _MOST:
            self._repeats += 1
            return
        self._repeats = 0
        self._told.add(description)
        self._send(description)

    @property
    def knows_all(self) -> bool:
        """Whether nothing new is to be expected."""
        return self._repeats >= _ENOUGH

    def dismiss(self) -> None:
        """Let the helper end when it has compiled what it knows of."""
        self._send(b"")

    def _send(self, description: bytes) -> None:
        """Send a message, unless another thread is sending one."""
        if self._sending.acquire(blocking=False):
            try:
                self._put(len(description).to_bytes(LENGTH_BYTES) + description)
            finally:
                self._sending.release()

    def _put(self, message: bytes) -> None:
        """Write what the pipe takes at once: a message that is begun is ended, others are lost."""
        self._unsent = self._unsent[self._write(self._unsent) :]
        if not self._unsent:
            written = self._write(message)
            self._unsent = message[written:] if written else b""

    def _write(self, data: bytes) -> int:
        try:
            return self._pipe.write(data) or 0
        except (OSError, ValueError):  # the helper has ended, or the pipe is closed
            return len(data)

    def leave(self) -> None:
        """Close the pipe, upon which the helper ends, if it has not ended."""
        with contextlib.suppress(OSError):
            self._pipe.close()

    def end(self) -> None:
        """Make the helper end, and wait until it has."""
        self.leave()
        self._kill()
        self._waiting.join(_PROMPT)


_helper: _Helper | None = None


def _begin() -> None:
    """Have a helper, now that an operation has to wait for a kernel."""
    global _helper
    call = _call_in_progress()
    if call is None or os.environ.get(VARIABLE) == "0" or not possible():
        return
    try:
        _helper = _helper or _Helper()
    except (OSError, RuntimeError, ValueError):  # no more processes or threads, or odd paths
        return
    function.before_forward = _offer
    _offer(*call)


def _offer(
    operation: type[Function], inputs: list[Any], needs: list[bool], options: dict[str, Any]
) -> None:
    helper, algorithm, serial = _helper, conv_choice.in_use(), _serial.must_be_serial()
    if helper is None:
        return
    helper.tell(Call(operation, tuple(inputs), tuple(needs), options, algorithm, serial))
    if helper.knows_all:
        function.before_forward = None
        helper.dismiss()


def _await_end(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of the helper, and offer nothing any more."""
    process.wait()
    _forget()


def _forget() -> None:
    global _helper
    helper, _helper, function.before_forward = _helper, None, None
    if helper is not None:
        helper.leave()


def _end() -> None:
    if _helper is not None:
        _helper.end()


def possible() -> bool:
    """Whether a helper would find a core that is free, and an interpreter."""
    # Elsewhere processes cannot take turns, and a program that embeds Python does other things.
    interpreter = Path(sys.executable or "").name
    return os.name == "posix" and _cores.usable_cores() > 1 and interpreter.startswith("python")


def _call_in_progress() -> tuple[Any, Any, Any, Any] | None:
    """Find the operation whose forward is running, on the stack of this thread.

    To note each call, in case that it has to wait, would take longer than to make a node.
    """
    frame = sys._getframe()
    while frame.f_code is not _APPLY:
        if frame.f_back is None:
            return None
        frame = frame.f_back
    found = frame.f_locals
    return found["cls"], found["arrays"], found["needs"], found["options"]


_APPLY = Function.apply.__code__

_misses.listen(_begin)
atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
