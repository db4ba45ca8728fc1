"""The product of matrices against NumPy's."""

import numpy as np
import pytest

from minigrad import kernels
from minigrad.kernels.product import DEPTH


def _integers(rng, shape, dtype):
    """Small whole numbers: their products and sums are exact, so any order gives the same bits."""
    return rng.integers(-4, 5, shape).astype(dtype)


SHAPES = [
    (1, 1, 1),
    (16, 5, 32),
    (3, 7, 17),
    (19, 33, 10),
    (130, 40, 100),
    (1, 300, 70),
    (70, 300, 1),
    (5, DEPTH + 3, 35),
    (7, 19, 130),
    (9, 35, 23),
    (40, 9, 70),
    (13, 50, 11),
    (21, 1024, 100),  # rows of a lie pages apart
    (0, 3, 4),
    (3, 4, 0),
    (3, 0, 4),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("M", "K", "N"), SHAPES)
def test_it_is_the_product_whatever_the_strides(M, K, N, dtype):
    rng = np.random.default_rng(0)
    a, b = _integers(rng, (M, K), dtype), _integers(rng, (K, N), dtype)
    strided = np.repeat(b, 2, axis=1)[:, ::2]
    for left in a, np.asfortranarray(a), np.flip(np.flip(a, 1).copy(), 1):
        for right in b, np.asfortranarray(b), strided:
            out = kernels.matrix_product(left, right)
            np.testing.assert_array_equal(out, a @ b, strict=True)
    bias = _integers(rng, (2 * N,), dtype)[::2]
    np.testing.assert_array_equal(kernels.matrix_product(a, b, bias), a @ b + bias, strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_rounds_as_a_sum_does(dtype):
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((37, 500)), rng.standard_normal((500, 45))
    out = kernels.matrix_product(a.astype(dtype), b.astype(dtype))
    np.testing.assert_allclose(out, a @ b, rtol=0, atol=1000 * np.finfo(dtype).eps)


def test_a_nan_stays_in_its_row():
    a, b = np.ones((40, 50), np.float32), np.ones((50, 21), np.float32)
    a[3, 7] = np.nan
    out = kernels.matrix_product(a, b)
    assert np.isnan(out[3]).all()
    assert np.isfinite(np.delete(out, 3, axis=0)).all()


@pytest.mark.parametrize(("M", "K", "N"), [(150, 90, 43), (2, 700, 190)])
def test_the_bits_do_not_depend_on_threads(M, K, N, pool_of_four, fast_kernels):
    rng = np.random.default_rng(2)
    a = rng.standard_normal((M, K)).astype(np.float32)
    b = rng.standard_normal((N, K)).astype(np.float32).T
    results = []
    for threads in pool_of_four:
        kernels.set_num_threads(threads)
        results.append(kernels.matrix_product(a, b))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
