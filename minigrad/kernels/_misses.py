"""Who wants to know that a kernel is about to be compiled, for it is not in the cache.

This file imports no Numba, so that one can ask for the news before there is any.
"""

from collections.abc import Callable

__all__ = ["listen", "tell"]

_listener: Callable[[], None] | None = None


def listen(listener: Callable[[], None]) -> None:
    """Let ``listener()`` be called before each kernel that is compiled, in the thread that does."""
    global _listener
    _listener = listener


def tell() -> None:
    """Say that a kernel is about to be compiled."""
    if _listener is not None:
        _listener()
