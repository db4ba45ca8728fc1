"""Batch-normalisation kernels against their twins, and where rounding and threads could hurt."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad import kernels
from minigrad.kernels import _jit, norm

pytestmark = pytest.mark.usefixtures("fast_kernels")

SHAPES = {
    "image": (3, 5, 4, 7),
    "flat": (11, 7),
    "sequence": (3, 4, 9),
    "one channel": (2, 1, 5, 3),
    "one value a channel": (1, 6, 1, 1),
    "a power of two": (4, 16, 8, 8),
    "several chunks": (9, 24, 17, 13),
    "wider than a wide row": (37, 300, 2, 1),
    "empty batch": (0, 3, 5, 4),
}

every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())


def _arrays(shape, dtype, seed=0):
    """x and a cotangent, weight and bias, each channel with a mean and a scale of its own."""
    rng = np.random.default_rng(seed)
    C = shape[1]
    by_channel = (C, *[1] * (len(shape) - 2))
    x = rng.standard_normal(shape) * rng.uniform(0.2, 5, by_channel)
    x = x + 3 * rng.standard_normal(by_channel)
    values = x, rng.standard_normal(shape), rng.standard_normal(C), rng.standard_normal(C)
    return [value.astype(dtype) for value in values]


def _everything(x, grad_out, weight, bias):
    """Run all four kernels as training does."""
    mean, var = kernels.batch_norm_statistics(x)
    inv_std = 1 / np.sqrt(var + 0.01)
    sums = kernels.batch_norm_sums(grad_out, x, mean, inv_std)
    return {
        "mean": mean,
        "var": var,
        "out": kernels.batch_norm_forward(x, weight, bias, mean, inv_std),
        "out, no weight": kernels.batch_norm_forward(x, None, bias, mean, inv_std),
        "out, no bias": kernels.batch_norm_forward(x, weight, None, mean, inv_std),
        "sum_grad": sums[0],
        "sum_grad_normal": sums[1],
        "grad_x": kernels.batch_norm_grad_input(grad_out, x, weight, mean, inv_std, *sums),
        "grad_x, no weight": kernels.batch_norm_grad_input(grad_out, x, None, mean, inv_std, *sums),
    }


def _fused(x, grad_out, weight, bias):
    """The same with a relu behind the normalisation, with a sum between, and in one kernel."""
    mean, var = kernels.batch_norm_statistics(x)
    inv_std = 1 / np.sqrt(var + 0.01)
    out, mask = kernels.batch_norm_relu_forward(x, weight, bias, mean, inv_std)
    sums = kernels.batch_norm_sums(grad_out, x, mean, inv_std, mask)
    junction = kernels.batch_norm_relu_forward(x, weight, bias, mean, inv_std, grad_out)
    plain = kernels.batch_norm_training(x, None, bias, 0.01)
    trained = kernels.batch_norm_training(x, weight, bias, 0.01, True, grad_out)
    back = kernels.batch_norm_backward(grad_out, x, weight, mean, inv_std, mask)
    names = "trained", "trained mask", "trained mean", "trained inv_std"
    assert plain[1] is None
    return {
        "plain": plain[0],
        "mean": plain[2],
        "inv_std": plain[3],
        **dict(zip(names, trained, strict=True)),
        **dict(zip(("back", "back sum_grad", "back sum_grad_normal"), back, strict=True)),
        "out": out,
        "mask": mask,
        "sum_grad": sums[0],
        "sum_grad_normal": sums[1],
        "grad_x": kernels.batch_norm_grad_input(grad_out, x, weight, mean, inv_std, *sums, mask),
        "junction": junction[0],
        "junction's mask": junction[1],
    }


def _one_by_one(x, grad_out, weight, bias):
    """What ``_fused`` says, from separate kernels."""
    mean, var = kernels.batch_norm_statistics(x)
    inv_std = 1 / np.sqrt(var + 0.01)
    order = (0, *range(2, x.ndim), 1)
    normal = kernels.batch_norm_forward(x, weight, bias, mean, inv_std)

    def relu(y):
        last = np.ascontiguousarray(y.transpose(order))
        out, mask = kernels.relu_forward(last)
        return np.moveaxis(out, -1, 1), mask

    out, mask = relu(normal)
    kept = kernels.relu_backward(grad_out, mask, order)
    sums = kernels.batch_norm_sums(kept, x, mean, inv_std)
    junction = relu(normal + grad_out)
    grad_x = kernels.batch_norm_grad_input(kept, x, weight, mean, inv_std, *sums)
    return {
        "plain": kernels.batch_norm_forward(x, None, bias, mean, inv_std),
        "mean": mean,
        "inv_std": inv_std,
        "trained": junction[0],
        "trained mask": junction[1],
        "trained mean": mean,
        "trained inv_std": inv_std,
        "back": grad_x,
        "back sum_grad": sums[0],
        "back sum_grad_normal": sums[1],
        "out": out,
        "mask": mask,
        "sum_grad": sums[0],
        "sum_grad_normal": sums[1],
        "grad_x": grad_x,
        "junction": junction[0],
        "junction's mask": junction[1],
    }


def _twins(*arrays):
    with kernels.use("reference"):
        return _everything(*arrays)


def _assert_close(got, want, tolerance):
    for name in want:
        assert got[name].dtype == want[name].dtype, name
        scale = max(1.0, np.abs(want[name]).max(initial=0))
        np.testing.assert_allclose(
            got[name], want[name], rtol=tolerance, atol=tolerance * scale, err_msg=name
        )


@every_shape
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 3e-6)])
def test_equals_the_twin(shape, dtype, tolerance):
    arrays = _arrays(shape, dtype)
    _assert_close(_everything(*arrays), _twins(*arrays), tolerance)


@pytest.mark.parametrize("form", ["fast", "reference"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_shape
def test_fused_kernels_give_the_bits_of_separate_ones(shape, dtype, form):
    x, grad_out, weight, bias = _arrays(shape, dtype)
    x.flat[::7] = np.nan if x.size > 100 else 0
    with kernels.use(form):
        for order in "C", "F":
            arrays = np.asarray(x, order=order), grad_out, weight, bias
            got, want = _fused(*arrays), _one_by_one(*arrays)
            for name in want:
                np.testing.assert_array_equal(got[name], want[name], err_msg=name, strict=True)


@given(
    shape=st.tuples(st.integers(0, 9), st.integers(1, 40), st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_the_twin_for_any_shape(shape, seed):
    arrays = _arrays(shape, np.float64, seed)
    _assert_close(_everything(*arrays), _twins(*arrays), 1e-11)


@pytest.mark.parametrize("cut", [(64, 1), (1024, 1), (7, 3)])
def test_where_the_chunks_are_cut_changes_rounding_only(monkeypatch, cut):
    arrays = _arrays((9, 6, 11, 5), np.float64)
    want = _everything(*arrays)
    monkeypatch.setattr(norm, "_CHUNK", cut[0])
    monkeypatch.setattr(norm, "_ROWS", cut[1])
    monkeypatch.setattr(norm, "_WIDTH", 12)
    monkeypatch.setattr(norm, "cut", norm.cut.__wrapped__)  # which remembers other cuts
    _assert_close(_everything(*arrays), want, 1e-12)


def test_memory_order_changes_nothing_and_results_are_channels_last():
    x, grad_out, weight, bias = _arrays((3, 5, 4, 7), np.float32)
    want = _everything(x, grad_out, weight, bias)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    locked = x.copy()
    locked.flags.writeable = False
    for laid in last, np.asfortranarray(x), np.repeat(x, 2, axis=3)[..., ::2], locked:
        got = _everything(laid, grad_out, weight, bias)
        for name in want:
            np.testing.assert_array_equal(got[name], want[name], err_msg=name)
    assert want["out"].transpose(0, 2, 3, 1).flags.c_contiguous
    assert want["grad_x"].transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("ratio", [1e4, 1e6])
@pytest.mark.parametrize("outlier", [0.0, 1e4], ids=["", "the first pixel is far off"])
def test_a_mean_far_beyond_the_standard_deviation_costs_no_digits(ratio, outlier):
    """The yardstick is float64 on the same float32 numbers; E[x^2] - E[x]^2 is 9 times wrong."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((16, 7, 24, 24))
    x = (ratio + noise).astype(np.float32)
    x[0, :, 0, 0] += np.float32(outlier)
    # A cotangent that leans on x, so that no sum is small by chance.
    grad_out = (rng.standard_normal(x.shape) + noise).astype(np.float32)
    weight, bias = np.full(7, 1.5, np.float32), np.full(7, 0.5, np.float32)
    got = _everything(x, grad_out, weight, bias)
    want = _everything(*[a.astype(np.float64) for a in (x, grad_out, weight, bias)])
    np.testing.assert_allclose(got["mean"], want["mean"], rtol=0, atol=1e-6 + 1e-7 * outlier)
    np.testing.assert_allclose(got["var"], want["var"], rtol=1e-5)
    for name in "out", "grad_x", "sum_grad_normal":
        scale = np.abs(want[name]).max()
        np.testing.assert_allclose(got[name], want[name], rtol=0, atol=2e-5 * scale, err_msg=name)


