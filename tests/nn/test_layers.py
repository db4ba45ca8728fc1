"""Each layer is its operation with the settings it was built with; and what layers add to that."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, ops
from minigrad.core.errors import ArgumentError, ShapeError

X = np.random.default_rng(2).standard_normal((2, 4, 6, 7))
FEATURES = np.random.default_rng(3).standard_normal((3, 4))


def layers():
    """(layer, input, the same by the operation)."""
    conv = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)
    same = nn.Conv2d(4, 5, 3, padding="same", bias=False)
    up = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
    fc = nn.Linear(4, 5)
    prelu = nn.PReLU(4, init=0.3)
    return [
        (fc, FEATURES, lambda x: FEATURES @ fc.weight.data.T + fc.bias.data),
        (nn.Linear(4, 5, bias=False), FEATURES, None),
        (conv, X, lambda x: ops.conv2d(
            x, conv.weight, conv.bias, stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)),
        (same, X, lambda x: ops.conv2d(x, same.weight, padding="same")),
        (up, X, lambda x: ops.conv_transpose2d(
            x, up.weight, up.bias, stride=2, padding=1, output_padding=1, groups=2)),
        (nn.MaxPool2d(3, 2, 1, ceil_mode=True), X,
         lambda x: ops.max_pool2d(x, 3, 2, 1, ceil_mode=True)),
        (nn.MaxPool2d(2, dilation=2), X, lambda x: ops.max_pool2d(x, 2, dilation=2)),
        (nn.AvgPool2d(3, 2, 1, True, False), X,
         lambda x: ops.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False)),
        (nn.AdaptiveAvgPool2d((2, None)), X, lambda x: ops.adaptive_avg_pool2d(x, (2, None))),
        (nn.GlobalAvgPool2d(), X, lambda x: X.mean((2, 3))),
        (nn.Upsample(scale_factor=2), X, lambda x: X.repeat(2, 2).repeat(2, 3)),
        (nn.Upsample(size=(5, 9), mode="bilinear", align_corners=True), X,
         lambda x: ops.upsample(x, size=(5, 9), mode="bilinear", align_corners=True)),
        (nn.LocalResponseNorm(3, 0.1, 0.5, 2.0), X,
         lambda x: ops.local_response_norm(x, 3, 0.1, 0.5, 2.0)),
        (nn.ReLU(), X, lambda x: np.maximum(X, 0)),
        (nn.LeakyReLU(0.2), X, lambda x: np.where(X > 0, X, 0.2 * X)),
        (prelu, X, lambda x: np.where(X > 0, X, 0.3 * X)),
        (nn.Sigmoid(), X, lambda x: 1 / (1 + np.exp(-X))),
        (nn.Tanh(), X, lambda x: np.tanh(X)),
        (nn.Softplus(2.0, 15.0), X, lambda x: np.log1p(np.exp(2 * X)) / 2),
        (nn.Softmax(dim=1), X, lambda x: np.exp(X) / np.exp(X).sum(1, keepdims=True)),
        (nn.LogSoftmax(dim=1), X, lambda x: X - np.log(np.exp(X).sum(1, keepdims=True))),
        (nn.Flatten(), X, lambda x: X.reshape(2, -1)),
        (nn.Flatten(2, 3), X, lambda x: X.reshape(2, 4, 42)),
        (nn.Identity(3, "anything"), X, lambda x: X),
        (nn.Dropout(0.5).eval(), X, lambda x: X),
        (nn.DropPath(0.5).eval(), X, lambda x: X),
    ]  # fmt: skip


@pytest.mark.parametrize("case", layers(), ids=lambda case: repr(case[0]))
def test_layer_is_its_operation(case):
    layer, array, by_hand = case
    layer.double()
    y = layer(mg.Tensor(array))
    assert y.dtype == np.float64
    if by_hand is not None:
        expected = by_hand(mg.Tensor(array))
        expected = expected.data if isinstance(expected, mg.Tensor) else expected
        np.testing.assert_allclose(y.data, expected, rtol=1e-6, atol=1e-12)
    layer.float()
    assert layer(mg.Tensor(array.astype("f"))).dtype == np.float32


LABELS = np.array([1, 3, 0])
TARGETS = np.random.default_rng(4).uniform(0, 1, (3, 4))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_are_their_operations(reduction):
    weight = np.array([1.0, 2.0, 3.0, 4.0])
    x = mg.Tensor(FEATURES)
    pairs = [
        (
            nn.CrossEntropyLoss(weight, 0, reduction, 0.1)(x, LABELS),
            ops.cross_entropy(x, LABELS, weight, 0, reduction, 0.1),
        ),
        (
            nn.NLLLoss(weight, 0, reduction)(x, LABELS),
            ops.nll_loss(x, LABELS, weight, 0, reduction),
        ),
        (nn.MSELoss(reduction)(x, TARGETS), ops.mse_loss(x, TARGETS, reduction)),
        (
            nn.BCEWithLogitsLoss(weight, reduction, weight[::-1])(x, TARGETS),
            ops.binary_cross_entropy_with_logits(
                x, TARGETS, weight=weight, pos_weight=weight[::-1], reduction=reduction
            ),
        ),
    ]
    for module, op in pairs:
        np.testing.assert_array_equal(module.data, op.data)


def test_dropout_drops_in_training_only():
    mg.manual_seed(0)
    x = mg.Tensor(np.ones((100, 3, 2, 2)))
    y = nn.Dropout(0.25)(x).data
    assert set(np.unique(y)) == {0, 1 / 0.75}
    assert 0.2 < (y == 0).mean() < 0.3
    y = nn.DropPath(0.25)(x).data
    assert all(sample.min() == sample.max() for sample in y)
    assert set(np.unique(y)) == {0, 1 / 0.75}


def batches(count=3):
    rng = np.random.default_rng(5)
    return [3 + 2 * rng.standard_normal((4, 2, 3, 5)) for _ in range(count)]


def statistics(batch):
    return batch.mean((0, 2, 3)), batch.var((0, 2, 3), ddof=1)


def test_batch_norm_moves_its_running_statistics_and_counts():
    bn = nn.BatchNorm2d(2, momentum=0.3).double()
    mean, var = np.zeros(2), np.ones(2)
    for k, batch in enumerate(batches()):
        y = bn(mg.Tensor(batch)).data
        np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-12)
        new_mean, new_var = statistics(batch)
        mean, var = 0.7 * mean + 0.3 * new_mean, 0.7 * var + 0.3 * new_var
        np.testing.assert_allclose(bn.running_mean, mean, rtol=1e-12)
        np.testing.assert_allclose(bn.running_var, var, rtol=1e-12)
        assert bn.num_batches_tracked == k + 1
    assert bn.num_batches_tracked.dtype == np.int64
    x = batches(1)[0]
    y = bn.eval()(mg.Tensor(x)).data
    column = (slice(None), None, None)
    np.testing.assert_allclose(y, (x - mean[column]) / np.sqrt(var[column] + 1e-5), rtol=1e-12)
    assert bn.num_batches_tracked == 3
    bn.reset_running_stats()
    assert [*bn.running_mean, *bn.running_var, bn.num_batches_tracked] == [0, 0, 1, 1, 0]


def test_batch_norm_without_momentum_averages_all_batches():
    bn = nn.BatchNorm2d(2, momentum=None).double()
    for batch in batches():
        bn(mg.Tensor(batch))
    means, variances = zip(*map(statistics, batches()), strict=True)
    np.testing.assert_allclose(bn.running_mean, np.mean(means, 0), rtol=1e-12)
    np.testing.assert_allclose(bn.running_var, np.mean(variances, 0), rtol=1e-12)
    bn.eval()(mg.Tensor(batches()[0]))


def test_batch_norm_without_running_statistics_uses_the_batch_always():
    bn = nn.BatchNorm2d(2, affine=False, track_running_stats=False)
    assert list(bn.state_dict()) == []
    x = mg.Tensor(batches(1)[0])
    np.testing.assert_array_equal(bn(x).data, bn.eval()(x).data)
    np.testing.assert_allclose(bn(x).data.std((0, 2, 3)), 1, rtol=1e-4)


def test_batch_norm_keeps_its_count_when_the_batch_is_refused():
    bn = nn.BatchNorm1d(4)
    with pytest.raises(ShapeError, match="training needs more than one value a channel"):
        bn(mg.Tensor(FEATURES[:1].astype("f")))
    assert bn.num_batches_tracked == 0
    bn.eval()(mg.Tensor(FEATURES[:1].astype("f")))


@pytest.mark.parametrize(
    ("kind", "shape", "text"),
    [
        (nn.BatchNorm2d, (3, 4), "BatchNorm2d: x of shape (N, C, H, W) is expected, got (3, 4). "),
        (nn.BatchNorm1d, (2, 4, 3, 3),
         "BatchNorm1d: x of shape (N, C) or (N, C, L) is expected, got (2, 4, 3, 3). "),
    ],
)  # fmt: skip
def test_batch_norm_wants_its_axes(kind, shape, text):
    with pytest.raises(ShapeError) as caught:
        kind(4)(mg.Tensor(np.ones(shape, "f")))
    assert str(caught.value) == (text + "Use BatchNorm2d for images and BatchNorm1d for features.")


WRONG = [
    (lambda: nn.Linear(0, 3),
     "Linear: in_features is a whole number of at least 1, got 0. Pass for example "
     "in_features=16."),
    (lambda: nn.Conv2d(3, 16, 0),
     "Conv2d: kernel_size is a whole number of at least 1, or a pair of them for height and "
     "width, got 0. Pass for example kernel_size=1."),
    (lambda: nn.Conv2d(3, 16, 3, padding=-1),
     "Conv2d: padding is a whole number of at least 0, or a pair of them for height and width, "
     "got -1. Pass for example padding=1."),
    (lambda: nn.Conv2d(3, 16, 3, padding="full"),
     "Conv2d: padding is a number, a pair of numbers, 'same' or 'valid', got 'full'. "
     "Pass for example padding=1."),
    (lambda: nn.Conv2d(3, 16, 3, groups=2),
     "Conv2d: groups divides in_channels, got groups=2 and in_channels=3. Choose a number of "
     "groups that divides both in_channels and out_channels."),
    (lambda: nn.ConvTranspose2d(3, 16, (1, 2, 3)),
     "ConvTranspose2d: kernel_size is a whole number of at least 1, or a pair of them for height "
     "and width, got (1, 2, 3). Pass for example kernel_size=1."),
    (lambda: nn.DropPath(1.5),
     "DropPath: p is the probability to drop, from 0 to 1, got 1.5. Pass for example p=0.5."),
    (lambda: nn.BatchNorm2d(2.0),
     "BatchNorm2d: num_features is a whole number of at least 1, got 2.0. Pass for example "
     "num_features=16."),
]  # fmt: skip


@pytest.mark.parametrize(("make", "text"), WRONG, ids=[text[:20] for _, text in WRONG])
def test_wrong_settings_are_explained(make, text):
    with pytest.raises(ArgumentError) as caught:
        make()
    assert str(caught.value) == text
