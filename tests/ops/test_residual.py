"""The fused residual unit against the composed one, and the announcement of its two shares."""

import importlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import kernels
from minigrad.core import events
from minigrad.kernels import to_channels_last as channels_last
from minigrad.ops.conv import Conv2d
from minigrad.ops.norm import BatchNorm
from minigrad.ops.residual import (
    ResidualUnit,
    convolution_path_backward,
    identity_path_backward,
    residual,
)
from minigrad.ops.shares import Unfinished, shares_added
from minigrad.ops.steps import conv_step, drop_path_step, norm_step, relu_step, zero_pad_steps
from minigrad.ops.stopped import Stopped, stopped


class Unit:
    """Parameters of a basic unit, its fused and its composed form."""

    def __init__(self, C, F, stride, shortcut, *, training=True, gamma=None, drop=0.0):
        rng = np.random.default_rng(8)
        self.w1 = rng.standard_normal((F, C, 3, 3)) / 3
        self.w2 = rng.standard_normal((F, F, 3, 3)) / 3
        self.ws = rng.standard_normal((F, C, 1, 1))
        self.gammas = [rng.uniform(0.5, 1.5, F) for _ in range(3)]
        if gamma is not None:
            self.gammas[1][:] = gamma
        self.betas = [rng.standard_normal(F) for _ in range(3)]
        self.stride, self.shortcut, self.training, self.drop = stride, shortcut, training, drop
        self.C, self.F = C, F

    def tensors(self, x):
        arrays = [x, self.w1, self.w2, *self.gammas, *self.betas, self.ws]
        return [mg.Tensor(a.copy(order="K"), requires_grad=True) for a in arrays]

    def running(self):
        rng = np.random.default_rng(9)
        return [(rng.standard_normal(self.F), rng.uniform(1, 2, self.F)) for _ in range(3)]

    def fused(self, tensors, running):
        x, w1, w2, g1, g2, g3, b1, b2, b3, ws = tensors
        norm = [
            norm_step(g, b, *stats, training=self.training)
            for g, b, stats in zip((g1, g2, g3), (b1, b2, b3), running, strict=True)
        ]
        path = [conv_step(w1, stride=self.stride, padding=1), norm[0], relu_step()]
        path += [conv_step(w2, padding=1), norm[1]]
        if self.drop:
            path.append(drop_path_step(self.drop, np.random.default_rng(1)))
        identity = {
            "none": [],
            "A": zero_pad_steps(self.stride, 0, self.F - self.C),
            "B": [conv_step(ws, stride=self.stride), norm[2]],
        }[self.shortcut]
        return residual(x, path, identity)

    def composed(self, tensors, running):
        x, w1, w2, g1, g2, g3, b1, b2, b3, ws = tensors
        a, b = mg.fork(x)
        h = mg.conv2d(a, w1, stride=self.stride, padding=1)
        h = mg.relu(mg.batch_norm(h, g1, b1, *running[0], training=self.training))
        h = mg.conv2d(h, w2, padding=1)
        h = mg.batch_norm(h, g2, b2, *running[1], training=self.training)
        if self.drop:
            h = mg.drop_path(h, self.drop, rng=np.random.default_rng(1))
        if self.shortcut == "A":
            b = b[:, :, :: self.stride, :: self.stride]
            b = mg.pad(b, ((0, 0), (0, self.F - self.C), (0, 0), (0, 0)))
        elif self.shortcut == "B":
            b = mg.conv2d(b, ws, stride=self.stride)
            b = mg.batch_norm(b, g3, b3, *running[2], training=self.training)
        return mg.relu(h + b)


def run(unit, form, x, w=None):
    """Output, gradients, running statistics and events of one pass."""
    tensors, running, heard = unit.tensors(x), unit.running(), []
    y = getattr(unit, form)(tensors, running)
    w = np.random.default_rng(2).standard_normal(y.shape) if w is None else w
    with events.listen(heard.append):
        y.backward(w)
    return y.data, [t.grad for t in tensors], running, heard


def image(N=2, C=3):
    return np.random.default_rng(5).standard_normal((N, 5, 7, C)).transpose(0, 3, 1, 2)


UNITS = {
    "basic, projection, stride 2": (Unit(3, 4, 2, "B"), image()),
    "basic, identity": (Unit(3, 3, 1, "none"), image()),
    "option A": (Unit(3, 5, 2, "A"), image()),
    "option C": (Unit(3, 3, 1, "B"), image()),
    "one image": (Unit(3, 4, 2, "B"), image(N=1)),
    "frozen statistics": (Unit(3, 4, 2, "B", training=False), image()),
    "stochastic depth": (Unit(3, 3, 1, "none", drop=0.5), image(N=6)),
}
units = pytest.mark.parametrize(("unit", "x"), UNITS.values(), ids=UNITS)


