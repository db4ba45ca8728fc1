"""The kernel behind average pooling and interpolation: against its twin, matrices and itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad import kernels
from minigrad.kernels import _jit
from minigrad.kernels.taps import Taps, from_table, window_taps

pytestmark = pytest.mark.usefixtures("fast_kernels")


def _dense(taps, size_in):
    matrix = np.zeros((taps.size, size_in))
    rows = np.repeat(np.arange(taps.size), np.diff(taps.starts))
    np.add.at(matrix, (rows, taps.sources), taps.weights)
    return matrix


def _random_taps(rng, size_in, size_out):
    """Up to four whole-number weights a line, some lines empty, some entries read twice."""
    shape = (size_out, 4)
    sources = rng.integers(0, size_in, shape)
    return from_table(sources, rng.integers(-3, 4, shape), rng.random(shape) < 0.6)


sizes = st.integers(1, 9)


@given(
    shape=st.tuples(st.integers(0, 3), st.integers(1, 20), sizes, sizes),
    out=st.tuples(sizes, sizes),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_equals_the_twin_and_the_matrices_exactly_on_whole_numbers(shape, out, seed, dtype):
    rng = np.random.default_rng(seed)
    rows, columns = (_random_taps(rng, n, m) for n, m in zip(shape[2:], out, strict=True))
    x = rng.integers(-4, 5, shape).astype(dtype)
    got = kernels.resample2d(x, rows, columns)
    with kernels.use("reference"):
        np.testing.assert_array_equal(got, kernels.resample2d(x, rows, columns), strict=True)
    matrices = _dense(rows, shape[2]), _dense(columns, shape[3])
    np.testing.assert_array_equal(got, np.einsum("oh,nchw,pw->ncop", matrices[0], x, matrices[1]))
    back = kernels.resample2d(got, rows.transposed(shape[2]), columns.transposed(shape[3]))
    assert np.vdot(got.astype(np.float64), got) == np.vdot(back.astype(np.float64), x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("C", [1, 3, 8, 16, 37])  # rows below a vector, and pixels of any width
@pytest.mark.parametrize(
    ("size", "table"),
    [((1, 1), False), ((4, 1), False), ((4, 1), True), ((5, 6), False), ((5, 6), True)],
)
def test_divides_every_sum_once(C, size, table, dtype):
    rng = np.random.default_rng(0)
    rows, columns = (_random_taps(rng, n, n) for n in size)
    x = rng.integers(-4, 5, (3, C, *size)).astype(dtype)
    divisors = rng.integers(1, 10, size if table else (1, 1)).astype(dtype)
    got = kernels.resample2d(x, rows, columns, divisors)
    want = kernels.resample2d(x, rows, columns) / divisors
    np.testing.assert_array_equal(got, want, strict=True)
    with kernels.use("reference"):
        np.testing.assert_array_equal(
            got, kernels.resample2d(x, rows, columns, divisors), strict=True
        )


@given(size_in=sizes, size_out=sizes, k=st.integers(1, 4), s=sizes, p=st.integers(0, 4), d=sizes)
def test_window_taps_are_what_lies_under_the_window(size_in, size_out, k, s, p, d):
    taps = window_taps(size_in, size_out, k, s, p, d)
    for i in range(taps.size):
        under = [(i * s - p + j * d, j) for j in range(k) if 0 <= i * s - p + j * d < size_in]
        line = slice(taps.starts[i], taps.starts[i + 1])
        found = zip(taps.sources[line].tolist(), taps.weights[line].tolist(), strict=True)
        assert list(found) == under
    assert taps.size == size_out


@given(size_in=sizes, size_out=sizes, seed=st.integers(0, 2**32 - 1))
def test_transposed_taps_are_the_transposed_matrix(size_in, size_out, seed):
    taps = _random_taps(np.random.default_rng(seed), size_in, size_out)
    back = taps.transposed(size_in)
    np.testing.assert_array_equal(_dense(back, size_out), _dense(taps, size_in).T)


def test_a_nan_reaches_only_the_outputs_that_read_it():
    x = np.zeros((1, 1, 4, 4))
    x[0, 0, 0, 1] = np.nan
    halves = Taps(np.array([0, 2, 4]), np.arange(4), np.ones(4))
    for form in "fast", "reference":
        with kernels.use(form):
            out = kernels.resample2d(x, halves, halves)
        np.testing.assert_array_equal(np.isnan(out[0, 0]), [[True, False], [False, False]])


def test_a_nan_stays_in_its_channel_and_pixel_where_few_are_read_as_a_vector():
    x = np.ones((1, 3, 2, 5), np.float32)
    x[0, 1, 0, 3] = np.nan
    every = Taps(np.arange(6), np.arange(5), np.ones(5))
    rows = Taps(np.arange(3), np.arange(2), np.ones(2))
    np.testing.assert_array_equal(kernels.resample2d(x, rows, every), x)


def test_any_number_of_threads_gives_the_same_bits(monkeypatch, pool_of_four):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 20, 31, 29)).astype(np.float32)
    rows, columns = _random_taps(rng, 31, 40), _random_taps(rng, 29, 11)
    want = kernels.resample2d(x, rows, columns)
    monkeypatch.setattr(_jit, "SERIAL_BELOW", 0)
    for threads in pool_of_four:
        kernels.set_num_threads(threads)
        np.testing.assert_array_equal(kernels.resample2d(x, rows, columns), want)
