"""Large arrays are written past the caches, with the bits of small ones, which are not.

Images are computed all at once, which takes streaming stores, and one by one, which does not.
"""

import numpy as np
import pytest

from minigrad import kernels
from minigrad.kernels._stream import FAR_BYTES, is_far

# 37 channels leave pixels that begin within a line of the cache; 48 do not.
CHANNELS = pytest.mark.parametrize("C", [37, 48])
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def _images(C, dtype, seed):
    """Draw images that are far together, and not one by one."""
    H = 7 + FAR_BYTES // (3 * C * 95 * np.dtype(dtype).itemsize)
    values = np.random.default_rng(seed).standard_normal((3, H, 95, C), dtype)
    assert values.nbytes >= FAR_BYTES > values[0].nbytes
    return values.transpose(0, 3, 1, 2)


def _same(got, one_by_one):
    np.testing.assert_array_equal(got, np.concatenate(list(one_by_one)))


@CHANNELS
@DTYPES
def test_a_relu_and_a_sum_stream_the_bits_of_small_ones(C, dtype):
    x, other = _images(C, dtype, 0), _images(C, dtype, 1)
    order, parts = (0, 2, 3, 1), [slice(n, n + 1) for n in range(3)]
    y, mask = kernels.relu_forward(x)
    np.testing.assert_array_equal(y, np.maximum(x, 0))
    grad_x = kernels.relu_backward(other, mask, order)
    np.testing.assert_array_equal(grad_x, np.where(x > 0, other, 0))
    np.testing.assert_array_equal(kernels.add(x, other), x + other)
    np.testing.assert_array_equal(kernels.add(x, other, mask), x + np.where(x > 0, other, 0))
    _same(y, (kernels.relu_forward(x[n])[0] for n in parts))


@CHANNELS
@DTYPES
def test_batch_norm_streams_the_bits_of_small_ones(C, dtype):
    x, grad_out = _images(C, dtype, 2), _images(C, dtype, 3)
    rng = np.random.default_rng(4)
    weight, bias = (rng.standard_normal(C).astype(dtype) for _ in range(2))
    mean, var = kernels.batch_norm_statistics(x)
    norm = weight, bias, mean, 1 / np.sqrt(var + 1e-5)
    parts = [slice(n, n + 1) for n in range(3)]
    _same(
        kernels.batch_norm_forward(x, *norm),
        (kernels.batch_norm_forward(x[n], *norm) for n in parts),
    )
    y, mask = kernels.batch_norm_relu_forward(x, *norm, grad_out)
    _same(y, (kernels.batch_norm_relu_forward(x[n], *norm, grad_out[n])[0] for n in parts))
    out, bits, *_ = kernels.batch_norm_training(x, weight, bias, 1e-5, True, grad_out)
    np.testing.assert_array_equal(out, y)
    np.testing.assert_array_equal(bits, mask)
    grad_x, *sums = kernels.batch_norm_backward(grad_out, x, weight, *norm[2:], mask)
    apart = kernels.batch_norm_grad_input(grad_out, x, weight, *norm[2:], *sums, mask)
    np.testing.assert_array_equal(grad_x, apart)
    spread = np.s_[None, :, None, None]
    kept = np.where(y > 0, grad_out, 0).astype(np.float64)
    normal = (x - mean[spread]) * norm[3][spread]
    count = x.size // C
    want = kept - kept.sum((0, 2, 3))[spread] / count
    want -= normal * (kept * normal).sum((0, 2, 3))[spread] / count
    want *= (weight * norm[3])[spread]
    accuracy = 1e-5 if dtype is np.float32 else 1e-12
    np.testing.assert_allclose(grad_x, want, rtol=0, atol=accuracy * np.abs(want).max())


@CHANNELS
@DTYPES
def test_the_gradient_of_a_max_pool_streams_the_bits_of_small_ones(C, dtype):
    x = _images(C, dtype, 5)
    size, parts = x.shape[2:], [slice(n, n + 1) for n in range(3)]
    window = (3, 3), (2, 2), (1, 1), (1, 1)
    out_size = tuple((length - 1) // 2 + 1 for length in size)
    y, place = kernels.max_pool2d_forward(x, *window, out_size)
    grad_out = np.random.default_rng(6).standard_normal(y.shape).astype(dtype)
    _same(
        kernels.max_pool2d_backward(grad_out, place, *window, size),
        (kernels.max_pool2d_backward(grad_out[n], place[n], *window, size) for n in parts),
    )


@pytest.mark.parametrize("first", [0, 1, 7, 16])
def test_a_copy_streams_only_to_where_a_line_begins(first):
    size = FAR_BYTES // 4 + 3
    x = np.random.default_rng(7).standard_normal(size).astype(np.float32)
    memory = np.zeros(size + 64, np.float32)
    start = -memory.__array_interface__["data"][0] // 4 % 16 + first
    out = memory[start : start + size]
    assert is_far(out) == (first % 16 == 0)
    assert not is_far(out[:1000])
    kernels.copy(x, out)
    np.testing.assert_array_equal(out, x)
    assert not memory[:start].any()
    assert not memory[start + size :].any()
