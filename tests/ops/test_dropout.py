"""dropout and drop_path: what is dropped, how often, and from which random numbers."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.core.rng import generator

EACH = pytest.mark.parametrize("op", [mg.dropout, mg.drop_path])


def seeded(seed=0):
    return np.random.default_rng(seed)


@EACH
def test_outside_training_x_itself_comes_back_and_nothing_is_drawn(op):
    x = mg.tensor(np.ones((2, 3)), requires_grad=True)
    before = generator().bit_generator.state
    assert op(x, 0.5, training=False) is x
    assert op(x, 0.0) is x
    assert generator().bit_generator.state == before


@EACH
def test_an_array_becomes_a_tensor_also_outside_training(op):
    out = op(np.ones((2, 3)), 0.5, training=False)
    assert isinstance(out, mg.Tensor)


@EACH
@pytest.mark.parametrize("p", [0, 1, np.float32(0.5), True])
def test_any_number_from_0_to_1_is_a_probability(op, p):
    assert op(np.ones((2, 3)), p).shape == (2, 3)


@EACH
def test_with_p_1_everything_is_dropped(op):
    x = mg.tensor(np.ones((4, 3)), requires_grad=True)
    out = op(x, 1)
    out.backward(np.ones(out.shape))
    np.testing.assert_array_equal(out.data, 0)
    np.testing.assert_array_equal(x.grad, 0)


@EACH
@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_the_share_is_p_and_the_mean_stays(op, p):
    out = op(np.ones((20_000, 1)), p, rng=seeded()).data
    assert set(np.unique(out)) == {0, 1 / (1 - p)}
    assert np.mean(out == 0) == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 20_000))
    assert out.mean() == pytest.approx(1, abs=4 * np.sqrt(p / (1 - p) / 20_000))


def test_drop_path_drops_whole_samples():
    out = mg.drop_path(np.ones((50, 3, 4)), 0.5, rng=seeded()).data
    per_sample = out.reshape(50, -1)
    assert (per_sample == per_sample[:, :1]).all()
    assert set(per_sample[:, 0]) == {0, 2}


@EACH
def test_the_gradient_passes_where_the_value_did(op):
    x = mg.tensor(seeded(1).standard_normal((6, 4)), requires_grad=True)
    out = op(x, 0.3, rng=seeded())
    grad_out = seeded(2).standard_normal((6, 4))
    out.backward(grad_out)
    np.testing.assert_allclose(x.grad, grad_out * (out.data != 0) / 0.7)


@EACH
def test_the_mask_follows_from_the_seed_whatever_the_layout_and_the_precision(op):
    x = np.arange(1.0, 121.0).reshape(2, 3, 4, 5)
    expected = op(x, 0.5, rng=seeded()).data
    channels_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    for same in (channels_last, np.asfortranarray(x), x.astype(np.float32)):
        out = op(same, 0.5, rng=seeded()).data
        np.testing.assert_array_equal(out, expected)
        assert out.strides == same.strides


@EACH
def test_the_mask_does_not_depend_on_threads(op):
    x = np.ones((500, 300))
    expected = op(x, 0.5, rng=seeded()).data
    before = mg.kernels.get_num_threads()
    try:
        mg.kernels.set_num_threads(1)
        np.testing.assert_array_equal(op(x, 0.5, rng=seeded()).data, expected)
    finally:
        mg.kernels.set_num_threads(before)


@EACH
def test_without_rng_the_library_seed_decides(op):
    x = np.ones((40, 3))
    state = generator().bit_generator.state
    try:
        mg.manual_seed(5)
        first, second = op(x, 0.5).data, op(x, 0.5).data
        mg.manual_seed(5)
        np.testing.assert_array_equal(op(x, 0.5).data, first)
        assert (first != second).any()
    finally:
        generator().bit_generator.state = state


@EACH
def test_no_samples_no_trouble(op):
    assert op(np.ones((0, 3)), 0.5).shape == (0, 3)


def test_the_mask_takes_a_byte_an_entry_and_a_byte_a_sample():
    x = mg.tensor(np.ones((6, 4), np.float32), requires_grad=True)
    assert mg.dropout(x)._node.saved[0].nbytes == 24
    assert mg.drop_path(x, 0.5)._node.saved[0].nbytes == 6