@units
def test_fused_equals_composed(unit, x):
    y, grads, running, _ = run(unit, "fused", x)
    y_composed, grads_composed, running_composed, _ = run(unit, "composed", x)
    np.testing.assert_allclose(y, y_composed, rtol=1e-12, atol=1e-12)
    for a, b in zip(grads, grads_composed, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    for pair, other in zip(running, running_composed, strict=True):
        np.testing.assert_array_equal(pair, other)


@units
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layers_run_at_once_give_the_bits_of_one_after_the_other(unit, x, dtype, monkeypatch):
    x = x.astype(dtype)

    def tensors(x):
        return [mg.Tensor(t.data.astype(dtype), True) for t in Unit.tensors(unit, x)]

    monkeypatch.setattr(unit, "tensors", tensors)
    with kernels.use("fast"):  # NumPy's sums, in the twins, depend on memory order
        y, grads, running, heard = run(unit, "fused", x)
        module = importlib.import_module("minigrad.ops.residual")  # not the function of its name
        monkeypatch.setattr(module, "joined", tuple)
        monkeypatch.setattr(module, "meets_at_once", lambda *paths: False)
        y_apart, grads_apart, running_apart, heard_apart = run(unit, "fused", x)
    np.testing.assert_array_equal(y, y_apart, strict=True)
    for a, b in zip(grads, grads_apart, strict=True):
        np.testing.assert_array_equal(a, b)
    for pair, other in zip(running, running_apart, strict=True):
        np.testing.assert_array_equal(pair, other)
    for event, other in zip(heard, heard_apart, strict=True):
        for part, other_part in zip(event.parts, other.parts, strict=True):
            np.testing.assert_array_equal(part, other_part)


@units
@pytest.mark.parametrize("form", ["fused", "composed"])
def test_the_announced_shares_sum_to_the_gradient_bit_for_bit(unit, x, form):
    _, grads, _, heard = run(unit, form, x)
    (event,) = heard  # one fan-out, announced once
    assert event.source == ("residual" if form == "fused" else "fork")
    assert event.labels == ("conv", "identity")
    np.testing.assert_array_equal(event.parts[0] + event.parts[1], grads[0])


def test_both_forms_announce_the_same_shares():
    unit, x = UNITS["basic, projection, stride 2"]
    (fused,), (composed,) = run(unit, "fused", x)[3], run(unit, "composed", x)[3]
    for a, b in zip(fused.parts, composed.parts, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", ["fused", "composed"])
def test_with_the_last_gamma_at_zero_the_convolution_share_is_exactly_zero(form):
    unit, x = Unit(3, 3, 1, "none", gamma=0.0), image()
    _, grads, _, (event,) = run(unit, form, x)
    np.testing.assert_array_equal(event.parts[0], 0)
    np.testing.assert_array_equal(grads[0], event.parts[1])


def test_listening_changes_no_bit():
    unit, x = UNITS["basic, projection, stride 2"]
    heard = run(unit, "fused", x)[1]
    tensors = unit.tensors(x)
    y = unit.fused(tensors, unit.running())
    y.backward(np.random.default_rng(2).standard_normal(y.shape))
    for a, t in zip(heard, tensors, strict=True):
        np.testing.assert_array_equal(a, t.grad)


def test_a_stopped_cotangent_is_the_array_with_the_zeros():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 5, 7)).astype(np.float32)
    y, grad_out = channels_last(x), channels_last(rng.standard_normal(x.shape).astype(np.float32))
    expected = np.where(x > 0, grad_out, 0)
    lazy = stopped(grad_out, kernels.relu_forward(y)[1])
    assert isinstance(lazy, Stopped)
    assert lazy.shape == x.shape
    np.testing.assert_array_equal(lazy, expected)
    np.testing.assert_array_equal(2 * lazy - 1, 2 * expected - 1)
    assert np.asarray(lazy, np.float64).dtype == np.float64
    for share in grad_out, channels_last(x), x.astype(np.float64), x:
        np.testing.assert_array_equal(shares_added(share, lazy), share + expected, strict=True)
    with kernels.use("reference"):
        np.testing.assert_array_equal(shares_added(grad_out, lazy), grad_out + expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("C", "stride", "groups"), [(16, 1, 1), (16, 2, 1), (5, 2, 1), (16, 1, 4)])
