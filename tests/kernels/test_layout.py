"""The order of arrays in memory."""

import numpy as np
import pytest

from minigrad.kernels import _layout


def test_channels_last_is_a_view_of_channels_last_memory_and_else_a_copy():
    x = np.arange(2 * 5 * 7 * 3.0).reshape(2, 5, 7, 3).transpose(0, 3, 1, 2)
    last = _layout.channels_last(x)
    assert last.shape == (2, 5, 7, 3)
    assert np.shares_memory(last, x)
    copied = _layout.channels_last(np.ascontiguousarray(x))
    assert copied.flags.c_contiguous
    np.testing.assert_array_equal(copied, last)
    np.testing.assert_array_equal(_layout.flat_channels_last(x), last.ravel())


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 1, 1, 1), (0, 3, 5, 7), (2, 1, 5, 1)])
def test_new_arrays_are_channels_last(shape):
    x = _layout.empty_channels_last(shape, np.float32)
    assert (x.shape, x.dtype) == (shape, np.float32)
    assert x.transpose(0, 2, 3, 1).flags.c_contiguous
    assert x.size == 0 or np.shares_memory(_layout.flat_channels_last(x), x)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2), (2, 1, 0)])
def test_an_array_made_in_an_order_is_flat_in_that_order(axes):
    x = np.arange(24.0).reshape(2, 3, 4).transpose(axes)
    order = _layout.memory_order(x)
    assert np.shares_memory(_layout.flat(x, order), x)
    np.testing.assert_array_equal(_layout.flat(x, order), np.arange(24))
    out, flat_out = _layout.empty_in_order(x.shape, x.dtype, order)
    assert out.shape == x.shape
    assert np.shares_memory(_layout.flat(out, order), flat_out)
    flat_out[:] = np.arange(24)
    np.testing.assert_array_equal(out, x)


def test_an_array_in_another_order_is_copied_into_the_order_asked_for():
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(_layout.flat(x, (1, 0)), [0, 3, 1, 4, 2, 5])
