"""The one decorator of all kernels, and how a kernel is launched.

A kernel is a module-level function with one ``prange`` loop over chunks. The chunks depend on the
shape of the work and never on the number of threads, and each chunk writes to places of its own,
so the result is the same bits on any number of threads. The loop's body is best a function
decorated with ``@body``, for a thin loop compiles quickly::

    from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange

    @body
    def _double(x, out, start, stop):
        for i in range(start, stop):
            out[i] = 2 * x[i]

    @kernel
    def _double_loop(x, out, chunks):
        for chunk in prange(chunks):
            start, stop = chunk_bounds(chunk, chunks, x.size)
            _double(x, out, start, stop)

    def double(x):
        out = np.empty_like(x)
        _double_loop.launch(x.size, x, out, chunks_of(x.size))
        return out

``launch(work, *args)`` takes the number of elementary operations, computed from shapes alone. A
kernel has two builds, a serial one for little work and one that shares its chunks among threads.

Fast-math is off unless a kernel asks to ``reassociate``: its sums may then be computed in any
order and its products fused into them. NaN and infinity are honoured in either case.

Arguments are positional: arrays, integers, or tuples of them. Each new combination of types
compiles a new version, so entry functions bring arrays to one layout (see ``_layout.py``) first.
With ``NUMBA_DISABLE_JIT=1`` everything here runs as plain Python.
"""

from collections.abc import Callable
from typing import Any, overload

import numpy as np
from numba import prange
from numba.extending import register_jitable

from minigrad.kernels import _cache, _serial, _threads
from minigrad.kernels._borrowed import PartCompiler
from minigrad.kernels._compiler import WholeCompiler
from minigrad.kernels._numba import config, njit

__all__ = ["CHUNK", "Kernel", "body", "chunk_bounds", "chunks_of", "kernel", "prange"]

# Below this many elementary operations (some tens of microseconds) threads cost more than they
# bring: on a busy machine waking one takes longer than that.
SERIAL_BELOW = 131_072

# Elements of a chunk in element-wise loops: small enough for a cache, large enough to be shared.
CHUNK = 16_384

# Never nnan or ninf, which would let the compiler drop a NaN.
_REASSOCIATE = {"contract", "reassoc", "nsz", "arcp"}


class Kernel:
    """A loop in its two builds, both compiled when they are first needed."""

    def __init__(self, function: Callable[..., None], reassociate: bool) -> None:
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self.serial = _jitted(function, reassociate, "serial")
        self.parallel = _jitted(function, reassociate, "parallel")

    def launch(self, work: int, *args: Any) -> None:
        """Run the loop: on the thread pool, or here if the work is little or threads barred."""
        args = _all_writeable(args)
        if work < SERIAL_BELOW or _serial.must_be_serial():
            self.serial(*args)
            return
        with _threads.entry():
            _threads.apply_num_threads()
            self.parallel(*args)

    def wanted(self, work: int, *args: Any) -> tuple[Any, tuple[Any, ...]]:
        """Return the build that ``launch`` would run, and the types it would be called with."""
        serial = work < SERIAL_BELOW or _serial.must_be_serial()
        build = self.serial if serial else self.parallel
        return build, tuple([build.typeof_pyval(arg) for arg in _all_writeable(args)])


@overload
def kernel(function: Callable[..., None]) -> Kernel: ...
@overload
def kernel(*, reassociate: bool) -> Callable[[Callable[..., None]], Kernel]: ...


def kernel(function: Any = None, *, reassociate: bool = False) -> Any:
    """Make a kernel of a function with a ``prange`` loop; see the top of this file."""
    if function is None:
        return lambda function: Kernel(function, reassociate)
    return Kernel(function, reassociate)


class Body:
    """A function for kernels to call; Python may call it too, and then it is compiled alone."""

    def __init__(self, function: Callable[..., Any], reassociate: bool, inline: bool) -> None:
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self.alone = _jitted(function, reassociate, "serial")
        options = _options(
            reassociate, no_cpython_wrapper=True, forceinline=inline, pipeline_class=PartCompiler
        )
        self.part = options(function)
        self._numba_type_ = self.part._numba_type_  # what a kernel sees when it calls this

    def __call__(self, *args: Any) -> Any:
        """Run the function here."""
        return self.alone(*args)


def body(function: Any = None, *, reassociate: bool = False, inline: bool = False) -> Any:
    """Compile a function that kernels call; it runs on the thread it is called on.

    A call passes the sizes of an array and the numbers in a tuple one by one. Where that takes
    longer than the work, ``inline`` puts the function in the place of the call.
    """
    if function is None:
        return lambda function: body(function, reassociate=reassociate, inline=inline)
    return function if config.DISABLE_JIT else Body(function, reassociate, inline)


def _jitted(function: Callable[..., Any], reassociate: bool, build: str) -> Any:
    if config.DISABLE_JIT:
        return np.errstate(all="ignore")(function)  # compiled loops warn of nothing either
    options = _options(reassociate, parallel=build == "parallel", pipeline_class=WholeCompiler)
    compiled = options(function)
    _cache.attach(compiled, build)
    return compiled


def _options(reassociate: bool, **others: Any) -> Callable[..., Any]:
    return njit(
        nogil=True,
        error_model="numpy",
        fastmath=_REASSOCIATE if reassociate else False,
        no_cfunc_wrapper=True,
        **others,
    )


_Array = np.ndarray  # under a name of its own, for every launch looks at all its arguments


def _all_writeable(args: tuple[Any, ...]) -> tuple[Any, ...]:
    for arg in args:
        if isinstance(arg, _Array) and not arg.flags.writeable:
            return tuple([_writeable(a) if _is_locked(a) else a for a in args])
    return args  # nearly always, and in half the time that another tuple takes


def _is_locked(arg: Any) -> bool:
    return isinstance(arg, _Array) and not arg.flags.writeable


class _Writeable:
    """The memory of an array, offered to NumPy once more."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array  # keeps the memory alive
        address, _ = array.__array_interface__["data"]
        self.__array_interface__ = {**array.__array_interface__, "data": (address, False)}


def _writeable(array: np.ndarray) -> np.ndarray:
    """Return the memory of a read-only array under the type of a writeable one.

    To Numba read-only arrays are another type, and every kernel would be compiled again for it.
    Kernels never write to their inputs.
    """
    return np.asarray(_Writeable(array))


@register_jitable
def chunks_of(size: int, chunk: int = CHUNK) -> int:
    """Return into how many chunks a range is cut; it depends on the size alone."""
    return -(-size // chunk)


@register_jitable
def chunk_bounds(chunk: int, chunks: int, size: int) -> tuple[int, int]:
    """Return where a chunk starts and stops; chunks differ by one element at most."""
    return chunk * size // chunks, (chunk + 1) * size // chunks
