"""The choice of an algorithm, by argument and by context."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import kernels, nn
from minigrad.kernels import conv_choice

rng = np.random.default_rng(0)
X, WEIGHT = (rng.integers(-3, 4, shape).astype("f") for shape in ((2, 3, 9, 7), (5, 3, 3, 3)))


@pytest.fixture
def chosen(monkeypatch):
    """List what the kernels choose, with none forced from outside."""
    names = []
    choose = conv_choice.choose

    def listed(case):
        names.append(choose(case))
        return names[-1]

    monkeypatch.setattr(conv_choice, "choose", listed)
    with kernels.use("fast"), mg.conv_algorithm("auto"):
        yield names


def _gradients(**options):
    x, weight = (mg.tensor(array, requires_grad=True) for array in (X, WEIGHT))
    y = mg.conv2d(x, weight, padding=1, **options)
    y.backward(np.ones_like(y.data))
    return y.data, x.grad, weight.grad


@pytest.mark.parametrize("algorithm", ["im2col", "direct", "reference"])
def test_the_argument_reaches_forward_and_both_gradients(algorithm, chosen):
    got, want = _gradients(algorithm=algorithm), _gradients()
    assert chosen[:3] == [algorithm] * 3
    for mine, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_the_context_reaches_calls_that_ask_for_nothing(chosen):
    with mg.conv_algorithm("im2col"):
        _gradients()
        _gradients(algorithm="direct")
    assert chosen == ["im2col"] * 3 + ["direct"] * 3


def test_winograd_leaves_to_direct_what_it_cannot_compute(chosen):
    with mg.conv_algorithm("winograd"):
        _gradients()
        mg.conv2d(X.astype(float), WEIGHT.astype(float))
        mg.conv2d(X, WEIGHT, stride=2)
        mg.conv2d(X, np.ones((5, 3, 2, 2), "f"))
        mg.conv2d(X, np.ones((3, 1, 3, 3), "f"), groups=3)
    assert chosen == [*["winograd"] * 3, *["direct"] * 4]


def test_the_table_never_gives_float64_to_winograd(chosen):
    x, weight = np.ones((4, 64, 16, 16)), np.ones((64, 64, 3, 3))
    mg.conv2d(x, weight, padding=1)
    mg.conv2d(x.astype("f"), weight.astype("f"), padding=1)
    assert chosen == ["direct", "winograd"]


def test_a_layer_asks_for_its_algorithm_in_both_directions(chosen):
    layer = nn.Conv2d(3, 5, 3, padding=1, algorithm="im2col")
    layer(mg.tensor(X, requires_grad=True)).backward(np.ones((2, 5, 9, 7), "f"))
    assert chosen == ["im2col"] * 3
    assert repr(layer) == ("Conv2d(3, 5, kernel_size=(3, 3), padding=(1, 1), algorithm='im2col')")
    assert list(layer.state_dict()) == ["weight", "bias"]


def test_a_layer_refuses_what_is_no_algorithm():
    with pytest.raises(mg.MinigradError) as caught:
        nn.Conv2d(3, 5, 3, algorithm="fft")
    assert str(caught.value) == (
        "Conv2d: algorithm is 'auto', 'winograd', 'direct', 'im2col' or 'reference', got 'fft'. "
        "Pass for example algorithm='auto'."
    )


def test_an_unknown_context_is_refused():
    with pytest.raises(mg.MinigradError) as caught, mg.conv_algorithm("fft"):
        pass
    assert str(caught.value) == (
        "conv_algorithm: algorithm is 'auto', 'winograd', 'direct', 'im2col' or 'reference', got "
        "'fft'. Pass for example algorithm='auto'."
    )
