"""The zero-padded shortcut's kernels against their twins."""

import numpy as np
import pytest

from minigrad import kernels


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "stride", "before", "after"),
    [
        ((2, 3, 5, 7), 2, 1, 2),
        ((3, 17, 4, 1), 3, 0, 1),
        ((2, 1, 6, 5), 1, 2, 0),
        ((5, 16, 32, 32), 2, 8, 8),  # several chunks
        ((0, 3, 5, 7), 2, 1, 1),
    ],
)
def test_both_ways_equal_their_twins(dtype, shape, stride, before, after, always_parallel):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(dtype)
    out = kernels.zero_pad_shortcut(x, stride, before, after)
    grad_out = rng.standard_normal(out.shape).astype(dtype)
    grad_x = kernels.zero_pad_shortcut_backward(grad_out, stride, before, shape)
    with kernels.use("reference"):
        naive_out = kernels.zero_pad_shortcut(x, stride, before, after)
        naive_grad = kernels.zero_pad_shortcut_backward(grad_out, stride, before, shape)
    np.testing.assert_array_equal(out, naive_out, strict=True)
    np.testing.assert_array_equal(grad_x, naive_grad, strict=True)
