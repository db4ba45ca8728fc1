"""What direct convolutions share: windows of padded rows, and for outputs strips of neighbours.

Window. Without padding a filter row always reads one run of neighbouring values. So imagine all
images padded, one below the other, as a single tall image. A chunk of work copies the few rows of
it that it needs, a *window*, and they are still in the cache when they are multiplied. Where there
is no padding, the window is x itself and nothing is copied.

Strip. A tile of outputs is two *strips*: each is ``height`` neighbours in a row, and they may lie
anywhere. Rows seldom divide by the height of a full tile, but most divide well by half of it;
a strip at the end of a row starts so early that it ends there, and what two strips share is
computed twice, to the same bits::

    row of 16 pixels, height 7     |- strip 0 -||- strip 1 -|
                                   a b c d e f g h i j k l m n o p
                                                     |- strip 2 -|
"""

from typing import NamedTuple

from minigrad.kernels._ahead import LINE_BYTES
from minigrad.kernels._jit import body, chunks_of
from minigrad.kernels._layout import remembered
from minigrad.kernels._runs import copy_run, zero_run
from minigrad.kernels._simd import (
    ROWS,
    lanes_of,
    tile_load,
    tile_load_columns,
    tile_store,
    tile_store_columns,
    tile_zeros,
)
from minigrad.kernels.conv_geometry import Geometry, inside, taps_inside

# The sizes that a tile may have: the height of its two strips, and the vectors of filters in a row.
# (TALL, 2) fills the registers. Each one is compiled, so they are few.
# A single vector of filters leaves registers for a taller strip: 8 pixels with AVX-512, and most
# rows divide by that.
TALL, LOW, ALONE = ROWS // 2, (ROWS // 2 + 1) // 2, ROWS // 2 + 1
# Where rows are short, four pixels from anywhere make a tile (``conv_pixels.py``).
TILES = ((1, 2), (TALL, 2), (LOW, 2), (ALONE, 1))
PIXELS = 4

# Of each strip: where in a window it begins, and where in out; which pixel of the image its first
# tap sees, by row and column.
SEEN, WRITTEN, ROW, COLUMN = range(4)

# Pixels a multiple of this apart meet in one or two sets of the first cache, of some twelve lines.
COLLISION_BYTES = 2048


def gap_for(g: Geometry, itemsize: int) -> int:
    """Choose the gap behind the pixels of a copy, such that a strip's pixels do not collide.

    A tile reads one value of each of its pixels at a time, each in a line of the cache.
    """
    return 0 if g.stride_w * g.channels * itemsize % COLLISION_BYTES else LINE_BYTES // itemsize


class Window(NamedTuple):
    """How the values that a filter sees lie in memory, counted in values."""

    copied: int  # 1: a window is copied; 0: it is x itself
    height: int  # rows from one image to the next
    width: int  # pixels in a row
    pixel: int  # from a pixel to its right neighbour
    runs: int  # runs that a filter row falls into, of neighbouring values
    run: int  # values in each
    right: int  # from a run to the next
    down: int  # from a filter row to the next


class Seen(NamedTuple):
    """What of a filter does not see padding alone."""

    top: int  # rows of taps, from the first up to the last
    bottom: int
    left: int  # runs of a row
    right: int
    first: int  # values of a run
    last: int
    weight: int  # values of the weight before the first of these, and between their rows
    rest: int


class Places(NamedTuple):
    """Where output pixel (n, oh, ow) is written: start + n * image + oh * row + ow * pixel."""

    start: int
    image: int
    row: int
    pixel: int


class Plan(NamedTuple):
    """How the work is cut: strips over (N, OH, strips of a row), and vectors of filters."""

    height: int  # of a strip
    wide: int  # vectors of filters in a tile
    row_strips: int  # strips in a row
    strips: int
    unit: int  # strips that no chunk parts
    pieces: int  # chunks over the strips
    vectors: int  # of filters in a group, filled up to whole tiles
    parts: int  # chunks over the vectors
    near: int  # vectors whose weights the second cache holds together
    stretch: int = 1  # values of a run that are summed between two times of asking for lines
    reads: int = 0  # lines of x asked for at a time: the next two strips will see them
    read_step: int = 0  # bytes from one to the next
    writes: int = 0  # lines of out: they will be written there
    write_step: int = 0
    room: int = 0  # values of each pixel, where those of two strips are copied lest they collide


