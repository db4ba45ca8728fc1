"""Element-wise kernels against their twins."""

import numpy as np
import pytest

from minigrad import kernels


def _arrays(rng, dtype):
    """Views of every kind of memory order, and sizes on both sides of what threads share."""
    x = rng.standard_normal((3, 5, 7, 4)).astype(dtype)
    yield x
    yield x.transpose(0, 3, 1, 2)
    yield x[:, ::-1, ::2]
    yield x[:0]
    yield np.broadcast_to(x[:1], (2, 5, 7, 4))
    yield np.asarray(x[0, 0, 0, 0])
    yield rng.standard_normal((41, 1000)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_relu_equals_its_twin_to_the_bit(dtype):
    rng = np.random.default_rng(0)
    for x in _arrays(rng, dtype):
        grad_out = rng.standard_normal(x.shape).astype(dtype)
        out = kernels.relu_forward(x)
        grad_x = kernels.relu_backward(grad_out, out)
        with kernels.use("reference"):
            np.testing.assert_array_equal(out, kernels.relu_forward(x), strict=True)
            np.testing.assert_array_equal(grad_x, kernels.relu_backward(grad_out, out), strict=True)


def test_relu_keeps_channels_last_memory():
    x = np.ones((2, 5, 7, 3), np.float32).transpose(0, 3, 1, 2)
    assert kernels.relu_forward(x).strides == x.strides


@pytest.mark.parametrize("form", ["fast", "reference"])
def test_relu_lets_a_nan_through(form):
    x = np.array([np.nan, -np.inf, np.inf, -0.0], np.float32)
    with kernels.use(form):
        np.testing.assert_array_equal(kernels.relu_forward(x), [np.nan, 0, np.inf, 0])
        np.testing.assert_array_equal(kernels.relu_backward(np.ones_like(x), x), [1, 0, 1, 0])
