"""Where the tiles of Winograd convolution begin, and in what order a block of them is kept.

Tiles of four outputs seldom divide an image: seven are two tiles, with one output too many. No tile
need compute it. The value at infinity is a leading coefficient: it reaches the last output alone,
and in A y A^T it is the last row of y. So a *short* tile, of one output less, is a full one without
infinity: it needs 5 points along that axis, not 6. The last rows and columns of tiles of an image
are as short as it takes, and 7 x 7 outputs are 11 x 11 products, not 12 x 12::

    0 0 0 0 1 1 1        0: full,  outputs 0 to 3, products at 6 points
    0 0 0 0 1 1 1        1: short, outputs 4 to 6, products at 5 points
    ...

A block keeps its tiles in such an order that those which a point needs are neighbours:

    row of tiles    tile     needed at infinity of:   neither    rows    columns    both
    full            short                                x         x
    full            full                                 x         x        x        x
    short           full                                 x                  x
    short           short                                x

A plan says in ``full_rows`` how many rows of tiles in an image are full, and in ``full_tiles`` how
many tiles in a row.
"""

import numpy as np

from minigrad.kernels._jit import body, chunks_of, register_jitable
from minigrad.kernels._runs import zero_run
from minigrad.kernels._simd import ROWS

__all__ = [
    "LOW",
    "begin_of",
    "cut_axis",
    "cut_tiles",
    "full_rows_of",
    "height_of",
    "needed",
    "place_tiles",
    "places_of",
    "row_places",
    "seen",
    "zero_others",
]

# The last tiles of registers may be lower than full ones, where that leaves less of them empty.
LOW = (ROWS + 2) // 2


def cut_axis(size: int, outputs: int) -> tuple[int, int]:
    """Return how many tiles so many outputs take, and how many of these are full."""
    tiles = chunks_of(size, outputs)
    return tiles, max(size - tiles * (outputs - 1), 0)


@register_jitable
def cut_tiles(tiles: int) -> tuple[int, int]:
    """Cut so many tiles into those in full tiles of registers and the rest, in low ones.

    Returns the cost, in rows of registers with one more for what each tile of them costs by
    itself, and how many tiles are in full ones.
    """
    least, most = -1, 0
    for low in range(ROWS):  # so many low ones take longer than full ones of the same rows
        full = chunks_of(max(tiles - low * LOW, 0), ROWS)
        cost = full * (ROWS + 1) + chunks_of(max(tiles - full * ROWS, 0), LOW) * (LOW + 1)
        if least < 0 or cost <= least:
            least, most = cost, full * ROWS
    return least, most


def places_of(tiles: int, whole: bool) -> int:
    """Return for how many tiles a block needs room, since tiles of registers hang over the last.

    If all tiles are full, as ``whole`` says, every point has the same ones.
    """
    _, full = cut_tiles(tiles)
    return full + chunks_of(max(tiles - full, 0), LOW) * LOW if whole else tiles + LOW - 1


@body
def begin_of(tile, full, outputs):
    """Return with which output of its axis a tile begins."""
    return tile * outputs - max(tile - full, 0)


@body
def height_of(tile, full, outputs):
    """Return how many outputs a tile has along an axis."""
    return outputs if tile < full else outputs - 1


@body
def full_rows_of(plan, first, last):
    """Count the full rows of tiles from ``first`` up to ``last``, rows of all images."""
    return _full_rows_before(plan, last) - _full_rows_before(plan, first)


@body
def _full_rows_before(plan, row):
    return row // plan.image_rows * plan.full_rows + min(row % plan.image_rows, plan.full_rows)


@body
def row_places(plan, first, last, row):
    """Return where the full tiles of a row are in its block, and where the short ones.

    Tile t is t places behind the first or the second number.
    """
    short_tiles = plan.row_tiles - plan.full_tiles
    full, above = full_rows_of(plan, first, last), full_rows_of(plan, first, row)
    if row % plan.image_rows < plan.full_rows:
        return (
            full * short_tiles + above * plan.full_tiles,
            above * short_tiles - plan.full_tiles,
        )
    start, above = full * plan.row_tiles, row - first - above
    return (
        start + above * plan.full_tiles,
        start + (last - first - full) * plan.full_tiles + above * short_tiles - plan.full_tiles,
    )


@body
def needed(plan, rows, full, i, j):
    """Return the first place of the tiles that need point (i, j), and where they stop.

    A block has so many rows of tiles, of which so many are full.
    """
    if i == plan.patch - 1:
        rows = full
    if j < plan.patch - 1:
        return 0, rows * plan.row_tiles
    start = full * (plan.row_tiles - plan.full_tiles)
    return start, start + rows * plan.full_tiles


@body
def place_tiles(plan, first, last):
    """Return for each point where the tiles in full tiles of registers begin, and end, and all."""
    places = np.empty((plan.patch**2, 3), np.intp)
    full = full_rows_of(plan, first, last)
    tiles = in_full = 0
    for i in range(plan.patch):
        for j in range(plan.patch):
            start, stop = needed(plan, last - first, full, i, j)
            if stop - start != tiles:
                tiles = stop - start
                _, in_full = cut_tiles(tiles)
            # One by one: to compile a tuple's way into a row takes most of a second.
            point = i * plan.patch + j
            places[point, 0] = start
            places[point, 1] = min(start + in_full, stop)
            places[point, 2] = stop
    return places


@body
def zero_others(sums, places, point_step, tile_step):
    """Write zeros where a point is not needed: nobody reads what becomes of them."""
    tiles = places[0, 2]
    for point in range(len(places)):
        start, stop = places[point, 0], places[point, 2]
        if stop - start < tiles:
            at = point * point_step
            zero_run(sums, at, start * tile_step)
            zero_run(sums, at + stop * tile_step, (tiles - stop) * tile_step)


@body
def seen(plan, first, last, H, row, top, high):
    """Return where in an image the pixels of some rows of tiles begin and end.

    A row of tiles is ``high`` pixels high, and the first one begins ``top`` above the image.
    """
    last -= 1
    first_h = begin_of(first % plan.image_rows, plan.full_rows, plan.outputs) - top
    last_h = begin_of(last % plan.image_rows, plan.full_rows, plan.outputs) - top
    first_n, last_n = first // plan.image_rows, last // plan.image_rows
    return (first_n * H + max(first_h, 0)) * row, (last_n * H + min(last_h + high, H)) * row
