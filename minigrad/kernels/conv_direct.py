"""Direct convolution: tiles of sums that stay in registers while the filter passes by.

A tile holds the outputs of two strips of pixels (see ``conv_window.py``) for one or two vectors of
filters. The whole sum over taps and channels is done before the tile is written, once. In
channels-last memory each filter row meets one run of KW*C neighbouring values, so nothing is
lowered; all that is copied is a window of padded rows::

    window (pixel by pixel, C values each)         weight, one vector of filters
                                                   (KH * KW * C rows of ``lanes`` values)
    0 a b c d e 0                                  +------------+
    0 f g h i j 0     |f g h| meets filter row 1   | f0 .. f15  |  tap (0, 0), channel 0
    0 k l m n o 0                                  | f0 .. f15  |  tap (0, 0), channel 1 ...

The order of loops, from the outside:

    chunks         strips of output pixels x vectors of filters, shared out to threads
    groups         fill the window with this group's channels
    filters        two vectors at a time: their weights stay in the second cache
    strips         two at a time, one tile
    taps, channels one column of window values times one row of weights (``tile_outer``)

The gradient with respect to x is a convolution too: of grad_out, with the filter flipped and its
channels exchanged. With a stride it falls apart into stride_h x stride_w *phases*: pixels whose
places leave the same remainder are seen by the same subset of the taps. For stride 2 and a filter
of 3 taps with one pixel of padding::

    pixel h      0   1   2   3   4
    taps         1  0 2  1  0 2  1      even pixels: tap 1 alone; odd pixels: taps 0 and 2
"""

import math
from typing import NamedTuple

import numpy as np

from minigrad.kernels import _pool, conv_lanes
from minigrad.kernels._bits import tile_keep_marked_part, tile_keep_positive
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import Shape, empty_channels_last, flat_channels_last, remembered
from minigrad.kernels._simd import (
    lanes,
    lanes_of,
    tile_add,
    tile_load,
    tile_load_columns,
    tile_outer,
    tile_store_columns,
    tile_zeros,
)
from minigrad.kernels.conv_finish import NO_MASK, Other, flat_or_none, kept
from minigrad.kernels.conv_geometry import Geometry, Pair, Sides, geometry
from minigrad.kernels.conv_pack import pack_weight
from minigrad.kernels.conv_window import (
    ALONE,
    LOW,
    TALL,
    Places,
    Plan,
    Window,
    fill_window,
    gap_for,
    place_strips,
    strips_in,
    tile_for,
    window_of,
)
from minigrad.kernels.gemm import whole_vectors

# A chunk's window and outputs should stay in the second cache while all filters pass. Chunks that
# copy no window may be small: what they read should stay in the first cache.
CHUNK_BYTES, UNCOPIED_BYTES = 256 * 1024, 24 * 1024

# Fewer pixels than this do not pay for reading weights from memory, and from the second cache.
LEAST_PIXELS, LEAST_UNCOPIED = 196, 98

# Into how many chunks a small problem is cut.
CHUNKS = 16

# Up to so many chunks copy the same window each: a loop to copy it once takes as long.
COPIES = 2


def conv2d_forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    groups: int,
    other: np.ndarray | None = None,
    relu: bool = False,
) -> np.ndarray:
    """Return the convolution of x with the filters in weight."""
    g = geometry(x.shape, weight.shape, stride, padding, dilation, groups)
    out = empty_channels_last((g.N, g.F, g.OH, g.OW), x.dtype)
    places = Places(0, g.OH * g.OW * g.F, g.OW * g.F, g.F)
    taps = np.arange(g.KH * g.KW)
    _convolve(flat_channels_last(x), weight, taps, False, bias, g, places, out, other, relu)
    return out


