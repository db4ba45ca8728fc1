"""batch_norm and local_response_norm: what the battery cannot know of them."""

import numpy as np
import pytest

import minigrad as mg


def _running(C, seed=1):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(C), rng.uniform(0.5, 2, C)


def _image(shape=(4, 3, 5, 7), seed=0):
    return 2 * np.random.default_rng(seed).standard_normal(shape) + 1


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (4, 3, 5, 7), (1, 3, 2, 1)])
@pytest.mark.parametrize("momentum", [0.1, 0.25, 0, 1])
def test_running_statistics_move_by_the_formula(shape, momentum):
    x = _image(shape)
    mean, var = _running(3)
    axes = (0, *range(2, len(shape)))
    want_mean = (1 - momentum) * mean + momentum * x.mean(axes)
    want_var = (1 - momentum) * var + momentum * x.var(axes, ddof=1)
    mg.batch_norm(x, None, None, mean, var, momentum=momentum)
    np.testing.assert_allclose(mean, want_mean, rtol=1e-12)
    np.testing.assert_allclose(var, want_var, rtol=1e-12)


def test_the_output_is_normalised_with_the_biased_variance():
    x = _image()
    y = mg.batch_norm(x, eps=0).data
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-14)
    np.testing.assert_allclose(y.var((0, 2, 3)), 1, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_running_statistics_keep_their_array_and_dtype(dtype):
    mean, var = np.zeros(3, dtype), np.ones(3, dtype)
    views = mean[:], var[:]
    mg.batch_norm(_image().astype(np.float32), None, None, mean, var)
    assert mean.dtype == var.dtype == dtype
    assert np.all(views[0] != 0)
    assert np.all(views[1] != 1)


def test_the_running_statistics_stay_in_evaluation_and_for_an_empty_batch():
    for x, training in (_image(), False), (np.zeros((0, 3, 5, 7)), True):
        mean, var = _running(3)
        mg.batch_norm(x, None, None, mean, var, training=training)
        np.testing.assert_array_equal((mean, var), _running(3))


def test_the_gradient_of_a_frozen_batch_norm_is_that_of_an_affine_map():
    x, weight = mg.tensor(_image(), requires_grad=True), mg.tensor(np.array([0.5, -2, 3.0]))
    mean, var = _running(3)
    y = mg.batch_norm(x, weight, None, mean, var, training=False)
    mean[:], var[:] = 100, 100  # what comes later does not reach back
    w = np.random.default_rng(2).standard_normal(y.shape)
    y.backward(w)
    scale = weight.data / np.sqrt(_running(3)[1] + 1e-5)
    np.testing.assert_allclose(x.grad, w * scale[:, None, None], rtol=1e-12)


def test_in_training_the_gradient_of_x_is_orthogonal_to_ones_and_to_x():
    """Moving or scaling a channel changes nothing, so no gradient points there."""
    x = mg.tensor(_image(), requires_grad=True)
    y = mg.batch_norm(x, mg.tensor(np.array([0.5, -2, 3.0])), eps=0)
    y.backward(np.random.default_rng(2).standard_normal(y.shape))
    assert np.abs(x.grad).max() > 0.01
    np.testing.assert_allclose(x.grad.sum((0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose((x.grad * x.data).sum((0, 2, 3)), 0, atol=1e-12)


def test_a_batch_of_one_image_is_normalised_over_its_pixels():
    x = _image((1, 3, 5, 7))
    want = (x - x.mean((2, 3), keepdims=True)) / x.std((2, 3), keepdims=True)
    np.testing.assert_allclose(mg.batch_norm(x, eps=0).data, want, rtol=1e-12)


def test_an_empty_batch_has_gradients_of_zero():
    x, weight, bias = (
        mg.tensor(a, requires_grad=True) for a in (np.zeros((0, 3, 5, 7)), np.ones(3), np.ones(3))
    )
    y = mg.batch_norm(x, weight, bias)
    y.backward(np.zeros(y.shape))
    assert x.grad.shape == (0, 3, 5, 7)
    np.testing.assert_array_equal(weight.grad, 0)
    np.testing.assert_array_equal(bias.grad, 0)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 20])
def test_local_response_norm_is_its_formula(size):
    x = np.random.default_rng(0).standard_normal((2, 7, 3))
    alpha, beta, k = 0.7, 0.6, 1.5
    want = np.empty_like(x)
    for i in range(7):
        window = x[:, max(0, i - size // 2) : i + (size - 1) // 2 + 1]
        want[:, i] = x[:, i] / (k + alpha / size * (window**2).sum(axis=1)) ** beta
    got = mg.local_response_norm(x, size, alpha, beta, k).data
    np.testing.assert_allclose(got, want, rtol=1e-13)


def test_the_constants_of_the_paper_are_those_the_docstring_gives():
    a = 20 * np.random.default_rng(0).standard_normal((2, 9, 3))
    want = np.empty_like(a)
    for i in range(9):  # section 3.3 of Krizhevsky et al., with n = 5
        total = (a[:, max(0, i - 2) : min(8, i + 2) + 1] ** 2).sum(axis=1)
        want[:, i] = a[:, i] / (2 + 1e-4 * total) ** 0.75
    got = mg.local_response_norm(a, size=5, alpha=5e-4, beta=0.75, k=2).data
    np.testing.assert_allclose(got, want, rtol=1e-13)
