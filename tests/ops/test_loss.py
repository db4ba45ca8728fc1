"""Losses where the battery does not look: extremes, nothing to average, labels of every kind."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import kernels
from minigrad.kernels import _jit

INF, NAN = np.inf, np.nan


def loss_and_grad(f, x, *args, **options):
    leaf = mg.tensor(x, requires_grad=True)
    out = f(leaf, *args, **options)
    (grad,) = mg.grad(out, leaf, np.ones(out.shape))
    return out.data, grad


# Softmax without overflow.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_of_ten_thousand_do_not_overflow(dtype):
    x = np.array([[1e4, -1e4, 0], [1e4, -1e4, 0], [1e4, 1e4, 1e4]], dtype)
    loss, grad = loss_and_grad(mg.cross_entropy, x, [0, 1, 2], reduction="none")
    np.testing.assert_allclose(loss, [0, 2e4, math.log(3)], rtol=1e-6)
    third = 1 / 3
    expected = [[0, 0, 0], [1, -1, 0], [third, third, third - 1]]
    np.testing.assert_allclose(grad, expected, rtol=1e-6)


def test_the_formula_as_it_is_written_overflows_where_ours_does_not():
    x = np.float32([[1e4, 0.0]])
    with np.errstate(over="ignore", invalid="ignore"):
        assert np.isnan(-np.log(np.exp(x[:, 0]) / np.exp(x).sum(axis=1)))
    assert mg.cross_entropy(x, [0]).item() == 0


def test_a_class_ruled_out_by_a_logit_of_minus_infinity():
    x = np.array([[0.0, -INF, 0.0]])
    for target in ([0], [[1.0, 0.0, 0.0]]):
        loss, grad = loss_and_grad(mg.cross_entropy, x, target)
        assert loss == pytest.approx(math.log(2))
        np.testing.assert_allclose(grad, [[-0.5, 0, 0.5]])
    assert mg.cross_entropy(x, [1]).item() == INF
    assert mg.cross_entropy(x, [0], label_smoothing=0.1).item() == INF


@pytest.mark.parametrize("row", [[NAN, 0, 0], [INF, 0, 0], [-INF, -INF, -INF]])
@pytest.mark.parametrize("target", [[0], [[0.5, 0.25, 0.25]]])
def test_what_is_no_distribution_has_a_loss_of_nan(row, target):
    assert np.isnan(mg.cross_entropy(np.array([row]), target).item())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_binary_logits_far_out(dtype):
    x = np.array([1e4, -1e4, 1e4, -1e4], dtype)
    target = np.array([1, 1, 0, 0])
    loss, grad = loss_and_grad(
        mg.binary_cross_entropy_with_logits, x, target, pos_weight=2, reduction="none"
    )
    np.testing.assert_array_equal(loss, [0, 2e4, 1e4, 0])
    np.testing.assert_array_equal(grad, [0, -2, 1, 0])


def test_a_small_binary_loss_keeps_its_digits():
    loss = mg.binary_cross_entropy_with_logits(np.float32([-30.0]), np.zeros(1))
    assert loss.item() == pytest.approx(math.exp(-30), rel=1e-5)


def test_float32_cross_entropy_is_accurate():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(0, 5, (64, 1000)).astype(np.float32), rng.integers(0, 1000, 64)
    loss, grad = loss_and_grad(mg.cross_entropy, x, labels, reduction="none")
    exact, exact_grad = loss_and_grad(
        mg.cross_entropy, x.astype(np.float64), labels, reduction="none"
    )
    np.testing.assert_allclose(loss, exact, rtol=2e-6)
    np.testing.assert_allclose(grad, exact_grad, rtol=1e-5, atol=1e-7)


# Nothing to average.


@pytest.mark.parametrize("loss", [mg.cross_entropy, mg.nll_loss])
@pytest.mark.parametrize("labels", [[], [7, 7]])
def test_the_mean_of_nothing_is_nan_and_its_sum_0(loss, labels):
    x = np.ones((len(labels), 3))
    labels = np.array(labels, int)
    value, grad = loss_and_grad(loss, x, labels, ignore_index=7)
    assert np.isnan(value)
    np.testing.assert_array_equal(grad, np.zeros(x.shape))
    assert loss(x, labels, ignore_index=7, reduction="sum").item() == 0
    np.testing.assert_array_equal(
        loss(x, labels, ignore_index=7, reduction="none").data, np.zeros(len(labels))
    )


@pytest.mark.parametrize("loss", [mg.mse_loss, mg.binary_cross_entropy_with_logits])
def test_the_mean_of_no_entries_is_nan(loss):
    value, grad = loss_and_grad(loss, np.ones((0, 3)), np.ones((0, 3)))
    assert np.isnan(value)
    assert grad.shape == (0, 3)


def test_a_sample_left_out_changes_nothing():
    rng = np.random.default_rng(1)
    x, labels = rng.standard_normal((5, 3)), np.array([0, -100, 2, -100, 1])
    value, grad = loss_and_grad(mg.cross_entropy, x, labels)
    kept = labels >= 0
    expected, expected_grad = loss_and_grad(mg.cross_entropy, x[kept], labels[kept])
    assert value == pytest.approx(expected)
    np.testing.assert_allclose(grad[kept], expected_grad)
    np.testing.assert_array_equal(grad[~kept], 0)


# One loss, said in several ways.

problems = st.tuples(
    st.integers(0, 4),  # N
    st.integers(1, 5),  # C
    st.lists(st.integers(1, 3), max_size=2),  # d1, ...
    st.integers(0, 2**32 - 1),
)


@given(
    problems,
    st.sampled_from(["mean", "sum", "none"]),
    st.sampled_from([0.0, 0.2, 1.0]),
)
def test_labels_and_their_one_hot_probabilities_agree(problem, reduction, smoothing):
    N, C, more, seed = problem
    rng = np.random.default_rng(seed)
    x, labels = 5 * rng.standard_normal((N, C, *more)), rng.integers(0, C, (N, *more))
    one_hot = np.moveaxis(np.eye(C)[labels], -1, 1)
    options = {"reduction": reduction, "label_smoothing": smoothing}
    by_labels = loss_and_grad(mg.cross_entropy, x, labels, **options)
    by_probabilities = loss_and_grad(mg.cross_entropy, x, one_hot, **options)
    for a, b in zip(by_labels, by_probabilities, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@given(problems, st.sampled_from(["mean", "sum", "none"]), st.booleans())
def test_cross_entropy_is_nll_loss_after_log_softmax(problem, reduction, weighted):
    N, C, more, seed = problem
    rng = np.random.default_rng(seed)
    x, labels = rng.standard_normal((N, C, *more)), rng.integers(0, C, (N, *more))
    weight = rng.uniform(0.1, 2, C) if weighted else None
    options = {"weight": weight, "reduction": reduction, "ignore_index": 1}

    def in_two(leaf, labels, **options):
        return mg.nll_loss(mg.log_softmax(leaf, axis=1), labels, **options)

    at_once = loss_and_grad(mg.cross_entropy, x, labels, **options)
    for a, b in zip(at_once, loss_and_grad(in_two, x, labels, **options), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("loss", [mg.cross_entropy, mg.nll_loss])
def test_labels_of_every_kind(loss):
    x = mg.log_softmax(np.array([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]]), axis=1).data
    expected = loss(x, np.array([2, 1])).item()
    for dtype in (np.int8, np.uint8, np.int32, np.uint64):
        assert loss(x, np.array([2, 1], dtype)).item() == expected
    assert loss(x, [2, 1]).item() == expected
    assert loss(x, mg.tensor(np.array([2, 1]))).item() == expected
    assert loss(x[0], 2).item() == loss(x[:1], [2]).item()


def test_images_in_channels_last_memory_get_channels_last_gradients():
    x = np.ones((2, 4, 5, 3), np.float32).transpose(0, 3, 1, 2)
    leaf = mg.Tensor(x, requires_grad=True)
    (grad,) = mg.grad(mg.cross_entropy(leaf, np.zeros((2, 4, 5), int)), leaf)
    assert grad.strides == x.strides


def test_the_result_is_the_same_bits_on_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(_jit, "SERIAL_BELOW", 0)
    rng = np.random.default_rng(3)
    x = rng.standard_normal((5000, 10)).astype(np.float32)
    labels = rng.integers(0, 10, 5000)
    before = kernels.get_num_threads()
    found = []
    try:
        for threads in (before, 1):
            kernels.set_num_threads(threads)
            found.append(loss_and_grad(mg.cross_entropy, x, labels, label_smoothing=0.1))
    finally:
        kernels.set_num_threads(before)
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("target", [np.full((2, 3), 1 / 3), np.full((2, 3), 1)])
@pytest.mark.parametrize("loss", [mg.mse_loss, mg.binary_cross_entropy_with_logits])
def test_a_constant_target_takes_the_precision_of_x(loss, target):
    assert loss(np.ones((2, 3), np.float32), target).dtype == np.float32
    if target.dtype.kind == "f":
        assert mg.cross_entropy(np.ones((2, 3), np.float32), target).dtype == np.float32


def test_labels_may_change_after_the_call():
    labels = np.array([0, 1])
    x = mg.tensor(np.eye(2), requires_grad=True)
    loss = mg.cross_entropy(x, labels)
    labels[:] = 0
    loss.backward()
    np.testing.assert_allclose(x.grad.sum(axis=1), 0, atol=1e-15)
    assert x.grad[1, 1] < 0


def test_cross_entropy_saves_probabilities_and_labels():
    x = mg.tensor(np.ones((8, 5), np.float32), requires_grad=True)
    saved = mg.cross_entropy(x, np.zeros(8, int))._node.saved
    assert sum(a.nbytes for a in saved) == x.data.nbytes + 8 * 8


# torch, where it is installed.


def compare_with_torch(name, arrays, targets, options):
    torch = pytest.importorskip("torch")
    ours = [mg.tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    as_torch = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    out = getattr(mg, name)(*ours, *targets, **options)
    reference = getattr(torch.nn.functional, name)(
        *theirs, *[torch.tensor(t) for t in targets], **as_torch
    )
    np.testing.assert_allclose(out.data, reference.detach().numpy(), rtol=1e-12, atol=1e-13)
    grad_out = np.random.default_rng(9).standard_normal(out.shape)
    out.backward(grad_out)
    reference.backward(torch.tensor(grad_out))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-11, atol=1e-13)


SHAPES = [(4, 3), (3,), (2, 5, 3), (2, 3, 4, 5), (0, 3), (1, 1)]
REDUCTIONS = ["mean", "sum", "none"]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_torch_agrees_on_labels(name, shape, reduction):
    rng = np.random.default_rng(5)
    C = shape[0] if len(shape) == 1 else shape[1]
    labels = rng.integers(0, C, shape[1:] if len(shape) == 1 else (shape[0], *shape[2:]))
    smoothings = [0.0, 0.1, 1.0] if name == "cross_entropy" else [None]
    weights = [None, rng.uniform(0.1, 2, C)]
    for weight, ignore, smoothing in itertools.product(weights, (-100, 0), smoothings):
        options = {"weight": weight, "ignore_index": ignore, "reduction": reduction}
        if smoothing is not None:
            options["label_smoothing"] = smoothing
        compare_with_torch(name, [10 * rng.standard_normal(shape)], [labels], options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_torch_agrees_on_probabilities(shape, reduction):
    rng = np.random.default_rng(6)
    C = shape[0] if len(shape) == 1 else shape[1]
    for weight, smoothing in itertools.product([None, rng.uniform(0.1, 2, C)], [0.0, 0.1]):
        compare_with_torch(
            "cross_entropy",
            [10 * rng.standard_normal(shape), rng.uniform(0, 1, shape)],
            [],
            {"weight": weight, "reduction": reduction, "label_smoothing": smoothing},
        )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [*SHAPES, ()], ids=str)
def test_torch_agrees_on_pairs(shape, reduction):
    rng = np.random.default_rng(7)
    arrays = [10 * rng.standard_normal(shape), rng.uniform(0, 1, shape)]
    compare_with_torch("mse_loss", arrays, [], {"reduction": reduction})
    last = shape[-1:]
    for weight, pos_weight in itertools.product([None, rng.uniform(0.1, 2, last)], repeat=2):
        options = {"weight": weight, "pos_weight": pos_weight, "reduction": reduction}
        compare_with_torch("binary_cross_entropy_with_logits", arrays, [], options)
