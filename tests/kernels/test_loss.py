"""The softmax-cross-entropy kernel against its twin, and against the definition."""

import math

import numpy as np
import pytest

from minigrad import kernels
from minigrad.kernels.softmax import _exponentials


def _problem(rng, R, C, dtype):
    logits = rng.normal(0, 3, (R, C)).astype(dtype)
    labels = rng.integers(-1, C, R)
    base = rng.uniform(0, 1, C).astype(dtype) * (rng.random(C) < 0.7)
    hit = rng.uniform(0, 1, C).astype(dtype)
    return logits, labels, base, hit


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 2e-6)])
@pytest.mark.parametrize(("R", "C"), [(1, 1), (7, 10), (0, 3), (3000, 5), (17, 1000)])
def test_it_agrees_with_its_twin(R, C, dtype, tolerance):
    rng = np.random.default_rng(0)
    logits, labels, base, hit = _problem(rng, R, C, dtype)
    grad_losses = rng.standard_normal(R).astype(dtype)

    def both():
        losses, p = kernels.softmax_cross_entropy_forward(logits, labels, base, hit)
        grad = kernels.softmax_cross_entropy_backward(grad_losses, p, labels, base, hit)
        return losses, p, grad

    fast = both()
    with kernels.use("reference"):
        naive = both()
    for a, b in zip(fast, naive, strict=True):
        assert a.dtype == b.dtype == dtype
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, C / 10))


@pytest.mark.parametrize("form", ["fast", "reference"])
def test_it_is_the_definition(form):
    x, label = [0.5, -1.0, 2.0], 1
    base, hit = np.array([0.1, 0.2, 0.0]), np.array([1.0, 0.5, 2.0])
    p = [math.exp(v) / sum(math.exp(w) for w in x) for v in x]
    q = [0.1, 0.7, 0.0]
    with kernels.use(form):
        losses, probabilities = kernels.softmax_cross_entropy_forward(
            np.array([x]), np.array([label]), base, hit
        )
        grad = kernels.softmax_cross_entropy_backward(
            np.array([2.0]), probabilities, np.array([label]), base, hit
        )
    np.testing.assert_allclose(losses, -sum(a * math.log(b) for a, b in zip(q, p, strict=True)))
    np.testing.assert_allclose(probabilities, [p])
    np.testing.assert_allclose(grad[0], [2 * (b * 0.8 - a) for a, b in zip(q, p, strict=True)])


@pytest.mark.parametrize("form", ["fast", "reference"])
def test_extremes(form):
    inf = np.inf
    logits = np.array(
        [[1e4, -1e4, 0], [-1e4, 1e4, 0], [-inf, 0, 0], [-inf, -inf, -inf], [np.nan, 0, 1]],
        np.float32,
    )
    labels = np.zeros(5, int)
    nothing, ones = np.zeros(3, np.float32), np.ones(3, np.float32)
    with kernels.use(form), np.errstate(invalid="ignore", divide="ignore"):
        losses, p = kernels.softmax_cross_entropy_forward(logits, labels, nothing, ones)
        grad = kernels.softmax_cross_entropy_backward(ones[[0] * 5], p, labels, nothing, ones)
    np.testing.assert_array_equal(losses, np.float32([0, 2e4, inf, np.nan, np.nan]))
    half = [-1, 0.5, 0.5]
    np.testing.assert_array_equal(grad[:3], np.float32([[0, 0, 0], [-1, 1, 0], half]))
    assert np.isnan(grad[3:]).all()


@pytest.mark.parametrize("form", ["fast", "reference"])
def test_a_row_left_out_has_no_loss_and_no_gradient(form):
    logits = np.full((2, 3), np.nan)
    labels, ones = np.full(2, -1), np.ones(3)
    with kernels.use(form):
        losses, p = kernels.softmax_cross_entropy_forward(logits, labels, ones, ones)
        grad = kernels.softmax_cross_entropy_backward(ones[:2], p, labels, ones, ones)
    np.testing.assert_array_equal(losses, 0)
    np.testing.assert_array_equal(grad, 0)


def test_the_serial_and_the_parallel_build_give_the_same_bits(always_parallel):
    rng = np.random.default_rng(2)
    logits, labels, base, hit = _problem(rng, 4001, 11, np.float32)
    grad_losses = rng.standard_normal(4001).astype(np.float32)

    def both():
        losses, p = kernels.softmax_cross_entropy_forward(logits, labels, base, hit)
        return losses, p, kernels.softmax_cross_entropy_backward(grad_losses, p, labels, base, hit)

    parallel = both()
    with kernels.serial_only():
        serial = both()
    for a, b in zip(parallel, serial, strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_that_sum_to_nothing_still_count():
    base, hit = np.array([1.0, -1.0, 0.0]), np.zeros(3)
    losses, _ = kernels.softmax_cross_entropy_forward(
        np.array([[0.0, 3.0, 1.0]]), np.array([2]), base, hit
    )
    np.testing.assert_allclose(losses, [3.0])  # -log p_0 + log p_1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_exponential_is_right_to_two_units_in_the_last_place(dtype):
    x = -np.concatenate([np.linspace(0, 110, 300_001), np.logspace(-10, 1, 10_000)]).astype(dtype)
    out = np.empty_like(x)
    _exponentials(x, 0, x.size, dtype(0), out)
    exact = np.exp(x.astype(np.longdouble))
    unit = np.spacing(np.maximum(exact, np.finfo(dtype).smallest_subnormal).astype(dtype))
    assert np.max(np.abs(out - exact) / unit) < 2
    ends = np.array([0, -np.inf, np.nan, -np.finfo(dtype).max], dtype)
    _exponentials(ends, 0, ends.size, dtype(0), ends)
    np.testing.assert_array_equal(ends, [1, 0, np.nan, 0])


@pytest.mark.parametrize("C", [1, 2, 15, 16, 17, 31, 32, 33, 100])
def test_the_largest_logit_is_found_wherever_it_stands(C):
    logits = np.full((C, C), -1e6, np.float32)
    np.fill_diagonal(logits, 1e6)  # with any other peak something overflows, or all are 0
    losses, p = kernels.softmax_cross_entropy_forward(
        logits, np.arange(C), np.zeros(C, np.float32), np.ones(C, np.float32)
    )
    np.testing.assert_array_equal(losses, 0)
    np.testing.assert_array_equal(p, np.eye(C))
