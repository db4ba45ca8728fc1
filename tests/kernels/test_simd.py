"""Tiles and the product of matrices, at every width of vector."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minigrad.kernels._bits import tile_keep_positive
from minigrad.kernels._columns import sum_differences, sum_moments
from minigrad.kernels._contest import add_won, challenge, contest, settle
from minigrad.kernels._jit import body, kernel
from minigrad.kernels._runs import add_run, aligned_empty, copy_run, zero_run
from minigrad.kernels._simd import (
    VECTOR_BITS,
    lanes,
    lanes_of,
    tile_add,
    tile_by_lane,
    tile_gather,
    tile_load,
    tile_load_columns,
    tile_load_part,
    tile_store,
    tile_store_columns,
    tile_store_part,
    tile_zeros,
)
from minigrad.kernels._simd_dot import tile_dot, tile_dot_some, tile_totals
from minigrad.kernels._simd_transpose import tile_transpose
from minigrad.kernels.gemm import (
    ADD,
    NEIGHBOUR,
    OVERWRITE,
    multiply,
    pack,
    whole_vectors,
)

ROOT = Path(__file__).resolve().parents[2]

both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def _whole_numbers(rng, shape, dtype):
    return rng.integers(-4, 5, shape).astype(dtype)


@body
def _sum_of_tiles(x, y, out, row):
    like = tile_zeros(3, 2, out)
    tile_store(tile_add(tile_load(like, x, 1, row), tile_load(like, y, 1, row)), out, 1, row)


@both_dtypes
def test_tiles_are_read_added_and_written_where_they_are(dtype):
    width = lanes(dtype)
    row = 2 * width + 3
    rng = np.random.default_rng(0)
    x, y = _whole_numbers(rng, (2, 3 * row), dtype)
    out = np.zeros_like(x)
    _sum_of_tiles(x, y, out, row)
    inside = np.zeros(3 * row, bool)
    for m in range(3):
        inside[1 + m * row : 1 + m * row + 2 * width] = True
    np.testing.assert_array_equal(out, np.where(inside, x + y, 0))


@body
def _load_columns(x, out, row, columns):
    tile_store(tile_load_columns(tile_zeros(3, 2, out), x, 1, row, columns), out, 1, row)


@both_dtypes
def test_a_tile_reads_zeros_beyond_the_columns_asked_for(dtype):
    width = lanes(dtype)
    row = 2 * width + 3
    x = _whole_numbers(np.random.default_rng(0), 3 * row, dtype) + 10
    for columns in {-1, 0, 1, width, width + 1, 2 * width, 2 * width + 5}:
        out, want = np.zeros_like(x), np.zeros_like(x)
        _load_columns(x, out, row, columns)
        for m in range(3):
            inside = slice(1 + m * row, 1 + m * row + min(max(columns, 0), 2 * width))
            want[inside] = x[inside]
        np.testing.assert_array_equal(out, want)


@body
def _gather(x, out, step, count):
    tile_store(tile_gather(tile_zeros(1, 1, out), x, 2, step, count), out, 0, 0)


@both_dtypes
def test_a_vector_gathers_values_any_distance_apart(dtype):
    width = lanes(dtype)
    x = _whole_numbers(np.random.default_rng(0), 5 * width + 2, dtype) + 10
    for step, count in (1, width), (5, width), (3, width - 1), (2, 0), (2, -1), (4, width + 1):
        out = np.zeros(width, dtype)
        _gather(x, out, step, count)
        want = x[2::step][:width] * (np.arange(width) < count)
        np.testing.assert_array_equal(out, want)


LANES = lanes(np.float32)


@body
def _transpose(x, out, row):
    tile_store(tile_transpose(tile_load(tile_zeros(LANES, 1, out), x, 1, row)), out, 0, LANES)


def test_a_square_tile_is_transposed():
    row = LANES + 3
    x = np.arange(1 + LANES * row, dtype=np.float32)
    out = np.zeros(LANES * LANES, np.float32)
    _transpose(x, out, row)
    want = x[1:].reshape(LANES, row)[:, :LANES].T
    np.testing.assert_array_equal(out.reshape(LANES, LANES), want)


@body
def _multiply(x, y, out, row):
    sums = tile_load(tile_zeros(3, 2, out), out, 0, row)
    tile_store(tile_by_lane(sums, x, 1, row, y, 2), out, 0, row)


@both_dtypes
def test_tiles_multiply_lane_by_lane(dtype):
    row = 2 * lanes(dtype)
    rng = np.random.default_rng(0)
    x, y, sums = (_whole_numbers(rng, size, dtype) for size in (3 * row + 1, row + 2, 3 * row))
    out = sums.copy()
    _multiply(x, y, out, row)
    want = sums.reshape(3, row) + x[1:].reshape(3, row) * y[2:]
    np.testing.assert_array_equal(out, want.reshape(-1))


@body
def _dot(x, rows, kept, weight, step, columns, out):
    zeros = np.zeros(columns + 1, out.dtype)
    tile = tile_dot(tile_zeros(3, 2, out), x, rows, 1, weight, 2, step, columns)
    tile = tile_dot_some(tile, x, rows, 0, weight, 1, step, 1, columns, kept, zeros)
    tile_store(tile, out, 0, 2 * lanes_of(out))


@both_dtypes
def test_rows_from_anywhere_are_multiplied_lane_by_lane(dtype):
    width = lanes(dtype)
    rng = np.random.default_rng(0)
    x, weight = (_whole_numbers(rng, size, dtype) for size in (50 + width, 10 + 2 * width))
    rows, kept, step = np.array([40, 0, 7]), np.array([True, False, True]), width + 3
    for columns in {0, 1, width - 1, width}:
        out = np.zeros(6 * width, dtype)
        _dot(x, rows, kept, weight, step, columns, out)
        want = np.zeros((3, 2, width), dtype)
        for m, row in enumerate(rows):
            for v in range(2):
                seen = x[row + 1 : row + 1 + columns]
                later = seen * weight[2 + v * step :][:columns] * kept[m]
                want[m, v, :columns] = seen * weight[2 + v * step :][:columns] + later
        np.testing.assert_array_equal(out, want.reshape(-1))


@body
def _totals(x, out):
    held = tile_load(tile_zeros(5, 3, out), x, 0, 3 * lanes_of(x))
    tile_store(tile_totals(held), out, 0, 0)


@both_dtypes
def test_the_lanes_of_each_vector_are_added_up(dtype):
    x = _whole_numbers(np.random.default_rng(0), (15, lanes(dtype)), dtype)
    out = np.full(whole_vectors(15, dtype) * lanes(dtype), np.nan, dtype)
    _totals(x.reshape(-1), out)
    np.testing.assert_array_equal(out[:15], x.sum(1))


@body
def _store_columns(x, out, row, columns):
    tile_store_columns(tile_load(tile_zeros(3, 2, out), x, 1, row), out, 1, row, columns)


@both_dtypes
def test_a_tile_writes_no_more_columns_than_asked_for(dtype):
    width = lanes(dtype)
    row = 2 * width + 3
    x = _whole_numbers(np.random.default_rng(0), 3 * row, dtype) + 10
    for columns in {-1, 0, 1, width, width + 1, 2 * width, 2 * width + 5}:
        out = np.zeros_like(x)
        _store_columns(x, out, row, columns)
        inside = np.zeros(3 * row, bool)
        for m in range(3):
            inside[1 + m * row : 1 + m * row + min(max(columns, 0), 2 * width)] = True
        np.testing.assert_array_equal(out, np.where(inside, x, 0))


@body
def _copy_part(x, out, row, first, last, rows, columns):
    tile = tile_load_part(tile_zeros(3, 2, out), x, 1, row, first, last, columns)
    tile_store_part(tile, out, 1, row, rows, columns + 1)


@both_dtypes
def test_part_of_a_tile_is_read_and_written_and_no_more(dtype):
    width = lanes(dtype)
    row = 2 * width + 3
    x = _whole_numbers(np.random.default_rng(0), 3 * row, dtype) + 10
    for first, last, rows in [(0, 3, 3), (1, 3, 3), (-4, 2, 3), (0, 7, 1), (2, 2, 2), (0, 3, -1)]:
        for columns in {-1, 0, 1, width, width + 1, 2 * width, 2 * width + 5}:
            out = np.full_like(x, -1)
            _copy_part(x, out, row, first, last, rows, columns)
            want = np.full_like(x, -1)
            for m in range(min(rows, 3)):
                there = slice(1 + m * row, 1 + m * row + min(columns + 1, 2 * width))
                read = slice(1 + m * row, 1 + m * row + min(max(columns, 0), 2 * width))
                want[there] = 0
                want[read] = x[read] if first <= m < last else 0
            np.testing.assert_array_equal(out, want)


@body
def _start_of_room(like):
    return aligned_empty(5, like).ctypes.data


@both_dtypes
def test_room_begins_with_a_line_of_the_cache(dtype):
    like = np.zeros(1, dtype)
    for _ in range(5):
        assert _start_of_room(like) % (lanes(dtype) * like.itemsize) == 0
    assert aligned_empty(5, like).shape == (5,)


@body
def _lanes(x):
    return lanes_of(x)


@both_dtypes
def test_compiled_code_knows_the_width(dtype):
    assert _lanes(np.zeros(1, dtype)) == lanes(dtype)


@both_dtypes
@pytest.mark.parametrize("count", [0, 1, 7, 16, 33, 70])
def test_runs_move_their_values_and_no_others(dtype, count):
    rng = np.random.default_rng(count)
    x, before = _whole_numbers(rng, (2, 90), dtype)
    for run, want in (
        (copy_run, x[5 : 5 + count]),
        (add_run, before[3 : 3 + count] + x[5 : 5 + count]),
    ):
        out = before.copy()
        run(out, 3, x, 5, count)
        np.testing.assert_array_equal(out, [*before[:3], *want, *before[3 + count :]])
    out = before.copy()
    zero_run(out, 3, count)
    np.testing.assert_array_equal(out, [*before[:3], *np.zeros(count), *before[3 + count :]])


@body
def _keep_positive(x, out, row):
    like = tile_zeros(3, 2, out)
    tile_store(tile_keep_positive(tile_load(like, x, 0, row)), out, 0, row)


@both_dtypes
def test_what_is_not_negative_stays_and_a_nan_is_not_negative(dtype):
    row = 2 * lanes(dtype)
    values = np.array([-1, -0.0, 0, 2, np.nan, np.inf, -np.inf], dtype)
    x = np.resize(values, 3 * row)
    out = np.empty_like(x)
    _keep_positive(x, out, row)
    np.testing.assert_array_equal(out, np.resize([0, 0, 0, 2, np.nan, np.inf, 0], 3 * row))
    assert not np.signbit(out[x <= 0]).any()


@both_dtypes
@pytest.mark.parametrize("marked", [False, True])
def test_columns_are_summed_where_they_are_marked(dtype, marked):
    rng = np.random.default_rng(0)
    x, grad_out = _whole_numbers(rng, (2, 7, 80), dtype)  # one block of four vectors does not do
    pivot = _whole_numbers(rng, 80, dtype)
    marks = rng.integers(0, 2, grad_out.shape) if marked else np.ones(grad_out.shape, int)
    mask = np.packbits(marks.ravel(), bitorder="little") if marked else np.empty(0, np.uint8)
    sums, squares, total, moment = np.full((4, 80), np.nan, dtype)
    sum_differences(x.ravel(), pivot, False, sums)
    sum_differences(x.ravel(), pivot, True, squares)
    sum_moments(grad_out.ravel(), x.ravel(), mask, pivot, total, moment)
    np.testing.assert_array_equal(sums, (x - pivot).sum(0))
    np.testing.assert_array_equal(squares, ((x - pivot) ** 2).sum(0))
    np.testing.assert_array_equal(total, (marks * grad_out).sum(0))
    np.testing.assert_array_equal(moment, (marks * grad_out * (x - pivot)).sum(0))


@body
def _largest(x, several, out, place, count):
    if several:
        _contest(tile_zeros(2, 4, x), x, out, place, count)
    else:
        _contest(tile_zeros(2, 1, x), x, out, place, count)


@body
def _contest(tile, x, out, place, count):
    held = contest(tile, 7)
    for tap in range(x.shape[0]):
        held = challenge(held, x.reshape(-1), tap * x.shape[1], tap, count)
    settle(held, out, place, 0, count)


@body
def _won(grad_out, place, tap, out, count):
    total = add_won(tile_zeros(1, 1, out), grad_out, place, 0, tap, count)
    tile_store_columns(total, out, 0, 0, count)


@both_dtypes
@pytest.mark.parametrize("place_dtype", [np.uint8, np.int32])
def test_the_larger_value_wins_in_each_of_the_first_lanes(dtype, place_dtype):
    width = lanes(dtype)
    x = _distinct(4, width, dtype)
    for count in {1, width // 2, width} - {0}:
        out, place = np.full(width, -1, dtype), np.full(width, 99, place_dtype)
        _largest(x, False, out, place, count)
        np.testing.assert_array_equal(out, [*x.max(0)[:count], *[-1] * (width - count)])
        winners = np.where(np.isnan(x).any(0), 2, x.argmax(0))
        np.testing.assert_array_equal(place, [*winners[:count], *[99] * (width - count)])
        grad_out, grad_x = np.arange(1, width + 1, dtype=dtype), np.full(width, -1, dtype)
        _won(grad_out, place, 2, grad_x, count)
        want = np.where(place == 2, grad_out, 0)
        np.testing.assert_array_equal(grad_x, [*want[:count], *[-1] * (width - count)])


def _distinct(taps, count, dtype):
    x = np.random.default_rng(0).permutation(taps * count).reshape(taps, count).astype(dtype)
    x[2, count // 3] = np.nan
    return x


@both_dtypes
def test_several_vectors_take_part_in_one_contest(dtype):
    width = 4 * lanes(dtype)
    x = _distinct(5, width, dtype)
    out, place = np.empty(width, dtype), np.empty(width, np.uint8)
    _largest(x, True, out, place, width)
    np.testing.assert_array_equal(out, x.max(0))
    np.testing.assert_array_equal(place, np.where(np.isnan(x).any(0), 2, x.argmax(0)))


def test_places_beyond_127_are_told_apart():
    x, out, place = np.full((201, 64), -1.0), np.empty(64), np.empty(64, np.uint8)
    x[200] = 1
    _largest(x, False, out, place, lanes(x.dtype))
    np.testing.assert_array_equal(place[: lanes(x.dtype)], 200)


@kernel
def _product(a, a_row, a_step, b, M, vectors, K, width, c, action):
    multiply(M, vectors, K, a, a_row, a_step, b, K * width, width, c, vectors * width, action)


def _multiplied(a, b, transposed=False, start=None):
    """Compute a @ b, from a as it is or from its transpose in memory, on top of ``start``."""
    (M, K), N = a.shape, b.shape[1]
    width, vectors = lanes(a.dtype), whole_vectors(N, a.dtype)
    c = np.full((M, vectors * width), np.nan, a.dtype)
    if start is not None:
        c[:, :N], c[:, N:] = start, 0
    strides = (NEIGHBOUR, np.intp(M)) if transposed else (np.intp(K), NEIGHBOUR)
    memory = np.ascontiguousarray(a.T if transposed else a).reshape(-1)
    action = OVERWRITE if start is None else ADD
    packed = pack(b).reshape(-1)
    _product.launch(0, memory, *strides, packed, M, vectors, K, width, c.reshape(-1), action)
    assert not c[:, N:].any()
    return c[:, :N]


@both_dtypes
@pytest.mark.parametrize(
    ("M", "K", "N"),
    [(1, 1, 1), (31, 19, 70), (14, 5, 32), (6, 3, 17), (3, 0, 5), (0, 4, 5), (5, 4, 0)],
)
def test_the_product_is_exact_on_whole_numbers(dtype, M, K, N):
    rng = np.random.default_rng(0)
    a, b = _whole_numbers(rng, (M, K), dtype), _whole_numbers(rng, (K, N), dtype)
    start = _whole_numbers(rng, (M, N), dtype)
    np.testing.assert_array_equal(_multiplied(a, b), a @ b)
    np.testing.assert_array_equal(_multiplied(a, b, transposed=True), a @ b)
    np.testing.assert_array_equal(_multiplied(a, b, start=start), start + a @ b)


def test_the_product_is_as_exact_as_ordinary_summation():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((31, 1000)), rng.standard_normal((1000, 19))
    bound = 1000 * np.finfo(np.float64).eps * (np.abs(a) @ np.abs(b))
    exact = (a.astype(np.longdouble) @ b.astype(np.longdouble)).astype(np.float64)
    assert (np.abs(_multiplied(a, b) - exact) <= bound).all()


def test_packing_lays_out_whole_vectors():
    b = np.arange(1.0, 2 * 3 * 10 + 1).reshape(2, 3, 10)
    packed = pack(b)
    width, vectors = lanes(b.dtype), whole_vectors(10, b.dtype)
    assert packed.shape == (2, vectors, 3, width)
    rows = packed.transpose(0, 2, 1, 3).reshape(2, 3, vectors * width)
    np.testing.assert_array_equal(rows[..., :10], b)
    assert not rows[..., 10:].any()


def _run_this_file(**environment):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    return subprocess.run(
        [*command, "-k", "not width_from_the_environment"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


OTHER_WIDTHS = [w for w in ("scalar", "128", "256", "512") if w != str(VECTOR_BITS)]


@pytest.mark.parametrize("width", OTHER_WIDTHS)
def test_all_of_it_holds_for_a_width_from_the_environment(width):
    finished = _run_this_file(MINIGRAD_SIMD=width)
    assert finished.returncode == 0, finished.stdout


def test_all_of_it_holds_uncompiled_whatever_the_width_from_the_environment():
    finished = _run_this_file(MINIGRAD_SIMD="512", NUMBA_DISABLE_JIT="1")
    assert finished.returncode == 0, finished.stdout


@pytest.mark.parametrize("width", ["1024", "avx", ""])
def test_a_wrong_width_from_the_environment_is_a_clear_error(width):
    finished = subprocess.run(
        [sys.executable, "-c", "import minigrad.kernels._simd"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "MINIGRAD_SIMD": width},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.stderr.endswith(
        f"SettingError: MINIGRAD_SIMD chooses the width of vectors in bits. It is {width!r}. "
        "Set it to scalar, 128, 256 or 512, or leave it unset for the host's own width.\n"
    )
