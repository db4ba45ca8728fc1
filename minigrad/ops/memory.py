"""Memory: given back that is kept for later, and made constant."""

from minigrad import kernels
from minigrad.kernels._constant import constant, is_constant

__all__ = ["constant", "is_constant", "release_memory"]


def release_memory() -> int:
    """Give memory back to the system that is kept to save time later.

    Training makes arrays of the same sizes step after step, and fresh memory is slow. So what
    large arrays leave behind waits for the next ones, up to a quarter of the machine's memory.
    Networks that :func:`~minigrad.fold_batch_norm` made also keep their weights in the form in
    which convolutions read them; the next call makes that form again.

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
