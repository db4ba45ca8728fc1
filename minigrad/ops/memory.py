"""Giving memory back that is kept for the next step."""

from minigrad import kernels

__all__ = ["release_memory"]


def release_memory() -> int:
    """Give the memory of dead large arrays, kept for new ones, back to the system.

    Training makes arrays of the same sizes step after step, and fresh memory is slow. So what
    large arrays leave behind waits for the next ones, up to a quarter of the machine's memory.

    Returns
    -------
    int
        How many bytes have been given back.

    Examples
    --------
    >>> import minigrad as mg
    >>> freed = mg.release_memory()
    >>> mg.release_memory()
    0
    """
    return kernels.release_memory()
