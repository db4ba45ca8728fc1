"""Residual units: composed, fused and complex-step derivatives agree; shares are announced."""

import copy
import pickle

import numpy as np
import pytest

import minigrad as mg
from minigrad import kernels, nn, ops
from minigrad.check.numeric import complex_step_gradients
from minigrad.core import events
from minigrad.core.errors import ArgumentError, GraphError, ShapeError
from minigrad.core.mode import complex_step
from minigrad.kernels import conv_choice

UNITS = {
    "basic, identity": lambda **o: nn.BasicBlock(4, 4, **o),
    "basic A": lambda **o: nn.BasicBlock(4, 6, 2, shortcut="A", **o),
    "basic B": lambda **o: nn.BasicBlock(4, 6, 2, **o),
    "basic C": lambda **o: nn.BasicBlock(4, 4, shortcut="C", **o),
    "bottleneck": lambda **o: nn.Bottleneck(4, 2, 2, **o),
    "bottleneck 1x1": lambda **o: nn.Bottleneck(4, 2, 2, stride_on="1x1", shortcut="A", **o),
    "bottleneck, identity": lambda **o: nn.Bottleneck(8, 2, **o),
    "pre-activated": lambda **o: nn.PreActBlock(4, 4, **o),
    "pre-activated A": lambda **o: nn.PreActBlock(4, 6, 2, shortcut="A", **o),
    "pre-activated B": lambda **o: nn.PreActBlock(4, 6, 2, **o),
    "pre-activated bottleneck": lambda **o: nn.PreActBottleneck(4, 2, 2, **o),
}


def built(name, **options):
    """A unit in float64 whose batch norms are no longer where they started."""
    mg.manual_seed(4)
    unit = UNITS[name](**options).double()
    rng = np.random.default_rng(5)
    for norm in (m for m in unit.modules() if isinstance(m, nn.BatchNorm2d)):
        C = norm.num_features
        norm.weight.data[...] = rng.uniform(0.5, 1.5, C)
        norm.bias.data[...] = rng.standard_normal(C)
        norm.running_mean[...] = rng.standard_normal(C)
        norm.running_var[...] = rng.uniform(0.5, 1.5, C)
    return unit


def image(unit, seed=6):
    first = next(m for m in unit.modules() if isinstance(m, nn.Conv2d))
    return np.random.default_rng(seed).standard_normal((2, first.in_channels, 5, 7))


def run(function, array, unit=None):
    """Output, gradients of x and of each parameter, buffers, and the announced sums."""
    unit = unit or function
    x = mg.Tensor(array, requires_grad=True)
    mg.manual_seed(7)
    y = function(x)
    found = []
    with events.listen(found.append):
        y.backward(np.random.default_rng(8).standard_normal(y.shape))
    grads = {name: p.grad for name, p in unit.named_parameters()}
    return y.data, {"x": x.grad, **grads}, dict(unit.named_buffers()), found


@pytest.mark.parametrize("mode", ["train", "eval", "drop_path"])
@pytest.mark.parametrize("name", UNITS)
def test_fused_equals_composed(name, mode):
    options = {"drop_path": 0.5} if mode == "drop_path" else {}
    results = []
    for fused in (False, True):
        unit = built(name, fused=fused, **options)
        unit.train(mode != "eval")
        results.append(run(unit, image(unit)))
    (y, grads, buffers, _), (y_fused, grads_fused, buffers_fused, _) = results
    np.testing.assert_allclose(y_fused, y, rtol=1e-12, atol=1e-12)
    assert list(grads_fused) == list(grads)
    for key, grad in grads.items():
        scale = np.abs(grad).max()
        np.testing.assert_allclose(grads_fused[key], grad, rtol=0, atol=1e-12 * scale, err_msg=key)
    for key, buffer in buffers.items():
        np.testing.assert_array_equal(buffers_fused[key], buffer, err_msg=key)


