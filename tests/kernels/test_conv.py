"""Convolution kernels against their twins, and against the laws that tie them together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad import kernels
from minigrad.kernels import (
    _jit,
    conv_choice,
    conv_direct_plan,
    conv_direct_weight,
    conv_few,
    conv_im2col,
    conv_lanes,
    conv_lanes_weight,
    conv_point_weight,
    conv_weight_plan,
    conv_weight_rows,
    winograd,
)
from minigrad.kernels._simd import lanes
from minigrad.kernels.conv_axes import thinned
from minigrad.kernels.conv_choice import Case, conv_algorithm
from minigrad.kernels.conv_geometry import geometry, seeing
from minigrad.kernels.conv_phases import Phase, task_of
from minigrad.kernels.conv_window import Places, window_of

pytestmark = pytest.mark.usefixtures("fast_kernels", "algorithm")


@pytest.fixture(params=["direct", "im2col", "winograd", "loops"])
def algorithm(request, monkeypatch):
    """Compute every convolution of a test by one algorithm."""
    if request.param == "loops":  # nobody can ask for these
        monkeypatch.setattr(conv_choice, "choose", lambda case: "loops")
        yield request.param
        return
    with conv_algorithm(request.param):
        yield request.param


# x, weight, stride, padding (top, bottom, left, right), dilation, groups
CASES = {
    "3x3": ((2, 3, 7, 5), (17, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "stride 2": ((2, 5, 9, 7), (4, 5, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 1),
    "uneven everything": ((3, 4, 11, 6), (6, 4, 2, 5), (2, 3), (0, 3, 2, 1), (3, 1), 1),
    "dilated": ((2, 3, 9, 11), (5, 3, 3, 2), (1, 1), (2, 2, 3, 0), (2, 3), 1),
    "stride beyond the kernel": ((2, 3, 11, 8), (5, 3, 2, 1), (4, 3), (0, 0, 0, 0), (1, 1), 1),
    "pointwise": ((2, 7, 5, 3), (9, 7, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    "padding beyond the kernel": ((1, 2, 3, 4), (3, 2, 2, 2), (1, 1), (4, 3, 5, 2), (1, 1), 1),
    "kernel as large as the image": ((2, 3, 5, 4), (6, 3, 5, 4), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    "filters a page": ((2, 5, 3, 7), (1024, 5, 1, 2), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    "filters a page, groups": ((1, 8, 5, 3), (2048, 4, 1, 1), (2, 1), (0, 0, 0, 0), (1, 1), 2),
    "groups": ((2, 6, 7, 5), (4, 3, 3, 2), (2, 1), (1, 0, 1, 1), (1, 2), 2),
    "depthwise": ((2, 5, 7, 6), (10, 1, 3, 3), (1, 2), (1, 1, 1, 1), (1, 1), 5),
    "a channel a group": ((2, 19, 9, 8), (19, 1, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 19),
    "two channels a group": ((2, 6, 9, 5), (6, 2, 3, 2), (2, 1), (1, 0, 1, 1), (1, 2), 3),
    "four channels a group": ((3, 20, 8, 9), (20, 4, 3, 3), (1, 2), (1, 1, 1, 1), (2, 1), 5),
    "eight channels a group": ((1, 40, 7, 15), (40, 8, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 5),
    "many small groups": ((1, 576, 3, 14), (576, 4, 1, 3), (1, 1), (0, 0, 1, 1), (1, 1), 144),
    "depthwise, uneven": ((2, 35, 8, 19), (35, 1, 5, 3), (2, 1), (0, 3, 2, 1), (1, 2), 35),
    "depthwise, far taps": ((1, 5, 9, 20), (5, 1, 3, 3), (1, 1), (6, 6, 6, 6), (6, 6), 5),
    "depthwise, strides": ((1, 18, 9, 31), (18, 1, 7, 7), (2, 2), (3, 3, 3, 3), (1, 1), 18),
    "two filters a channel": ((2, 9, 6, 17), (18, 1, 3, 3), (1, 1), (1, 0, 1, 2), (1, 1), 9),
    "three channels, two filters": ((1, 33, 5, 7), (22, 3, 3, 2), (1, 1), (1, 1, 1, 0), (1, 1), 11),
    "seven filters a channel": ((2, 5, 6, 9), (35, 1, 3, 4), (1, 1), (1, 1, 2, 0), (1, 1), 5),
    "three filters, five channels": ((3, 30, 5, 8), (18, 5, 2, 3), (2, 1), (1, 1, 1, 1), (1, 1), 6),
    "few filters in groups": ((2, 6, 7, 9), (4, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 2),
    "groups of whole vectors": ((2, 64, 5, 15), (32, 32, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 2),
    "few channels to vectors": ((2, 9, 7, 17), (48, 3, 3, 2), (2, 1), (1, 1, 1, 0), (1, 1), 3),
    "a vector for few, unseen": ((2, 24, 7, 9), (9, 8, 1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 3),
    "no images in groups": ((0, 20, 5, 4), (20, 1, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 20),
    "uneven tiles": ((2, 5, 10, 7), (19, 5, 3, 3), (1, 1), (2, 0, 3, 1), (1, 1), 1),
    "whole vectors": ((2, 16, 9, 9), (32, 16, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "many channels": ((1, 130, 5, 4), (70, 130, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "blocks over channels": ((2, 200, 6, 5), (7, 200, 3, 3), (2, 1), (1, 1, 1, 0), (1, 2), 1),
    "blocks over channels of groups": (
        (2, 150, 5, 4),
        (6, 75, 2, 3),
        (1, 1),
        (1, 0, 1, 1),
        (1, 1),
        2,
    ),
    "long blocks over channels": ((3, 217, 9, 7), (40, 217, 1, 1), (1, 1), (0, 1, 0, 2), (1, 1), 1),
    "colliding pixels": ((2, 256, 4, 9), (33, 256, 2, 2), (1, 2), (1, 0, 1, 0), (1, 1), 1),
    "pixels a page apart": ((5, 1024, 9, 9), (21, 1024, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    "a page with the stride": ((2, 512, 5, 59), (40, 512, 1, 1), (1, 2), (0, 0, 0, 0), (1, 1), 1),
    "filters a page apart": ((4, 29, 9, 11), (1024, 29, 1, 1), (2, 1), (0, 0, 0, 0), (1, 1), 1),
    "several blocks": ((7, 20, 24, 20), (3, 20, 3, 5), (1, 1), (1, 1, 2, 2), (1, 1), 1),
    "one large image": ((1, 3, 40, 33), (7, 3, 7, 7), (2, 2), (3, 3, 3, 3), (1, 1), 1),
    "a first layer": ((3, 3, 20, 140), (33, 3, 7, 7), (2, 1), (3, 3, 3, 3), (1, 1), 1),
    "tiles of two outputs": ((3, 18, 6, 5), (35, 18, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "more tiles than filters": ((5, 33, 17, 15), (3, 33, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "three vectors": ((2, 48, 5, 6), (21, 48, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "pixels that no tap sees": ((2, 32, 7, 5), (3, 32, 1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 1),
    "more filters than tiles": ((3, 66, 17, 19), (80, 66, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "a column of pixels": ((3, 32, 7, 1), (35, 32, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "columns with a stride": ((2, 17, 41, 1), (35, 17, 5, 3), (2, 2), (1, 2, 1, 1), (1, 1), 1),
    "columns of groups": ((3, 32, 23, 1), (32, 1, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 32),
    "columns, stride, groups": ((2, 16, 33, 1), (4, 4, 4, 1), (3, 1), (2, 2, 0, 0), (2, 1), 4),
    "few filters": ((3, 37, 9, 11), (5, 37, 3, 2), (2, 1), (1, 0, 2, 1), (1, 2), 1),
    "one filter, long runs": ((2, 24, 13, 10), (1, 24, 5, 3), (1, 1), (2, 2, 1, 1), (1, 1), 1),
    "few filters of many channels": (
        (2, 48, 10, 7),
        (4, 24, 3, 2),
        (3, 1),
        (3, 0, 1, 1),
        (2, 1),
        2,
    ),
    "few channels of many filters": ((2, 3, 8, 9), (70, 3, 3, 4), (2, 3), (1, 1, 2, 2), (1, 1), 1),
    "few channels, pixels unseen": ((2, 2, 7, 9), (40, 2, 1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 1),
    "few pixels": ((5, 16, 2, 3), (17, 16, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "a stride longer than the image": (
        (2, 4, 5, 3),
        (6, 4, 3, 3),
        (5000, 2**24),
        (1, 1, 2, 2),
        (1, 1),
        1,
    ),
    "few pixels in phases": ((3, 48, 5, 3), (20, 48, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 1),
    "few pixels that overlap": ((2, 33, 7, 5), (80, 33, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 1),
    "overlap, uneven": ((3, 19, 5, 6), (150, 19, 4, 2), (1, 3), (3, 0, 2, 4), (2, 1), 1),
    "few pixels in groups": ((3, 10, 5, 2), (36, 5, 3, 2), (2, 1), (1, 1, 1, 1), (1, 1), 2),
    "taps that see padding alone": ((5, 4, 3, 2), (7, 4, 5, 7), (1, 1), (4, 2, 3, 5), (2, 1), 1),
    "rows that see padding alone": ((3, 6, 2, 19), (20, 6, 4, 3), (1, 2), (3, 3, 1, 1), (1, 2), 1),
    "padding in groups": ((2, 12, 2, 21), (8, 3, 5, 3), (1, 1), (4, 4, 1, 1), (1, 1), 4),
    "padding alone": ((2, 3, 2, 1), (4, 3, 1, 2), (1, 1), (0, 0, 2, 2), (1, 4), 1),
    "depthwise, one tap": ((2, 20, 5, 7), (20, 1, 1, 1), (2, 3), (1, 0, 0, 1), (3, 1), 20),
    "a factor a channel": ((3, 33, 41, 40), (33, 1, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 33),
    "a factor, taps over padding": ((9, 5, 1, 1), (5, 1, 3, 2), (2, 1), (1, 1, 0, 1), (1, 1), 5),
    "many filters in groups": ((3, 8, 11, 8), (256, 1, 2, 2), (1, 1), (1, 1, 1, 1), (2, 2), 8),
    "pixels unseen in groups": ((2, 20, 14, 17), (20, 1, 3, 3), (2, 3), (1, 2, 4, 1), (2, 6), 20),
    "every third pixel": ((17, 6, 11, 10), (12, 2, 3, 4), (3, 3), (3, 0, 5, 4), (6, 3), 3),
    "narrow and depthwise": ((17, 19, 23, 3), (19, 1, 3, 4), (1, 1), (1, 0, 2, 1), (1, 1), 19),
    "narrow, stride, groups": ((3, 96, 29, 3), (96, 3, 5, 3), (2, 1), (2, 2, 1, 1), (2, 1), 32),
    "filters of vectors in part": ((2, 15, 9, 7), (60, 5, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 3),
    "dilated, two phases": ((2, 3, 9, 23), (33, 3, 3, 4), (1, 3), (2, 2, 3, 3), (2, 6), 1),
    "dilated, one phase": ((3, 3, 19, 25), (16, 3, 5, 7), (2, 2), (3, 3, 6, 6), (1, 2), 1),
    "stacked rows": ((3, 1, 12, 19), (64, 1, 3, 3), (2, 1), (1, 1, 1, 1), (1, 1), 1),
    "stacked rows, dilated": ((3, 1, 12, 19), (70, 1, 3, 3), (1, 2), (1, 1, 1, 1), (2, 3), 1),
    "stacked, over padding": ((3, 1, 2, 19), (64, 1, 5, 3), (1, 1), (4, 4, 1, 1), (1, 1), 1),
    "a column of one channel": ((3, 1, 19, 1), (64, 1, 5, 3), (1, 1), (2, 2, 1, 1), (1, 1), 1),
    "narrow images": ((14, 1, 57, 3), (100, 1, 3, 3), (2, 2), (0, 0, 1, 1), (1, 1), 1),
    "one tap, dilated": ((3, 33, 5, 7), (40, 33, 1, 1), (1, 1), (0, 0, 0, 0), (1, 2), 1),
    "one output": ((3, 5, 8, 5), (37, 5, 3, 3), (2, 2), (0, 0, 0, 0), (3, 2), 1),
    "one row of outputs": ((17, 5, 3, 9), (20, 5, 3, 3), (1, 1), (0, 0, 1, 0), (1, 1), 1),
    "one column of outputs": ((3, 6, 9, 4), (35, 6, 2, 4), (2, 3), (1, 0, 0, 1), (1, 1), 1),
    "one pixel, a stride": ((41, 16, 1, 1), (7, 16, 1, 1), (2, 3), (0, 0, 0, 0), (1, 1), 1),
    "one pixel, taps over padding": ((9, 32, 1, 1), (7, 32, 4, 3), (2, 2), (2, 2, 1, 1), (1, 1), 1),
    "a stride into padding": ((3, 16, 5, 3), (20, 16, 1, 1), (2, 2), (0, 4, 0, 2), (1, 1), 1),
    "factors, stride into padding": ((3, 5, 5, 3), (5, 1, 1, 1), (2, 2), (0, 4, 0, 2), (1, 1), 5),
    "a column into padding": ((5, 32, 3, 1), (7, 32, 1, 1), (2, 1), (0, 3, 0, 0), (1, 1), 1),
    "one output over padding": ((15, 5, 3, 2), (6, 5, 4, 4), (1, 1), (1, 0, 1, 1), (1, 1), 1),
    "a single tap, few pixels": ((2, 33, 5, 3), (19, 33, 1, 1), (3, 2), (0, 0, 0, 0), (1, 1), 1),
    "one tap, slots": ((3, 80, 29, 46), (19, 80, 1, 1), (1, 2), (0, 0, 0, 0), (1, 1), 1),
    "one tap, a stride": ((2, 64, 47, 30), (37, 64, 1, 1), (2, 3), (0, 0, 0, 0), (1, 1), 1),
    "one tap, vectors in part": (
        (1, 121, 36, 39),
        (98, 121, 1, 1),
        (1, 1),
        (0, 0, 0, 0),
        (1, 1),
        1,
    ),
    "one tap, parts of strips": ((2, 288, 9, 28), (40, 288, 1, 1), (1, 2), (0, 0, 0, 0), (1, 1), 1),
    "one tap, few channels": ((3, 7, 23, 38), (9, 7, 1, 1), (1, 2), (0, 0, 0, 0), (1, 1), 1),
    "one tap, one filter": ((2, 65, 9, 31), (1, 65, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    "one tap, over padding": ((7, 16, 11, 7), (20, 16, 1, 1), (2, 2), (0, 4, 0, 2), (1, 1), 1),
    "one tap, few filters": ((3, 37, 29, 31), (5, 37, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    "few pixels, dilated": ((1, 70, 5, 5), (37, 70, 3, 3), (2, 2), (0, 0, 2, 2), (2, 2), 1),
    "few pixels over padding": ((2, 35, 1, 4), (150, 35, 3, 5), (1, 2), (1, 1, 2, 2), (1, 1), 1),
    "more pixels than a low tile": ((3, 21, 3, 4), (70, 21, 2, 2), (2, 2), (1, 0, 1, 0), (1, 1), 1),
    "a single tap over padding": ((2, 19, 3, 4), (21, 19, 1, 1), (2, 2), (1, 1, 0, 1), (1, 1), 1),
    "empty batch": ((0, 3, 5, 4), (2, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "no room for the kernel": ((2, 3, 2, 9), (4, 3, 3, 3), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    "no channels": ((2, 0, 5, 4), (3, 0, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "no channels, many filters": ((2, 0, 5, 4), (20, 0, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "no filters": ((2, 3, 5, 4), (0, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
}

with_long_vectors = pytest.mark.skipif(
    lanes(np.float32) < 16, reason="which form is best differs; values are tested at any width"
)
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def _whole_numbers(rng, shape, dtype):
    """Values whose products sum exactly, so that any order of summation gives the same bits."""
    return rng.integers(-4, 5, shape).astype(dtype)


def _normal(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


def _arrays(case, dtype, values, seed=0):
    """Draw x, weight and bias, and a cotangent for the output."""
    x_shape, weight_shape, *settings = case
    rng = np.random.default_rng(seed)
    x, weight = values(rng, x_shape, dtype), values(rng, weight_shape, dtype)
    bias = values(rng, weight_shape[:1], dtype)
    with kernels.use("reference"):
        out_shape = kernels.conv2d_forward(x, weight, bias, *settings).shape
    return x, weight, bias, values(rng, out_shape, dtype)


def _everything(case, x, weight, bias, grad_out):
    """Run all four kernels."""
    x_shape, weight_shape, *settings = case
    return {
        "out": kernels.conv2d_forward(x, weight, bias, *settings),
        "out without bias": kernels.conv2d_forward(x, weight, None, *settings),
        "out finished": kernels.conv2d_forward(x, weight, bias, *settings, grad_out, True),
        "grad_x": kernels.conv2d_grad_input(grad_out, weight, x_shape, *settings),
        "grad_weight": kernels.conv2d_grad_weight(grad_out, x, weight_shape, *settings),
        "grad_bias": kernels.conv2d_grad_bias(grad_out),
    }


def _assert_equals_twins(case, arrays):
    got = _everything(case, *arrays)
    with kernels.use("reference"):
        want = _everything(case, *arrays)
    for name in want:
        if _is_rounded(case, arrays, name):
            np.testing.assert_allclose(got[name], want[name], atol=1e-2, err_msg=name, strict=True)
        else:
            np.testing.assert_array_equal(got[name], want[name], err_msg=name, strict=True)


def _is_rounded(case, arrays, name):
    """Winograd alone does not keep whole numbers whole."""
    x_shape, weight_shape, stride, _, dilation, groups = case
    product = name if name.startswith("grad") else "forward"
    asked = Case(product, arrays[0].dtype, x_shape, weight_shape, stride, dilation, groups)
    return conv_choice.choose(asked) == "winograd" and name != "grad_bias"


@every_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_the_twin_exactly_on_whole_numbers(case, dtype):
    _assert_equals_twins(case, _arrays(case, dtype, _whole_numbers))


@every_case
def test_equals_the_twin_to_rounding_in_float64(case):
    arrays = _arrays(case, np.float64, _normal)
    got = _everything(case, *arrays)
    with kernels.use("reference"):
        want = _everything(case, *arrays)
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-12, atol=1e-11, err_msg=name)


@every_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_finishing_gives_the_bits_of_the_separate_kernels(case, dtype):
    x, weight, bias, other = _arrays(case, dtype, _normal)
    settings = case[2:]
    other[..., 1::5], other[..., 2::7] = -np.inf, np.nan
    out = kernels.conv2d_forward(x, weight, bias, *settings)
    sum_ = kernels.add(out, other)
    ended = [
        (None, True, kernels.relu_forward(out)[0]),
        (other, False, sum_),
        (other, True, kernels.relu_forward(sum_)[0]),
    ]
    for added, relu, want in ended:
        got = kernels.conv2d_forward(x, weight, bias, *settings, added, relu)
        np.testing.assert_array_equal(got, want, strict=True)
        np.testing.assert_array_equal(np.signbit(got), np.signbit(want))  # -0 is not 0


@every_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_share_added_to_grad_x_gives_the_bits_of_the_separate_kernels(case, dtype):
    x, weight, _, grad_out = _arrays(case, dtype, _normal)
    x_shape, _, *settings = case
    other = np.where(np.abs(x) < 0.2, np.nan, x)
    grad_x = kernels.conv2d_grad_input(grad_out, weight, x_shape, *settings)
    for passed in (None, x > 0):
        mask = None if passed is None else kernels.relu_forward(kernels.to_channels_last(x))[1]
        share = other if passed is None else np.where(passed, other, dtype(0))
        got = kernels.conv2d_grad_input(grad_out, weight, x_shape, *settings, other, mask)
        want = kernels.add(grad_x, share)
        np.testing.assert_array_equal(got, want, strict=True)
        np.testing.assert_array_equal(np.signbit(got), np.signbit(want))


@st.composite
def geometries(draw):
    """Any small convolution whose filter fits."""
    groups = draw(st.integers(1, 3))
    channels = st.one_of(st.integers(1, 6), st.sampled_from((16, 32)))  # or whole vectors
    C, F = groups * draw(channels), groups * draw(st.integers(1, 19))
    KH, KW = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    stride = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = draw(st.tuples(*[st.integers(0, 3)] * 4))
    least_h = max(dilation[0] * (KH - 1) + 1 - padding[0] - padding[1], 1)
    least_w = max(dilation[1] * (KW - 1) + 1 - padding[2] - padding[3], 1)
    H, W = least_h + draw(st.integers(0, 6)), least_w + draw(st.integers(0, 6))
    N = draw(st.one_of(st.integers(0, 3), st.just(17)))
    return (N, C, H, W), (F, C // groups, KH, KW), stride, padding, dilation, groups


@given(case=geometries(), seed=st.integers(0, 2**32 - 1))
def test_equals_the_twin_exactly_on_any_geometry(case, seed):
    _assert_equals_twins(case, _arrays(case, np.float32, _whole_numbers, seed))


@every_case
def test_the_gradients_are_the_adjoints_of_the_forward_pass(case):
    x, weight, _, grad_out = _arrays(case, np.float64, _normal)
    x_shape, weight_shape, *settings = case
    forward = np.vdot(kernels.conv2d_forward(x, weight, None, *settings), grad_out)
    by_input = np.vdot(x, kernels.conv2d_grad_input(grad_out, weight, x_shape, *settings))
    by_weight = np.vdot(weight, kernels.conv2d_grad_weight(grad_out, x, weight_shape, *settings))
    assert by_input == pytest.approx(forward, rel=1e-11, abs=1e-11)
    assert by_weight == pytest.approx(forward, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize(
    "name",
    [
        "uneven everything", "groups", "many small groups", "several blocks", "many channels",
        "more tiles than filters", "depthwise, uneven", "two channels a group",
        "groups of whole vectors", "few channels to vectors", "a factor a channel",
        "many filters in groups", "pixels unseen in groups", "narrow and depthwise",
        "dilated, one phase", "few filters", "few channels of many filters",
        "blocks over channels of groups", "depthwise, one tap", "few channels, pixels unseen",
        "few pixels that overlap", "narrow images", "few pixels, dilated",
        "more pixels than a low tile", "one tap, few filters",
    ],
)  # fmt: skip
def test_any_number_of_threads_gives_the_same_bits(name, monkeypatch, pool_of_four):
    case = CASES[name]
    arrays = _arrays(case, np.float32, _normal)
    want = _everything(case, *arrays)
    monkeypatch.setattr(_jit, "SERIAL_BELOW", 0)
    for threads in pool_of_four:
        kernels.set_num_threads(threads)
        got = _everything(case, *arrays)
        for part in want:
            np.testing.assert_array_equal(got[part], want[part], err_msg=f"{part} on {threads}")


def test_partial_sums_of_large_weights_keep_within_their_room(monkeypatch):
    case = CASES["several blocks"]
    arrays = _arrays(case, np.float32, _whole_numbers)
    # A plan made with the usual room must not be remembered here.
    monkeypatch.setattr(conv_direct_weight, "form_of", conv_weight_plan.form_of.__wrapped__)
    for room in 0, 30_000:
        monkeypatch.setattr(conv_im2col, "PARTIAL_BYTES", room)
        monkeypatch.setattr(conv_weight_plan, "SLOT_BYTES", room)
        _assert_equals_twins(case, arrays)


def _reversed_view(array):
    """The same values behind negative strides."""
    backward = (slice(None, None, -1),) * array.ndim
    return np.ascontiguousarray(array[backward])[backward]


def _in_reversed_order(array):
    return np.asfortranarray(array)


def _with_gaps(array):
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.nan, array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def _in_channels_last(array):
    if array.ndim < 4:
        return array
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


@pytest.mark.parametrize(
    "view", [_reversed_view, _in_reversed_order, _with_gaps, _in_channels_last]
)
@pytest.mark.parametrize("name", ["uneven everything", "groups", "depthwise, uneven"])
def test_reads_any_memory_order_and_writes_to_no_input(view, name):
    case = CASES[name]
    arrays = _arrays(case, np.float32, _whole_numbers)
    views = [view(array) for array in arrays]
    for array in views:
        array.flags.writeable = False
    got, want = _everything(case, *views), _everything(case, *arrays)
    for part in want:
        np.testing.assert_array_equal(got[part], want[part], err_msg=part)
    for array, original in zip(views, arrays, strict=True):
        np.testing.assert_array_equal(array, original)


def test_outputs_of_image_shape_are_channels_last_and_writeable():
    case = CASES["3x3"]
    got = _everything(case, *_arrays(case, np.float32, _normal))
    for name in "out", "grad_x":
        assert got[name].transpose(0, 2, 3, 1).flags.c_contiguous
        assert got[name].flags.writeable
    assert got["grad_weight"].flags.c_contiguous


@pytest.mark.parametrize(
    "name",
    [
        "3x3", "depthwise", "depthwise, uneven", "four channels a group", "whole vectors",
        "few filters",
    ],
)  # fmt: skip
def test_a_nan_reaches_what_it_touches_and_nothing_else(name, algorithm):
    case = CASES[name]
    x, weight, bias, grad_out = _arrays(case, np.float32, _normal)
    x[1, 0, 2, 3] = np.nan
    grad_out[0, 1, 1, 2] = np.nan
    got = _everything(case, x, weight, bias, grad_out)
    with kernels.use("reference"):
        want = _everything(case, x, weight, bias, grad_out)
    for part in want:
        assert np.isnan(want[part]).any()
        if algorithm == "winograd":  # which mixes the pixels of a tile
            assert np.isnan(got[part])[np.isnan(want[part])].all(), part
        else:
            np.testing.assert_array_equal(np.isnan(got[part]), np.isnan(want[part]), err_msg=part)


def test_the_twins_are_analytic_in_complex_numbers():
    case = CASES["groups"]
    x, weight, _, grad_out = _arrays(case, np.float64, _normal)
    rng = np.random.default_rng(1)
    step = rng.standard_normal(x.shape)
    x_shape, _, *settings = case
    moved = kernels.conv2d_forward(x + 1e-20j * step, weight, None, *settings)
    by_step = np.vdot(grad_out, moved.imag) / 1e-20
    grad_x = kernels.conv2d_grad_input(grad_out, weight, x_shape, *settings)
    assert by_step == pytest.approx(np.vdot(grad_x, step), rel=1e-12)


@pytest.mark.parametrize("C", [64, 130])
@pytest.mark.parametrize(("outputs", "largest", "mean"), [(4, 4, 3), (2, 2, 1.5)])
@pytest.mark.parametrize("algorithm", ["winograd"], indirect=True)
def test_errors_of_winograd_stay_within_few_times_those_of_direct_sums(
    C, outputs, largest, mean, algorithm, monkeypatch
):
    monkeypatch.setattr(winograd, "winograd_outputs", lambda *sizes: outputs)
    case = (2, C, 13, 12), (C, C, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1
    arrays = _arrays(case, np.float32, _normal)
    exact = _everything(case, *(array.astype(np.float64) for array in arrays))
    got = _everything(case, *arrays)
    with conv_algorithm("direct"):
        direct = _everything(case, *arrays)
    limits = {"out": (largest, mean), "grad_x": (largest, mean)}
    limits["grad_weight"] = 4, 3  # always in tiles of 4 x 4 outputs
    for part, (most, usual) in limits.items():
        errors, least = (np.abs(found[part] - exact[part]) for found in (got, direct))
        assert errors.max() < most * least.max(), part
        assert errors.mean() < usual * least.mean(), part


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("a first layer", 1),
        ("many filters in groups", 2),
        ("dilated, two phases", 1),
        ("dilated, one phase", 1),
        ("stacked rows", 3),
        ("stacked rows, dilated", 3),
        ("whole vectors", None),
        ("few filters in groups", None),
    ],
)
def test_short_runs_are_stacked(name, rows):
    x_shape, weight_shape, *settings = CASES[name]
    g, dtype = seeing(geometry(x_shape, weight_shape, *settings))[0], np.dtype("f4")
    if lanes(dtype) < 16:
        pytest.skip("shorter vectors have other tiles")
    if conv_lanes_weight.serves(g, dtype) or conv_weight_plan.form_of(g, True, dtype):
        assert rows is None
    else:
        assert conv_weight_rows._plan(g, window_of(g, copied=True), dtype).stack == rows


def test_pixels_that_no_tap_sees_are_left_out():
    x_shape, weight_shape, *settings = CASES["pixels unseen in groups"]
    g, image = thinned(geometry(x_shape, weight_shape, *settings))
    # of 14 rows those from 1, of 17 columns those from 2
    assert (g.H, g.stride_h, g.dilation_h, g.top) == (7, 1, 1, 1)
    assert (g.W, g.stride_w, g.dilation_w, g.left) == (5, 1, 2, 2)
    assert image == (17 * 20 + 2 * 20, 14 * 17 * 20, 2 * 17 * 20, 3 * 20)


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("narrow and depthwise", True),
        ("narrow, stride, groups", True),
        ("pixels unseen in groups", False),
        ("depthwise, uneven", False),
    ],
)
def test_strips_of_narrow_images_follow_columns(name, columns):
    x_shape, weight_shape, *settings = CASES[name]
    g = geometry(x_shape, weight_shape, *settings)
    taps = np.arange(g.KH * g.KW)
    phase = Phase(g, Places(0, g.OH * g.OW * g.F, g.OW * g.F, g.F), taps)
    looked_at, _ = conv_lanes._looked_at(phase, np.dtype("f4"))
    assert (looked_at.g.OH == g.OW != g.OH) == columns


@pytest.mark.skipif(
    lanes(np.float32) < 16, reason="which plan is best differs; values are tested at any width"
)
@pytest.mark.parametrize(
    ("name", "chunks"),
    [("narrow images", (16, 1)), ("many filters in groups", (2, 8))],  # a part for each group
)
def test_few_pixels_have_slots_where_parts_would_copy_more(name, chunks):
    x_shape, weight_shape, *settings = CASES[name]
    g = seeing(geometry(x_shape, weight_shape, *settings))[0]
    assert conv_weight_rows._chunks(g, np.dtype("f4")) == chunks


@pytest.mark.parametrize(
    ("name", "over"),
    [
        ("blocks over channels", True),
        ("blocks over channels of groups", True),
        ("long blocks over channels", True),
        ("many channels", True),
        ("several blocks", False),  # runs of 100 values are nearly whole vectors
        ("whole vectors", False),
    ],
)
@with_long_vectors
def test_blocks_hang_over_channels_where_that_takes_less(name, over):
    x_shape, weight_shape, *settings = CASES[name]
    g = seeing(geometry(x_shape, weight_shape, *settings))[0]
    cut, window, _ = conv_weight_plan.form_of(g, True, np.dtype("f4"))
    assert (cut.groups * cut.channels > cut.C) == over
    assert window.copied or not over  # else the last vector would end beyond x


@pytest.mark.parametrize(
    ("name", "forward", "weight"),
    [
        ("one output", True, True),
        ("a single tap, few pixels", True, True),
        ("few pixels, dilated", True, True),
        ("few pixels over padding", True, True),
        ("pointwise", True, True),
        ("one tap, vectors in part", False, False),  # too many pixels for the second cache
        ("one tap, over padding", False, False),
        ("overlap, uneven", False, True),  # more pixels than rows that are multiplied unpacked
        ("padding alone", False, False),
        ("few pixels in groups", False, False),
        ("stride 2", False, False),  # fewer filters than pixels
    ],
)
@pytest.mark.parametrize("algorithm", ["direct"], indirect=True)
def test_few_pixels_are_products_of_matrices(name, forward, weight, algorithm):
    x_shape, weight_shape, *settings = CASES[name]
    g = geometry(x_shape, weight_shape, *settings)
    assert conv_few.packs_longer(g, np.dtype(np.float32)) == forward
    assert conv_few.serves(g, np.dtype(np.float32)) == weight


@with_long_vectors
@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("one tap, slots", True),
        ("one tap, a stride", True),
        ("one tap, vectors in part", True),
        ("one tap, few channels", False),  # vectors of nine filters, and nothing is packed
        ("a stride into padding", False),
        ("a vector for few, unseen", False),  # in groups
        ("whole vectors", False),  # nine taps
    ],
)
def test_weights_of_one_tap_are_products_of_panels(name, packed):
    x_shape, weight_shape, *settings = CASES[name]
    g = seeing(geometry(x_shape, weight_shape, *settings))[0]
    assert conv_point_weight.serves(g, np.dtype("f4")) == packed


@with_long_vectors
@pytest.mark.parametrize(
    ("name", "turned"),
    [
        ("one tap, few filters", True),
        ("one tap, vectors in part", False),  # many filters
        ("one tap, slots", False),
        ("pointwise", False),  # few pixels
        ("one tap, a stride", False),
        ("3x3", False),
    ],
)
def test_few_filters_of_one_tap_are_summed_as_few_channels(name, turned):
    x_shape, weight_shape, *settings = CASES[name]
    g = seeing(geometry(x_shape, weight_shape, *settings))[0]
    assert conv_direct_weight._pays_turned(g, np.dtype("f4")) == turned


@with_long_vectors
@pytest.mark.parametrize(("stride", "served"), [(1, True), (2, True), (3, False)])
def test_lanes_of_groups_take_short_strides(stride, served):
    shapes = (15, 128, 4, 30), (32, 16, 2, 3)
    g = geometry(*shapes, (stride, stride), (1, 1, 2, 2), (2, 2), 8)
    assert conv_lanes.serves(g, np.dtype(np.float32)) == served


@with_long_vectors
@pytest.mark.parametrize(
    ("channels", "kernel", "served"),
    [(16, 3, True), (17, 3, False), (32, 1, True), (33, 1, False), (286, 1, False)],
)
def test_groups_share_vectors_while_their_channels_are_few(channels, kernel, served):
    weight_shape = (16, channels, kernel, kernel)
    g = geometry((2, 2 * channels, 9, 9), weight_shape, (1, 1), (0, 0, 0, 0), (1, 1), 2)
    assert conv_lanes.serves(g, np.dtype(np.float32)) == served


@pytest.mark.parametrize(("channels", "whole"), [(1, True), (64, False)])
def test_only_chunks_with_few_weights_have_few_pixels(channels, whole):
    shapes = (14, channels, 57, 3), (100, channels, 3, 3)
    g = geometry(*shapes, (2, 2), (0, 0, 1, 1), (1, 1), 1)
    plan = conv_direct_plan.plan_of(g, window_of(g), 4)
    pixels = plan.strips // plan.pieces * plan.height
    assert (plan.parts == 1) == whole
    assert (pixels < conv_direct_plan.LEAST_PIXELS // 2) == whole


@with_long_vectors
@pytest.mark.parametrize(
    ("name", "product", "room"),
    [
        ("pixels a page apart", "forward", 1024),
        ("a page with the stride", "forward", 512),
        ("filters a page apart", "grad_input", 1024),
        ("filters a page apart", "forward", 0),
        ("one tap, vectors in part", "forward", 0),
        ("colliding pixels", "forward", 0),  # in a window, with gaps
    ],
)
@pytest.mark.parametrize("algorithm", ["direct"], indirect=True)
def test_pixels_that_share_a_set_of_the_cache_are_copied_apart(name, product, room, algorithm):
    plan = conv_direct_plan.forward_job if product == "forward" else conv_direct_plan.backward_job
    job = plan(*CASES[name], np.dtype(np.float32))
    assert job.few is job.dots is None
    assert task_of(job.tasks[1])[3].room == room


@pytest.mark.parametrize(
    "shape", [(9, 32, 15, 15), (3, 200, 37, 37), (11, 300, 9, 10), (1, 8, 5, 99)]
)
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("algorithm", ["direct"], indirect=True)
def test_two_threads_get_as_many_strips(shape, kernel, algorithm):
    pad = kernel // 2
    g = geometry(shape, (70, shape[1], kernel, kernel), (1, 1), (pad,) * 4, (1, 1), 1)
    plan = conv_direct_plan.plan_of(g, window_of(g), 4)
    units = -(-plan.strips // plan.unit)
    half, _ = _jit.chunk_bounds(plan.pieces // 2, plan.pieces, units)
    assert plan.pieces % 2 == 0
    assert abs(2 * half - units) <= 1


@pytest.mark.parametrize(
    ("name", "few"),
    [
        ("few pixels that overlap", True),
        ("overlap, uneven", True),
        ("a single tap, few pixels", True),
        ("pointwise", True),
        ("one tap, vectors in part", False),  # 1404 pixels
        ("few pixels, dilated", True),
        ("few pixels in groups", False),
        ("one large image", False),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_few_pixels_that_overlap_are_products_whose_values_are_added(name, few, dtype):
    x_shape, weight_shape, *settings = CASES[name]
    g = geometry(x_shape, weight_shape, *settings)
    assert conv_few.adds(g, np.dtype(dtype)) == few


@with_long_vectors
@pytest.mark.parametrize(
    ("name", "few"),
    [
        ("one tap, one filter", True),
        ("one tap, vectors in part", False),  # packs its weight for tiles of registers
        ("few filters of many channels", False),  # several taps
    ],
)
@pytest.mark.parametrize("algorithm", ["direct"], indirect=True)
def test_few_filters_of_one_tap_are_products_of_matrices(name, few, algorithm):
    job = conv_direct_plan.forward_job(*CASES[name], np.dtype(np.float32))
    assert (job.few is not None) == few


@pytest.mark.skipif(lanes(np.float32) < 16, reason="fewer lanes idle")
@pytest.mark.parametrize(
    ("name", "product", "along_channels"),
    [
        ("few filters", "forward", True),
        ("one filter, long runs", "forward", True),
        ("few filters of many channels", "forward", True),
        ("few channels of many filters", "grad_input", True),
        ("few channels, pixels unseen", "grad_input", True),
        ("few filters", "grad_input", False),
        ("few channels of many filters", "forward", False),
        ("whole vectors", "forward", False),
        ("three channels, two filters", "forward", False),  # vectors of several groups
    ],
)
@pytest.mark.parametrize("algorithm", ["direct"], indirect=True)
def test_few_filters_are_summed_along_channels(name, product, along_channels, algorithm):
    plan = conv_direct_plan.forward_job if product == "forward" else conv_direct_plan.backward_job
    job = plan(*CASES[name], np.dtype(np.float32))
    assert (job.dots is not None) == along_channels