def _strided(values):
    return np.repeat(values, 2)[::2]


@pytest.mark.parametrize("form", ["fast", "reference"])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f4", _strided])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_running_statistics_of_any_kind_move_towards_the_batch(dtype, kind, form):
    x, _, weight, bias = _arrays((3, 5, 4, 7), dtype)
    start = np.linspace(0.5, 2, 5), np.linspace(3, 1, 5)
    running = [kind(values) if kind is _strided else values.astype(kind) for values in start]
    before = [values.copy() for values in running]
    with kernels.use(form):
        kernels.batch_norm_training(x, weight, bias, 0.01, False, None, (*running,), 0.25)
        mean, var = kernels.batch_norm_statistics(x)
    pixels = 3 * 4 * 7
    for moved, held, new in zip(running, before, (mean, var * pixels / (pixels - 1)), strict=True):
        want = held.astype(np.float64) + 0.25 * (new - held.astype(np.float64))
        np.testing.assert_array_equal(moved, want.astype(moved.dtype), strict=True)


@pytest.mark.parametrize("form", ["fast", "reference"])
def test_running_statistics_that_are_locked_are_an_error_and_stay(form):
    x, _, weight, bias = _arrays((3, 5, 4, 7), np.float32)
    running = np.zeros(5, np.float32), np.ones(5, np.float32)
    for values in running:
        values.flags.writeable = False
    with kernels.use(form), pytest.raises(ValueError, match="read-only"):
        kernels.batch_norm_training(x, weight, bias, 0.01, False, None, running, 0.25)
    np.testing.assert_array_equal(running, [[0] * 5, [1] * 5])


