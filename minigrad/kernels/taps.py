"""Which entries of one axis each entry of the output reads, and with what weight.

Average pooling and interpolation are linear, and treat rows and columns apart: a matrix acts on
the rows of the image and another on its columns. The matrices are sparse; taps list, for each
entry of the output, what stands in its row of the matrix::

    matrix               starts   sources   weights
    [ 1/2  1/2   0  ]    0        0 1       1/2 1/2
    [  0    0    1  ]    2        2         1
                         3

The adjoint is the transposed matrix, which is again taps.
"""

from typing import NamedTuple

import numpy as np


class Taps(NamedTuple):
    """A sparse matrix by rows: row i has ``weights[k]`` in column ``sources[k]`` for each k from
    ``starts[i]`` up to ``starts[i + 1]``."""

    starts: np.ndarray
    sources: np.ndarray
    weights: np.ndarray

    @property
    def size(self) -> int:
        """Number of rows: entries of the output."""
        return len(self.starts) - 1

    def transposed(self, size_in: int) -> "Taps":
        """Return the transposed matrix, where the matrix has ``size_in`` columns."""
        rows = np.repeat(np.arange(self.size), np.diff(self.starts))
        order = np.argsort(self.sources, kind="stable")
        starts = np.searchsorted(self.sources[order], np.arange(size_in + 1))
        return Taps(starts, rows[order], self.weights[order])


def from_table(sources: np.ndarray, weights: np.ndarray, valid: np.ndarray) -> Taps:
    """Make taps of tables with a line for each entry of the output, leaving out invalid ones.

    Examples
    --------
    >>> import numpy as np
    >>> from_table(np.array([[-1, 0], [1, 2]]), np.ones((2, 2)), np.array([[0, 1], [1, 1]]) > 0)
    Taps(starts=array([0, 1, 3]), sources=array([0, 1, 2]), weights=array([1., 1., 1.]))
    """
    starts = np.concatenate([[0], np.cumsum(valid.sum(axis=1))])
    return Taps(starts, sources[valid], weights[valid])


def window_taps(
    size_in: int, size_out: int, kernel_size: int, stride: int, padding: int, dilation: int
) -> Taps:
    """Return the entries under each position of a sliding window, weighted with their place in it.

    The padding is left out, so a window over the edge has fewer taps.
    """
    places = np.broadcast_to(np.arange(kernel_size), (size_out, kernel_size))
    sources = stride * np.arange(size_out)[:, None] - padding + dilation * places
    return from_table(sources, places, (sources >= 0) & (sources < size_in))


def place_dtype(places: int) -> np.dtype:
    """Return the smaller dtype, of two, that tells so many places apart."""
    return np.dtype(np.uint8 if places <= 256 else np.int32)