@remembered
def window_of(g: Geometry, copied: bool = False, gap: int = 0) -> Window:
    """Choose the window of a convolution: x itself if that will do and no copy is asked for.

    A copy may leave a gap of so many values behind the channels of each pixel.
    """
    height = (g.OH - 1) * g.stride_h + g.dilation_h * (g.KH - 1) + 1
    width = (g.OW - 1) * g.stride_w + g.dilation_w * (g.KW - 1) + 1
    copied = copied or g.top != 0 or g.left != 0 or height > g.H or width > g.W
    if not copied:
        height, width = g.H, g.W
    return seen_in(g, int(copied), height, width, g.channels + gap if copied else g.C)


def seen_in(g: Geometry, copied: int, height: int, width: int, pixel: int) -> Window:
    """Describe what the filters of a convolution see in a window of such sizes."""
    neighbours = pixel == g.channels and g.dilation_w == 1
    runs, run = (1, g.KW * g.channels) if neighbours else (g.KW, g.channels)
    right, down = g.dilation_w * pixel, g.dilation_h * width * pixel
    return Window(copied, height, width, pixel, runs, run, right, down)


@body
def stand_apart(values, upper_at, lower_at, step, plan, pixels, apart):
    """Copy the pixels of two strips, so far apart that they do not collide."""
    for i in range(plan.height):
        copy_run(pixels, i * apart, values, upper_at + i * step, plan.room)
        copy_run(pixels, (plan.height + i) * apart, values, lower_at + i * step, plan.room)


@body
def most_rows(g, window, rows):
    """Return how many rows of the window some rows of output may need."""
    images = chunks_of(rows - 1, g.OH)  # after the first
    gap = max(window.height - g.OH * g.stride_h, 0)
    return (rows - 1) * g.stride_h + images * gap + (g.KH - 1) * g.dilation_h + 1


@body
def fill_window(x, g, window, group, top_row, rows, values):
    """Copy rows of the tall padded image, for one group of channels, from ``top_row`` on."""
    channels, row, width = g.channels, window.width * window.pixel, lanes_of(values)
    one = tile_zeros(1, 1, values)
    start, stop = inside(-g.left, window.width, g.W)
    for q in range(rows):
        n, h = (top_row + q) // window.height, (top_row + q) % window.height - g.top
        to = q * row
        if 0 <= h < g.H:
            at = ((n * g.H + h) * g.W + start - g.left) * g.C + group * channels
            zero_run(values, to, start * window.pixel)
            to += start * window.pixel
            if window.pixel == g.C:
                copy_run(values, to, x, at, (stop - start) * g.C)
            else:
                for w in range(stop - start):
                    for c in range(0, channels, width):  # a group's channels are few
                        held = tile_load_columns(one, x, at + w * g.C + c, 0, channels - c)
                        there = to + w * window.pixel + c
                        tile_store_columns(held, values, there, 0, channels - c)
            to += (stop - start) * window.pixel
            zero_run(values, to, (window.width - stop) * window.pixel)
        else:
            zero_run(values, to, row)


@body
def fill_windows(x, g, window, group_blocks, blocks, top_row, rows, values):
    """Copy rows of the tall padded image, for some blocks of channels one after the other.

    The last block of a group may hang over its channels.
    """
    size, width = rows * window.width * window.pixel, lanes_of(x)
    count, of_group = blocks[1] - blocks[0], g.C * group_blocks // g.groups
    zero_run(values, count * size, width)  # the last run may be read beyond
    if g.groups * g.channels == g.C and (g.channels != width or g.groups == 1):
        for i in range(count):
            fill_window(x, g, window, blocks[0] + i, top_row, rows, values[i * size :])
        return
    block = blocks[0]
    while block < blocks[1]:
        group, first = block // group_blocks, block % group_blocks
        some, step = 1, width
        if g.channels == width:  # the blocks of a pixel are neighbours in x: copied at once
            some, step = min(group_blocks - first, blocks[1] - block), size
        channels = min(some * g.channels, of_group - first * g.channels)
        _fill_vectors(
            x, g, window, group * of_group + first * g.channels, channels, step, top_row, rows,
            values[(block - blocks[0]) * size :],
        )  # fmt: skip
        block += some


