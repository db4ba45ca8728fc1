"""Convolution against its definition, and the laws between it and its adjoint."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import kernels


def _by_definition(x, weight, bias, stride, sides, dilation, groups):
    """Loops over every output value."""
    F, channels, KH, KW = weight.shape
    padded = np.pad(x, ((0, 0), (0, 0), sides[:2], sides[2:]))
    OH = (padded.shape[2] - dilation[0] * (KH - 1) - 1) // stride[0] + 1
    OW = (padded.shape[3] - dilation[1] * (KW - 1) - 1) // stride[1] + 1
    out = np.empty((len(x), F, OH, OW))
    for f in range(F):
        first = f // (F // groups) * channels
        for i, j in np.ndindex(OH, OW):
            rows = i * stride[0] + dilation[0] * np.arange(KH)
            columns = j * stride[1] + dilation[1] * np.arange(KW)
            seen = padded[:, first : first + channels][:, :, rows][..., columns]
            out[:, f, i, j] = (seen * weight[f]).sum((1, 2, 3)) + bias[f]
    return out


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def _convolutions(draw):
    """x, weight and bias, and the settings of a convolution that fits."""
    groups = draw(st.integers(1, 3))
    C, F = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    K, stride, dilation = draw(pairs), draw(pairs), draw(pairs)
    padding = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    H, W = (
        max(1, d * (k - 1) + 1 - 2 * p) + draw(st.integers(0, 4))
        for k, d, p in zip(K, dilation, padding, strict=True)
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.standard_normal((draw(st.integers(1, 2)), C, H, W))
    weight, bias = rng.standard_normal((F, C // groups, *K)), rng.standard_normal(F)
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return x, weight, bias, settings


@given(case=_convolutions())
def test_conv2d_is_its_definition(case):
    x, weight, bias, settings = case
    p, q = settings["padding"]
    want = _by_definition(x, weight, bias, settings["stride"], (p, p, q, q), settings["dilation"],
                          settings["groups"])  # fmt: skip
    np.testing.assert_allclose(mg.conv2d(x, weight, bias, **settings).data, want, atol=1e-12)


@given(case=_convolutions())
def test_conv_transpose2d_is_the_adjoint_of_conv2d(case):
    x, weight, _, settings = case
    y = mg.conv2d(x, weight, **settings).data
    cotangent = np.random.default_rng(0).standard_normal(y.shape)
    # What the stride leaves over of x is what output_padding gives back.
    extra = tuple(
        (n + 2 * p - d * (k - 1) - 1) % s
        for n, p, d, k, s in zip(
            x.shape[2:], settings["padding"], settings["dilation"], weight.shape[2:],
            settings["stride"], strict=True,
        )
    )  # fmt: skip
    back = mg.conv_transpose2d(cotangent, weight, output_padding=extra, **settings).data
    assert back.shape == x.shape
    assert np.vdot(back, x) == pytest.approx(np.vdot(cotangent, y), rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("kernel_size", [(1, 1), (2, 2), (3, 4), (5, 2)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 3)])
def test_same_keeps_the_size_and_puts_the_odd_zero_below_and_right(kernel_size, dilation):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 3, 5, 7)), rng.standard_normal((4, 3, *kernel_size))
    h, w = (d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True))
    sides = h // 2, (h + 1) // 2, w // 2, (w + 1) // 2
    want = _by_definition(x, weight, np.zeros(4), (1, 1), sides, dilation, 1)
    got = mg.conv2d(x, weight, padding="same", dilation=dilation).data
    assert got.shape == (2, 4, 5, 7)
    np.testing.assert_allclose(got, want, atol=1e-12)


def test_valid_is_no_padding_and_one_number_stands_for_two():
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 3, 5, 7)), rng.standard_normal((4, 3, 2, 2))
    np.testing.assert_array_equal(
        mg.conv2d(x, weight, padding="valid").data, mg.conv2d(x, weight).data
    )
    np.testing.assert_array_equal(
        mg.conv2d(x, weight, None, 2, 1, 3).data,
        mg.conv2d(x, weight, None, (2, 2), [1, 1], (3, 3)).data,
    )


def test_a_filter_is_not_flipped():
    x, weight = np.array([[[[1.0, 2, 3, 4]]]]), np.array([[[[1.0, 10]]]])
    np.testing.assert_array_equal(mg.conv2d(x, weight).data, [[[[21, 32, 43]]]])


def test_groups_are_separate_convolutions():
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 4, 5, 7)), rng.standard_normal((6, 2, 3, 2))
    whole = mg.conv2d(x, weight, groups=2).data
    halves = [mg.conv2d(x[:, :2], weight[:3]).data, mg.conv2d(x[:, 2:], weight[3:]).data]
    np.testing.assert_allclose(whole, np.concatenate(halves, axis=1), atol=1e-13)


def test_one_tensor_in_both_places_receives_both_gradients():
    rng = np.random.default_rng(0)
    a = mg.tensor(rng.standard_normal((3, 3, 3, 3)), requires_grad=True)
    w = rng.standard_normal((3, 3, 3, 3))
    mg.conv2d(a, a, padding=1).backward(w)
    x, weight = mg.tensor(a.data, requires_grad=True), mg.tensor(a.data, requires_grad=True)
    mg.conv2d(x, weight, padding=1).backward(w)
    np.testing.assert_allclose(a.grad, x.grad + weight.grad, rtol=1e-13)


@pytest.mark.parametrize("algorithm", ["im2col", "direct", "winograd"])
def test_results_and_gradients_of_images_are_channels_last(algorithm):
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape).astype("f")

    x = mg.tensor(normal(2, 3, 5, 7), requires_grad=True)
    with kernels.use("fast"), mg.conv_algorithm(algorithm):  # the twins promise no order
        y = mg.conv2d(x, normal(4, 3, 3, 3))
        z = mg.conv_transpose2d(y, normal(4, 3, 3, 3), normal(3))
        (grad_x,) = mg.grad([z], [x], [z.data])
    for image in y.data, z.data, grad_x:
        assert image.transpose(0, 2, 3, 1).flags.c_contiguous
