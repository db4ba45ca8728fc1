"""Which algorithm serves a convolution that nobody asks one for."""

import numpy as np
import pytest

from minigrad.kernels.conv_choice import Case, choose


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("weight_shape", "groups", "algorithm"),
    [
        ((64, 3, 7, 7), 1, "im2col"),
        ((33, 1, 5, 5), 1, "im2col"),
        ((64, 16, 7, 7), 1, "direct"),  # no lane is idle
        ((64, 3, 1, 1), 1, "direct"),  # there is nothing to lower
        ((16, 3, 3, 3), 1, "direct"),  # runs are short
        ((64, 3, 7, 7), 2, "direct"),
    ],
)
def test_few_channels_are_lowered_for_grad_x_alone(weight_shape, groups, algorithm, dtype):
    C = weight_shape[1] * groups
    case = Case("grad_input", np.dtype(dtype), (8, C, 28, 28), weight_shape, (2, 2), (1, 1), groups)
    assert choose(case) == algorithm
    assert choose(case._replace(product="forward")) == "direct"
    assert choose(case._replace(product="grad_weight")) == "direct"


def test_few_rows_are_not_lowered_in_bands_that_overlap():
    case = Case("grad_input", np.dtype("f8"), (2, 7, 27, 41), (512, 7, 4, 4), (3, 3), (1, 1), 1)
    fewer_channels = case._replace(x_shape=(2, 2, 27, 41), weight_shape=(512, 2, 4, 4))
    assert choose(case) == "direct"
    assert choose(fewer_channels) == "im2col"


@pytest.mark.parametrize(("stride", "chosen"), [((1, 1), "direct"), ((4, 4), "im2col")])
def test_few_channels_are_not_lowered_where_sums_along_filters_are_faster(stride, chosen):
    size = np.dtype(np.float32), (4, 4, 64, 64), (32, 4, 5, 5)
    assert choose(Case("grad_input", *size, stride, (1, 1), 1)) == chosen


@pytest.mark.parametrize(
    ("shape", "F", "chosen"),
    [
        ((16, 64, 56, 56), 64, "winograd"),
        ((1, 512, 7, 7), 512, "winograd"),
        ((16, 434, 5, 12), 11, "direct"),  # one vector of filters, read again for a few tiles each
        ((8, 236, 5, 11), 22, "direct"),
        ((2, 13, 9, 41), 283, "direct"),  # patches of a few channels
        ((0, 16, 8, 8), 16, "loops"),
        ((1, 512, 3, 4), 512, "direct"),  # more of the weight than of the image
    ],
)
def test_winograd_serves_where_its_products_outweigh_the_rest(shape, F, chosen):
    case = Case("forward", np.dtype(np.float32), shape, (F, shape[1], 3, 3), (1, 1), (1, 1), 1)
    assert choose(case) == chosen


@pytest.mark.parametrize("product", ["forward", "grad_input", "grad_weight"])
@pytest.mark.parametrize(
    ("shape", "weight_shape", "stride", "chosen"),
    [
        ((4, 3, 5, 7), (4, 3, 3, 3), (1, 1), False),  # 15,120 products
        ((4, 3, 5, 7), (4, 3, 3, 3), (2, 2), True),
        ((1, 1, 29, 29), (1, 1, 3, 1), (1, 1), False),  # few products, but many taps of pixels
        ((1, 1, 29, 7), (1, 1, 3, 1), (1, 1), True),
        ((1, 40, 3, 3), (40, 1, 3, 3), (2, 2), True),  # as many groups as channels
    ],
)
def test_a_few_products_are_done_at_once(shape, weight_shape, stride, chosen, product):
    groups = shape[1] // weight_shape[1]
    case = Case(product, np.dtype(np.float32), shape, weight_shape, stride, (1, 1), groups)
    assert (choose(case) == "loops") == chosen
