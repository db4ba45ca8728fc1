"""Batch norms folded into convolutions: the same outputs, constant weights, clear refusals."""

import copy
import pickle
import re
import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad import kernels, models, nn
from minigrad.core.errors import ArgumentError
from minigrad.io import load_safetensors, save_safetensors
from minigrad.kernels import conv_choice
from minigrad.ops.memory import is_constant


def _trained(model):
    """A model in float64 whose batch norms are no longer where they started."""
    rng = np.random.default_rng(3)
    model = model.double()
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean[...] = rng.standard_normal(norm.num_features)
        norm.running_var[...] = rng.uniform(0.5, 2, norm.num_features)
        if norm.weight is not None:
            norm.weight.data[...] = rng.uniform(0.5, 1.5, norm.num_features)
            norm.bias.data[...] = rng.standard_normal(norm.num_features)
    return model


def _norms(model):
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


MODELS = {
    "a row": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=True), nn.BatchNorm2d(4, eps=0.1), nn.ReLU(), nn.Conv2d(4, 3, 1)
    ),
    "groups, no gamma": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, groups=3, bias=False), nn.BatchNorm2d(6, affine=False)
    ),
    "composed": lambda: models.build("resnet20"),
    "fused": lambda: models.build("resnet20", fused=True),
    "bottlenecks": lambda: nn.Sequential(nn.Bottleneck(3, 2, 2), nn.Bottleneck(8, 2, fused=True)),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_folded_model_gives_the_same_outputs(make):
    model = _trained(make())
    x = np.random.default_rng(4).standard_normal((2, 3, 16, 12))
    before = {name: value.copy() for name, value in model.state_dict().items()}
    folded = mg.fold_batch_norm(model, x)
    assert model.training
    assert not folded.training
    assert not _norms(folded)
    np.testing.assert_allclose(folded(x).data, model.eval()(x).data, rtol=1e-9, atol=1e-9)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


UNITS = {
    "basic": lambda fused: models.build("resnet20", fused=fused),
    "bottlenecks": lambda fused: nn.Sequential(
        nn.Bottleneck(3, 4, 2, fused=fused), nn.Bottleneck(16, 4, fused=fused)
    ),
    "pre-activated": lambda fused: nn.Sequential(
        nn.PreActBlock(3, 4, 2, fused=fused), nn.PreActBlock(4, 4, fused=fused)
    ),
}


def _folded_both_ways(name, dtype):
    """One folded network whose units run as one operation, and layer by layer."""
    model = _trained(UNITS[name](fused=True))
    apart = UNITS[name](fused=False).double()
    apart.load_state_dict(model.state_dict())
    return [mg.fold_batch_norm(net).to_dtype(dtype) for net in (model, apart)]


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_convolutions_that_finish_their_results_change_no_bit(name, dtype):
    x = np.random.default_rng(4).standard_normal((2, 3, 16, 12)).astype(dtype)
    fused, apart = _folded_both_ways(name, dtype)
    with kernels.use("fast"):  # NumPy's sums, in the twins, depend on memory order
        with mg.no_grad():
            np.testing.assert_array_equal(fused(x).data, apart(x).data, strict=True)
        outputs = fused(x), apart(x)
        for y in outputs:
            y.backward(np.ones_like(y.data))
    np.testing.assert_array_equal(outputs[0].data, outputs[1].data)
    for a, b in zip(fused.parameters(), apart.parameters(), strict=True):
        np.testing.assert_array_equal(a.grad, b.grad)


@pytest.mark.parametrize("name", ["basic", "bottlenecks"])
def test_a_folded_network_passes_over_no_result_again(name, monkeypatch):
    fused, _ = _folded_both_ways(name, np.float64)

    def refuse(*arrays):
        raise AssertionError("a pass of its own")

    monkeypatch.setattr(kernels, "relu_forward", refuse)
    monkeypatch.setattr(kernels, "add", refuse)
    with mg.no_grad():
        fused(np.ones((2, 3, 16, 12)))


def _folded():
    """A small folded network that uses every algorithm, and an input for it."""
    rng = np.random.default_rng(6)
    model = nn.Sequential(
        nn.Conv2d(3, 20, 3, stride=2, padding=1), nn.BatchNorm2d(20), nn.ReLU(),
        nn.BasicBlock(20, 20), nn.Conv2d(20, 20, 3, groups=20), nn.BatchNorm2d(20),
        nn.GlobalAvgPool2d(), nn.Linear(20, 4),
    )  # fmt: skip
    x = rng.standard_normal((2, 3, 34, 30)).astype(np.float32)
    return mg.fold_batch_norm(_trained(model).float()), x


