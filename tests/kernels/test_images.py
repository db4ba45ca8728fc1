"""Images in the order of data sets, brought to that of the kernels."""

import numpy as np
import pytest

from minigrad import kernels

_SHAPES = [
    (2, 3, 5, 7),
    (3, 17, 1, 4),
    (1, 1, 6, 5),
    (0, 3, 5, 7),
    (4, 3, 112, 101),  # enough for threads
]


@pytest.mark.parametrize("form", ["fast", "reference"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", _SHAPES)
def test_values_stay_and_memory_is_channels_last(shape, dtype, form):
    x = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    with kernels.use(form):
        moved = kernels.to_channels_last(x)
        assert kernels.to_channels_last(moved) is moved
    np.testing.assert_array_equal(moved, x, strict=True)
    assert moved.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("axes", [(0, 1, 3, 2), (1, 0, 2, 3), (3, 2, 1, 0)])
def test_images_may_lie_in_any_order(axes):
    x = np.arange(2 * 3 * 5 * 7, dtype=np.float32).reshape(2, 3, 5, 7).transpose(axes)[:, ::-1]
    x.flags.writeable = False
    np.testing.assert_array_equal(kernels.to_channels_last(x), x, strict=True)
