"""Pooling against its definition, written as loops over windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg


def _windows(size, k, s, p, d, ceil_mode):
    """For each output along one axis: the entries it sees, and how many with the padding."""
    span = d * (k - 1) + 1
    seen = []
    start = -p
    while start + span <= size + p or (ceil_mode and start < size and start + span < size + p + s):
        places = [start + j * d for j in range(k)]
        inside = [i for i in places if 0 <= i < size]
        seen.append((inside, sum(1 for i in places if i < size + p)))
        start += s
    return seen


def _pooled(x, size, window, reduce):
    """``reduce(values, count_with_padding)`` for each window."""
    rows, columns = (_windows(n, *axis) for n, axis in zip(size, window, strict=True))
    out = np.empty((*x.shape[:2], len(rows), len(columns)))
    for i, (r, n) in enumerate(rows):
        for j, (c, m) in enumerate(columns):
            out[:, :, i, j] = reduce(x[:, :, r][..., c], n * m)
    return out


@st.composite
def _pools(draw, dilated):
    """An image, and for each axis k, s, p, d; one ceil_mode."""
    sizes, axes, ceil_mode = [], [], draw(st.booleans())
    for _ in range(2):
        k, s = draw(st.integers(1, 4)), draw(st.integers(1, 5))
        d = draw(st.integers(1, 3)) if dilated else 1
        span = d * (k - 1) + 1
        p = draw(st.integers(0, span // 2))
        sizes.append(max(d, span - 2 * p) + draw(st.integers(0, 6)))
        axes.append((k, s, p, d, ceil_mode))
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 4)), *sizes)
    x = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).standard_normal(shape)
    return x, axes


@given(case=_pools(dilated=True))
def test_max_pool2d_is_the_maximum_of_each_window(case):
    x, axes = case
    k, s, p, d, ceil_modes = zip(*axes, strict=True)
    want = _pooled(x, x.shape[2:], axes, lambda values, _: values.max((2, 3)))
    np.testing.assert_array_equal(mg.max_pool2d(x, k, s, p, d, ceil_modes[0]).data, want)


@given(case=_pools(dilated=False), count_include_pad=st.booleans())
def test_avg_pool2d_is_the_mean_of_each_window(case, count_include_pad):
    x, axes = case
    k, s, p, _, ceil_modes = zip(*axes, strict=True)

    def mean(values, padded):
        count = padded if count_include_pad else values.shape[2] * values.shape[3]
        return values.sum((2, 3)) / count

    got = mg.avg_pool2d(x, k, s, p, ceil_modes[0], count_include_pad).data
    np.testing.assert_allclose(got, _pooled(x, x.shape[2:], axes, mean), rtol=1e-12, atol=1e-14)
    got = mg.avg_pool2d(x, k, s, p, ceil_modes[0], count_include_pad, 3.5).data
    want = _pooled(x, x.shape[2:], axes, lambda values, _: values.sum((2, 3)) / 3.5)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 11])
def test_adaptive_avg_pool2d_is_the_mean_of_rectangles_that_cover_the_image(size):
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    got = mg.adaptive_avg_pool2d(x, size).data
    for i in range(size):
        for j in range(size):
            rows = slice(int(np.floor(i * 5 / size)), int(np.ceil((i + 1) * 5 / size)))
            columns = slice(int(np.floor(j * 7 / size)), int(np.ceil((j + 1) * 7 / size)))
            want = x[:, :, rows, columns].mean((2, 3))
            np.testing.assert_allclose(got[:, :, i, j], want, rtol=1e-12)


def test_the_global_mean_is_three_operations_in_one():
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)
    got = mg.global_avg_pool2d(x).data
    assert got.shape == (2, 3)
    np.testing.assert_allclose(got, x.mean((2, 3)), rtol=1e-5)
    np.testing.assert_array_equal(got, mg.adaptive_avg_pool2d(x, 1).data[:, :, 0, 0])
    np.testing.assert_array_equal(got, mg.avg_pool2d(x, (5, 7)).data[:, :, 0, 0])


def test_averages_of_whole_numbers_are_exact():
    """Sums first and one division: no weight of 1/9 that nine times over is not 1."""
    x = np.full((1, 3, 9, 9), 7, np.float32)
    for y in mg.avg_pool2d(x, 3), mg.adaptive_avg_pool2d(x, 4), mg.global_avg_pool2d(x):
        np.testing.assert_array_equal(y.data, 7)


def test_at_a_tie_the_first_entry_receives_the_gradient():
    x = mg.tensor(np.zeros((1, 1, 3, 3)), requires_grad=True)
    mg.max_pool2d(x, 2, stride=1).backward(np.array([[[[1.0, 2.0], [3.0, 4.0]]]]))
    np.testing.assert_array_equal(x.grad[0, 0], [[1, 2, 0], [3, 4, 0], [0, 0, 0]])


def test_an_entry_that_wins_in_several_windows_receives_the_sum():
    x = mg.tensor(np.eye(3)[None, None, ::-1] * [0, 1, 0], requires_grad=True)
    mg.max_pool2d(x, 2, stride=1).backward(np.array([[[[1.0, 2.0], [3.0, 4.0]]]]))
    np.testing.assert_array_equal(x.grad[0, 0], [[0, 0, 0], [0, 10, 0], [0, 0, 0]])


def test_entries_that_no_window_sees_receive_nothing():
    x = mg.tensor(np.ones((1, 1, 5, 5)), requires_grad=True)
    mg.avg_pool2d(x, 1, stride=2).backward(np.ones((1, 1, 3, 3)))
    want = np.outer([1, 0, 1, 0, 1], [1, 0, 1, 0, 1])
    np.testing.assert_array_equal(x.grad[0, 0], want)
    x.grad = None
    mg.max_pool2d(x, 1, stride=2).backward(np.ones((1, 1, 3, 3)))
    np.testing.assert_array_equal(x.grad[0, 0], want)
