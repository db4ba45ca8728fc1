"""Which convolutions are products of matrices, and what libraries take for those."""

import numpy as np
import pytest

from minigrad import kernels
from minigrad.bench.products import Product, measure_products, multipliers, product_of
from minigrad.kernels._watch import Watched

SETTINGS = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}


def products_of(x_shape, weight_shape, dtype=np.float32, **changes):
    """What the three products of a convolution are taken for."""
    settings = tuple((SETTINGS | changes).values())
    x, weight = np.ones(x_shape, dtype), np.ones(weight_shape, dtype)
    calls = []
    with kernels.watch_kernels(calls.append):
        out = kernels.conv2d_forward(x, weight, None, *settings)
        kernels.conv2d_grad_input(out, weight, x_shape, *settings)
        kernels.conv2d_grad_weight(out, x, weight_shape, *settings)
    return [product_of(call) for call in calls]


def test_single_pixels_are_products_of_matrices():
    assert products_of((2, 3, 4, 5), (7, 3, 1, 1)) == [
        Product("conv2d_forward", 40, 3, 7),
        Product("conv2d_grad_input", 40, 3, 7),
        Product("conv2d_grad_weight", 40, 3, 7),
    ]


@pytest.mark.parametrize(
    ("x_shape", "weight_shape", "changes"),
    [
        ((2, 4, 4, 5), (6, 2, 1, 1), {"groups": 2}),
        ((2, 3, 4, 5), (7, 3, 1, 1), {"stride": (2, 2)}),
        ((2, 3, 4, 5), (7, 3, 1, 1), {"padding": (1, 1, 1, 1)}),
        ((2, 3, 4, 4), (7, 3, 1, 1), {"padding": (2, 2, 2, 2), "stride": (2, 2)}),  # 4 x 4 outputs
        ((2, 3, 4, 5), (7, 3, 3, 3), {"padding": (1, 1, 1, 1)}),
        ((2, 3, 4, 5), (7, 3, 1, 1), {"dtype": np.float64}),
    ],
)
def test_others_are_not(x_shape, weight_shape, changes):
    assert products_of(x_shape, weight_shape, **changes) == [None] * 3


def test_a_kernel_that_is_no_convolution_is_none():
    x = np.ones((2, 3), np.float32)
    assert product_of(Watched("relu_forward", 1e-6, (x,), x, {})) is None


@pytest.mark.parametrize("name", ["conv2d_forward", "conv2d_grad_input", "conv2d_grad_weight"])
def test_the_matrices_are_those_of_the_convolution(name):
    a, b, out = Product(name, 40, 3, 7).matrices()
    assert (a.shape[0], b.shape[1]) == out.shape
    assert a.shape[1] == b.shape[0]
    ours = Product(name, 40, 3, 7).by(None)()
    np.testing.assert_allclose(ours[:, :, 0, 0], a.astype(float) @ b, rtol=0, atol=1e-4)


@pytest.mark.parametrize("with_torch", [False, True])
def test_each_library_multiplies(with_torch):
    if with_torch:
        pytest.importorskip("torch", reason="compares with torch's product of matrices")
    libraries = multipliers(with_torch)
    assert list(libraries) == ["numpy", "torch"][: 1 + with_torch]
    product = Product("conv2d_grad_weight", 40, 3, 7)
    for multiply in libraries.values():
        a, b, out = product.matrices()
        multiply(a, b, out)
        assert out.dtype == np.float32
        np.testing.assert_allclose(out, a.astype(float) @ b, rtol=0, atol=1e-4)
    found = measure_products([product], libraries)
    assert list(found) == [product]
    assert list(found[product]) == ["minigrad", *libraries]
    assert all(seconds > 0 for seconds in found[product].values())
    assert measure_products([], libraries) == {}
