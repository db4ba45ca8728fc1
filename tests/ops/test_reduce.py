"""Reductions beyond the battery: any axes, ties, empty and infinite entries."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg
from minigrad.check.numeric import complex_step_gradients
from minigrad.core.errors import DTypeError
from minigrad.core.mode import complex_step

REDUCTIONS = ["sum", "mean", "var", "max", "min", "logsumexp"]


def numpy_reduction(name):
    if name == "logsumexp":
        return lambda x, **options: np.log(np.sum(np.exp(x), **options))
    return getattr(np, name)


def draw_input(draw, min_side=1):
    """An array without ties, in C order, with axes permuted, or with negative strides."""
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=min_side, max_side=4))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    x = rng.permutation(math.prod(shape)).reshape(shape) / 10 + rng.uniform(0, 0.01, shape)
    x = np.asarray(x).transpose(draw(st.permutations(range(len(shape)))))
    return x[..., ::-1] if x.ndim and draw(st.booleans()) else x


def draw_axis(draw, ndim):
    axes = st.none() | hnp.valid_tuple_axes(ndim)
    return draw(axes | st.integers(-ndim, ndim - 1) if ndim else axes)


@pytest.mark.parametrize("name", REDUCTIONS)
@given(data=st.data())
def test_any_axes_as_in_numpy_with_the_gradient_of_the_complex_step(name, data):
    x = draw_input(data.draw)
    axis, keepdims = draw_axis(data.draw, x.ndim), data.draw(st.booleans())
    op = getattr(mg, name)
    tensor = mg.Tensor(x, requires_grad=True)
    y = op(tensor, axis=axis, keepdims=keepdims)
    expected = numpy_reduction(name)(x, axis=axis, keepdims=keepdims)
    assert y.shape == np.shape(expected)
    np.testing.assert_allclose(y.data, expected, rtol=1e-12, atol=1e-14)
    w = np.random.default_rng(0).standard_normal(y.shape)
    with complex_step():
        (witness,) = complex_step_gradients(
            lambda inputs: [op(mg.Tensor(inputs[0]), axis=axis, keepdims=keepdims).data], [x], [w]
        )
    np.testing.assert_allclose(mg.grad(y, [tensor], [w])[0], witness, rtol=1e-11, atol=1e-13)


@given(data=st.data())
def test_ties_share_equally(data):
    x = data.draw(hnp.arrays(np.float64, (3, 4), elements=st.integers(0, 2).map(float)))
    axis = draw_axis(data.draw, 2)
    for op, best in ((mg.max, np.max), (mg.min, np.min)):
        tensor = mg.Tensor(x, requires_grad=True)
        y = op(tensor, axis=axis)
        w = np.random.default_rng(1).standard_normal(y.shape)
        (grad,) = mg.grad(y, [tensor], [w])
        top = best(x, axis=axis, keepdims=True)
        assert (grad[x != np.broadcast_to(top, x.shape)] == 0).all()
        np.testing.assert_allclose(np.sum(grad, axis=axis), w, rtol=1e-14)
        for row, value, shares in zip(*rows_along(axis, x, top, grad), strict=True):
            assert len(set(shares[row == value])) == 1


def rows_along(axis, x, top, grad):
    """Each of the three with the reduced entries in one row."""
    axes = range(2) if axis is None else np.atleast_1d(np.array(axis, int)) % 2
    order = [a for a in range(2) if a not in axes] + list(axes)
    columns = math.prod(x.shape[a] for a in axes)
    top = np.broadcast_to(top, x.shape)
    return [a.transpose(order).reshape(-1, columns) for a in (x, top, grad)]


@pytest.mark.parametrize("op", [mg.max, mg.min])
def test_nan_wins_and_takes_the_gradient(op):
    x = mg.tensor([[1.0, np.nan, 2.0], [3.0, 3.0, 3.0]], requires_grad=True)
    y = op(x, axis=1)
    np.testing.assert_array_equal(y.data, [np.nan, 3.0])
    (grad,) = mg.grad(y, [x], [np.array([2.0, 3.0])])
    np.testing.assert_array_equal(grad, [[0, 2, 0], [1, 1, 1]])


def test_equal_infinities_tie():
    x = mg.tensor([np.inf, 1.0, np.inf], requires_grad=True)
    x.max().backward()
    np.testing.assert_array_equal(x.grad, [0.5, 0, 0.5])


def test_nothing_sums_to_zero_and_receives_nothing():
    x = mg.tensor(np.zeros((2, 0, 3)), requires_grad=True)
    y = x.sum(axis=1)
    np.testing.assert_array_equal(y.data, np.zeros((2, 3)))
    y.backward(np.ones((2, 3)))
    assert x.grad.shape == (2, 0, 3)
    assert mg.logsumexp(x, axis=1).data.tolist() == [[-np.inf] * 3] * 2


def test_the_mean_of_nothing_is_nan_with_the_warning_of_numpy():
    x = mg.tensor(np.zeros((0, 3)), requires_grad=True)
    with pytest.warns(RuntimeWarning):
        y = x.mean()
    assert np.isnan(y.item())
    y.backward()
    assert x.grad.shape == (0, 3)


@pytest.mark.parametrize("op", [mg.max, mg.min, mg.mean, mg.var])
def test_an_empty_result_needs_no_entries(op):
    x = mg.tensor(np.zeros((0, 3)), requires_grad=True)
    y = op(x, axis=1)
    assert y.shape == (0,)
    y.backward(np.zeros(0))
    assert x.grad.shape == (0, 3)


@pytest.mark.parametrize(("ddof", "value"), [(2, np.nan), (3, np.inf)])
def test_var_without_freedom_is_not_finite(ddof, value):
    x = np.array([1.0, 1.0]) if np.isnan(value) else np.array([1.0, 2.0])
    with pytest.warns(RuntimeWarning):
        assert mg.var(x, ddof=ddof).data == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize("ddof", [1, 1.0, np.int64(1), np.float64(1)])
def test_var_of_float32_is_float32(ddof):
    x = mg.tensor([1.0, 2.0, 4.0], requires_grad=True)
    y = mg.var(x, ddof=ddof)
    assert y.dtype == np.float32
    assert y._node.function.backward(y._node, np.ones((), np.float32)).dtype == np.float32


def test_var_keeps_its_digits_far_from_zero():
    rng = np.random.default_rng(2)
    x = (1e4 + rng.standard_normal(4096)).astype(np.float32)
    exact = np.var(x.astype(np.float64))
    assert mg.var(x).item() == pytest.approx(exact, rel=1e-5)
    squares = np.mean(x * x) - np.mean(x) ** 2
    assert abs(squares - exact) > exact, "one pass was expected to fail here"


def test_var_gives_the_unbiased_estimate_of_torch():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(3).standard_normal((2, 5))
    theirs = torch.var(torch.tensor(x), dim=1, correction=1).numpy()
    np.testing.assert_allclose(mg.var(x, axis=1, ddof=1).data, theirs, rtol=1e-13)


def test_logsumexp_neither_overflows_nor_underflows():
    for shift in (1e4, -1e4):
        x = mg.tensor(np.array([0.0, 1.0, -2.0]) + shift, requires_grad=True)
        y = mg.logsumexp(x)
        plain = np.log(np.exp([0, 1, -2]).sum())
        assert y.item() - shift == pytest.approx(plain, rel=1e-12)
        y.backward()
        np.testing.assert_allclose(x.grad, np.exp([0 - plain, 1 - plain, -2 - plain]), rtol=1e-11)


def test_logsumexp_of_minus_infinity():
    x = mg.tensor([[-np.inf, -np.inf], [-np.inf, 3.0]], requires_grad=True)
    y = mg.logsumexp(x, axis=1)
    np.testing.assert_array_equal(y.data, [-np.inf, 3])
    y.backward(np.array([5.0, 7.0]))
    np.testing.assert_array_equal(x.grad, [[0, 0], [0, 7]])


def test_logsumexp_of_infinity_and_of_nan():
    assert mg.logsumexp(np.array([1000.0, np.inf])).item() == np.inf
    assert np.isnan(mg.logsumexp(np.array([1000.0, np.nan])).item())


def test_the_mean_of_large_whole_numbers_does_not_overflow():
    moments = np.full((3, 4), 1_700_000_000_000_000_000)  # nanoseconds; six overflow int64
    assert mg.mean(moments).item() == pytest.approx(1.7e18, rel=1e-6)  # of float32
    assert mg.var(moments).item() == 0


def test_integers_and_numbers_are_reduced_without_gradient():
    labels = mg.tensor([[1, 2], [3, 6]])
    assert labels.sum(axis=0).data.tolist() == [4, 8]
    assert labels.max().item() == 6
    assert labels.mean().item() == 3
    assert (labels > 2).sum().item() == 2
    assert mg.logsumexp(labels).item() == pytest.approx(np.log(np.exp([1, 2, 3, 6]).sum()))
    assert mg.sum(2.5).item() == 2.5


def test_sum_saves_nothing_and_its_gradient_is_a_view():
    x = mg.tensor(np.ones((2, 3)), requires_grad=True)
    y = x.sum(axis=0)
    assert y._node.saved == ()
    w = np.array([1.0, 2.0, 3.0])
    assert np.shares_memory(y._node.function.backward(y._node, w), w)


def test_numpy_arguments_without_a_meaning_here_are_refused_by_name():
    x = mg.tensor([1.0, 2.0])
    with pytest.raises(DTypeError) as raised:
        np.sum(x, axis=0, dtype=float)
    assert str(raised.value) == (
        "np.sum: a NumPy function that minigrad can differentiate was expected, and this one is "
        "called on a Tensor in a way it cannot. Call minigrad.sum(x) without dtype, or call np.sum "
        "on x.data."
    )
    with pytest.raises(DTypeError, match="with the arguments x, axis, ddof, keepdims"):
        np.var(x, 0, float)
