"""The zero-padded shortcut: the bits of the slice and the padding that it stands for."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.ops import zero_pad_shortcut

SETTINGS = [
    {"stride": 2, "before": 1, "after": 2},
    {"stride": 3, "after": 1},
    {"before": 2},
    {},
]


def _by_pad(x, stride=1, before=0, after=0):
    return mg.pad(x[:, :, ::stride, ::stride], ((0, 0), (before, after), (0, 0), (0, 0)))


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 2, 4, 6), (0, 3, 5, 7)])
def test_equals_slice_and_pad_bit_for_bit(shape, settings):
    values, results = np.random.default_rng(0).standard_normal(shape), []
    for operation in zero_pad_shortcut, _by_pad:
        x = mg.Tensor(values, requires_grad=True)
        y = operation(x, **settings)
        y.backward(np.random.default_rng(1).standard_normal(y.shape))
        results.append((y.data, x.grad))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)
