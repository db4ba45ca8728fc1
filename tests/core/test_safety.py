"""Wrong gradients that would otherwise pass unseen: in-place writes, NaN and Inf."""

import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad.core.errors import GraphError


def leaf(value):
    return mg.tensor(value, dtype=np.float64, requires_grad=True)


def test_an_in_place_write_is_caught_with_op_and_cure():
    x = leaf([1.0, 2.0, 3.0])
    y = mg.exp(x * x)
    x.data[1] = 7.0
    with pytest.raises(GraphError) as raised:
        y.backward(np.ones(3))
    assert str(raised.value) == (
        "backward: mul saved an array of shape (3,) and dtype float64 in its forward pass, and the "
        "array was changed in place since, so its gradient would be wrong. Call backward before "
        "changing it, or change a copy: x.data = x.data.copy() first, then write."
    )
    assert x.grad is None


def test_the_cure_works():
    x = leaf([1.0, 2.0, 3.0])
    y = x * x
    x.data = x.data.copy()
    x.data[1] = 7.0
    y.backward(np.ones(3))
    np.testing.assert_array_equal(x.grad, [2.0, 4.0, 6.0])


@pytest.mark.parametrize("layout", [lambda a: a, lambda a: a.T, lambda a: a[::-1, ::2]])
def test_an_update_of_a_large_array_is_caught(layout):
    x = mg.Tensor(layout(np.ones((300, 400))), requires_grad=True)
    y = x * x
    x.data -= 0.1
    with pytest.raises(GraphError, match="changed in place"):
        y.backward(np.ones(x.shape))


def test_a_write_to_one_entry_of_a_large_array_is_caught_when_debugging():
    with mg.detect_anomaly():
        x = leaf(np.ones((300, 400)))
        y = x * x
        x.data[3, 1] = 5.0
        with pytest.raises(GraphError, match=r"mul \(made at test_safety.py:\d+\) saved an array"):
            y.backward(np.ones((300, 400)))


def test_a_write_to_what_nobody_saved_is_allowed():
    x = leaf([1.0, 2.0])
    y = x + 1
    x.data[0] = 5.0
    y.backward(np.ones(2))
    np.testing.assert_array_equal(x.grad, [1.0, 1.0])


def test_the_first_nan_of_a_forward_is_named():
    x = leaf([4.0, -1.0])
    with mg.detect_anomaly(), pytest.raises(GraphError) as raised:
        mg.exp(mg.sqrt(x * 1))
    text = str(raised.value)
    assert text.startswith("detect_anomaly: the forward of sqrt at test_safety.py:")
    assert text.endswith(
        "made a non-finite number (nan at index (1,) of shape (2,)) from finite inputs. Keep its "
        "input inside the operation's domain."
    )


def test_the_first_inf_of_a_backward_is_named():
    x = leaf([4.0, 0.0])
    with mg.detect_anomaly():
        y = mg.sqrt(x) * 2
        with pytest.raises(GraphError) as raised:
            y.backward(np.ones(2))
    text = str(raised.value)
    assert text.startswith("detect_anomaly: the backward of sqrt (made at test_safety.py:")
    assert text.endswith(
        "made a non-finite number in the gradient of input 0 from a finite cotangent. Keep that "
        "input away from where the derivative is infinite."
    )
    assert x.grad is None


def test_data_and_cotangents_that_are_not_finite_are_told_apart():
    with mg.detect_anomaly():
        with pytest.raises(GraphError, match=r"input 0 of mul at test_safety.py:\d+ already holds"):
            leaf([np.nan]) * 2
        y = leaf([1.0]) * 2
        with pytest.raises(GraphError, match="the cotangent that reaches mul"):
            y.backward(np.array([np.inf]))


def test_switches_belong_to_their_thread():
    seen = []
    x = leaf([1.0])
    with mg.no_grad():
        worker = threading.Thread(target=lambda: seen.append((x * 2).requires_grad))
        worker.start()
        worker.join()
    assert seen == [True]