@body
def _fill_vectors(x, g, window, first, channels, step, top_row, rows, values):
    """Copy some channels of each pixel to vectors, each a step from the last."""
    width = lanes_of(x)
    none = one = tile_zeros(1, 1, x)
    whole, rest = channels // width, channels % width
    start, stop = inside(-g.left, window.width, g.W)
    for q in range(rows):
        n, h = (top_row + q) // window.height, (top_row + q) % window.height - g.top
        at, row = ((n * g.H + h) * g.W - g.left) * g.C + first, q * window.width * window.pixel
        for w in range(window.width):
            seen, to = at + w * g.C, row + w * window.pixel
            if 0 <= h < g.H and start <= w < stop:
                for i in range(whole):
                    tile_store(tile_load(one, x, seen + i * width, 0), values, to + i * step, 0)
                if rest > 0:
                    held = tile_load_columns(one, x, seen + whole * width, 0, rest)
                    tile_store(held, values, to + whole * step, 0)
            else:
                for i in range(whole + (rest > 0)):
                    tile_store(none, values, to + i * step, 0)


@body
def seen_by(g, window, strips, first, count, height):
    """Say which taps of some strips see the image."""
    low_h = high_h = strips[ROW, first]
    low_w = high_w = strips[COLUMN, first]
    for i in range(first + 1, min(first + count, strips.shape[1])):
        low_h, high_h = min(low_h, strips[ROW, i]), max(high_h, strips[ROW, i])
        low_w, high_w = min(low_w, strips[COLUMN, i]), max(high_w, strips[COLUMN, i])
    high_w += (height - 1) * g.stride_w
    top, bottom = taps_inside(low_h, high_h, g.dilation_h, g.KH, g.H)
    left, right = taps_inside(low_w, high_w, g.dilation_w, g.KW, g.W)
    row, before, rest = g.KW * g.channels, left * g.channels, (g.KW - right + left) * g.channels
    if window.runs == 1:
        return Seen(top, bottom, 0, 1, before, right * g.channels, top * row + before, rest)
    return Seen(top, bottom, left, right, 0, window.run, top * row + before, rest)


def tile_for(length: int, vectors: int) -> tuple[int, int]:
    """Choose the tile for rows of so many neighbours and for so many vectors of filters.

    A tile takes as long as it has sums, and a little to read what these share.
    """

    def cost(tile: tuple[int, int]) -> int:
        height, wide = tile
        return strips_in(length, height) * strips_in(vectors, wide) * (height * wide + 1)

    return min((tile for tile in TILES if tile[0] <= max(length, 1)), key=cost)


def strips_in(length: int, height: int) -> int:
    """Count the strips of one height that cover a row."""
    return -(-length // height)


@body
def strip_start(strip, height, length):
    """Return where in its row a strip begins."""
    return min(strip * height, length - height)


@body
def place_strips(g, window, places, plan, first, top_row, strips):
    """List strips, from the first on: what stands in the rows SEEN, WRITTEN, ROW and COLUMN."""
    n = first // (g.OH * plan.row_strips)
    oh, strip = first // plan.row_strips % g.OH, first % plan.row_strips
    for i in range(strips.shape[1]):
        row = n * window.height + oh * g.stride_h - top_row
        ow = strip_start(strip, plan.height, g.OW)
        strips[SEEN, i] = (row * window.width + ow * g.stride_w) * window.pixel
        strips[WRITTEN, i] = places.start + n * places.image + oh * places.row + ow * places.pixel
        strips[ROW, i], strips[COLUMN, i] = oh * g.stride_h - g.top, ow * g.stride_w - g.left
        strip += 1
        if strip == plan.row_strips:
            strip, oh = 0, oh + 1
            if oh == g.OH:
                oh, n = 0, n + 1
