"""The check of a whole network with its loss: right ones pass, a planted bug is found and named."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import models, nn
from minigrad.check.catalog import check_model
from minigrad.core.rng import generator
from minigrad.ops.conv import Conv2d
from minigrad.ops.norm import BatchNorm


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return rng.standard_normal((3, 1, 8, 8)).astype(np.float32), np.array([1, 0, 3])


def checked(model, batch):
    return check_model("network", *batch, model)


def small(**options):
    mg.manual_seed(0)
    return models.build("resnet20", in_channels=1, num_classes=4, **options)


def shallow():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(192, 4)
    )


@pytest.mark.parametrize("options", [{}, {"fused": True}, {"drop_path": 0.5}], ids=str)
def test_a_right_network_is_right_and_stays_as_it_is(batch, options):
    model = small(**options)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    state = generator().bit_generator.state
    report = checked(model, batch)
    assert report.ok, report.table()
    by_check = {v.check: v for v in report.verdicts if v.where == "network"}
    assert by_check.keys() >= {"whole", "complex step", "branches", "float32"}
    assert by_check["complex step"].error <= 1e-12 * abs(by_check["complex step"].numeric)
    assert generator().bit_generator.state == state
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert all(p.grad is None for p in model.parameters())


def test_a_planted_bug_is_found_and_named(batch, monkeypatch):
    right = Conv2d.backward

    def wrong(ctx, grad_out):
        grad_x, grad_weight, grad_bias = right(ctx, grad_out)
        grad_weight = grad_weight.copy()
        grad_weight[2, 0, 1, 1] *= 1.01  # one entry of 27
        return grad_x, grad_weight, grad_bias

    monkeypatch.setattr(Conv2d, "backward", staticmethod(wrong))
    worst = checked(shallow(), batch).worst
    assert worst.where == "conv2d in model.0"
    assert (worst.tensor, worst.index) == ("weight (3, 1, 3, 3)", (2, 0, 1, 1))
    assert worst.ratio == pytest.approx(1.01, abs=1e-6)


def test_a_batch_norm_without_its_variance_term_is_found(batch, monkeypatch):
    right = BatchNorm.backward

    def frozen(ctx, grad_out):
        _, weight, _, inv_std = ctx.saved
        scale = ((1 if weight is None else weight) * inv_std)[:, None, None]
        mean = grad_out.mean((0, 2, 3), keepdims=True)
        return scale * (grad_out - mean), *right(ctx, grad_out)[1:]

    monkeypatch.setattr(BatchNorm, "backward", staticmethod(frozen))
    worst = checked(shallow(), batch).worst
    assert worst.where == "batch_norm in model.1"
    assert worst.guess == "a missing variance term: in each channel the error is linear in x"


@pytest.mark.parametrize(("count", "kind"), [(5500, "right"), (4, "wrong")])
def test_one_branch_turned_by_rounding_is_told_from_a_wrong_formula(count, kind):
    """One pre-activation of 1e-9 in float64 is 0 in float32: its gradient is 0 there."""
    x = np.linspace(1, 2, count).astype(np.float32)
    report = mg.gradcheck(lambda x: mg.relu(x * 3.0 - 2.999999999), x, raise_exception=False)
    (float32,) = [v for v in report.verdicts if v.check == "float32"]
    assert float32.error > 1e-2
    assert "rounding turned 1 branches at kinks" in float32.note
    assert float32.kind == kind