def _run(model, x):
    with mg.no_grad():
        return model(x).data.copy()


def _fresh(model, x):
    """The outputs of the model as it is now, by a copy of which nothing can have been kept."""
    return _run(copy.deepcopy(model), x)


def test_the_parameters_of_a_folded_model_are_constant():
    model, x = _folded()
    assert all(is_constant(p.data) for p in model.parameters())
    first = _run(model, x)
    np.testing.assert_array_equal(_run(model, x), first)
    np.testing.assert_array_equal(_fresh(model, x), first)


CHANGES = {
    "another array": lambda m: setattr(m[0].weight, "data", 2 * m[0].weight.data),
    "another parameter": lambda m: setattr(m[0], "weight", nn.Parameter(-m[0].weight.data)),
    "an array marked read-only": lambda m: setattr(m[3].conv1.weight, "data", _locked(m)),
    "a state": lambda m: m.load_state_dict({n: 2 * a for n, a in m.state_dict().items()}),
    "a dtype": lambda m: m.double().float(),
    "another state of the array": lambda m: m[0].weight.data.__setstate__(
        (1, (20, 3, 3, 3), np.dtype("f4"), False, bytes(4 * 20 * 27))
    ),
}


def _locked(model):
    array = 2 * model[3].conv1.weight.data
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_folded_model_that_is_changed_never_shows_what_was_before(change):
    model, x = _folded()
    _run(model, x)
    change(model)
    np.testing.assert_array_equal(_run(model, x), _fresh(model, x))


def test_an_array_that_was_marked_read_only_may_change_again():
    model, x = _folded()
    model[3].conv1.weight.data = locked = _locked(model)
    before = _run(model, x)
    locked.flags.writeable = True
    locked *= 2
    assert not np.array_equal(_run(model, x), before)
    np.testing.assert_array_equal(_run(model, x), _fresh(model, x))


def test_a_folded_model_loads_what_a_folded_model_saved(tmp_path):
    (source, x), (model, _) = _folded(), _folded()
    for parameter in source.parameters():
        parameter.data = parameter.data + 1
    save_safetensors(tmp_path / "folded.safetensors", source.state_dict())
    _run(model, x)
    arrays, _ = load_safetensors(tmp_path / "folded.safetensors")
    model.load_state_dict(arrays)
    assert all(is_constant(p.data) for p in model.parameters())
    np.testing.assert_array_equal(_run(model, x), _run(source, x))


@pytest.mark.parametrize("protocol", [4, 5])
def test_copies_of_a_folded_model_compute_the_same(protocol):
    model, x = _folded()
    twin = pickle.loads(pickle.dumps(model, protocol))
    np.testing.assert_array_equal(_run(twin, x), _run(model, x))
    twin.load_state_dict({name: 2 * a for name, a in model.state_dict().items()})
    np.testing.assert_array_equal(_run(twin, x), _fresh(twin, x))
    assert not np.array_equal(_run(twin, x), _run(model, x))


def test_a_folded_model_is_not_trained_and_its_copy_is():
    model, x = _folded()
    before = _run(model, x)
    for net in (model, copy.deepcopy(model)):
        optimizer = mg.optim.SGD(net.parameters(), lr=0.1)
        net(x).sum().backward()
        if net is not model:
            optimizer.step()
            assert not np.array_equal(_run(net, x), before)
            continue
        with pytest.raises(ArgumentError) as caught:
            optimizer.step()
        assert str(caught.value) == (
            "sgd_step: arrays to change in place are needed, got a constant one, as "
            "fold_batch_norm makes them. Train the model that was folded, or copy.deepcopy of the "
            "folded one."
        )
    np.testing.assert_array_equal(_run(model, x), before)


def test_threads_may_share_a_folded_model():
    model, x = _folded()
    want, results, gate = _fresh(model, x), [], threading.Barrier(4)
    algorithm = conv_choice.in_use()  # each thread has its own

    def work():
        with conv_choice.conv_algorithm(algorithm):
            for _ in range(5):
                gate.wait()
                results.append(_run(model, x))
                mg.release_memory()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 20
    for result in results:
        np.testing.assert_array_equal(result, want)


