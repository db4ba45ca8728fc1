"""Sums over images and their adjoint against their twins, and what they leave unrounded."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minigrad import kernels

pytestmark = pytest.mark.usefixtures("fast_kernels")

shapes = st.tuples(st.integers(0, 3), st.integers(1, 70), st.integers(1, 9), st.integers(1, 40))


@example(shape=(2, 17, 60, 70), dtype=np.float32, seed=0)  # images of several parts
@example(shape=(3, 5, 30, 30), dtype=np.float32, seed=0)  # wide rows, and pixels behind the last
@example(shape=(2, 43, 9, 13), dtype=np.float32, seed=0)  # pixels of vectors and a part of one
@given(shape=shapes, dtype=st.sampled_from([np.float32, np.float64]), seed=st.integers(0, 99))
def test_equals_the_twin_on_any_shape(shape, dtype, seed):
    rng = np.random.default_rng(seed)
    # Whole numbers, so that sums are exact in any order.
    x = rng.integers(-9, 10, shape).astype(dtype)
    sums, means = kernels.image_sums(x), kernels.image_sums(x, shape[2] * shape[3])
    images = kernels.spread_over_images(sums, shape[2:])
    with kernels.use("reference"):
        np.testing.assert_array_equal(sums, kernels.image_sums(x), strict=True)
        twin = kernels.image_sums(x, shape[2] * shape[3])
        np.testing.assert_array_equal(means, twin, strict=True)
        want = kernels.spread_over_images(sums, shape[2:])
    np.testing.assert_array_equal(images, want, strict=True)


def test_a_long_sum_loses_little():
    """A sum of 300,000 values of about 1 in float32 alone would be wrong in the fifth digit."""
    x = np.random.default_rng(0).uniform(0.9, 1.1, (1, 3, 500, 600)).astype(np.float32)
    exact = x.sum((2, 3), dtype=np.float64)
    np.testing.assert_allclose(kernels.image_sums(x), exact, rtol=1e-7)


def test_nan_and_infinity_reach_their_own_channel_alone():
    x = np.zeros((2, 5, 7, 11), np.float32)
    x[0, 1, 6, 10], x[1, 4, 0, 0] = np.nan, np.inf
    want = np.zeros((2, 5), np.float32)
    want[0, 1], want[1, 4] = np.nan, np.inf
    np.testing.assert_array_equal(kernels.image_sums(x), want)
