"""Taps that slide along a few neighbouring pixels, with sizes that the compiler knows.

Neighbouring outputs of a convolution see the same pixels. A tile of them that is computed at once
reads each pixel once for all taps of a row: with three taps, outputs a to d see

    pixel      0  1  2  3  4  5
    tap 0      a  b  c  d
    tap 1         a  b  c  d
    tap 2            a  b  c  d

Such instructions are written out one by one, so the compiler must know how many taps there are,
how far apart, and so on. It reads that from the dtype of an empty array, for that is part of an
argument's type: a loop is compiled for the sizes that it meets and for no others.

Lanes are filters. Those of one vector may belong to several groups, and each must meet the channels
of its own. So pixels are copied to a small *window* first, as several *planes*: for groups of two,
a to h the channels of a pixel::

    lane       0  1  2  3  4  5  6  7
    plane 0    a  a  c  c  e  e  g  g      the first channel of each group
    plane 1    b  b  d  d  f  f  h  h      the second

Each plane has all pixels of a row of the window, a vector each. Where all lanes are of one group,
a plane holds channels as they are, and each is brought to all lanes when it is multiplied.
"""

import itertools
import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from minigrad.kernels._ahead import FIRST_CACHE, emit_prefetch
from minigrad.kernels._numba import config, intrinsic
from minigrad.kernels._simd import Emitter, Tile

__all__ = [
    "alone",
    "sizes",
    "slide_clear",
    "slide_take",
    "slide_take_part",
    "tile_outputs",
    "tile_prefetch",
    "tile_prefetch_write",
    "tile_slide",
    "tile_slide_back",
    "tile_taps",
]


def sizes(**named: int) -> np.ndarray:
    """Tell the compiler some sizes.

    Parameters
    ----------
    outputs : int
        Neighbours in a row that are taken at once.
    pixels : int
        Pixels in a row of the window.
    rows, taps : int
        Of the filter, as many as are taken at once.
    stride, dilation : int
        Pixels from one output, or tap, to the next.
    channels, filters : int
        Of a group. Where its filters fill a vector, channels are one by one.
    groups : int
        Of a vector.
    """
    return np.empty(0, np.dtype([(name, np.uint8, (size,)) for name, size in named.items()]))


def alone(known: np.ndarray) -> np.ndarray:
    """Tell the compiler the same sizes, but for one output."""
    named = {name: known.dtype[name].shape[0] for name in known.dtype.names or ()}
    return sizes(**named | {"outputs": 1})


def _size(known: Any, name: str) -> int:
    (size,) = known.dtype.typeof(name).shape
    return size