def by_hand(unit, name, x):
    """The units that no published weights reach, written out with operations."""

    def conv(x, layer, stride=1):
        return ops.conv2d(x, layer.weight, stride=stride, padding=layer.weight.shape[-1] // 2)

    def norm(x, layer):
        return ops.batch_norm(x, layer.weight, layer.bias)

    def active(x, layer):
        return ops.relu(norm(x, layer))

    if name == "basic C":
        y = norm(conv(active(conv(x, unit.conv1), unit.bn1), unit.conv2), unit.bn2)
        return ops.relu(y + norm(conv(x, unit.downsample[0]), unit.downsample[1]))
    if name == "bottleneck 1x1":
        y = active(conv(x, unit.conv1, stride=2), unit.bn1)
        y = norm(conv(active(conv(y, unit.conv2), unit.bn2), unit.conv3), unit.bn3)
        return ops.relu(y + ops.pad(x[:, :, ::2, ::2], ((0, 0), (2, 2), (0, 0), (0, 0))))
    h = active(x, unit.bn1)
    if name == "pre-activated":
        return x + conv(active(conv(h, unit.conv1), unit.bn2), unit.conv2)
    if name == "pre-activated B":
        y = conv(active(conv(h, unit.conv1, stride=2), unit.bn2), unit.conv2)
        return y + conv(h, unit.downsample[0], stride=2)
    y = active(conv(h, unit.conv1, stride=2), unit.bn2)
    y = conv(active(conv(y, unit.conv2), unit.bn3), unit.conv3)
    return y + conv(h, unit.downsample[0], stride=2)


@pytest.mark.parametrize(
    "name",
    ["basic C", "bottleneck 1x1", "pre-activated", "pre-activated B", "pre-activated bottleneck"],
)
def test_unit_equals_what_is_written_out_by_hand(name):
    unit = built(name)
    y, grads, _, _ = run(unit, image(unit))
    twin = copy.deepcopy(unit)
    twin.zero_grad()
    expected, grads_expected, _, _ = run(lambda x: by_hand(twin, name, x), image(unit), twin)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    for key, grad in grads.items():
        scale = np.abs(grad).max()
        np.testing.assert_allclose(grads_expected[key], grad, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", UNITS)
def test_the_two_shares_are_announced_and_sum_to_the_gradient(name, fused):
    unit = built(name, fused=fused)
    net = nn.Sequential(nn.Identity(), unit)
    _, grads, _, found = run(net, image(unit))
    (event,) = [e for e in found if e.labels == ("conv", "identity")]
    assert event.path == "1"
    assert event.source == ("residual" if fused else "fork")
    grad_conv, grad_identity = event.parts
    if "pre-activated B" not in name and "pre-activated bottleneck" not in name:
        # There the sum is the gradient behind the shared activation.
        np.testing.assert_array_equal(grad_conv + grad_identity, grads["x"])
    assert np.abs(grad_conv).max() > 0
    assert np.abs(grad_identity).max() > 0


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", ["basic A", "bottleneck", "pre-activated", "pre-activated B"])
def test_backward_equals_the_complex_step_through_the_twins(name, fused):
    unit = built(name, fused=fused)
    x = image(unit)
    w = np.random.default_rng(8).standard_normal(unit(mg.Tensor(x)).shape)

    def forward(arrays):
        with mg.no_grad():
            return [unit(mg.Tensor(arrays[0])).data]

    _, grads, _, _ = run(built(name, fused=fused), x)
    with complex_step(), kernels.use("reference"):
        (witness,) = complex_step_gradients(forward, [x], [w])
    scale = np.abs(witness).max()
    np.testing.assert_allclose(grads["x"], witness, rtol=0, atol=1e-11 * scale)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", UNITS)
def test_zero_init_last_gives_the_convolution_path_no_share(name, fused):
    unit = UNITS[name](fused=fused, zero_init_last=True).double()
    _, _, _, found = run(unit, image(unit))
    (event,) = [e for e in found if e.labels == ("conv", "identity")]
    assert not event.parts[0].any()
    assert event.parts[1].any()


@pytest.mark.parametrize("fused", [False, True])
def test_one_unit_used_twice_adds_both_gradients(fused):
    unit = built("basic, identity", fused=fused)
    copies = nn.Sequential(copy.deepcopy(unit), copy.deepcopy(unit))
    x = image(unit)
    y, grads, _, found = run(nn.Sequential(unit, unit), x)
    y_copies, grads_copies, _, _ = run(copies, x)
    np.testing.assert_array_equal(y, y_copies)
    first, second = grads_copies["0.conv1.weight"], grads_copies["1.conv1.weight"]
    np.testing.assert_allclose(grads["0.conv1.weight"], first + second, rtol=1e-12, atol=1e-12)
    assert unit.bn1.num_batches_tracked == 2
    assert sum(e.labels == ("conv", "identity") for e in found) == 2


def test_frozen_batch_norm_keeps_its_statistics():
    for fused in (False, True):
        unit = built("basic B", fused=fused)
        for module in unit.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        before = {key: value.copy() for key, value in unit.named_buffers()}
        run(unit, image(unit))
        for key, value in unit.named_buffers():
            np.testing.assert_array_equal(value, before[key])


def test_hooks_inside_a_fused_unit_are_run():
    unit = built("basic B", fused=True)
    plain = run(built("basic B", fused=True), image(unit))
    seen = []
    handle = unit.relu1.register_forward_hook(lambda module, args, out: seen.append(out.shape))
    watched = run(unit, image(unit))
    assert seen == [(2, 6, 3, 4)]
    np.testing.assert_allclose(watched[1]["x"], plain[1]["x"], rtol=1e-12, atol=1e-12)
    handle.remove()
    unit(mg.Tensor(image(unit)))
    assert len(seen) == 1


class Squared(nn.Conv2d):
    """A convolution that does something else."""

    def forward(self, x):
        return super().forward(x) ** 2


def other_relu(unit):
    unit.relu1 = nn.Sigmoid()


def other_conv(unit):
    conv = unit.conv2
    unit.conv2 = Squared(6, 6, 3, padding=1, bias=False).double()
    unit.conv2.weight.data[...] = conv.weight.data


def other_forward(unit):
    unit.conv2.forward = lambda x: 3 * x


def other_path(unit):
    unit.conv_path = lambda x: 3 * nn.BasicBlock.conv_path(unit, x)


class Squeezed(nn.BasicBlock):
    """A unit with a layer behind its rows, of which only its path knows."""

    def conv_path(self, x):
        return mg.sigmoid(super().conv_path(x))


def other_class(unit):
    unit.__class__ = Squeezed


@pytest.mark.parametrize("change", [other_relu, other_conv, other_forward, other_path, other_class])
def test_a_fused_unit_runs_layers_it_does_not_know_one_by_one(change):
    units = [built("basic B", fused=fused) for fused in (True, False)]
    plain = units[0](mg.Tensor(image(units[0]))).data
    for unit in units:
        change(unit)
    fused, composed = (unit(mg.Tensor(image(unit))).data for unit in units)
    np.testing.assert_array_equal(fused, composed)
    assert np.abs(fused - plain).max() > 0.1


def new_weight(unit):
    unit.conv1.weight = nn.Parameter(unit.conv1.weight.data[:, ::-1].copy())


def new_values(unit):
    unit.conv1.weight.data = unit.conv1.weight.data[:, ::-1].copy()


def new_statistics(unit):
    unit.bn1.running_mean = unit.bn1.running_mean + 1


def plain_average(unit):
    for norm in unit.bn1, unit.bn2:
        norm.momentum = None


def new_eps(unit):
    unit.bn2.eps = 4.0


def no_bias(unit):
    unit.bn1.bias.data[...] = 1
    del unit.bn1.bias
    unit.bn1.bias = None


CHANGES = [
    new_weight, new_values, new_statistics, plain_average, new_eps, no_bias,
    lambda unit: unit.float(), lambda unit: unit.eval(), lambda unit: setattr(unit, "stride", 1),
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_fused_unit_that_has_run_sees_what_changes_in_it(change):
    units = [built("basic B", fused=fused) for fused in (True, False)]
    found = []
    for unit in units:
        for norm in unit.bn1, unit.bn2:
            norm.weight.data[...], norm.bias.data[...] = 0.5, 0.25
        unit(mg.Tensor(image(unit)))
        change(unit)
        x = image(unit).astype(unit.conv1.weight.dtype)
        found.append([unit(mg.Tensor(x)).data for _ in range(3)][-1:])
        found[-1] += [unit.bn1.running_mean, unit.bn2.running_var, unit.bn1.num_batches_tracked]
    for fused, composed in zip(*found, strict=True):
        np.testing.assert_array_equal(fused, composed)
        assert fused.dtype == composed.dtype


def test_a_hook_on_a_layer_of_a_unit_that_has_run_is_called():
    unit, seen = built("basic B", fused=True), []
    x = mg.Tensor(image(unit))
    unit(x)
    handle = unit.relu1.register_forward_hook(lambda module, args, y: seen.append(y))
    unit(x)
    assert len(seen) == 1
    handle.remove()
    unit(x)
    assert len(seen) == 1
    assert unit(x)._node.function.name == "residual"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda unit: pickle.loads(pickle.dumps(unit))])
def test_a_copy_of_a_unit_that_has_run_has_its_own_weights(copied):
    unit = built("basic B", fused=True).eval()
    x = mg.Tensor(image(unit))
    before = unit(x).data
    twin = copied(unit)
    np.testing.assert_array_equal(twin(x).data, before)
    twin.conv1.weight.data[...] = 0
    assert np.abs(twin(x).data - before).max() > 0.01
    np.testing.assert_array_equal(unit(x).data, before)


def test_a_unit_that_has_run_takes_images_of_other_sizes():
    fused, composed = (built("basic B", fused=fused) for fused in (True, False))
    x = image(fused)
    for part in x, x[:1], x[:, :, 1:, :4], x:
        y, expected = fused(mg.Tensor(part)).data, composed(mg.Tensor(part)).data
        np.testing.assert_array_equal(y, expected)
    with pytest.raises(ShapeError, match="weight expects"):
        fused(mg.Tensor(np.ones((1, 1, 5, 5))))


def test_who_looks_for_a_nan_sees_single_layers():
    unit = built("basic B", fused=True)
    unit.conv2.weight.data[0, 0, 0, 0] = np.nan
    with pytest.raises(GraphError, match="conv2"), mg.detect_anomaly():
        unit(mg.Tensor(image(unit)))


def test_the_algorithm_of_a_layer_is_that_of_the_fused_unit(monkeypatch):
    unit = built("basic B", fused=True)
    unit.conv2.algorithm = "im2col"
    chosen, choose = [], conv_choice.choose
    monkeypatch.setattr(
        conv_choice, "choose", lambda case: (chosen.append(choose(case)), chosen[-1])[1]
    )
    with kernels.use("fast"), mg.conv_algorithm("auto"):
        unit(mg.Tensor(image(unit)))
    assert chosen == ["loops", "im2col", "loops"]


def test_residual_adds_any_two_paths():
    unit = nn.Residual(nn.Linear(3, 2), nn.Linear(3, 2, bias=False), nn.ReLU()).double()
    x = np.random.default_rng(0).standard_normal((4, 3))
    conv, identity = unit.conv_path, unit.identity_path
    expected = x @ conv.weight.data.T + conv.bias.data + x @ identity.weight.data.T
    y, grads, _, found = run(unit, x)
    np.testing.assert_allclose(y, np.maximum(expected, 0), rtol=1e-12)
    np.testing.assert_array_equal(sum(found[0].parts), grads["x"])
    assert list(unit.state_dict()) == [
        "conv_path.weight",
        "conv_path.bias",
        "identity_path.weight",
    ]
    alone = nn.Residual(nn.Dropout(1.0))  # F = 0, and nothing behind the sum
    np.testing.assert_array_equal(alone(mg.Tensor(x)).data, x)


def test_drop_path_leaves_samples_with_the_identity_alone():
    mg.manual_seed(0)
    unit = nn.Residual(nn.Linear(3, 3), drop_path=0.5).double()
    x = np.ones((40, 3))
    y = unit(mg.Tensor(x)).data
    F = x @ unit.conv_path.weight.data.T + unit.conv_path.bias.data
    dropped = (y == x).all(1)
    assert 8 < dropped.sum() < 32
    np.testing.assert_allclose(y[~dropped], (x + 2 * F)[~dropped], rtol=1e-12)
    np.testing.assert_allclose(unit.eval()(mg.Tensor(x)).data, x + F, rtol=1e-12)


@pytest.mark.parametrize(("C", "F", "before"), [(16, 32, 8), (2, 5, 1), (3, 3, 0)])
def test_option_a_takes_every_second_pixel_and_pads_both_sides(C, F, before):
    x = np.random.default_rng(0).standard_normal((2, C, 5, 7))
    y = nn.ZeroPad(C, F, stride=2)(mg.Tensor(x)).data
    assert y.shape == (2, F, 3, 4)
    np.testing.assert_array_equal(y[:, before : before + C], x[:, :, ::2, ::2])
    assert not y[:, :before].any()
    assert not y[:, before + C :].any()


def test_option_a_needs_room():
    with pytest.raises(ArgumentError) as caught:
        nn.BasicBlock(6, 4, shortcut="A")
    assert str(caught.value) == (
        "ZeroPad: at least as many channels out as in are needed, got 6 in and 4 out. "
        "Choose shortcut='B', which projects."
    )


def test_keys_are_torchvisions():
    assert [k for k in built("basic B").state_dict() if not k.startswith("bn")] == [
        "conv1.weight",
        "conv2.weight",
        "downsample.0.weight",
        "downsample.1.weight",
        "downsample.1.bias",
        "downsample.1.running_mean",
        "downsample.1.running_var",
        "downsample.1.num_batches_tracked",
    ]
    assert [k for k in built("pre-activated B").state_dict() if k.startswith("down")] == [
        "downsample.0.weight"
    ]
