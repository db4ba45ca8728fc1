"""Branches at kinks, recorded and replayed."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.core.decisions import decide, held, record, replay
from minigrad.core.errors import GraphError

# At x every one of them is at a kink or a tie, and at x + 0.1 on another branch.
KINKS = {
    "abs": lambda x: mg.abs(x),
    "relu": lambda x: mg.relu(x),
    "leaky_relu": lambda x: mg.leaky_relu(x, 0.25),
    "prelu": lambda x: mg.prelu(x, np.array([0.25])),
    "clip": lambda x: mg.clip(x, -1.0, 0.05),
    "maximum": lambda x: mg.maximum(x, 0.0),
    "minimum": lambda x: mg.minimum(x, 0.0),
    "max": lambda x: mg.max(mg.concat([x, mg.Tensor(np.zeros(3))])),
    "min": lambda x: mg.min(mg.concat([x, mg.Tensor(np.full(3, -1.0))])),
    "max_pool2d": lambda x: mg.max_pool2d(
        mg.reshape(mg.concat([x, mg.Tensor(np.zeros(3))]), (1, 1, 2, 3)), (2, 3)
    ),
}
X = np.array([0.0, -1.0, 0.0])


@pytest.mark.parametrize("name", KINKS)
def test_held_branches_make_the_function_linear_and_its_slope_that_of_backward(name):
    f, u = KINKS[name], np.array([0.7, -0.4, 0.3])
    with record() as taken:
        leaf = mg.Tensor(X, requires_grad=True)
        y = f(leaf)
    assert [d.name for d in taken] == [name]
    np.testing.assert_array_equal(y.data, f(mg.Tensor(X)).data)
    w = np.random.default_rng(0).standard_normal(y.shape)
    (grad,) = mg.grad([y], [leaf], [w])

    def moved(t):
        with replay(taken):
            return np.sum(w * f(mg.Tensor(X + t * u)).data)

    for t in (0.25, -0.25, 10.0):
        assert (moved(t) - moved(0)) / t == pytest.approx(np.sum(grad * u), abs=1e-13)


def test_a_decision_is_computed_anew_when_nobody_holds_it():
    assert not held()
    assert decide("sign", lambda: 1) == 1
    with record() as taken:
        assert held()
        decide("sign", lambda: 1)
    assert not held()
    with replay(taken):
        assert decide("sign", lambda: -1) == 1


def test_random_masks_are_held_without_drawing():
    rng = np.random.default_rng(1)
    x = mg.Tensor(np.ones(20))
    with record() as taken:
        first = mg.dropout(x, 0.5, rng=rng)
    with replay(taken):
        again = mg.dropout(x, 0.5, rng=rng)
    np.testing.assert_array_equal(first.data, again.data)
    assert (mg.dropout(x, 0.5, rng=rng).data != first.data).any()


def test_a_function_that_runs_other_operations_in_the_replay_is_refused():
    with record() as taken:
        mg.relu(np.ones(2))
    with replay(taken), pytest.raises(GraphError) as raised:
        mg.abs(np.ones(2))
    assert str(raised.value) == (
        "replay: abs asked for its branches, and the recorded pass holds one of relu here. Check a "
        "function that runs the same operations every time it is called."
    )
    with replay(taken), pytest.raises(GraphError, match="holds no more decisions here"):
        mg.relu(mg.relu(np.ones(2)))


def test_the_branches_are_a_copy():
    condition = np.array([True, False])
    with record() as taken:
        mg.where(condition, np.ones(2), np.zeros(2))
    condition[:] = False
    np.testing.assert_array_equal(taken[0].branches, [True, False])
