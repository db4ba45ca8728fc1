"""A bug inside a fused residual unit: the layer, or the step of its backward, is named."""

import importlib

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.ops.conv import Conv2d
from minigrad.ops.residual import ResidualUnit

module = importlib.import_module("minigrad.ops.residual")  # the package has a function of its name


def worst(unit, **options):
    x = np.random.default_rng(0).standard_normal((4, 2, 4, 3))
    return mg.gradcheck(unit, x, raise_exception=False, **options).worst


@pytest.fixture(params=["plain", "projection", "zeros", "bottleneck", "preact", "drop-path"])
def unit(request):
    mg.manual_seed(0)
    kinds = {
        "plain": lambda: nn.BasicBlock(2, 2, fused=True),
        "projection": lambda: nn.BasicBlock(2, 3, stride=2, fused=True),
        "zeros": lambda: nn.BasicBlock(2, 3, stride=2, shortcut="A", fused=True),
        "bottleneck": lambda: nn.Bottleneck(2, 1, stride=2, fused=True),
        "preact": lambda: nn.PreActBlock(2, 3, stride=2, fused=True),
        "drop-path": lambda: nn.BasicBlock(2, 2, drop_path=0.5, fused=True),
    }
    return kinds[request.param]().double()


@pytest.mark.parametrize(
    ("path", "factor", "step"),
    [
        ("convolution_path_backward", 0, "step 2, the convolution path"),
        ("convolution_path_backward", 2, "step 2, the convolution path"),
        ("identity_path_backward", -1, "step 3, the identity path"),
    ],
)
def test_a_path_whose_share_is_wrong_is_the_step(unit, monkeypatch, path, factor, step):
    right = getattr(module, path)

    def wrong(ctx, grad_sum):
        grad_x, grads = right(ctx, grad_sum)
        return factor * grad_x, grads

    monkeypatch.setattr(module, path, wrong)
    found = worst(unit)
    assert found.where == "residual"
    assert found.guess == f"{step}: grad_x holds {factor} times its share"


@pytest.mark.parametrize(("conv", "identity"), [(1, 0), (0, 1), (1, 2)], ids=lambda n: f"{n}")
def test_a_wrong_sum_of_right_shares_is_step_5(unit, monkeypatch, conv, identity):
    right = ResidualUnit.backward

    def wrong(ctx, grad_out):
        grads = right(ctx, grad_out)
        grad_sum, _ = module.path_backward(ctx.activation, grad_out)
        shares = [module.path_backward(p, grad_sum)[0] for p in (ctx.conv_path, ctx.identity_path)]
        return conv * shares[0] + identity * shares[1], *grads[1:]

    monkeypatch.setattr(ResidualUnit, "backward", staticmethod(wrong))
    assert worst(unit).guess == (
        f"step 5, the sum: grad_x = {conv} * grad_conv + {identity} * grad_identity"
    )


def test_a_wrong_gradient_at_the_sum_is_step_1(unit, monkeypatch):
    right = ResidualUnit.backward
    monkeypatch.setattr(
        ResidualUnit, "backward", staticmethod(lambda ctx, grad_out: right(ctx, 2 * grad_out))
    )
    assert worst(unit).guess == ("step 1, the gradient at the sum: doubled: a term counted twice")


def test_a_wrong_layer_is_named_in_its_path(unit, monkeypatch):
    right = Conv2d.backward

    def wrong(ctx, grad_out):
        grad_x, grad_weight, grad_bias = right(ctx, grad_out)
        return grad_x, -grad_weight, grad_bias

    monkeypatch.setattr(Conv2d, "backward", staticmethod(wrong))
    found = worst(nn.Sequential(unit))
    assert found.where.startswith("conv2d in residual in 0, ")
    assert " path, layer " in found.where
    assert found.tensor.startswith("weight (")
    assert found.guess == "the sign is wrong"


def test_a_wrong_gradient_of_a_parameter_keeps_its_kind(unit, monkeypatch):
    right = module.convolution_path_backward

    def wrong(ctx, grad_sum):
        grad_x, (grad_first, *others) = right(ctx, grad_sum)
        return grad_x, [-grad_first, *others]

    monkeypatch.setattr(module, "convolution_path_backward", wrong)
    assert worst(unit).guess == "step 2, the convolution path: the sign is wrong"
