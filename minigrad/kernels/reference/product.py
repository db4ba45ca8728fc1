"""The twin of the product of matrices."""

import numpy as np


def matrix_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a @ b.

    Parameters
    ----------
    a : ndarray, shape (M, K), any strides
    b : ndarray, shape (K, N), any strides, of the dtype of a

    Returns
    -------
    out : ndarray, shape (M, N)
    """
    return a @ b
