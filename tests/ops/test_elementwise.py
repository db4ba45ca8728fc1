"""Element-wise operations at their kinks, at NaN, and on numbers and integers."""

import numpy as np
import pytest

import minigrad as mg

NAN = np.nan


def gradients(op, *arrays, **options):
    """Of the sum of the outputs with weights 1, 2, 3, ..., so that places are told apart."""
    tensors = [mg.tensor(np.array(a), requires_grad=True) for a in arrays]
    out = op(*tensors, **options)
    return mg.grad(out, tensors, np.arange(1.0, out.size + 1).reshape(out.shape))


def equal(ours, theirs):
    np.testing.assert_array_equal(ours, theirs)


def test_abs_has_slope_0_at_its_kink_and_at_a_nan():
    (grad,) = gradients(mg.abs, [-2.0, -0.0, 0.0, NAN, 5.0])
    equal(grad, [-1, 0, 0, 0, 5])


@pytest.mark.parametrize(("op", "sign"), [(mg.maximum, 1), (mg.minimum, -1)])
def test_extremes_share_ties_and_give_all_to_both_at_a_nan(op, sign):
    x, y = sign * np.array([2.0, 1.0, 3.0, NAN, 1.0]), sign * np.array([1.0, 2.0, 3.0, 1.0, NAN])
    equal(op(x, y).data, sign * np.array([2, 2, 3, NAN, NAN]))
    grad_x, grad_y = gradients(op, x, y)
    equal(grad_x, [1, 0, 1.5, 4, 5])
    equal(grad_y, [0, 2, 1.5, 4, 5])


def test_clip_gives_the_gradient_to_whatever_is_the_result():
    x, low = np.array([1.0, 2.0, 3.0, 9.0]), np.array([2.0, 2.0, 4.0, 9.5])
    high = np.array([3.0, 3.0, 3.5, 9.0])
    equal(mg.clip(x, low, high).data, [2, 2, 3.5, 9])
    grad_x, grad_low, grad_high = gradients(mg.clip, x, low, high)
    equal(grad_x, [0, 2, 0, 0])
    equal(grad_low, [1, 0, 0, 0])
    equal(grad_high, [0, 0, 3, 4])
    equal(gradients(lambda x, low: mg.clip(x, min=low), [1.0], [np.inf]), [[0], [1]])


def test_clip_is_nan_where_anything_is_and_has_no_gradient_there():
    x, low, high = [NAN, 1.0, 1.0], [0.0, NAN, 0.0], [2.0, 2.0, NAN]
    equal(mg.clip(np.array(x), np.array(low), np.array(high)).data, [NAN, NAN, NAN])
    equal(gradients(mg.clip, x, low, high), np.zeros((3, 3)))


def test_clip_of_integers_promotes_as_numpy_does():
    x = np.arange(4)
    assert mg.clip(x, 1, 2).dtype == x.dtype
    assert mg.clip(x, max=2).dtype == x.dtype
    equal(mg.clip(x, 0.5, 2.5).data, [0.5, 1, 2, 2.5])
    assert mg.clip(np.ones(4, np.float32), x).dtype == np.float32


@pytest.mark.parametrize(
    "result",
    [
        lambda: mg.add(1.5, 2.5),
        lambda: mg.div(1, 2),
        lambda: mg.exp(2),
        lambda: mg.relu(2.0),
        lambda: mg.where(np.array([True, False]), 1.0, 0),
    ],
)
def test_python_numbers_alone_give_the_default_precision(result):
    """Else mg.where(x > 0, 1.0, 0.0) * x would widen a float32 x."""
    assert result().dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_and_integers_adapt_to_floats(dtype):
    """Else one np.sqrt(2), or a mask of integers, would widen a whole float32 network."""
    x = mg.tensor(np.ones(3, dtype), requires_grad=True)
    for other in (
        2,
        1.5,
        np.float64(1.5),
        np.arange(1, 4),
        mg.tensor(np.arange(1, 4)),
        np.ones(3) > 0,
    ):
        for op in (mg.add, mg.mul, mg.div, mg.pow, mg.maximum, lambda x, y: mg.where(x > 0, x, y)):
            out = op(x, other)
            assert out.dtype == dtype
            assert mg.grad(out, x, np.ones(3))[0].dtype == dtype
    assert (x * np.ones(3)).dtype == np.float64
    assert (mg.tensor(np.arange(3)) * 2).dtype == np.int64
    assert mg.add(1, 2).dtype == np.int64


def test_a_conversion_to_float64_is_what_it_says():
    for x in (1.5, np.arange(3), np.ones(3, np.float32)):
        assert mg.astype(x, "float64").dtype == np.float64


@pytest.mark.parametrize("op", [mg.exp, mg.log, mg.sqrt, mg.logsumexp, mg.mean, mg.var])
@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int64])
def test_floats_made_of_integers_have_the_default_precision(op, dtype):
    """NumPy's own exp of booleans is float16, which no tensor can hold."""
    x = np.array([1, 1, 1], dtype)
    out = op(x)
    assert out.dtype == np.float32
    equal(out.data, np.float32(op(x.astype(np.float64)).data))
