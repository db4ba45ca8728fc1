"""What a strip of outputs sees of a padded image: the window, which moves down row by row.

It takes up each new row in place of one that is not needed any more::

    rows of the image      0 1 2      taps of output row 0
                             1 2 3    taps of output row 1: row 3 comes in the place of row 0

For each vector of filters it holds the channels that these see, as planes (``_simd_slide.py``).
"""

from typing import NamedTuple

import numpy as np

from minigrad.kernels._ahead import LINE_BYTES, prefetch_lines
from minigrad.kernels._jit import body, chunks_of
from minigrad.kernels._simd import lanes, lanes_of
from minigrad.kernels._simd_slide import slide_clear, slide_take, slide_take_part
from minigrad.kernels.conv_geometry import Geometry

__all__ = ["Window", "in_vectors", "new_rows", "take_rows", "window_of"]

# The window should stay in the first cache, along with weights and outputs.
WINDOW_BYTES = 24 * 1024

# Rows of outputs from here on: when to ask the memory for what they see, and for the next row of
# outputs. The hardware does not foresee where a strip goes on. Where pixels are copied as they lie
# it pays in arrays this large: 16x96x56x56 takes 0.6 of the time on an EPYC, but what is in the
# caches up to 1.2 times as long.
AHEAD, LARGE_BYTES = 2, 8 * 1024 * 1024


class Window(NamedTuple):
    """What the compiler need not know of the window, counted in values."""

    pixels: int
    planes: int  # that are multiplied one by one
    plane: int  # from one to the next
    row: int  # from one row to the next
    ring: int  # rows
    vector: int  # from one vector of filters to the next
    group: int  # channels that a vector of filters sees
    read: int  # values of a pixel that are read for it
    share: int  # vectors of filters that see the same channels
    held: int  # vectors of filters in it
    ahead: int  # rows of outputs from what is copied to what is asked for, or 0
    lines: int  # of a pixel that are asked for then


def in_vectors(g: Geometry, width: int) -> tuple[int, int, int]:
    """Return how many channels and filters of a group a vector has to do with, and of how many."""
    if g.filters % width == 0:
        return 1, width, 1
    return g.channels, g.filters, min(width // g.filters, g.groups)


def window_of(g: Geometry, outputs: int, vectors: int, dtype: np.dtype) -> Window:
    """Lay out the window for so many outputs of a row, and at most so many vectors of filters."""
    width = lanes(dtype)
    pixels = (outputs - 1) * g.stride_w + (g.KW - 1) * g.dilation_w + 1
    alone = g.filters % width == 0
    planes = chunks_of(g.channels, width) if alone else 1
    row = pixels * width * (planes if alone else g.channels)
    ring = (g.KH - 1) * g.dilation_h + 1
    held = max(min(WINDOW_BYTES // (ring * row * dtype.itemsize), vectors), 1)
    share = g.filters // width if alone else 1
    channels, _, groups = in_vectors(g, width)
    group = groups * g.channels
    read = planes * width if alone else group
    far = channels > 1 or g.N * g.H * g.W * g.C * dtype.itemsize >= LARGE_BYTES
    return Window(
        pixels, planes, pixels * width, row, ring, ring * row, group, read, share, held,
        AHEAD if far else 0, chunks_of(chunks_of(held, share) * group * dtype.itemsize, LINE_BYTES),
    )  # fmt: skip


@body(inline=True)
def new_rows(g, window, oh, first):
    """Return which rows of a padded image the window needs for outputs in row oh, and has not."""
    q = oh * g.stride_h
    end = q + window.ring
    return (q if first else max(q, end - g.stride_h)), end


@body(inline=True)
def take_rows(known, x, g, window, image, n, rows, ow, vectors, values):
    """Copy to the window what a strip sees of some rows of a padded image."""
    for row in range(rows[0], rows[1]):
        _fill_row(known, x, g, window, image, n, row, ow, vectors, values)


@body(inline=True)
def _fill_row(known, x, g, window, image, n, q, ow, vectors, values):
    """Copy what a strip sees of row q of a padded image, for some vectors of filters.

    Pixel by pixel, as they lie in memory: that is what the hardware foresees.
    """
    h, w = q - g.top, ow * g.stride_w - g.left
    c, width = vectors[0] // window.share * window.group, lanes_of(x)
    at = image.start + n * image.image + h * image.row + w * image.pixel + c
    to = q % window.ring * window.row
    first, last = -w, (g.W - w if 0 <= h < g.H else -w)
    turn, count = vectors[0] % window.share, vectors[1] - vectors[0]
    whole = _whole_vectors(g, window, c, turn, count)
    behind, rest = (turn + whole) // window.share * window.group, (turn + whole) % window.share
    if window.ahead:
        _ask_row(x, at + window.ahead * g.stride_h * image.row, window, image)
    for j in range(window.pixels):
        for plane in range(window.planes):
            here, there = at + plane * width, to + plane * window.plane
            if not first <= j < last:
                _clear_pixel(known, window, count, values, there)
                continue
            _take_pixel(known, x, here, window, turn, whole, values, there)
            if whole < count:
                here, there = here + behind, there + whole * window.vector
                wanted, left = g.C - c - plane * width - behind, count - whole
                _take_part(known, x, here, wanted, window, rest, left, values, there)
        at += image.pixel
        to += width


@body(inline=True)
def _whole_vectors(g, window, c, turn, count):
    """Count the vectors, from channel c on, up to the first that would read behind the last."""
    room = g.C - c - window.read
    sets = room // window.group + 1 if room >= 0 else 0
    return min(max(sets * window.share - turn, 0), count)


@body(inline=True)
def _ask_row(x, at, window, image):
    """Prefetch pixels for a row of the window."""
    line = np.intp(x.ctypes.data) + at * x.itemsize
    for _ in range(window.pixels):
        prefetch_lines(line, window.lines, LINE_BYTES)
        line += image.pixel * x.itemsize


@body(inline=True)
def _clear_pixel(known, window, count, values, to):
    """Set what so many vectors of filters see of a pixel to zeros."""
    for _ in range(count):
        slide_clear(known, values, to)
        to += window.vector


@body(inline=True)
def _take_pixel(known, x, at, window, turn, count, values, to):
    """Copy what so many vectors of filters see of a pixel.

    ``turn`` vectors before the first one share its channels.
    """
    for _ in range(count):
        slide_take(known, x, at, values, to)
        to += window.vector
        turn += 1
        if turn == window.share:
            turn = 0
            at += window.group


@body(inline=True)
def _take_part(known, x, at, wanted, window, turn, count, values, to):
    """Copy as ``_take_pixel`` does, but only so many values, and zeros for the rest."""
    for _ in range(count):
        slide_take_part(known, x, at, wanted, values, to)
        to += window.vector
        turn += 1
        if turn == window.share:
            turn = 0
            at += window.group
            wanted -= window.group
