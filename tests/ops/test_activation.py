"""Activations where the battery does not look: kinks, extremes, layouts and what is saved."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg

INF, NAN = np.inf, np.nan
EVERY = {
    "relu": mg.relu,
    "leaky_relu": mg.leaky_relu,
    "prelu": lambda x: mg.prelu(x, np.float32(0.25)),
    "sigmoid": mg.sigmoid,
    "tanh": mg.tanh,
    "softplus": mg.softplus,
    "softmax": mg.softmax,
    "log_softmax": mg.log_softmax,
}


def value_and_slope(f, x):
    """f(x), and the gradient for a cotangent of ones."""
    leaf = mg.tensor(np.asarray(x), requires_grad=True)
    out = f(leaf)
    (grad,) = mg.grad(out, leaf, np.ones(out.shape))
    return out.data, grad


@pytest.mark.parametrize(
    ("name", "at_zero"), [("relu", 0), ("leaky_relu", np.float32(0.01)), ("prelu", 0.25)]
)
def test_the_kink_belongs_to_the_negative_side(name, at_zero):
    out, slope = value_and_slope(EVERY[name], np.float32([0.0, -0.0]))
    np.testing.assert_array_equal(out, 0)
    np.testing.assert_array_equal(slope, at_zero)


def test_prelu_at_the_kink_teaches_its_slope_nothing():
    weight = mg.tensor([0.25], requires_grad=True)
    mg.prelu(mg.tensor([[0.0, 2.0, -3.0]]), weight).backward(np.ones((1, 3)))
    np.testing.assert_array_equal(weight.grad, [-3])


@pytest.mark.parametrize(
    ("name", "out", "slope"),
    [
        # at -inf, -1e4, 1e4, inf
        ("relu", [0, 0, 1e4, INF], [0, 0, 1, 1]),
        ("leaky_relu", [-INF, -100, 1e4, INF], [0.01, 0.01, 1, 1]),
        ("prelu", [-INF, -2500, 1e4, INF], [0.25, 0.25, 1, 1]),
        ("sigmoid", [0, 0, 1, 1], [0, 0, 0, 0]),
        ("tanh", [-1, -1, 1, 1], [0, 0, 0, 0]),
        ("softplus", [0, 0, 1e4, INF], [0, 0, 1, 1]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_out_nothing_overflows(name, out, slope, dtype):
    found = value_and_slope(EVERY[name], np.array([-INF, -1e4, 1e4, INF], dtype))
    for ours, expected in zip(found, (out, slope), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-6)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_nan_survives(name, dtype):
    assert np.isnan(EVERY[name](np.array([NAN], dtype)).data).all()


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_at_the_extremes(name):
    rows = np.array([[1e4, -1e4, 1e4], [-INF, 0, 0], [-INF, -INF, -INF], [INF, 0, 0], [NAN, 0, 0]])
    expected = [[0.5, 0, 0.5], [0, 0.5, 0.5], [NAN] * 3, [NAN] * 3, [NAN] * 3]
    found = EVERY[name](rows).data
    if name == "log_softmax":
        # Where the softmax is 0, its logarithm is not -Inf.
        assert found[0, 1] == pytest.approx(-2e4 - np.log(2))
        found = np.exp(found)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("shape", [(2, 0), (0, 3)])
def test_softmax_of_nothing_is_nothing(name, shape):
    out, slope = value_and_slope(EVERY[name], np.ones(shape))
    assert out.shape == slope.shape == shape


@given(
    hnp.arrays(np.float64, hnp.array_shapes(max_dims=4, max_side=5), elements=st.floats(-50, 50)),
    st.data(),
)
def test_softmax_is_a_distribution_that_ignores_a_shift(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    y = mg.softmax(x, axis=axis).data
    assert (y >= 0).all()
    np.testing.assert_allclose(y.sum(axis=axis), 1, rtol=1e-13)
    np.testing.assert_allclose(mg.softmax(x + 1000, axis=axis).data, y, rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(np.exp(mg.log_softmax(x, axis=axis).data), y, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "rtol", "atol"),
    [
        ("sigmoid", 5e-7, 0),
        ("tanh", 5e-7, 0),
        ("softplus", 5e-7, 0),
        ("softmax", 4e-6, 0),  # x - max rounds before the exponential enlarges it
        ("log_softmax", 5e-7, 1e-7),  # 1 + exp(-20) rounds to 1
    ],
)
def test_float32_is_accurate(name, rtol, atol):
    x = np.linspace(-18, 18, 4001, dtype=np.float32).reshape(-1, 1) * np.float32([1, 0.9, -1])
    exact = EVERY[name](x.astype(np.float64)).data
    np.testing.assert_allclose(EVERY[name](x).data, exact, rtol=rtol, atol=atol)


@given(st.data())
def test_relu_in_any_memory_order(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=6))
    axes = data.draw(st.permutations(range(len(shape))))
    steps = data.draw(st.tuples(*[st.sampled_from([1, 2, -1]) for _ in shape]))
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).transpose(axes)[tuple(slice(None, None, s) for s in steps)]
    grad_out = rng.standard_normal(x.shape)
    leaf = mg.Tensor(x, requires_grad=True)
    out = mg.relu(leaf)
    np.testing.assert_array_equal(out.data, np.maximum(x, 0))
    np.testing.assert_array_equal(mg.grad(out, leaf, grad_out)[0], grad_out * (x > 0))


def test_relu_saves_one_bit_for_an_entry():
    x = mg.tensor(np.ones((2, 3, 5, 7), np.float32), requires_grad=True)
    (mask,) = mg.relu(x)._node.saved
    assert mask.nbytes == -(-x.size // 8)


@pytest.mark.parametrize("name", EVERY)
def test_channels_last_memory_stays_channels_last(name):
    x = np.ones((2, 5, 7, 3), np.float32).transpose(0, 3, 1, 2)
    leaf = mg.Tensor(x, requires_grad=True)
    out = EVERY[name](leaf)
    assert out.data.strides == x.strides
    assert mg.grad(out, leaf, x)[0].strides == x.strides


def test_softplus_is_the_identity_above_its_threshold():
    x = np.array([1.4, 1.6])
    out, slope = value_and_slope(lambda t: mg.softplus(t, beta=2, threshold=3), x)
    np.testing.assert_allclose(out, [np.log1p(np.exp(2.8)) / 2, 1.6], rtol=1e-15)
    np.testing.assert_allclose(slope, [1 / (1 + np.exp(-2.8)), 1], rtol=1e-15)


def test_methods_are_the_functions():
    x = mg.tensor([[0.5, -1.0, 2.0]])
    for name in ("relu", "sigmoid", "tanh", "softmax", "log_softmax"):
        np.testing.assert_array_equal(getattr(x, name)().data, EVERY[name](x).data)
    np.testing.assert_array_equal(np.tanh(x).data, np.tanh(x.data))


def torch_cases():
    cases = {
        "relu": [{}],
        "leaky_relu": [{}, {"negative_slope": 0.3}, {"negative_slope": -1.5}],
        "sigmoid": [{}],
        "tanh": [{}],
        "softplus": [{}, {"beta": 3.0}, {"beta": -2.0}, {"beta": 0.5, "threshold": 0.2}],
        "softmax": [{"axis": axis} for axis in (0, 1, -1)],
        "log_softmax": [{"axis": axis} for axis in (0, 1, -1)],
        "prelu": [{"slopes": 1}, {"slopes": 3}],
    }
    return [pytest.param(n, o, id=f"{n}-{o}") for n, options in cases.items() for o in options]


@pytest.mark.parametrize(("name", "options"), torch_cases())
@pytest.mark.parametrize("scale", [1, 30])
def test_torch_agrees(name, options, scale):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(7)
    x, grad_out = scale * rng.standard_normal((4, 3, 5)), rng.standard_normal((4, 3, 5))
    x.flat[::7] = 0
    options = dict(options)
    arrays = [x]
    if "slopes" in options:
        arrays.append(rng.standard_normal(options.pop("slopes")))
    ours = [mg.tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    renamed = {"dim" if key == "axis" else key: value for key, value in options.items()}
    torch_op = functools.partial(getattr(torch.nn.functional, name), **renamed)
    out, reference = getattr(mg, name)(*ours, **options), torch_op(*theirs)
    np.testing.assert_allclose(out.data, reference.detach().numpy(), rtol=1e-12, atol=1e-14)
    out.backward(grad_out)
    reference.backward(torch.tensor(grad_out))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-10, atol=1e-13)
