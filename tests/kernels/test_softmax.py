"""The kernels of softmax and its logarithm against their twins, and at their edges."""

import numpy as np
import pytest

from minigrad import kernels


def _all(x, grad_out):
    p, y = kernels.softmax_forward(x), kernels.log_softmax_forward(x)
    return (
        p,
        y,
        kernels.softmax_backward(grad_out, p),
        kernels.log_softmax_backward(grad_out, y),
    )


# Rows of one vector, of several, with and without a rest, and of more than a block of sums.
@pytest.mark.parametrize(
    "shape", [(0, 3), (1, 1), (3000, 2), (5, 16), (7, 17), (9, 65), (11, 200), (3, 3001)]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 3e-6), (np.float64, 1e-13)])
def test_they_agree_with_their_twins(shape, dtype, tolerance):
    rng = np.random.default_rng(0)
    x, grad_out = rng.normal(0, 3, shape).astype(dtype), rng.standard_normal(shape).astype(dtype)
    fast = _all(x, grad_out)
    with kernels.use("reference"):
        naive = _all(x, grad_out)
    for a, b in zip(fast, naive, strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, shape[1] / 100))


@pytest.mark.parametrize("form", ["fast", "reference"])
@pytest.mark.parametrize("C", [3, 18, 90])
def test_extremes(form, C):
    inf, x = np.inf, np.full((5, C), -1e4, np.float32)
    x[:, -1] = 1e4, -1e4, np.nan, inf, -inf
    x[4] = -inf
    with kernels.use(form):
        p, y = kernels.softmax_forward(x), kernels.log_softmax_forward(x)
    np.testing.assert_array_equal(p[0], np.eye(C)[-1])
    np.testing.assert_array_equal(y[0, :-1], -2e4)  # where the softmax is 0
    np.testing.assert_allclose(p[1], 1 / C, rtol=1e-6)
    assert np.isnan(p[2]).all()
    assert np.isnan(y[2:]).all()
    assert np.isnan(p[3, -1])
    assert np.isnan(p[4]).all()


def test_memory_beside_a_short_row_is_left_alone():
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    before = x.copy()
    p = kernels.softmax_forward(x[1:3])
    np.testing.assert_array_equal(x, before)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)


def test_columns_of_a_larger_matrix_are_taken_as_they_are():
    x = np.random.default_rng(1).standard_normal((6, 40)).astype(np.float32)[:, 3:20]
    np.testing.assert_array_equal(kernels.softmax_forward(x), kernels.softmax_forward(x.copy()))


def test_the_serial_and_the_parallel_build_give_the_same_bits(always_parallel):
    rng = np.random.default_rng(2)
    x, grad_out = (rng.standard_normal((997, 21)).astype(np.float32) for _ in range(2))
    parallel = _all(x, grad_out)
    with kernels.serial_only():
        serial = _all(x, grad_out)
    for a, b in zip(parallel, serial, strict=True):
        np.testing.assert_array_equal(a, b)