class _Slider(Emitter):
    """The instructions that the intrinsics below are made of."""

    def __init__(self, context: Any, builder: ir.IRBuilder, known: Any, dtype: Any) -> None:
        super().__init__(context, builder, Tile(dtype, 1, 1))
        self.outputs, self.pixels = _size(known, "outputs"), _size(known, "pixels")
        self.rows, self.taps = _size(known, "rows"), _size(known, "taps")
        self.stride, self.dilation = _size(known, "stride"), _size(known, "dilation")
        self.channels, self.filters = _size(known, "channels"), _size(known, "filters")
        self.groups = _size(known, "groups")
        self.lanes = self.tile.lanes
        self.alone = self.filters == self.lanes  # all lanes are of one group

    def seen(self) -> dict[int, list[tuple[int, int]]]:
        """List for each pixel which (output, tap) see it."""
        pairs: dict[int, list[tuple[int, int]]] = {}
        for output in range(self.outputs):
            for tap in range(self.taps):
                pixel = output * self.stride + tap * self.dilation
                pairs.setdefault(pixel, []).append((output, tap))
        return dict(sorted(pairs.items()))

    def further(self, pointer: ir.Value, elements: int) -> ir.Value:
        """Move a pointer by a number of elements that is known."""
        return self.builder.gep(pointer, [ir.IntType(64)(elements)])

    def pixel(self, pointer: ir.Value, channel: int, j: int) -> ir.Value:
        """Read what the lanes see of pixel j of a row of the window in a channel."""
        place = self.further(pointer, (channel * self.pixels + j) * self.lanes)
        if self.alone:
            return self.splat(self.builder.load(place), self.tile.vector)
        return self.load(place)

    def fill(self, channels: list[ir.Value], to: ir.Value) -> None:
        """Write a pixel to the same place in each plane."""
        for c, held in enumerate(channels):
            self.store(held, self.further(to, c * self.pixels * self.lanes))

    def channels_of(self, pointer: ir.Value, count: ir.Value | None) -> list[ir.Value]:
        """Read a pixel of an image, only so many values if told, as planes."""
        bits = self.tile.dtype.bitwidth
        if self.alone:
            return [self.load(pointer) if count is None else self.load_first(pointer, count)]
        size = self.groups * self.channels
        vector = ir.VectorType(self.tile.vector.element, size)
        place = self.builder.bitcast(pointer, vector.as_pointer())
        if count is None:
            held = self.builder.load(place)
            held.align = bits // 8
        else:
            mask = self.first_of(count, size)
            alignment, zeros = ir.IntType(32)(bits // 8), ir.Constant(vector, None)
            name = f"llvm.masked.load.v{size}f{bits}.p0"
            held = self.call(name, vector, [place, alignment, mask, zeros])
        if self.channels == 1 and self.groups == self.lanes:
            return [held]
        planes = [self.places(c) for c in range(self.channels)]
        return [self.builder.shuffle_vector(held, held, places) for places in planes]

    def places(self, c: int) -> ir.Value:
        """Say for each lane where channel c of its group is."""
        groups = [min(lane // self.filters, self.groups - 1) for lane in range(self.lanes)]
        places = [group * self.channels + c for group in groups]  # some lanes have no filter
        return ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), places)


def _zeros(known: Any, like: Any, rows: int) -> Any:
    """Emit a tile of zeros, one vector wide."""
    tile = Tile(like.dtype, rows, 1)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return ir.Constant(context.get_value_type(tile), None)

    return tile(known, like), emit


@intrinsic
def tile_outputs(typing_context, known, like):
    """Make a tile of zeros with a row for each output, with the dtype of an array."""
    return _zeros(known, like, _size(known, "outputs"))


@intrinsic
def tile_taps(typing_context, known, like):
    """Make a tile of zeros with a row for each (row of taps, tap, channel)."""
    return _zeros(known, like, math.prod(_size(known, n) for n in ("rows", "taps", "channels")))


@intrinsic
def slide_clear(typing_context, known, window, to):
    """Set the places of a pixel in the planes of the window to zeros."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        _, window_value, to_value = args
        to = _Slider(context, builder, known, window.dtype)
        to.fill([to.constant(0.0)] * to.channels, to.place(window, window_value, to_value))
        return context.get_dummy_value()

    return types.void(known, window, types.intp), emit


@intrinsic
def slide_take(typing_context, known, x, at, window, to):
    """Copy a pixel to its places in the planes of the window."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        _, x_value, at, window_value, to_value = args
        to = _Slider(context, builder, known, window.dtype)
        channels = to.channels_of(to.place(x, x_value, at), None)
        to.fill(channels, to.place(window, window_value, to_value))
        return context.get_dummy_value()

    n = types.intp
    return types.void(known, x, n, window, n), emit


@intrinsic
def slide_take_part(typing_context, known, x, at, count, window, to):
    """Copy only so many values of a pixel, none where it is 0 or less, and zeros for the rest."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        _, x_value, at, count, window_value, to_value = args
        to = _Slider(context, builder, known, window.dtype)
        channels = to.channels_of(to.place(x, x_value, at), count)
        to.fill(channels, to.place(window, window_value, to_value))
        return context.get_dummy_value()

    n = types.intp
    return types.void(known, x, n, n, window, n), emit


@intrinsic
def tile_prefetch_write(typing_context, tile, array, at, row):
    """Say that a tile will be written soon, so that the memory is ready by then."""
    return _prefetch_tile(tile, array, to_write=True)


@intrinsic
def tile_prefetch(typing_context, tile, array, at, row):
    """Say that a tile will be read soon."""
    return _prefetch_tile(tile, array, to_write=False)


def _prefetch_tile(tile: Any, array: Any, to_write: bool) -> Any:
    """Prefetch each vector of a tile that begins at ``at``, its rows ``row`` elements apart."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        _, array_value, at, row = args
        to = Emitter(context, builder, tile)
        start = to.place(array, array_value, at)
        for _, m, v in tile.cells:
            emit_prefetch(builder, to.cell(start, row, m, v), to_write, FIRST_CACHE)
        return context.get_dummy_value()

    return types.void(tile, array, types.intp, types.intp), emit


@intrinsic
def tile_slide(typing_context, tile, known, window, at, weight, weight_at, tap):
    """Add to a tile of outputs, one a row, what the taps of one row of the filter see.

    The weights are vectors, channel by channel, and ``tap`` elements from one tap to the next.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, _, window_value, at, weight_value, weight_at, tap = args
        to = _Slider(context, builder, known, tile.dtype)
        start, first = to.place(window, window_value, at), to.place(weight, weight_value, weight_at)
        sums = [builder.extract_value(value, m) for m in range(tile.rows)]
        for c in range(to.channels):
            places = [to.further(to.moved(first, tap, k), c * to.lanes) for k in range(to.taps)]
            factors = [to.load(place) for place in places]
            for j, pairs in to.seen().items():
                held = to.pixel(start, c, j)
                for m, k in pairs:
                    sums[m] = to.multiply_add(held, factors[k], sums[m])
        for m in range(tile.rows):
            value = builder.insert_value(value, sums[m], m)
        return value

    n = types.intp
    return tile(tile, known, window, n, weight, n, n), emit


@intrinsic
def tile_slide_back(
    typing_context, tile, known, window, at, rows, rows_at, grad, grad_at, grad_step
):  # fmt: skip
    """Add to the gradient of some rows of taps what a few neighbouring outputs contribute.

    The tile has a row for each (row of taps, tap, channel). ``rows``, from ``rows_at`` on, says
    how far behind ``at`` the window has the pixels that a row of taps sees.
    """

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, _, window_value, at, rows_value, rows_at = args[:6]
        grad_value, grad_at, grad_step = args[6:]
        to = _Slider(context, builder, known, tile.dtype)
        start = to.place(grad, grad_value, grad_at)
        grads = [to.load(to.moved(start, grad_step, m)) for m in range(to.outputs)]
        sums = [builder.extract_value(value, index) for index in range(tile.rows)]
        row = to.place(rows, rows_value, rows_at)
        pixels = []
        for i in range(to.rows):
            behind = builder.load(to.further(row, i))
            pixels.append(to.place(window, window_value, builder.add(at, behind)))
        # Pixel by pixel: a sum that waits for itself would hold up the others of its row.
        for j, pairs in to.seen().items():
            for i, c in itertools.product(range(to.rows), range(to.channels)):
                held = to.pixel(pixels[i], c, j)
                for m, k in pairs:
                    index = (i * to.taps + k) * to.channels + c
                    sums[index] = to.multiply_add(held, grads[m], sums[index])
        for index in range(tile.rows):
            value = builder.insert_value(value, sums[index], index)
        return value

    n = types.intp
    return tile(tile, known, window, n, rows, n, grad, n, n), emit


if config.DISABLE_JIT:
    from minigrad.kernels._simd_slide_plain import (
        slide_clear,
        slide_take,
        slide_take_part,
        tile_outputs,
        tile_prefetch,
        tile_prefetch_write,
        tile_slide,
        tile_slide_back,
        tile_taps,
    )