def conv2d_grad_input(
    grad_out: np.ndarray,
    weight: np.ndarray,
    input_shape: Shape,
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    groups: int,
    other: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Return the gradient with respect to x, given the one with respect to the output."""
    g = geometry(input_shape, weight.shape, stride, padding, dilation, groups)
    grad_x = empty_channels_last(input_shape, grad_out.dtype)
    phases = _phases(g)
    if sum(phase.pixels for phase, _, _ in phases) < g.N * g.H * g.W:
        # Pixels that no tap saw.
        grad_x[...] = 0 if other is None else kept(other, mask)
    values = flat_channels_last(grad_out)
    for phase, places, taps in phases:
        _convolve(values, weight, taps, True, None, phase, places, grad_x, other, mask=mask)
    return grad_x


@remembered
def _phases(g: Geometry) -> list[tuple[Geometry, Places, np.ndarray]]:
    """Return the convolutions of grad_out that make grad_x, each with its places and taps."""
    rows = [_phase(p, g.H, g.KH, g.stride_h, g.top, g.dilation_h) for p in range(g.stride_h)]
    columns = [_phase(p, g.W, g.KW, g.stride_w, g.left, g.dilation_w) for p in range(g.stride_w)]
    return [
        (*_phase_sizes(g, down, across), (down.taps[:, None] * g.KW + across.taps).reshape(-1))
        for down in rows
        for across in columns
        if down.taps.size and across.taps.size
    ]


class _Phase(NamedTuple):
    """Along one axis: pixels first, first + stride, ..., and the convolution they come from."""

    first: int
    pixels: int
    taps: np.ndarray  # their numbers, from the last one back
    padding: int
    dilation: int


def _phase(
    remainder: int, size: int, kernel_size: int, stride: int, padding: int, dilation: int
) -> _Phase:
    """Describe the pixels h for which (h + padding) % stride is the remainder.

    Pixel h = first + i * stride is seen by tap k at output (h + padding - k * dilation) / stride,
    if that is a whole number. It is so for one tap in every stride / gcd(stride, dilation), and
    from each of these taps to the next the output moves back by dilation / gcd(stride, dilation).
    """
    first = (remainder - padding) % stride
    common = math.gcd(stride, dilation)
    taps = np.array([k for k in range(kernel_size) if (k * dilation - remainder) % stride == 0])
    step = dilation // common
    output = (first + padding - int(taps[0]) * dilation) // stride if taps.size else 0
    return _Phase(
        first, max(chunks_of(size - first, stride), 0), taps[::-1].astype(np.intp),
        (taps.size - 1) * step - output, step,
    )  # fmt: skip


def _phase_sizes(g: Geometry, down: _Phase, across: _Phase) -> tuple[Geometry, Places]:
    """Return the convolution of grad_out that makes one phase of grad_x."""
    KH, KW, OH, OW = down.taps.size, across.taps.size, down.pixels, across.pixels
    phase = Geometry(
        N=g.N, C=g.F, H=g.OH, W=g.OW, F=g.C, KH=KH, KW=KW, OH=OH, OW=OW,
        stride_h=1, stride_w=1, top=down.padding, left=across.padding,
        dilation_h=down.dilation, dilation_w=across.dilation,
        groups=g.groups, channels=g.filters, filters=g.channels,
        taps=KH * KW * g.filters, pixels=g.N * OH * OW,
    )  # fmt: skip
    start = (down.first * g.W + across.first) * g.C
    places = Places(start, g.H * g.W * g.C, g.stride_h * g.W * g.C, g.stride_w * g.C)
    return phase, places


def _convolve(
    x: np.ndarray,
    weight: np.ndarray,
    taps: np.ndarray,
    transposed: bool,
    bias: np.ndarray | None,
    g: Geometry,
    places: Places,
    out: np.ndarray,
    other: np.ndarray | None = None,
    relu: bool = False,
    mask: np.ndarray | None = None,
) -> None:
    """Write the convolution of x, in channels-last order, to places in out, and finish it."""
    values = flat_or_none(other, x.dtype)
    if conv_lanes.serves(g, x.dtype):
        conv_lanes.convolve(x, weight, taps, transposed, bias, g, places, out, values, int(relu))
        return
    if g.KH == g.KW == g.stride_h == g.stride_w == 1 and (g.H, g.W) == (g.OH, g.OW):
        g, places = _one_row(g, places)
    window = window_of(g, gap=gap_for(g, x.itemsize))
    plan = _plan(g, window, x.itemsize)
    if window.copied and plan.parts > COPIES and g.groups == 1:
        x, window = _padded(x, g, window)
    biases = np.zeros((g.groups, plan.vectors * lanes(x.dtype)), x.dtype)
    if bias is not None:
        biases[:, : g.filters] = bias.reshape(g.groups, g.filters)
    _convolve_loop.launch(
        g.pixels * g.taps * g.F,
        x,
        pack_weight(weight, g, plan.vectors, taps, transposed),
        biases.reshape(-1),
        values,
        NO_MASK if mask is None else mask,
        int(relu),
        g,
        window,
        places,
        plan,
        flat_channels_last(out),
    )


def _padded(x: np.ndarray, g: Geometry, window: Window) -> tuple[np.ndarray, Window]:
    """Copy all windows at once, where chunks over the filters would each copy the same ones."""
    size = window.width * window.pixel
    padded = _pool.empty((g.N * window.height * size,), x.dtype)
    _pad_loop.launch(padded.size, x, g, window, size, padded)
    return padded, window._replace(copied=0)


@kernel
def _pad_loop(x, g, window, size, padded):
    for row in prange(g.N * window.height):
        fill_window(x, g, window, 0, row, 1, padded[row * size :])


def _one_row(g: Geometry, places: Places) -> tuple[Geometry, Places]:
    """Lay all pixels in one row where that changes nothing: one tap, no padding, no gaps."""
    whole = places.image == g.OH * places.row and places.row == g.OW * places.pixel
    if not whole or g.top or g.left:
        return g, places
    return g._replace(N=1, H=1, W=g.pixels, OH=1, OW=g.pixels), places


@remembered
def _plan(g: Geometry, window: Window, itemsize: int) -> Plan:
    """Cut the work by its shape alone."""
    vectors = whole_vectors(g.filters, np.dtype(f"f{itemsize}"))
    height, wide = tile_for(g.OW, vectors)
    row_strips = strips_in(g.OW, height)
    strips = g.N * g.OH * row_strips
    pixel_bytes = (g.stride_h * g.stride_w * g.channels + g.filters) * itemsize
    pixels = max(CHUNK_BYTES // max(pixel_bytes, 1), LEAST_PIXELS)
    if not window.copied:
        pixels = max(UNCOPIED_BYTES // max(g.channels * itemsize, 1), LEAST_UNCOPIED)
    tiles = strips_in(vectors, wide)
    # Rather chunks over the filters than chunks of few pixels that all read all weights.
    fair = min(LEAST_PIXELS // height, chunks_of(strips, chunks_of(CHUNKS, max(tiles, 1))))
    block = min(pixels // height, max(chunks_of(strips, CHUNKS), fair))
    if window.copied:  # whole rows, for a row that two chunks share is copied twice
        block = chunks_of(block, max(row_strips, 1)) * row_strips
    block = max(block + block % 2, 2)
    parts = max(min(tiles, CHUNKS // max(chunks_of(strips, block), 1)), 1)
    return Plan(height, wide, row_strips, strips, block, tiles * wide, parts)


@kernel
def _convolve_loop(x, weight, bias, other, mask, relu, g, window, places, plan, out):
    for chunk in prange(chunks_of(plan.strips, plan.block) * plan.parts):
        first = chunk // plan.parts * plan.block
        last = min(first + plan.block, plan.strips)
        _convolve_chunk(
            x, weight, bias, Other(other, mask), relu, g, window, places, plan, first, last,
            chunk % plan.parts, out,
        )  # fmt: skip


@body
def _convolve_chunk(x, weight, bias, other, relu, g, window, places, plan, first, last, part, out):
    """Compute the strips from ``first`` up to ``last``, for one part of the filters."""
    seen, written = np.empty(last - first, np.intp), np.empty(last - first, np.intp)
    top_row, rows = place_strips(g, window, places, plan, first, last, seen, written)
    values = x
    if window.copied:
        values = np.empty(rows * window.width * window.pixel, x.dtype)
    for group in range(g.groups):
        if window.copied:
            fill_window(x, g, window, group, top_row, rows, values)
        else:
            values = x[top_row * window.width * window.pixel + group * g.channels :]
        _convolve_group(
            values, weight, bias, other, relu, g, window, plan, group, part, seen, written,
            places.pixel, out,
        )  # fmt: skip


@body
def _convolve_group(
    values, weight, bias, other, relu, g, window, plan, group, part, seen, written, out_pixel, out
):
    """Run through the filters of one part, in tiles of the planned size."""
    first, last = chunk_bounds(part, plan.parts, plan.vectors // plan.wide)
    for v in range(first * plan.wide, last * plan.wide, plan.wide):
        if plan.wide == 2 and plan.height == TALL:
            _strips(
                tile_zeros(TALL, 2, out),
                values, weight, bias, other, relu, g, window, plan, group, v, seen, written,
                out_pixel, out,
            )  # fmt: skip
        elif plan.wide == 2:
            _strips(
                tile_zeros(LOW, 2, out),
                values, weight, bias, other, relu, g, window, plan, group, v, seen, written,
                out_pixel, out,
            )  # fmt: skip
        elif plan.height == ALONE:
            _strips(
                tile_zeros(ALONE, 1, out),
                values, weight, bias, other, relu, g, window, plan, group, v, seen, written,
                out_pixel, out,
            )  # fmt: skip
        else:
            _strips(
                tile_zeros(1, 1, out),
                values, weight, bias, other, relu, g, window, plan, group, v, seen, written,
                out_pixel, out,
            )  # fmt: skip


@body
def _strips(
    zeros, values, weight, bias, other, relu, g, window, plan, group, v, seen, written, out_pixel,
    out,
):  # fmt: skip
    width = lanes_of(out)
    vector = group * plan.vectors + v
    weight = weight[vector * g.taps * width :]
    columns = g.filters - v * width
    start = tile_load(zeros, bias, vector * width, 0)
    for i in range(0, seen.size, 2):
        j = min(i + 1, seen.size - 1)  # a strip without a partner is computed twice
        at = group * g.filters + v * width
        upper_to, lower_to = written[i] + at, written[j] + at
        upper, lower = _two_strips(start, values, seen[i], seen[j], weight, g, window, width)
        # What follows stands here and in no body: that would get the sums by way of memory.
        if other.mask.size > 0:
            rows = plan.height
            share = tile_load_columns(upper, other.values, upper_to, out_pixel, columns)
            share = tile_keep_marked_part(share, other.mask, upper_to, out_pixel, rows, columns)
            upper = tile_add(upper, share)
            share = tile_load_columns(lower, other.values, lower_to, out_pixel, columns)
            share = tile_keep_marked_part(share, other.mask, lower_to, out_pixel, rows, columns)
            lower = tile_add(lower, share)
        elif other.values.size > 0:
            share = tile_load_columns(upper, other.values, upper_to, out_pixel, columns)
            upper = tile_add(upper, share)
            share = tile_load_columns(lower, other.values, lower_to, out_pixel, columns)
            lower = tile_add(lower, share)
        if relu:
            upper, lower = tile_keep_positive(upper), tile_keep_positive(lower)
        tile_store_columns(upper, out, upper_to, out_pixel, columns)
        tile_store_columns(lower, out, lower_to, out_pixel, columns)


@body
def _two_strips(start, values, upper_at, lower_at, weight, g, window, width):
    """Sum over taps and channels for two strips of pixels."""
    upper = lower = start
    step, vector = g.stride_w * window.pixel, g.taps * width
    k = 0
    for kh in range(g.KH):
        for run in range(window.runs):
            there = kh * window.down + run * window.right
            for i in range(there, there + window.run):
                upper = tile_outer(upper, values, upper_at + i, step, weight, k, vector)
                lower = tile_outer(lower, values, lower_at + i, step, weight, k, vector)
                k += width
    return upper, lower
