"""Convolution in groups so small that several lie in one vector; depthwise is a group a channel.

Direct convolution multiplies one value of x by a vector of filters, all of the same group. Where a
group has fewer filters than a vector has lanes, the others idle. Here a vector of *channels* meets
a vector of weights instead, lane by lane, so each lane is a filter of its own group. It needs the
values of all channels of that group, which ``tile_spread`` brings to it. For groups of two, a to
h the values of a pixel, w the weights of one tap::

    lane          0      1      2      3      4      5      6      7
    filter        0      1      2      3      4      5      6      7
    plane 0       a w00  a w10  c w20  c w30  e w40  e w50  g w60  g w70     first of its group
    plane 1       b w01  b w11  d w21  d w31  f w41  f w51  h w61  h w71     second

A chunk of work copies the rows that it needs into a window (see ``conv_window.py``): of each pixel
some vectors of channels, and the planes of each side by side.
"""

import numpy as np

from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import flat_channels_last
from minigrad.kernels._runs import copy_run, zero_run
from minigrad.kernels._simd import (
    SPREAD,
    lanes,
    lanes_of,
    tile_by_lane,
    tile_load,
    tile_load_columns,
    tile_spread,
    tile_store,
    tile_store_columns,
    tile_zeros,
)
from minigrad.kernels.conv_finish import finish
from minigrad.kernels.conv_geometry import Geometry, inside, remembered
from minigrad.kernels.conv_window import (
    TALL,
    Places,
    Plan,
    Window,
    empty_aligned,
    place_strips,
    strips_in,
)

# A window and what is made of it should stay in the second cache. A row of it takes little of that,
# so that the rows above and below a chunk, which its neighbours copy as well, are few of its rows.
CHUNK_BYTES = 256 * 1024
ROW_BYTES = 32 * 1024

# Into how many chunks a small problem is cut.
CHUNKS = 16


def serves(g: Geometry, dtype: np.dtype) -> bool:
    """Tell whether groups fill vectors and have as many filters as channels."""
    size = g.channels
    alike = g.groups > 1 and size == g.filters
    return alike and 1 <= size <= SPREAD and size & (size - 1) == 0 and lanes(dtype) % size == 0


def convolve(
    x: np.ndarray,
    weight: np.ndarray,
    taps: np.ndarray,
    transposed: bool,
    bias: np.ndarray | None,
    g: Geometry,
    places: Places,
    out: np.ndarray,
    other: np.ndarray,
    relu: int,
) -> None:
    """Write the convolution of x, in channels-last order, to places in out, and finish it.

    Parameters
    ----------
    x : ndarray, shape (N * H * W * C,)
    weight : ndarray, shape (C, C/groups, KH, KW)
    taps : ndarray of intp
        Which taps, counted over (KH, KW).
    transposed : bool
        Filters become channels and channels filters, as the gradient with respect to x needs.
    bias : ndarray, shape (F,), or None
    g : Geometry
    places : Places
    out : ndarray, shape (N, F, H, W)
    other : ndarray, shape (N * F * H * W,) or (0,)
        Is added, if there is any.
    relu : int
        Whether a relu follows.
    """
    plan, window, steps = _plan(g, lanes(x.dtype), x.itemsize)
    biases = np.zeros(plan.vectors * lanes(x.dtype), x.dtype)
    if bias is not None:
        biases[: g.F] = bias
    _convolve_loop.launch(
        g.pixels * g.taps * g.F,
        x,
        _pack(weight, taps, transposed, g, plan.vectors),
        biases,
        other,
        relu,
        g,
        window,
        places,
        plan,
        steps,
        flat_channels_last(out),
    )


@remembered
def _plan(g: Geometry, width: int, itemsize: int) -> tuple[Plan, Window, np.ndarray]:
    """Cut the work by its shape alone."""
    rows = (g.OH - 1) * g.stride_h + g.dilation_h * (g.KH - 1) + 1
    row = (g.OW - 1) * g.stride_w + g.dilation_w * (g.KW - 1) + 1
    vectors = chunks_of(g.F, width)
    vector_row_bytes = row * g.channels * width * itemsize
    parts = min(chunks_of(vectors * vector_row_bytes, ROW_BYTES), vectors)
    pixel = chunks_of(vectors, max(parts, 1)) * g.channels * width
    window = Window(
        1, rows, row, pixel, g.KW, g.channels,
        g.dilation_w * pixel, g.dilation_h * row * pixel,
    )  # fmt: skip
    height = TALL if g.OW >= TALL else 1
    row_strips = strips_in(g.OW, height)
    strips = g.N * g.OH * row_strips
    image_rows = CHUNK_BYTES // max(g.stride_h * row * pixel * itemsize, 1)
    block = min(max(image_rows, g.KH) * row_strips, chunks_of(strips, CHUNKS))
    block = chunks_of(block, max(row_strips, 1)) * row_strips
    plan = Plan(height, 1, row_strips, strips, max(block + block % 2, 2), vectors, parts)
    return plan, window, _steps(g, window, width)


def _steps(g: Geometry, window: Window, width: int) -> np.ndarray:
    """Return how far each tap and plane lies from the first; from a table that is one loop."""
    down, right = np.arange(g.KH) * window.down, np.arange(g.KW) * window.right
    planes = np.arange(g.channels) * width
    return (down[:, None, None] + right[:, None] + planes).reshape(-1)


