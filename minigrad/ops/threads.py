"""How many threads the kernels use. It changes the speed and no bit of any result."""

from minigrad import kernels
from minigrad.core.errors import ArgumentError

__all__ = ["get_num_threads", "set_num_threads"]


def set_num_threads(n: int) -> None:
    """Let kernels use ``n`` threads from now on, in the whole process.

    Parameters
    ----------
    n : int
        At least 1. More than the machine has cores is allowed if set before the first kernel runs.

    Raises
    ------
    ArgumentError
        If n is out of range, or the pool of threads was started smaller than n.

    Examples
    --------
    >>> import minigrad as mg
    >>> before = mg.get_num_threads()
    >>> mg.set_num_threads(1)
    >>> mg.get_num_threads()
    1
    >>> mg.set_num_threads(before)
    """
    try:
        kernels.set_num_threads(n)
    except ValueError as error:
        raise ArgumentError(str(error)) from None


def get_num_threads() -> int:
    """Threads that kernels use: ``NUMBA_NUM_THREADS``, or all cores, unless set otherwise.

    Where a container may use fewer cores than it sees, no more than these.
    """
    return kernels.get_num_threads()
