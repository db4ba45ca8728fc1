"""The twins of the kernels behind the global average pool."""

import numpy as np


def image_sums(x: np.ndarray, divisor: float = 1.0) -> np.ndarray:
    """Return the sum of each channel of each image, divided by a number.

    Parameters
    ----------
    x : ndarray, (N, C, H, W)
    divisor : float
        H W makes means of the sums.

    Returns
    -------
    sums : ndarray of x's dtype, (N, C)
    """
    return x.sum(axis=(2, 3)) / divisor


def spread_over_images(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return images whose pixels are all alike: out[n, c, h, w] = values[n, c].

    Parameters
    ----------
    values : ndarray, (N, C)
    size : tuple of int
        (H, W)

    Returns
    -------
    out : ndarray of the dtype of values, (N, C, H, W)
    """
    return np.broadcast_to(values[:, :, None, None], (*values.shape, *size)).copy()
