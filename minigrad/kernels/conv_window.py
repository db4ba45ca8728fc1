"""What the direct convolutions share: windows of padded rows, and strips of neighbours.

Window. Without padding a filter row always reads one run of neighbouring values. So imagine all
images padded, one below the other, as a single tall image. A chunk of work copies the few rows of
it that it needs, a *window*, and they are still in the cache when they are multiplied. Where there
is no padding, the window is x itself and nothing is copied.

Strip. A tile of sums stands for two *strips*: each is ``height`` neighbours in a row, and they may
lie anywhere. Rows seldom divide by the height of a full tile, but most divide well by half of it;
a strip at the end of a row starts so early that it ends there, and what two strips share is
computed twice, to the same bits::

    row of 16 pixels, height 7     |- strip 0 -||- strip 1 -|
                                   a b c d e f g h i j k l m n o p
                                                     |- strip 2 -|
"""

from typing import NamedTuple

import numpy as np

from minigrad.kernels._jit import body
from minigrad.kernels._runs import copy_run, zero_run
from minigrad.kernels._simd import ROWS
from minigrad.kernels.conv_geometry import Geometry, inside

# The heights that a strip may have, the tallest first; two of these fill the registers.
TALL = ROWS // 2
LOW = (TALL + 1) // 2


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


def window_of(g: Geometry) -> Window:
    """Choose the window of a convolution: x itself if that will do."""
    height = (g.OH - 1) * g.stride_h + g.dilation_h * (g.KH - 1) + 1
    width = (g.OW - 1) * g.stride_w + g.dilation_w * (g.KW - 1) + 1
    copied = g.top != 0 or g.left != 0 or height > g.H or width > g.W
    if not copied:
        height, width = g.H, g.W
    pixel = g.channels if copied else g.C
    neighbours = pixel == g.channels and g.dilation_w == 1
    runs, run = (1, g.KW * g.channels) if neighbours else (g.KW, g.channels)
    right, down = g.dilation_w * pixel, g.dilation_h * width * pixel
    return Window(int(copied), height, width, pixel, runs, run, right, down)


@body
def fill_window(x, g, window, group, top_row, rows, values):
    """Copy rows of the tall padded image, for one group of channels, from ``top_row`` on."""
    channels, row = g.channels, window.width * window.pixel
    start, stop = inside(-g.left, window.width, g.W)
    for q in range(rows):
        n, h = (top_row + q) // window.height, (top_row + q) % window.height - g.top
        to = q * row
        if 0 <= h < g.H:
            at = ((n * g.H + h) * g.W + start - g.left) * g.C + group * channels
            zero_run(values, to, start * channels)
            to += start * channels
            if g.groups == 1:
                copy_run(values, to, x, at, (stop - start) * channels)
            else:
                for w in range(stop - start):
                    copy_run(values, to + w * channels, x, at + w * g.C, channels)
            to += (stop - start) * channels
            zero_run(values, to, (window.width - stop) * channels)
        else:
            zero_run(values, to, row)


def strip_height(length: int) -> int:
    """Choose the height of strips for rows of so many neighbours.

    The cost of a strip is its height, and a little for reading what all its sums share. A single
    pixel costs as much as two, for its few sums wait for one another.
    """
    fitting = [height for height in (TALL, LOW, 1) if height <= length or height == 1]
    return min(fitting, key=lambda height: strips_in(length, height) * (max(height, 2) + 0.5))


def strips_in(length: int, height: int) -> int:
    """Count the strips that cover a row."""
    return -(-length // height)


@body
def strip_start(strip, height, length):
    """Return where in its row a strip begins."""
    return min(strip * height, length - height)


def strip_rows(length: int, height: int) -> np.ndarray:
    """Return for each of so many neighbours where it stands among all places of all strips."""
    place = np.arange(length)
    strip = place // height
    return strip * height + place - np.minimum(strip * height, length - height)