def _pack(
    weight: np.ndarray, taps: np.ndarray, transposed: bool, g: Geometry, vectors: int
) -> np.ndarray:
    """Bring the weight to the form (vectors, taps, channels of a group, lanes)."""
    width = lanes(weight.dtype)
    split = weight.reshape(g.groups, g.channels, g.channels, -1)[..., taps]
    rows = (split.swapaxes(1, 2) if transposed else split).reshape(g.F, g.channels, g.KH * g.KW)
    packed = np.zeros((vectors * width, g.channels, g.KH * g.KW), weight.dtype)
    packed[: g.F] = rows
    packed = packed.reshape(vectors, width, g.channels, g.KH * g.KW)
    return np.ascontiguousarray(packed.transpose(0, 3, 2, 1)).reshape(-1)


@kernel
def _convolve_loop(x, weight, bias, other, relu, g, window, places, plan, steps, out):
    for chunk in prange(chunks_of(plan.strips, plan.block) * plan.parts):
        first = chunk // plan.parts * plan.block
        last = min(first + plan.block, plan.strips)
        _convolve_chunk(
            x, weight, bias, other, relu, g, window, places, plan, steps, first, last,
            chunk % plan.parts, out,
        )  # fmt: skip


@body
def _convolve_chunk(
    x, weight, bias, other, relu, g, window, places, plan, steps, first, last, part, out
):
    """Compute the strips from ``first`` up to ``last``, for one part of the vectors."""
    seen, written = np.empty(last - first, np.intp), np.empty(last - first, np.intp)
    top_row, rows = place_strips(g, window, places, plan, first, last, seen, written)
    first_vector, last_vector = chunk_bounds(part, plan.parts, plan.vectors)
    values = empty_aligned(rows * window.width * window.pixel, x)
    _fill_window(x, g, window, first_vector, last_vector, top_row, rows, values)
    if plan.height == TALL:
        _strips(
            tile_zeros(TALL, 1, out), values, weight, bias, other, relu, g, window, first_vector,
            last_vector, steps, seen, written, places.pixel, out,
        )  # fmt: skip
    else:
        _strips(
            tile_zeros(1, 1, out), values, weight, bias, other, relu, g, window, first_vector,
            last_vector, steps, seen, written, places.pixel, out,
        )  # fmt: skip


@body
def _fill_window(x, g, window, first_vector, last_vector, top_row, rows, values):
    """Copy rows of the padded images, some vectors of channels, to all their planes."""
    start, stop = inside(-g.left, window.width, g.W)
    pixel, row = window.pixel, window.width * window.pixel
    for q in range(rows):
        n, h = (top_row + q) // window.height, (top_row + q) % window.height - g.top
        to = q * row
        if 0 <= h < g.H:
            at = ((n * g.H + h) * g.W + start - g.left) * g.C
            zero_run(values, to, start * pixel)
            if g.channels == 1 and pixel == g.C:  # the one plane is x itself
                copy_run(values, to + start * pixel, x, at, (stop - start) * pixel)
            else:
                for w in range(stop - start):
                    there = to + (start + w) * pixel
                    _spread(x, at + w * g.C, g, first_vector, last_vector, values, there)
            zero_run(values, to + stop * pixel, (window.width - stop) * pixel)
        else:
            zero_run(values, to, row)


@body
def _spread(x, at, g, first_vector, last_vector, values, to):
    """Copy some vectors of the channels of a pixel to their planes."""
    one, width = tile_zeros(1, 1, values), lanes_of(values)
    for v in range(first_vector, last_vector):
        held = tile_load_columns(one, x, at + v * width, 0, g.C - v * width)
        for plane in range(g.channels):
            tile_store(tile_spread(held, g.channels, plane), values, to, 0)
            to += width


@body
def _strips(
    zeros,
    values,
    weight,
    bias,
    other,
    relu,
    g,
    window,
    first_vector,
    last_vector,
    steps,
    seen,
    written,
    out_pixel,
    out,
):
    """Compute all strips, two at a time, for some vectors of filters."""
    width, step = lanes_of(out), g.stride_w * window.pixel
    for i in range(0, seen.size, 2):
        j = min(i + 1, seen.size - 1)  # a strip without a partner is computed twice
        for v in range(first_vector, last_vector):
            upper = lower = tile_load(zeros, bias, v * width, 0)
            planes = (v - first_vector) * g.channels * width
            upper_at, lower_at = seen[i] + planes, seen[j] + planes
            for t in range(g.taps):
                k = (v * g.taps + t) * width
                upper = tile_by_lane(upper, values, upper_at + steps[t], step, weight, k)
                lower = tile_by_lane(lower, values, lower_at + steps[t], step, weight, k)
            filters = g.F - v * width
            upper_to, lower_to = written[i] + v * width, written[j] + v * width
            upper = finish(upper, other, upper_to, out_pixel, g.OW, filters, relu)
            lower = finish(lower, other, lower_to, out_pixel, g.OW, filters, relu)
            tile_store_columns(upper, out, upper_to, out_pixel, filters)
            tile_store_columns(lower, out, lower_to, out_pixel, filters)