def test_a_constant_channel_has_no_variance():
    x = np.full((5, 3, 40, 40), 12345.678, np.float32)
    mean, var = kernels.batch_norm_statistics(x)
    np.testing.assert_array_equal(mean, np.float64(np.float32(12345.678)))
    np.testing.assert_array_equal(var, 0)


def test_a_nan_stays_in_its_channel():
    arrays = _arrays((3, 5, 4, 7), np.float32)
    arrays[0][1, 2, 3, 4] = np.nan
    for result in _everything(*arrays).values():
        spoiled = np.isnan(np.moveaxis(result, 1, 0) if result.ndim > 1 else result)
        by_channel = spoiled.reshape(5, -1)
        if not by_channel.any():
            continue  # the sum of grad_out does not look at x
        np.testing.assert_array_equal(by_channel.all(axis=1), [False, False, True, False, False])
        np.testing.assert_array_equal(by_channel.any(axis=1), [False, False, True, False, False])


@pytest.mark.parametrize("shape", [(9, 24, 17, 13), (64, 16, 16, 16), (37, 300, 2, 1)])
def test_any_number_of_threads_gives_the_same_bits(shape, monkeypatch, pool_of_four):
    arrays = _arrays(shape, np.float32)
    want = _everything(*arrays) | {f"fused {k}": v for k, v in _fused(*arrays).items()}
    monkeypatch.setattr(_jit, "SERIAL_BELOW", 0)
    for threads in pool_of_four:
        kernels.set_num_threads(threads)
        got = _everything(*arrays) | {f"fused {k}": v for k, v in _fused(*arrays).items()}
        for name in want:
            np.testing.assert_array_equal(got[name], want[name], err_msg=f"{name} on {threads}")
