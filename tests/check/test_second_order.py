"""hvp and hessian, exact to rounding, against formulas and against differences of the gradient."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.core.errors import ArgumentError, ShapeError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_hessian_of_a_quadratic_and_a_softmax(rng):
    a = rng.standard_normal((4, 4))
    x = rng.standard_normal(4)
    found = mg.hessian(lambda x: mg.sum(x * mg.matmul(mg.Tensor(a), x)), x)
    np.testing.assert_allclose(found, a + a.T, rtol=0, atol=1e-12)
    p = np.exp(x) / np.exp(x).sum()
    found = mg.hessian(lambda x: mg.logsumexp(x), x)
    np.testing.assert_allclose(found, np.diag(p) - np.outer(p, p), rtol=0, atol=1e-12)


def test_blocks_of_several_inputs(rng):
    x, y = rng.standard_normal(2), rng.standard_normal((1, 3))
    (xx, xy), (yx, yy) = mg.hessian(lambda x, y: mg.sum(mg.exp(x)) * mg.sum(y * y * y), [x, y])
    ex, sy = np.exp(x), np.sum(y**3)
    np.testing.assert_allclose(xx, np.diag(ex) * sy, atol=1e-12)
    np.testing.assert_allclose(xy, ex[:, None, None] * 3 * y**2, atol=1e-12)
    np.testing.assert_allclose(yx, np.moveaxis(xy, 0, -1), atol=1e-12)
    np.testing.assert_allclose(yy.reshape(3, 3), np.diag(6 * y[0]) * ex.sum(), atol=1e-12)


def network(rng):
    mg.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(8, 3),
    ).double()  # fmt: skip
    images, labels = rng.standard_normal((3, 1, 4, 4)), np.array([0, 2, 1])
    return list(net.parameters()), lambda *_: mg.cross_entropy(net(mg.Tensor(images)), labels)


def inner(a, b):
    return sum(float(np.sum(x * y)) for x, y in zip(a, b, strict=True))


def test_the_product_of_a_network_is_symmetric_and_the_slope_of_its_gradient(rng):
    parameters, loss = network(rng)
    v = [rng.standard_normal(p.shape) for p in parameters]
    w = [rng.standard_normal(p.shape) for p in parameters]
    of_v = mg.hvp(loss, parameters, v)
    assert inner(of_v, w) == pytest.approx(inner(mg.hvp(loss, parameters, w), v), abs=1e-12)
    base = [p.data for p in parameters]

    def slope(h):
        sides = []
        for sign in (1, -1):
            for p, x, u in zip(parameters, base, v, strict=True):
                p.data = x + sign * h * u
            sides.append(mg.grad([loss()], parameters, [np.ones(())]))
        return [(up - down) / (2 * h) for up, down in zip(*sides, strict=True)]

    for exact, once in zip(of_v, slope(1e-6), strict=True):
        np.testing.assert_allclose(exact, once, atol=1e-7)


def test_parameters_stay_as_they_are(rng):
    parameters, loss = network(rng)
    before = [p.data.copy() for p in parameters]
    with pytest.raises(ShapeError, match="gave shape"):
        mg.hvp(lambda *p: p[0], parameters, [np.ones(p.shape) for p in parameters])
    mg.hvp(loss, parameters, [np.ones(p.shape) for p in parameters])
    for p, x in zip(parameters, before, strict=True):
        np.testing.assert_array_equal(p.data, x)
        assert p.dtype == np.float64


def test_wrong_arguments_are_told():
    with pytest.raises(ShapeError) as raised:
        mg.hvp(mg.sum, np.ones(3), np.ones(2))
    assert str(raised.value) == (
        "hvp: a vector of the shape of x is needed, x has [(3,)], v has [(2,)]. Pass one array for "
        "each of x."
    )
    with pytest.raises(ArgumentError, match="does not depend on it"):
        mg.hvp(lambda x: mg.Tensor(np.ones(())), np.ones(3), np.ones(3))
