"""Initialisation: the variance each rule promises, the same numbers from the same seed."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.core.errors import ArgumentError, DTypeError, ShapeError
from minigrad.nn import init

SHAPE = (96, 64, 3, 5)
FAN_IN, FAN_OUT = 64 * 15, 96 * 15


def weight(dtype=np.float64, shape=SHAPE):
    return nn.Parameter(np.full(shape, np.nan, dtype))


RULES = {
    "kaiming_normal_": (init.kaiming_normal_, 2 / FAN_IN, None),
    "kaiming_normal_ fan_out": (
        lambda w: init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"), 2 / FAN_OUT, None),
    "kaiming_normal_ slope": (lambda w: init.kaiming_normal_(w, a=3.0), 0.2 / FAN_IN, None),
    "kaiming_uniform_": (init.kaiming_uniform_, 2 / FAN_IN, math.sqrt(6 / FAN_IN)),
    "torch's default": (
        lambda w: init.kaiming_uniform_(w, a=math.sqrt(5)), 1 / 3 / FAN_IN, FAN_IN**-0.5),
    "xavier_normal_": (init.xavier_normal_, 2 / (FAN_IN + FAN_OUT), None),
    "xavier_uniform_": (
        init.xavier_uniform_, 2 / (FAN_IN + FAN_OUT), math.sqrt(6 / (FAN_IN + FAN_OUT))),
    "xavier_uniform_ gain": (
        lambda w: init.xavier_uniform_(w, gain=5 / 3),
        2 / (FAN_IN + FAN_OUT) * 25 / 9, math.sqrt(6 / (FAN_IN + FAN_OUT)) * 5 / 3),
    "normal_": (lambda w: init.normal_(w, 0.0, 0.01), 1e-4, None),
    "uniform_": (lambda w: init.uniform_(w, -2, 2), 4 / 3, 2),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_variance_and_bound(rule):
    fill, variance, bound = RULES[rule]
    mg.manual_seed(3)
    w = weight()
    assert fill(w) is w
    # 92,160 entries: five standard errors of the variance are under 2.4 %.
    assert np.var(w.data) == pytest.approx(variance, rel=0.024)
    assert abs(w.data.mean()) < 5 * math.sqrt(variance / w.size)
    if bound is not None:
        assert np.abs(w.data).max() <= bound
        assert np.abs(w.data).max() == pytest.approx(bound, rel=1e-3)


@pytest.mark.parametrize("rule", RULES)
def test_same_seed_same_numbers_whatever_the_memory_order_and_dtype(rule):
    fill = RULES[rule][0]
    results = []
    for dtype, order in [(np.float64, "C"), (np.float64, "F"), (np.float32, "C")]:
        mg.manual_seed(5)
        w = nn.Parameter(np.empty(SHAPE, dtype, order=order))
        results.append(fill(w).data)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0].astype("f"), results[2])


def test_constants():
    assert (init.zeros_(weight()).data == 0).all()
    assert (init.ones_(weight()).data == 1).all()
    assert (init.constant_(weight(), 2.5).data == 2.5).all()


def test_default_of_layers():
    mg.manual_seed(1)
    layers = {
        nn.Linear(64, 1000): 1 / 8,
        nn.Conv2d(16, 300, (2, 3), groups=4): 1 / math.sqrt(4 * 6),
        nn.ConvTranspose2d(300, 16, 2): 1 / math.sqrt(16 * 4),
    }
    for layer, bound in layers.items():
        for parameter in layer.parameters():
            reach = np.abs(parameter.data).max()
            assert 0.5 * bound < reach <= bound
    assert np.abs(nn.Linear(64, 1000).weight.data).max() == pytest.approx(1 / 8, rel=1e-3)


def test_fans_of_a_linear_weight_and_of_empty_ones():
    assert init.fans((7, 5)) == (5, 7)
    assert init.kaiming_normal_(weight(shape=(0, 3))).shape == (0, 3)
    assert init.xavier_uniform_(weight(shape=(0, 0))).shape == (0, 0)


def test_wrong_calls_are_explained():
    with pytest.raises(ShapeError) as caught:
        init.kaiming_normal_(weight(shape=(3,)))
    assert str(caught.value) == (
        "init: a weight of at least two axes, (F, C, ...), is needed to count its inputs and "
        "outputs, got shape (3,). Use normal_, uniform_ or constant_ with numbers of your own."
    )
    with pytest.raises(ArgumentError) as caught:
        init.kaiming_normal_(weight(), mode="fan")
    assert str(caught.value) == (
        "init: mode is 'fan_in' (keeps the variance of the forward pass) or 'fan_out' (of the "
        "backward pass), got 'fan'. Pass one of the two."
    )
    with pytest.raises(ArgumentError) as caught:
        init.kaiming_normal_(weight(), nonlinearity="swish")
    assert str(caught.value) == (
        "init: a nonlinearity among linear, sigmoid, tanh, relu, leaky_relu is needed, got "
        "'swish'. Use 'relu' for networks of ReLUs, 'linear' for a last layer."
    )
    with pytest.raises(DTypeError) as caught:
        init.zeros_(np.ones(3))
    assert str(caught.value) == (
        "constant_: a Parameter or a Tensor to fill was expected, got ndarray. "
        "Pass for example layer.weight."
    )
    fixed = weight(shape=(5, 3))
    fixed.data.flags.writeable = False
    with pytest.raises(ArgumentError) as caught:
        init.kaiming_normal_(fixed)
    assert str(caught.value) == (
        "normal_: an array that can be written to is needed, got a read-only one of shape "
        "(5, 3). Set tensor.data = tensor.data.copy() first."
    )
