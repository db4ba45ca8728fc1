"""The check of a whole network: right ones pass, a planted bug is found and named."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import models, nn
from minigrad.check.network import check_network
from minigrad.core.rng import generator
from minigrad.ops.conv import Conv2d
from minigrad.ops.norm import BatchNorm


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return rng.standard_normal((3, 1, 8, 8)).astype(np.float32), np.array([1, 0, 3])


def small(**options):
    mg.manual_seed(0)
    return models.build("resnet20", in_channels=1, num_classes=4, **options)


@pytest.mark.parametrize("options", [{}, {"fused": True}, {"drop_path": 0.5}], ids=str)
def test_a_right_network_is_right(batch, options):
    verdict = check_network(small(**options), *batch)
    assert verdict.ok
    assert verdict.error < 1e-12
    assert verdict.suspects == []
    assert verdict.rounding[0][1] < 1e-3
    assert "RIGHT" in str(verdict)


def test_the_network_and_the_generator_stay_as_they_are(batch):
    model = small(drop_path=0.5)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    state = generator().bit_generator.state
    check_network(model, *batch)
    assert generator().bit_generator.state == state
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert all(p.grad is None for p in model.parameters())


def test_a_planted_bug_is_found_and_named(batch, monkeypatch):
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(192, 4)
    )
    right = Conv2d.backward

    def wrong(ctx, grad_out):
        grad_x, grad_weight, grad_bias = right(ctx, grad_out)
        grad_weight = grad_weight.copy()
        grad_weight[2, 0, 1, 1] *= 1.01  # one entry of 27
        return grad_x, grad_weight, grad_bias

    monkeypatch.setattr(Conv2d, "backward", staticmethod(wrong))
    verdict = check_network(model, *batch)
    assert not verdict.ok
    assert [name for name, _ in verdict.suspects] == ["0.weight"]
    assert "WRONG" in str(verdict)
    assert "suspect: 0.weight" in str(verdict)


def test_a_batch_norm_without_its_variance_term_is_found(batch, monkeypatch):
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(192, 4)
    )

    def frozen(ctx, grad_out):
        _, weight, _, inv_std = ctx.saved
        grads = right(ctx, grad_out)
        scale = (inv_std if weight is None else weight * inv_std)[:, None, None]
        return grad_out * scale, *grads[1:]

    right = BatchNorm.backward
    monkeypatch.setattr(BatchNorm, "backward", staticmethod(frozen))
    verdict = check_network(model, *batch)
    assert not verdict.ok
    # Everything behind the norm is right, and everything before it is wrong.
    assert {name for name, _ in verdict.suspects} == {"0.weight", "0.bias"}
