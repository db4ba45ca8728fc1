"""Has a module changed since something was worked out from it?

What follows from the attributes of many modules, such as the steps of a residual unit, is kept
together with the mark of its time. Each assignment to an attribute of any module, and each hook
that comes or goes, makes a new mark, and then all that was kept is worked out again. That is coarse
and cannot miss a change; in a loop of training steps nothing of the kind happens.
"""

__all__ = ["change", "mark"]

_mark = object()  # no number: in another process, or in a copy, that might be the same by chance


def mark() -> object:
    """Return what is the same object until a module changes."""
    return _mark


def change() -> None:
    """Say that a module has changed."""
    global _mark
    _mark = object()
