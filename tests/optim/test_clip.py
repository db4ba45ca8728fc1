"""Clipping: the length, the direction, and what happens where there is none."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.core.errors import ArgumentError
from minigrad.nn.parameter import Parameter
from minigrad.optim import clip_grad_norm, clip_grad_value


def made_params(dtype=np.float64):
    rng = np.random.default_rng(0)
    params = [Parameter(np.zeros(shape, dtype)) for shape in [(2, 3, 5, 7), (4,), ()]]
    for param in params:
        param.grad = np.asarray(rng.standard_normal(param.shape), dtype)
    return [*params, Parameter(np.zeros(2))]  # the last has no gradient


def whole(params):
    grads = [param.grad for param in params if param.grad is not None]
    return np.concatenate([grad.reshape(-1) for grad in grads]).astype(np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_long_gradient_is_shortened_and_not_turned(dtype):
    params = made_params(dtype)
    before = whole(params)
    norm = clip_grad_norm(params, max_norm=0.5)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(norm, np.linalg.norm(before), rtol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(whole(params)), 0.5, rtol=2 * eps)
    np.testing.assert_allclose(whole(params), before * (0.5 / norm), rtol=2 * eps)
    assert all(p.grad is None or p.grad.dtype == dtype for p in params)


@pytest.mark.parametrize("max_norm", [1e3, np.inf])
def test_a_short_gradient_keeps_its_bits(max_norm):
    params = made_params()
    before = whole(params)
    clip_grad_norm(params, max_norm)
    np.testing.assert_array_equal(whole(params), before)


def test_one_tensor_a_generator_and_no_gradient_at_all():
    x = mg.tensor([0.0, 0.0], requires_grad=True)
    assert clip_grad_norm(x, 1.0) == 0.0
    x.grad = np.array([3.0, 4.0], np.float32)
    assert clip_grad_norm((p for p in [x]), 10.0) == 5.0
    clip_grad_value(x, 3.5)
    np.testing.assert_array_equal(x.grad, np.array([3.0, 3.5], np.float32))


def test_norms_beyond_float32():
    x = Parameter(np.zeros(4, np.float32))
    x.grad = np.full(4, 3e38, np.float32)
    np.testing.assert_allclose(clip_grad_norm([x], 1.0), 6e38, rtol=1e-6)
    np.testing.assert_allclose(x.grad, 0.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("grad", "norm", "clipped"),
    [([np.inf, 1.0], np.inf, [np.nan, 0.0]), ([np.nan, 1.0], np.nan, [np.nan, np.nan])],
)
def test_a_norm_that_is_not_finite(grad, norm, clipped):
    x = Parameter(np.zeros(2))
    x.grad = np.array(grad)
    with pytest.raises(ArgumentError) as caught:
        clip_grad_norm([x], 1.0, error_if_nonfinite=True)
    assert str(caught.value) == (
        f"clip_grad_norm: a finite norm was asked for, the gradients have {norm}. Run the step "
        f"under minigrad.detect_anomaly() to see where it comes from."
    )
    np.testing.assert_array_equal(x.grad, grad)
    np.testing.assert_equal(clip_grad_norm([x], 1.0), norm)
    np.testing.assert_array_equal(x.grad, clipped)


def test_the_formula_is_that_of_torch_but_for_its_millionth():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    params = made_params()
    leaves = [torch.nn.Parameter(torch.zeros(p.shape, dtype=torch.float64)) for p in params[:3]]
    for leaf, param in zip(leaves, params, strict=False):
        leaf.grad = torch.tensor(param.grad)
    norm = torch.nn.utils.clip_grad_norm_(leaves, 0.5).item()
    np.testing.assert_allclose(clip_grad_norm(params, 0.5), norm, rtol=1e-14)
    expected = np.concatenate([leaf.grad.numpy().reshape(-1) for leaf in leaves])
    np.testing.assert_allclose(whole(params), expected * (norm + 1e-6) / norm, rtol=1e-13)


def test_values():
    params = made_params()
    before = whole(params)
    before[3] = params[0].grad[0, 0, 0, 3] = np.nan
    clip_grad_value(params, 0.3)
    np.testing.assert_array_equal(whole(params), np.clip(before, -0.3, 0.3))


@pytest.mark.parametrize("bound", [0, -1.0, np.nan])
def test_wrong_bounds(bound):
    with pytest.raises(ArgumentError) as caught:
        clip_grad_norm([], bound)
    assert str(caught.value) == (
        f"clip_grad_norm: max_norm must be a positive number, got {bound!r}."
    )
    with pytest.raises(ArgumentError) as caught:
        clip_grad_value([], bound)
    assert str(caught.value) == (
        f"clip_grad_value: clip_value must be a positive number, got {bound!r}."
    )
