"""Watching kernels at work, for who measures where the time of a whole network goes."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from minigrad import kernels
from minigrad.kernels._jit import Kernel

__all__ = ["Watched", "watch_kernels"]


class Watched(NamedTuple):
    """One call of a kernel by its name.

    Attributes
    ----------
    name : str
    seconds : float
        Of the whole call.
    args, result
        What went in and what came out.
    loops : dict of str to float
        Seconds of each loop that the call launched.
    """

    name: str
    seconds: float
    args: tuple[Any, ...]
    result: Any
    loops: dict[str, float]


@contextlib.contextmanager
def watch_kernels(tell: Callable[[Watched], None]) -> Iterator[None]:
    """Call ``tell`` after every call of a kernel while the block lasts, in one thread.

    The functions themselves are exchanged, so that calls outside such a block cost nothing.
    """
    launch = Kernel.launch
    loops: defaultdict[str, float] = defaultdict(float)

    def timed_launch(self: Kernel, work: int, *args: Any) -> None:
        start = time.perf_counter()
        launch(self, work, *args)
        loops[self.__name__] += time.perf_counter() - start

    def timed(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            loops.clear()
            start = time.perf_counter()
            result = kernel(*args, **options)
            seconds = time.perf_counter() - start
            tell(Watched(name, seconds, (*args, *options.values()), result, dict(loops)))
            return result

        return call

    plain = {name: getattr(kernels, name) for name in kernels.names()}
    try:
        setattr(Kernel, "launch", timed_launch)  # noqa: B010 (mypy: a method is no variable)
        for name, kernel in plain.items():
            setattr(kernels, name, timed(name, kernel))
        yield
    finally:
        setattr(Kernel, "launch", launch)  # noqa: B010
        for name, kernel in plain.items():
            setattr(kernels, name, kernel)
