"""A batch norm with a relu and max pooling behind it against the separate kernels, bit for bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad import kernels
from minigrad.kernels import _jit, norm_pool

pytestmark = pytest.mark.usefixtures("fast_kernels")

_EPS, _CLOSE = 0.01, (1, 1)


@st.composite
def geometries(draw):
    """x's shape, and kernel_size, stride, padding and out_size that fit it."""
    axes = []
    for _ in range(2):
        k, s = draw(st.integers(1, 4)), draw(st.integers(1, 5))
        p = draw(st.integers(0, k // 2))
        size = max(1, k - 2 * p) + draw(st.integers(0, 9))
        out = (size + 2 * p - k) // s + 1
        beyond = draw(st.booleans()) and out * s < size + p  # ceil_mode's last window
        axes.append((size, k, s, p, out + beyond))
    sizes, *window = zip(*axes, strict=True)
    channels = draw(st.integers(1, 20) | st.sampled_from([64, 83]))
    return (draw(st.integers(0, 3)), channels, *sizes), window


def _arrays(shape, out_size, dtype, seed=0, ties=False):
    """x, a cotangent, weight and bias; the weight of some channels is 0, so that all are equal."""
    rng = np.random.default_rng(seed)
    N, C = shape[:2]
    x = rng.integers(-2, 3, shape) if ties else rng.standard_normal(shape)
    weight = rng.standard_normal(C) * (rng.random(C) < 0.8)
    values = x, rng.standard_normal((N, C, *out_size)), weight, rng.standard_normal(C)
    return [value.astype(dtype) for value in values]


def _together(x, grad_out, weight, bias, running, kernel_size, stride, padding, out_size):
    window = kernel_size, stride, padding
    out, place, mean, inv_std = kernels.batch_norm_relu_max_pool_training(
        x, weight, bias, _EPS, running, 0.25, *window, out_size
    )
    saved = x, weight, mean, inv_std
    grads = kernels.batch_norm_relu_max_pool_backward(grad_out, place, *saved, *window)
    return out, mean, inv_std, *grads, place


def _apart(x, grad_out, weight, bias, running, kernel_size, stride, padding, out_size):
    window = kernel_size, stride, padding, _CLOSE
    y, mask, mean, inv_std = kernels.batch_norm_training(
        x, weight, bias, _EPS, True, None, running, 0.25
    )
    out, place = kernels.max_pool2d_forward(y, *window, out_size)
    grad_y = kernels.max_pool2d_backward(grad_out, place, *window, x.shape[2:])
    grads = kernels.batch_norm_backward(grad_y, x, weight, mean, inv_std, mask)
    taps = kernel_size[0] * kernel_size[1]
    place = np.where(out <= 0, taps, place.astype(int))
    return out, mean, inv_std, *grads, place.astype(np.uint8 if taps < 256 else np.int32)


_NAMES = "out", "mean", "inv_std", "grad_x", "sum_grad", "sum_grad_normal", "place", "running"


def _assert_same(arrays, window, out_size, running=True):
    C = arrays[0].shape[1]
    moved = []
    for run in _together, _apart:
        held = np.linspace(0, 1, C, dtype=np.float32), np.linspace(1, 3, C, dtype=np.float32)
        found = run(*arrays, held if running else None, *window, out_size)
        moved.append((*found, held))
    for name, got, want in zip(_NAMES, *moved, strict=True):
        np.testing.assert_array_equal(got, want, err_msg=name, strict=name != "running")


@pytest.fixture(params=["in a room", "at once"])
def _way(request, monkeypatch):
    """Backward has two ways; small arrays are to go both."""
    monkeypatch.setattr(norm_pool, "_ROOM_OF_ALL", 0 if request.param == "in a room" else 1 << 21)


@pytest.mark.usefixtures("_way")
@given(
    case=geometries(),
    dtype=st.sampled_from([np.float32, np.float64]),
    ties=st.booleans(),
    optional=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    seed=st.integers(0, 2**32 - 1),
)
def test_gives_the_bits_of_separate_kernels(case, dtype, ties, optional, seed):
    shape, (*window, out_size) = case
    x, grad_out, weight, bias = _arrays(shape, out_size, dtype, seed, ties)
    has_weight, has_bias, running = optional
    given_ = x, grad_out, weight if has_weight else None, bias if has_bias else None
    _assert_same(given_, window, out_size, running)


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize(
    "shape",
    [(2, 64, 112, 112), (3, 17, 61, 45), (9, 5, 40, 90), (1, 300, 19, 33)],
    ids=["a stem", "odd", "few channels", "many channels"],
)
def test_gives_the_bits_of_separate_kernels_in_many_chunks_and_bands(shape):
    out_size = tuple((n - 1) // 2 + 1 for n in shape[2:])
    arrays = _arrays(shape, out_size, np.float32)
    _assert_same(arrays, ((3, 3), (2, 2), (1, 1)), out_size)


@given(case=geometries(), ties=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_equals_the_twin(case, ties, seed):
    shape, (*window, out_size) = case
    arrays = _arrays(shape, out_size, np.float64, seed, ties)
    moved = []
    for form in "fast", "reference":
        held = np.linspace(0, 1, shape[1]), np.linspace(1, 3, shape[1])
        with kernels.use(form):
            moved.append((*_together(*arrays, held, *window, out_size), *held))
    for name, got, want in zip((*_NAMES, "running_var"), *moved, strict=True):
        assert got.dtype == want.dtype, name
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("kernel_size", [(15, 17), (16, 16), (31, 5)])
def test_windows_of_many_places_have_one_more_for_nobody(kernel_size):
    padding = tuple(k // 2 for k in kernel_size)
    out_size = tuple((33 + 2 * p - k) // 3 + 1 for k, p in zip(kernel_size, padding, strict=True))
    x, grad_out, weight, bias = _arrays((2, 3, 33, 33), out_size, np.float32)
    bias -= 4  # most windows are stopped
    _assert_same((x, grad_out, weight, bias), (kernel_size, (3, 3), padding), out_size)


@pytest.mark.parametrize("form", ["fast", "reference"])
def test_a_nan_stays_in_its_channel_and_its_gradient_passes(form):
    out_size = (4, 4)
    x, grad_out, weight, bias = _arrays((2, 3, 8, 8), out_size, np.float32)
    weight[:] = 1
    x[1, 2, 3, 4] = np.nan
    window = (2, 2), (2, 2), (0, 0)
    with kernels.use(form):
        found = _together(x, grad_out, weight, bias, None, *window, out_size)
    by_channel = np.isnan(np.moveaxis(found[0], 1, 0)).reshape(3, -1)
    np.testing.assert_array_equal(by_channel.all(axis=1), [False, False, True])
    np.testing.assert_array_equal(by_channel.any(axis=1), [False, False, True])


def test_any_number_of_threads_gives_the_same_bits(monkeypatch, pool_of_four):
    monkeypatch.setattr(norm_pool, "_ROOM_OF_ALL", 0)
    out_size = (31, 23)
    arrays = *_arrays((5, 24, 61, 45), out_size, np.float32), None
    window = (3, 3), (2, 2), (1, 1)
    want = _together(*arrays, *window, out_size)
    monkeypatch.setattr(_jit, "SERIAL_BELOW", 0)
    for threads in pool_of_four:
        kernels.set_num_threads(threads)
        got = _together(*arrays, *window, out_size)
        for name, mine, theirs in zip(_NAMES, got, want, strict=False):
            np.testing.assert_array_equal(mine, theirs, err_msg=f"{name} on {threads}")
