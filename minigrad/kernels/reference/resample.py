"""The twin of the kernel behind average pooling and interpolation."""

import numpy as np

from minigrad.kernels.taps import Taps


def resample2d(
    x: np.ndarray, rows: Taps, columns: Taps, divisors: np.ndarray | None = None
) -> np.ndarray:
    """Mix the rows of each image, and then its columns: out = R x C^T for sparse R and C.

    The adjoint is the same kernel with both transposed: grad_x = R^T grad_out C.

    Parameters
    ----------
    x : ndarray, (N, C, H, W)
    rows, columns : Taps
        What each output row reads of the H rows, and each output column of the W columns.
    divisors : ndarray, (1, 1) or (rows.size, columns.size), optional
        What the output pixels are divided by.

    Returns
    -------
    out : ndarray of x's dtype, (N, C, rows.size, columns.size)
    """
    out = _mixed(_mixed(x, rows, axis=2), columns, axis=3)
    return out if divisors is None else out / divisors


def _mixed(x: np.ndarray, taps: Taps, axis: int) -> np.ndarray:
    lines = np.moveaxis(x, axis, 0)
    out = np.zeros((taps.size, *lines.shape[1:]), x.dtype)
    for i in range(taps.size):
        for k in range(taps.starts[i], taps.starts[i + 1]):
            out[i] += taps.weights[k].astype(x.real.dtype) * lines[taps.sources[k]]
    return np.moveaxis(out, 0, axis)
