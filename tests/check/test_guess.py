"""The message guesses the kind of a bug: each usual mistake leaves its own pattern."""

import numpy as np
import pytest

import minigrad as mg

SHAPE = (2, 3, 5, 5)
MASK = np.random.default_rng(2).random(SHAPE) < 0.8
MASK[1, 2, 3, 4] = True


def times(factor, place):
    def change(g, x, w):
        g = g.copy()
        g[place] *= factor
        return g

    return change


def centred(x):
    return x - x.mean(axis=(0, 2, 3), keepdims=True)


# What is made of g, the right gradient of sum(w * mask * x**2).
KINDS = {
    "dropped: the gradient is zero everywhere": lambda g, x, w: 0 * g,
    "the sign is wrong": lambda g, x, w: -g,
    "doubled: a term counted twice": lambda g, x, w: 2 * g,
    "counted 3 times": lambda g, x, w: 3 * g,
    "a constant factor: divided by 8 too often": lambda g, x, w: g / 8,
    "a constant factor of 0.7 too many": lambda g, x, w: 0.7 * g,
    "computed in float32: the error is below a millionth, as of its rounding": (
        lambda g, x, w: g.astype(np.float32)
    ),
    "transposed: axes 2 and 3 are exchanged": lambda g, x, w: g.swapaxes(2, 3),
    "reversed along axis 3": lambda g, x, w: g[..., ::-1],
    "the kernel is turned: reversed along the last two axes": lambda g, x, w: g[..., ::-1, ::-1],
    "shifted by one pixel along axis 2": lambda g, x, w: np.roll(g, 1, 2),
    "shifted by one pixel along axis 3": lambda g, x, w: np.roll(g, -1, 3),
    "one channel alone: index 2 of axis 1": times(-1, np.s_[:, 2]),
    "one sample alone: index 1 of axis 0": times(0.3, np.s_[1]),
    "one entry of 150 alone, (1, 2, 3, 4)": times(1.5, (1, 2, 3, 4)),
    "a missing mean term: the error is the same all over a channel": (
        lambda g, x, w: g + w.mean(axis=(0, 2, 3), keepdims=True)
    ),
    "a missing variance term: in each channel the error is linear in x": (
        lambda g, x, w: g + centred(x) * (w * x).mean(axis=(0, 2, 3), keepdims=True)
    ),
    "a mask is not applied: entries whose gradient is zero receive one": (
        lambda g, x, w: np.where(MASK, g, w)
    ),
    "some entries are dropped: their gradient is zero": lambda g, x, w: np.where(x > 0.5, g, 0),
    "the sign is wrong at some entries": lambda g, x, w: np.where(x > 0.5, -g, g),
    "a factor of the input itself is too many": lambda g, x, w: g * x,
    "a factor of the input itself is missing": lambda g, x, w: np.where(MASK, 2 * w, 0),
    "the cotangent is ignored": lambda g, x, w: np.where(MASK, 2 * x, 0),
    "not linear in the cotangent: grad_out enters twice, or not as a factor": (
        lambda g, x, w: g * np.abs(w)
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_told_by_its_pattern(kind):
    class Square(mg.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save(x)
            return MASK * x**2

        @staticmethod
        def backward(ctx, grad_out):
            (x,) = ctx.saved
            return KINDS[kind](2 * MASK * x * grad_out, x, grad_out).astype(x.dtype)

    x = np.random.default_rng(1).standard_normal(SHAPE)
    report = mg.gradcheck(Square, x, raise_exception=False)
    worst = report.worst
    assert worst.guess == kind
    assert (worst.where, worst.tensor) == ("square", "x (2, 3, 5, 5)")
    assert len(worst.index) == 4
    assert not np.isnan(worst.ratio)
    assert len(report.message().splitlines()) <= 12


def test_what_only_several_passes_or_inputs_show():
    class Product(mg.Function):
        calls = 0

        @staticmethod
        def forward(ctx, x, y, *, bug):
            ctx.save(x, y)
            ctx.bug = bug
            return x * y, x + y

        @staticmethod
        def backward(ctx, grad_product, grad_sum):
            x, y = ctx.saved
            Product.calls += 1
            if ctx.bug == "output":
                grad_sum = 0 * grad_sum
            grad_x, grad_y = grad_product * y + grad_sum, grad_product * x + grad_sum
            if ctx.bug == "stale":
                grad_x = grad_x + Product.calls
            return (grad_y, grad_x) if ctx.bug == "exchanged" else (grad_x, grad_y)

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 4, 3))
    told = {
        "stale": "a stale buffer: the same backward run twice gives two results",
        "output": "the cotangent of output 1 is left out",
        "exchanged": "exchanged with the gradient of ",
    }
    for bug, guess in told.items():
        worst = mg.gradcheck(
            lambda x, y, bug=bug: Product.apply(x, y, bug=bug), x, y, raise_exception=False
        ).worst
        assert worst.guess.startswith(guess)


@pytest.mark.parametrize("which", [0, -1])
def test_a_missing_broadcast_sum(which):
    class Shift(mg.Function):
        @staticmethod
        def forward(ctx, x, bias):
            return x + bias

        @staticmethod
        def backward(ctx, grad_out):
            return grad_out, grad_out[which]

    worst = mg.gradcheck(Shift, np.ones((4, 3)), np.ones(3), raise_exception=False).worst
    assert worst.tensor == "bias (3,)"
    assert worst.guess == ("a missing broadcast sum: only one slice of the broadcast axis is taken")
