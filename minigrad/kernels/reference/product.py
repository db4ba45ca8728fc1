"""The twin of the product of matrices."""

import numpy as np


def matrix_product(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """Return a @ b, plus a bias for each column.

    Parameters
    ----------
    a : ndarray, shape (M, K), any strides
    b : ndarray, shape (K, N), any strides, of the dtype of a
    bias : ndarray, shape (N,), of the dtype of a, optional

    Returns
    -------
    out : ndarray, shape (M, N)
    """
    return a @ b if bias is None else a @ b + bias
