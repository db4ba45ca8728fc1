"""Element-wise kernels against their twins."""

import numpy as np
import pytest

from minigrad import kernels
from minigrad.kernels._layout import memory_order


def _arrays(rng, dtype):
    """Views of every kind of memory order, and sizes on both sides of a chunk."""
    x = rng.standard_normal((3, 5, 7, 4)).astype(dtype)
    yield x
    yield x.transpose(0, 3, 1, 2)
    yield x[:, ::-1, ::2]
    yield x[:0]
    yield np.broadcast_to(x[:1], (2, 5, 7, 4))
    yield np.asarray(x[0, 0, 0, 0])
    yield rng.standard_normal((41, 1000)).astype(dtype)
    for size in range(1, 18):  # a mask ends inside a byte
        yield rng.standard_normal(size).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_relu_equals_its_twin_to_the_bit(dtype):
    rng = np.random.default_rng(0)
    for x in _arrays(rng, dtype):
        grad_out = rng.standard_normal(x.shape).astype(dtype)
        out, mask = kernels.relu_forward(x)
        grad_x = kernels.relu_backward(grad_out, mask, memory_order(x))
        with kernels.use("reference"):
            naive_out, naive_mask = kernels.relu_forward(x)
            naive_grad = kernels.relu_backward(grad_out, mask, memory_order(x))
        np.testing.assert_array_equal(out, naive_out, strict=True)
        np.testing.assert_array_equal(mask, naive_mask, strict=True)
        np.testing.assert_array_equal(grad_x, naive_grad, strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_add_equals_its_twin_and_numpy_to_the_bit(dtype):
    rng = np.random.default_rng(0)
    for x in _arrays(rng, dtype):
        y = rng.standard_normal(x.shape[::-1]).astype(dtype).T
        for out in kernels.add(x, y), kernels.implementation("add", "reference")(x, y):
            np.testing.assert_array_equal(out, x + y, strict=True)
            assert memory_order(out) == memory_order(x) or out.size <= 1


def test_relu_keeps_channels_last_memory():
    x = np.ones((2, 5, 7, 3), np.float32).transpose(0, 3, 1, 2)
    out, mask = kernels.relu_forward(x)
    assert out.strides == x.strides
    planar = np.ones(x.shape, np.float32)
    assert kernels.relu_backward(planar, mask, memory_order(x)).strides == x.strides


@pytest.mark.parametrize("form", ["fast", "reference"])
def test_relu_lets_a_nan_through_and_stops_at_zero(form):
    x = np.array([np.nan, -np.inf, np.inf, -0.0, 0.0, 1e-45], np.float32)
    grad_out = np.array([1, np.nan, 2, np.inf, 3, 4], np.float32)
    with kernels.use(form):
        out, mask = kernels.relu_forward(x)
        np.testing.assert_array_equal(out, [np.nan, 0, np.inf, 0, 0, x[-1]])
        np.testing.assert_array_equal(mask, [0b100101])
        np.testing.assert_array_equal(
            kernels.relu_backward(grad_out, mask, (0,)), [1, 0, 2, 0, 0, 4]
        )


@pytest.mark.parametrize("name", ["relu_forward", "relu_backward", "add"])
def test_serial_and_parallel_builds_give_the_same_bits(name, always_parallel):
    x = np.random.default_rng(1).standard_normal((37, 1117)).astype(np.float32)
    _, mask = kernels.relu_forward(x)
    others = {"relu_forward": (), "relu_backward": (mask, memory_order(x)), "add": (x[::-1],)}
    args = x, *others[name]
    parallel = getattr(kernels, name)(*args)
    with kernels.serial_only():
        serial = getattr(kernels, name)(*args)
    for a, b in zip(parallel, serial, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adding_what_a_relu_let_through_equals_the_two_kernels(dtype):
    rng = np.random.default_rng(0)
    for x in _arrays(rng, dtype):
        y = rng.standard_normal(x.shape).astype(dtype)
        mask = rng.integers(0, 256, -(-x.size // 8)).astype(np.uint8)
        expected = kernels.add(x, kernels.relu_backward(y, mask, memory_order(x)))
        for form in "fast", "reference":
            out = kernels.implementation("add", form)(x, y, mask)
            np.testing.assert_array_equal(out, expected, strict=True)
