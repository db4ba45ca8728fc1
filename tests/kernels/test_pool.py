"""Max-pooling kernels against their twins, and their rules for ties, NaN and infinities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad import kernels
from minigrad.kernels import _jit, pool

pytestmark = pytest.mark.usefixtures("fast_kernels")

both_forms = pytest.mark.parametrize("form", ["fast", "reference"])


@st.composite
def geometries(draw):
    """x's shape, and kernel_size, stride, padding, dilation and out_size that fit it."""
    axes = []
    for _ in range(2):
        k, s, d = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
        span = d * (k - 1) + 1
        p = draw(st.integers(0, span // 2))
        size = max(1, span - 2 * p) + draw(st.integers(0, 6))
        out = (size + 2 * p - span) // s + 1
        # ceil_mode's last window, which begins inside the image.
        beyond = draw(st.booleans()) and out * s < size + p
        axes.append((size, k, s, p, d, out + beyond))
    sizes, *window = zip(*axes, strict=True)
    channels = draw(st.integers(1, 20) | st.sampled_from([64, 83]))
    return (draw(st.integers(0, 3)), channels, *sizes), window


@given(
    case=geometries(),
    dtype=st.sampled_from([np.float32, np.float64]),
    ties=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_the_twin_on_any_geometry(case, dtype, ties, seed):
    shape, (*window, out_size) = case
    rng = np.random.default_rng(seed)
    # Whole numbers, so that sums are exact in any order; few of them make ties.
    x = rng.integers(-2, 3, shape) if ties else rng.permutation(int(np.prod(shape))).reshape(shape)
    x = x.astype(dtype)
    grad_out = rng.integers(-4, 5, (*shape[:2], *out_size)).astype(dtype)
    out, place = kernels.max_pool2d_forward(x, *window, out_size)
    grad_x = kernels.max_pool2d_backward(grad_out, place, *window, shape[2:])
    with kernels.use("reference"):
        want, want_place = kernels.max_pool2d_forward(x, *window, out_size)
        want_grad_x = kernels.max_pool2d_backward(grad_out, want_place, *window, shape[2:])
    np.testing.assert_array_equal(out, want, strict=True)
    np.testing.assert_array_equal(place, want_place, strict=True)
    np.testing.assert_array_equal(grad_x, want_grad_x, strict=True)


@given(case=geometries(), seed=st.integers(0, 2**32 - 1))
def test_the_gradient_is_the_adjoint_of_picking_the_winners(case, seed):
    shape, (*window, out_size) = case
    rng = np.random.default_rng(seed)
    x, direction = rng.permutation(int(np.prod(shape))).reshape(shape) * 1.0, rng.random(shape)
    grad_out = rng.random((*shape[:2], *out_size))
    out, place = kernels.max_pool2d_forward(x, *window, out_size)
    step = 1e-3  # too small to change a winner, exact enough for a piecewise linear function
    moved, _ = kernels.max_pool2d_forward(x + step * direction, *window, out_size)
    exists = np.isfinite(out)  # a dilated window may see nothing of a narrow image
    slope = np.sum(grad_out * np.where(exists, moved - np.where(exists, out, 0), 0)) / step
    grad_x = kernels.max_pool2d_backward(grad_out, place, *window, shape[2:])
    assert np.vdot(grad_x, direction) == pytest.approx(slope, rel=1e-8, abs=1e-8)


@both_forms
def test_the_first_of_equal_entries_wins(form):
    x = np.array([[[[1.0, 7.0, 7.0, 2.0], [7.0, 0.0, 0.0, 7.0]]]])
    with kernels.use(form):
        out, place = kernels.max_pool2d_forward(x, (2, 2), (2, 2), (0, 0), (1, 1), (1, 2))
        np.testing.assert_array_equal(out, [[[[7, 7]]]])
        np.testing.assert_array_equal(place, [[[[1, 0]]]])
        grad_x = kernels.max_pool2d_backward(
            np.array([[[[5.0, 3.0]]]]), place, (2, 2), (2, 2), (0, 0), (1, 1), (2, 4)
        )
    np.testing.assert_array_equal(grad_x, [[[[0, 5, 3, 0], [0, 0, 0, 0]]]])


@both_forms
def test_a_nan_wins_and_the_last_of_them_receives_the_gradient(form):
    x = np.array([[[[1.0, np.nan, 3.0], [np.nan, 9.0, 2.0]]]])
    with kernels.use(form):
        out, place = kernels.max_pool2d_forward(x, (2, 2), (1, 1), (0, 0), (1, 1), (1, 2))
    np.testing.assert_array_equal(out, [[[[np.nan, np.nan]]]])
    np.testing.assert_array_equal(place, [[[[2, 0]]]])


@both_forms
def test_padding_never_wins_even_over_minus_infinity(form):
    x = np.full((1, 1, 2, 2), -np.inf, np.float32)
    with kernels.use(form):
        out, place = kernels.max_pool2d_forward(x, (2, 2), (2, 2), (1, 1), (1, 1), (2, 2))
        np.testing.assert_array_equal(out, -np.inf)
        np.testing.assert_array_equal(place, [[[[3, 2], [1, 0]]]])
        grad_out = np.array([[[[1, 2], [3, 4]]]], np.float32)
        grad_x = kernels.max_pool2d_backward(
            grad_out, place, (2, 2), (2, 2), (1, 1), (1, 1), (2, 2)
        )
    np.testing.assert_array_equal(grad_x, grad_out)


@pytest.mark.parametrize(("side", "dtype"), [(16, np.uint8), (17, np.int32)])
def test_the_place_is_as_small_as_the_window_allows(side, dtype):
    x = np.zeros((1, 2, side, side), np.float32)
    x[0, 1, -1, -1] = 1
    _, place = kernels.max_pool2d_forward(x, (side, side), (1, 1), (0, 0), (1, 1), (1, 1))
    assert place.dtype == dtype
    np.testing.assert_array_equal(place.ravel(), [0, side * side - 1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("C", [1, 7, 20, 70])
def test_a_gather_and_a_scatter_give_the_same_bits(C, dtype, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, C, 13, 11)).astype(dtype)
    window, out_size = ((5, 4), (1, 2), (2, 1), (1, 2)), (13, 4)
    grad_out = rng.standard_normal((2, C, *out_size)).astype(dtype)
    grad_out[1, :, 3, 2] = np.nan
    _, place = kernels.max_pool2d_forward(x, *window, out_size)
    grads = []
    for scatters in False, True:
        monkeypatch.setattr(pool, "_scatters", lambda *shape, chosen=scatters: chosen)
        grads.append(kernels.max_pool2d_backward(grad_out, place, *window, x.shape[2:]))
    np.testing.assert_array_equal(*grads, strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("C", [1, 7, 20, 70])
@pytest.mark.parametrize("in_size", [(6, 6), (7, 8), (8, 7)])  # 2 x 2 windows, and what is behind
def test_windows_side_by_side_give_the_same_bits_as_a_gather(in_size, C, dtype, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, C, *in_size)).astype(dtype)
    window, out_size = ((3, 3), (3, 3), (0, 0), (1, 1)), (2, 2)
    grad_out = rng.standard_normal((2, C, *out_size)).astype(dtype)
    grad_out[1, :, 0, 1], grad_out[0, :, 1, 0] = np.nan, -0.0
    _, place = kernels.max_pool2d_forward(x, *window, out_size)
    monkeypatch.setattr(pool, "_scatters", lambda *shape: False)
    used, gather = [], pool.gather_into
    monkeypatch.setattr(pool, "gather_into", lambda *args: (used.append(True), gather(*args)))
    dealt = kernels.max_pool2d_backward(grad_out, place, *window, in_size)
    assert not used
    monkeypatch.setattr(pool, "_side_by_side", lambda *shape: False)
    gathered = kernels.max_pool2d_backward(grad_out, place, *window, in_size)
    assert used
    np.testing.assert_array_equal(dealt, gathered, strict=True)
    np.testing.assert_array_equal(np.signbit(dealt), np.signbit(gathered))


@pytest.mark.parametrize("scatters", [False, True])
def test_any_number_of_threads_gives_the_same_bits(scatters, monkeypatch, pool_of_four):
    monkeypatch.setattr(pool, "_scatters", lambda *shape: scatters)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 20, 31, 29)).astype(np.float32)
    window, out_size = ((3, 3), (2, 2), (1, 1), (1, 1)), (16, 15)
    grad_out = rng.standard_normal((3, 20, *out_size)).astype(np.float32)

    def both():
        out, place = kernels.max_pool2d_forward(x, *window, out_size)
        return out, place, kernels.max_pool2d_backward(grad_out, place, *window, x.shape[2:])

    want = both()
    monkeypatch.setattr(_jit, "SERIAL_BELOW", 0)
    for threads in pool_of_four:
        kernels.set_num_threads(threads)
        for got, expected in zip(both(), want, strict=True):
            np.testing.assert_array_equal(got, expected)
