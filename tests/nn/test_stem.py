"""How networks for images begin: batch norm, relu and max-pool as one operation, or not."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import kernels, nn
from minigrad.nn._steps import conv_norm_relu_pool

_ALL = {"batch_norm_relu_max_pool_training", "batch_norm_relu_max_pool_backward"}
_X = np.random.default_rng(0).standard_normal((2, 3, 13, 17)).astype(np.float32)


class _Stem(nn.Module):
    def __init__(self, fused, **window):
        super().__init__()
        mg.manual_seed(3)
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu1 = nn.ReLU()
        self.maxpool = nn.MaxPool2d(**{"kernel_size": 3, "stride": 2, "padding": 1} | window)
        rng = np.random.default_rng(4)
        self.bn1.weight.data[...], self.bn1.bias.data[...] = rng.standard_normal((2, 8))
        self.fused = fused

    def forward(self, x):
        return conv_norm_relu_pool(self.conv1, self.bn1, self.relu1, self.maxpool, x, self.fused)


def _run(stem, array=_X):
    """The output, all gradients and buffers, and the kernels that were called."""
    called = []
    x = mg.Tensor(array, requires_grad=True)
    with kernels.watch_kernels(lambda watched: called.append(watched.name)):
        y = stem(x)
        y.backward(np.random.default_rng(5).standard_normal(y.shape).astype(y.dtype))
    found = {"y": y.data, "x": x.grad}
    found |= {name: p.grad for name, p in stem.named_parameters()}
    return found | {name: np.copy(b) for name, b in stem.named_buffers()}, set(called)


def _same(found, want):
    for name in want:
        np.testing.assert_array_equal(found[name], want[name], err_msg=name, strict=True)


@pytest.mark.parametrize(
    "window",
    [{}, {"kernel_size": (2, 3), "stride": (1, 2), "padding": 0}, {"ceil_mode": True}],
    ids=str,
)
def test_is_one_operation_and_gives_the_bits_of_its_layers(window):
    found, called = _run(_Stem(True, **window))
    want, apart = _run(_Stem(False, **window))
    assert called >= _ALL
    assert not apart & _ALL
    _same(found, want)
    assert found["bn1.num_batches_tracked"] == 1


def _hooked(stem):
    stem.relu1.register_forward_hook(lambda layer, args, y: None)


class _Doubled(nn.MaxPool2d):
    def forward(self, x):
        return 2 * super().forward(x)


def _another_pool(stem):
    stem.maxpool.__class__ = _Doubled


def _another_forward(stem):
    stem.maxpool.forward = lambda x: x * x


def _an_average(stem):
    stem.maxpool = nn.AvgPool2d(2)


def _frozen(stem):
    stem.bn1.eval()


def _dilated(stem):
    stem.maxpool.dilation = 2


def _without_relu(stem):
    stem.relu1 = nn.Identity()


@pytest.mark.parametrize(
    "change",
    [_hooked, _another_pool, _another_forward, _an_average, _frozen, _dilated, _without_relu],
)
def test_runs_layers_that_are_not_to_be_joined_one_by_one(change):
    stems = _Stem(True), _Stem(False)
    for stem in stems:
        change(stem)
    (found, called), (want, _) = map(_run, stems)
    assert not called & _ALL
    _same(found, want)


def test_a_hunt_for_nan_sees_each_layer():
    with mg.detect_anomaly():
        assert not _run(_Stem(True))[1] & _ALL


def test_statistics_of_the_batch_serve_in_evaluation_where_there_are_no_others():
    stems = [_Stem(fused) for fused in (True, False)]
    for stem in stems:
        stem.bn1 = nn.BatchNorm2d(8, track_running_stats=False)
        stem.eval()
    (found, called), (want, _) = map(_run, stems)
    assert called >= _ALL
    _same(found, want)