def test_a_batch_norm_before_the_convolution_stays():
    model = _trained(nn.Sequential(nn.PreActBlock(3, 4, 2), nn.PreActBlock(4, 4, fused=True)))
    x = np.random.default_rng(4).standard_normal((2, 3, 9, 7))
    folded = mg.fold_batch_norm(model, x)
    assert len(_norms(folded)) == 2  # bn1 of each unit; bn2 stands behind conv1
    np.testing.assert_allclose(folded(x).data, model.eval()(x).data, rtol=1e-9, atol=1e-9)


class _Crossed(nn.Module):
    """Assigns a batch norm behind a convolution, and calls it before."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        return self.conv(mg.relu(self.norm(x)))


class _Twice(nn.Module):
    """Calls its convolution on both sides of the batch norm."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        return self.conv(self.norm(self.conv(x)))


class _Row(nn.Sequential):
    """A row with a name of its own, called as every row is."""


def _replaced():
    """A row whose forward is another one, which does what the row's does."""
    row = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    row.forward = lambda x: row[1](row[0](x))
    return row


class _Listed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)])

    def forward(self, x):
        return self.layers[1](self.layers[0](x))


def _hooked(place):
    row = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    row[place].register_forward_hook(lambda *args: None)
    return row


def _shared():
    conv = nn.Conv2d(3, 3, 1)
    return nn.Sequential(conv, nn.BatchNorm2d(3), conv, nn.BatchNorm2d(3))


WRONG = {
    "no module": (
        lambda: 3,
        None,
        "fold_batch_norm: a Module is needed, got int. Pass the model itself.",
    ),
    "no pair": (
        lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1)),
        None,
        "fold_batch_norm: a model with a BatchNorm2d right behind a Conv2d is needed, got one "
        "without. Use it as it is, after model.eval().",
    ),
    "no statistics": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
        None,
        "fold_batch_norm: running statistics are needed, 1 keeps none and takes those of each "
        "batch. Make it with track_running_stats=True and train it.",
    ),
    "shared": (
        _shared,
        None,
        "fold_batch_norm: layers that stand in one place are needed, 1 or the convolution before "
        "it stands in 2. Make a layer for each place.",
    ),
}

HOOKS = (
    "fold_batch_norm: layers without hooks are needed, 1 or the convolution before it has some, "
    "which would see other results, or none. Remove them first."
)
WRONG["hook on the batch norm"] = lambda: _hooked(1), None, HOOKS
WRONG["hook on the convolution"] = lambda: _hooked(0), None, HOOKS

UNKNOWN = {
    "twice": (_Twice, "the model, a _Twice"),
    "crossed": (lambda: nn.Sequential(_Crossed()), "0, a _Crossed"),
    "listed": (_Listed, "layers, a ModuleList"),
    "replaced": (_replaced, "the model, a Sequential"),
}
WRONG |= {
    f"unknown order, {name}": (
        make,
        None,
        "fold_batch_norm: a forward that calls each batch norm on the result of the convolution "
        f"assigned before it is needed, and nobody knows that of {told}. Pass an input as x, on "
        "which the folded copy is compared with the model.",
    )
    for name, (make, told) in UNKNOWN.items()
}


@pytest.mark.parametrize(("make", "x", "text"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_folded_is_refused(make, x, text):
    with pytest.raises(ArgumentError, match=f"^{re.escape(text)}$"):
        mg.fold_batch_norm(make(), x)


def test_a_module_of_ones_own_is_folded_with_an_input_and_a_named_row_without():
    x = np.random.default_rng(4).standard_normal((2, 3, 5, 7))
    for model in _trained(_Listed()), _trained(_Row(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))):
        folded = mg.fold_batch_norm(model, x if isinstance(model, _Listed) else None)
        assert not _norms(folded)
        np.testing.assert_allclose(folded(x).data, model.eval()(x).data, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("wrong", [_Crossed, _Twice])
def test_a_fold_that_the_model_contradicts_is_found_with_an_input(wrong):
    model = _trained(wrong())
    text = (
        r"fold_batch_norm: a model that calls each batch norm on the result of the convolution "
        r"assigned before it is needed, the folded copy differs from this one by \de[+-]\d\d of "
        r"its largest output. Assign layers in the order in which forward calls them\."
    )
    with pytest.raises(ArgumentError, match=f"^{text}$"):
        mg.fold_batch_norm(model, np.random.default_rng(4).standard_normal((2, 3, 5, 7)))