def test_an_unfinished_share_adds_up_to_the_bits_of_the_sum(C, stride, groups, dtype):
    rng = np.random.default_rng(0)
    x = mg.Tensor(rng.standard_normal((2, C, 5, 7)).astype(dtype), requires_grad=True)
    weight = rng.standard_normal((16, C // groups, 3, 3)).astype(dtype)
    ctx = mg.conv2d(x, weight, stride=stride, padding=1, groups=groups)._node
    grad_out = rng.standard_normal(ctx.outputs[0][0]).astype(dtype)
    share = channels_last(rng.standard_normal(x.shape).astype(dtype))
    late, grad_conv = Unfinished(ctx, grad_out), Conv2d.backward(ctx, grad_out)[0]
    assert late.shape == x.shape
    np.testing.assert_array_equal(late, grad_conv, strict=True)
    lazy = stopped(share, kernels.relu_forward(channels_last(x.data))[1])
    for other in share, lazy, x.data, share.astype(np.float64):
        want = grad_conv + np.asarray(other)
        np.testing.assert_array_equal(shares_added(late, other), want, strict=True)
    with kernels.use("reference"):
        np.testing.assert_allclose(shares_added(late, lazy), grad_conv + lazy, rtol=1e-3, atol=1e-4)
    late += share
    np.testing.assert_array_equal(late, grad_conv + share, strict=True)


@pytest.mark.parametrize("gradients", [np.float64, np.complex128])
def test_a_norm_takes_a_stopped_cotangent(gradients):
    rng = np.random.default_rng(0)
    x = mg.Tensor(channels_last(rng.standard_normal((2, 3, 5, 7))), requires_grad=True)
    ctx = mg.batch_norm(x, rng.standard_normal(3))._node
    grad_out = channels_last(rng.standard_normal(x.shape).astype(gradients))
    mask = rng.integers(0, 256, -(-x.size // 8)).astype(np.uint8)
    lazy = stopped(grad_out, mask)
    for got, expected in zip(
        BatchNorm.backward(ctx, lazy), BatchNorm.backward(ctx, np.asarray(lazy)), strict=True
    ):
        if expected is not None:
            np.testing.assert_array_equal(got, expected)


def test_the_two_helpers_stand_alone():
    unit, x = UNITS["basic, projection, stride 2"]
    tensors = unit.tensors(x)
    y = unit.fused(tensors, unit.running())
    ctx = y._node
    g = np.random.default_rng(2).standard_normal(y.shape) * (y.data > 0)
    grad_conv, conv_grads = convolution_path_backward(ctx, g)
    grad_identity, identity_grads = identity_path_backward(ctx, g)
    assert grad_conv.shape == grad_identity.shape == x.shape
    assert len(conv_grads) + len(identity_grads) + 1 == len(ctx.parents)
    whole = ResidualUnit.backward(ctx, g)
    # Not to the bit: the whole backward may hand g on in another memory order.
    np.testing.assert_allclose(whole[0], grad_conv + grad_identity, rtol=1e-12, atol=1e-12)


def test_a_unit_on_data_computes_no_gradient_of_the_data():
    unit, x = UNITS["basic, projection, stride 2"]
    tensors = unit.tensors(x)
    tensors[0].requires_grad = False
    y = unit.fused(tensors, unit.running())
    y.backward(np.ones(y.shape))
    assert tensors[0].grad is None
    assert all(t.grad is not None for t in tensors[1:])


def test_an_in_place_write_to_what_a_layer_saved_is_caught():
    unit, x = UNITS["basic, projection, stride 2"]
    tensors = unit.tensors(x)
    y = unit.fused(tensors, unit.running())
    tensors[2].data[0, 0, 0, 0] += 1
    with pytest.raises(mg.core.errors.GraphError, match="residual saved an array of shape"):
        y.backward(np.ones(y.shape))


# Bugs that a residual unit invites. Each must be noticed by the complex step, or by the law that
# the announced shares sum to the gradient.


def _mutant(change):
    def backward(ctx, grad_out):
        g, _ = ctx.activation[0].function.backward(ctx.activation[0], grad_out), None
        conv, conv_grads = convolution_path_backward(ctx, g)
        identity, identity_grads = identity_path_backward(ctx, g)
        grad_x, parts = change(conv, identity)
        if events.listening:
            events.emit(events.Fanout(ctx.path, "residual", ("conv", "identity"), parts))
        return grad_x, *conv_grads, *identity_grads

    return staticmethod(backward)


def _reused_buffer(conv, identity):
    conv += identity  # the share is overwritten by the sum before it is announced
    return conv, (conv, identity)


MUTANTS = {
    "drop the convolution path": lambda c, s: (s, (c, s)),
    "drop the identity path": lambda c, s: (c, (c, s)),
    "double the convolution path": lambda c, s: (c + c + s, (c, s)),
    "double the identity path": lambda c, s: (c + s + s, (c, s)),
    "announce them swapped": lambda c, s: (c + s, (s, c)),
    "reuse the buffer before announcing": _reused_buffer,
}


@pytest.mark.parametrize("name", [None, *MUTANTS])
def test_mutants_of_the_junction_are_noticed(name, monkeypatch):
    unit, x = UNITS["basic, projection, stride 2"]
    expected = run(unit, "composed", x)
    if name is not None:
        monkeypatch.setattr(ResidualUnit, "backward", _mutant(MUTANTS[name]))
    _, grads, _, (event,) = run(unit, "fused", x)
    right = np.allclose(grads[0], expected[1][0], rtol=1e-12, atol=1e-12)
    right &= np.array_equal(event.parts[0] + event.parts[1], grads[0])
    right &= np.allclose(event.parts[1], expected[3][0].parts[1], rtol=1e-12, atol=1e-12)
    assert right == (name is None)
