"""conv2d with the relu behind it: the bits of the two operations, both ways."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.ops import conv2d_relu


def _arrays(dtype):
    rng = np.random.default_rng(3)
    return [rng.integers(-2, 3, s).astype(dtype) for s in ((2, 3, 5, 7), (4, 3, 3, 2), (4,))]


def _run(operation, arrays, **settings):
    tensors = [mg.Tensor(a, requires_grad=True) for a in arrays]
    y = operation(*tensors, **settings)
    y.backward(np.random.default_rng(4).standard_normal(y.shape).astype(y.dtype))
    return y.data, *[t.grad for t in tensors]


@pytest.mark.parametrize("settings", [{}, {"stride": (1, 2), "padding": (2, 1)}])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_the_two_operations_bit_for_bit(dtype, settings):
    def apart(*tensors, **settings):
        return mg.relu(mg.conv2d(*tensors, **settings))

    arrays = _arrays(dtype)  # whole numbers, so that some sums are at the kink
    assert (mg.conv2d(*arrays, **settings).data == 0).any()
    got, want = _run(conv2d_relu, arrays, **settings), _run(apart, arrays, **settings)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


def test_a_nan_passes_both_ways():
    x = mg.Tensor(np.array([[[[np.nan, -1.0]]]]), requires_grad=True)
    y = conv2d_relu(x, np.ones((1, 1, 1, 1)))
    y.backward(np.full((1, 1, 1, 2), 3.0))
    np.testing.assert_array_equal(y.data, [[[[np.nan, 0]]]])
    np.testing.assert_array_equal(x.grad, [[[[3, 0]]]])
