"""Where tiles begin, and that each point of a block has the tiles that need it, and no others."""

from typing import NamedTuple

import numpy as np
import pytest

from minigrad.kernels import conv2d_forward, conv2d_grad_input, conv2d_grad_weight, use
from minigrad.kernels._simd import ROWS
from minigrad.kernels.conv_choice import conv_algorithm
from minigrad.kernels.winograd_places import (
    LOW,
    begin_of,
    cut_axis,
    cut_tiles,
    height_of,
    needed,
    place_tiles,
    places_of,
    row_places,
    seen,
)


class Plan(NamedTuple):
    """What places depend on."""

    outputs: int
    patch: int
    image_rows: int
    full_rows: int
    row_tiles: int
    full_tiles: int


def _plan(OH, OW, outputs):
    return Plan(outputs, outputs + 2, *cut_axis(OH, outputs), *cut_axis(OW, outputs))


@pytest.mark.parametrize("outputs", [2, 4])
@pytest.mark.parametrize("size", range(1, 31))
def test_tiles_cover_an_axis_without_overlap(size, outputs):
    tiles, full = cut_axis(size, outputs)
    assert tiles == -(-size // outputs)
    begins = [begin_of(tile, full, outputs) for tile in range(tiles + 1)]
    heights = [height_of(tile, full, outputs) for tile in range(tiles)]
    assert begins[0] == 0
    assert np.diff(begins).tolist() == heights
    assert begins[-2] < size <= begins[-1]
    assert full == tiles or begins[-1] == size or full == 0  # as many are short as it takes


SIZES = [(7, 7), (14, 13), (6, 11), (8, 12), (3, 9), (5, 4), (28, 15), (1, 1)]


@pytest.mark.parametrize("outputs", [2, 4])
@pytest.mark.parametrize(("OH", "OW"), SIZES)
@pytest.mark.parametrize("rows", [(0, 1), (0, 5), (3, 7), (2, 12)])
def test_a_point_finds_the_tiles_that_need_it_side_by_side(OH, OW, outputs, rows):
    plan, (first, last) = _plan(OH, OW, outputs), rows
    places = {}
    for row in range(first, last):
        full_at, short_at = row_places(plan, first, last, row)
        for tile in range(plan.row_tiles):
            places[row, tile] = (full_at if tile < plan.full_tiles else short_at) + tile
    assert sorted(places.values()) == list(range((last - first) * plan.row_tiles))
    spans = place_tiles(plan, first, last)
    full = sum(row % plan.image_rows < plan.full_rows for row in range(first, last))
    for i in range(plan.patch):
        for j in range(plan.patch):
            want = {
                place
                for (row, tile), place in places.items()
                if (i < plan.patch - 1 or row % plan.image_rows < plan.full_rows)
                and (j < plan.patch - 1 or tile < plan.full_tiles)
            }
            start, stop = needed(plan, last - first, full, i, j)
            assert set(range(start, stop)) == want
            begin, low, end = spans[i * plan.patch + j]
            assert (begin, end) == (start, stop)
            assert begin <= low <= end
            assert low == end or (low - begin) % ROWS == 0


@pytest.mark.parametrize("tiles", range(4 * ROWS))
def test_tiles_of_registers_are_cut_at_the_least_cost(tiles):
    cost, full = cut_tiles(tiles)
    rest = -(-max(tiles - full, 0) // LOW)
    assert cost == full // ROWS * (ROWS + 1) + rest * (LOW + 1)
    every = [
        a * (ROWS + 1) + b * (LOW + 1)
        for a in range(8)
        for b in range(16)
        if a * ROWS + b * LOW >= tiles
    ]
    assert cost == min(every)
    assert places_of(tiles, True) == full + rest * LOW >= tiles
    # From any place on, tiles of registers stay within the room of a block.
    assert full + rest * LOW <= max(places_of(tiles, False), 0)


def test_the_pixels_of_rows_of_tiles_are_those_that_their_patches_see():
    plan = _plan(7, 7, 4)  # rows of tiles begin at 0 and 4, the next image's at 7 rows
    assert seen(plan, 0, 1, 7, 10, 1, 6) == (0, 50)
    assert seen(plan, 1, 2, 7, 10, 1, 6) == (30, 70)
    assert seen(plan, 1, 3, 7, 10, 1, 6) == (30, 120)


@pytest.mark.parametrize("N", [1, 5])
@pytest.mark.parametrize("C", [5, 70])
@pytest.mark.parametrize("F", [3, 34, 67])
@pytest.mark.parametrize(("OH", "OW"), [(7, 7), (6, 11), (3, 14), (10, 5), (13, 4)])
def test_short_tiles_compute_what_direct_sums_do(N, C, F, OH, OW):
    rng = np.random.default_rng(OH * 100 + OW)
    x = rng.standard_normal((N, C, OH + 1, OW)).astype(np.float32)
    weight = rng.standard_normal((F, C, 3, 3)).astype(np.float32)
    grad_out = rng.standard_normal((N, F, OH, OW)).astype(np.float32)
    settings = (1, 1), (1, 0, 1, 1), (1, 1), 1
    with conv_algorithm("winograd"):
        got = (
            conv2d_forward(x, weight, None, *settings),
            conv2d_grad_input(grad_out, weight, x.shape, *settings),
            conv2d_grad_weight(grad_out, x, weight.shape, *settings),
        )
    x, weight, grad_out = (array.astype(np.float64) for array in (x, weight, grad_out))
    with use("reference"):
        want = (
            conv2d_forward(x, weight, None, *settings),
            conv2d_grad_input(grad_out, weight, x.shape, *settings),
            conv2d_grad_weight(grad_out, x, weight.shape, *settings),
        )
    for found, right in zip(got, want, strict=True):
        np.testing.assert_allclose(found, right, rtol=0, atol=3e-5 * np.abs(right).max())
