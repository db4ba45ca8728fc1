"""The gradient with respect to x, as convolutions of grad_out.

It is one convolution of grad_out, with the filter flipped and its channels exchanged. With a stride
it falls apart into stride_h x stride_w *phases*: pixels whose places leave the same remainder are
seen by the same subset of the taps. For stride 2 and a filter of 3 taps with one pixel of padding::

    pixel h      0   1   2   3   4
    taps         1  0 2  1  0 2  1      even pixels: tap 1 alone; odd pixels: taps 0 and 2

A phase without taps, as three of four have where the filter is a single tap, is zero.
"""

import math
from typing import NamedTuple

import numpy as np

from minigrad.kernels._jit import body, chunks_of
from minigrad.kernels._numbers import tuple_of
from minigrad.kernels.conv_geometry import Geometry, as_row, is_column, is_pointwise, seeing
from minigrad.kernels.conv_window import Places, Plan, Window

# Where in the row of a task its parts begin.
_WINDOW = len(Geometry._fields)
_PLACES = _WINDOW + len(Window._fields)
_PLAN = _PLACES + len(Places._fields)
_REST = _PLAN + len(Plan._fields)
_TASK = _REST + 2

# The place of no output.
NOWHERE = Places(0, 0, 0, 0)


class Phase(NamedTuple):
    """A convolution with some taps of a filter, and where its outputs go."""

    g: Geometry
    places: Places
    taps: np.ndarray  # counted over (KH, KW)


def phases_of(g: Geometry) -> list[Phase]:
    """Return the convolutions of grad_out that make grad_x.

    Where grad_out is one pixel high no stride is ever made. With one that is longer than the image
    each row is a phase, with the one row of taps that it sees; so it is with columns. Small groups
    keep their strips: their loops are compiled for a number of taps.
    """
    if g.groups == 1:
        reach_h, reach_w = g.dilation_h * (g.KH - 1), g.dilation_w * (g.KW - 1)
        g = g._replace(
            stride_h=g.stride_h + (reach_h if g.OH == 1 else 0),
            stride_w=g.stride_w + (reach_w if g.OW == 1 else 0),
        )
    rows = _axes(g.H, g.KH, g.stride_h, g.top, g.dilation_h)
    columns = _axes(g.W, g.KW, g.stride_w, g.left, g.dilation_w)
    return [_phase(g, down, across) for down in rows for across in columns]


def simplified(phases: list[Phase]) -> list[Phase]:
    """Leave out what sees padding alone; where columns are left, make rows of them."""
    phases = [_trimmed(phase) for phase in phases]
    if all(is_column(phase.g) for phase in phases):
        return [_as_rows(phase) for phase in phases]
    return phases


def _trimmed(phase: Phase) -> Phase:
    kept, rows, columns = seeing(phase.g)
    square = phase.taps.reshape(phase.g.KH, phase.g.KW)[rows, columns]
    return phase._replace(g=kept, taps=square.reshape(-1))


def _as_rows(phase: Phase) -> Phase:
    pixel = phase.places.row  # one of a column is the next row's
    places = phase.places._replace(row=phase.g.OH * pixel, pixel=pixel)
    return phase._replace(g=as_row(phase.g), places=places)


def in_one_row(phase: Phase) -> Phase:
    """Lay all pixels in one row where that changes nothing: each is an output, without gaps."""
    g, places, _ = phase
    whole = places.image == g.OH * places.row and places.row == g.OW * places.pixel
    if not whole or not is_pointwise(g):
        return phase
    return phase._replace(g=g._replace(N=1, H=1, W=g.pixels, OH=1, OW=g.pixels))


class _Axis(NamedTuple):
    """Along one axis: pixels first, first + stride, ..., and the convolution they come from."""

    first: int
    pixels: int
    taps: np.ndarray  # their numbers, from the last one back
    padding: int
    dilation: int


def _axes(size: int, kernel_size: int, stride: int, padding: int, dilation: int) -> list[_Axis]:
    """Describe the pixels of each remainder that some pixel leaves, however long the stride is."""
    remainders = sorted({(h + padding) % stride for h in range(min(size, stride))})
    return [_axis(r, size, kernel_size, stride, padding, dilation) for r in remainders]


def _axis(
    remainder: int, size: int, kernel_size: int, stride: int, padding: int, dilation: int
) -> _Axis:
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
    return _Axis(
        first, chunks_of(size - first, stride), taps[::-1].astype(np.intp),
        (taps.size - 1) * step - output, step,
    )  # fmt: skip


def _phase(g: Geometry, down: _Axis, across: _Axis) -> Phase:
    """Return the convolution of grad_out that makes one phase of grad_x."""
    KH, KW, OH, OW = down.taps.size, across.taps.size, down.pixels, across.pixels
    phase = Geometry(
        N=g.N, C=g.F, H=g.OH, W=g.OW, F=g.C, KH=KH, KW=KW, OH=OH, OW=OW,
        stride_h=1, stride_w=1, top=down.padding, left=across.padding,
        dilation_h=down.dilation, dilation_w=across.dilation,
        groups=g.groups, channels=g.filters, filters=g.channels,
        depth=KH * KW * g.filters, pixels=g.N * OH * OW,
    )  # fmt: skip
    start = (down.first * g.W + across.first) * g.C
    places = Places(start, g.H * g.W * g.C, g.stride_h * g.W * g.C, g.stride_w * g.C)
    return Phase(phase, places, (down.taps[:, None] * g.KW + across.taps).reshape(-1))


def whole_of(phases: list[Phase]) -> Geometry:
    """Return one convolution that sees what all phases see, with the most rows of any."""
    first = phases[0].g
    seeing = [phase.g for phase in phases if phase.g.depth] or [first]
    top, left = max(g.top for g in seeing), max(g.left for g in seeing)
    OH, OW = max(phase.g.OH for phase in phases), max(phase.g.OW for phase in phases)
    return first._replace(
        KH=max(1, *(top - g.top + (g.KH - 1) * g.dilation_h + 1 for g in seeing)),
        KW=max(1, *(left - g.left + (g.KW - 1) * g.dilation_w + 1 for g in seeing)),
        OH=OH, OW=OW, pixels=first.N * OH * OW, top=top, left=left, dilation_h=1, dilation_w=1,
    )  # fmt: skip


def shift(whole: Geometry, g: Geometry, window: Window) -> int:
    """Return where in a window of the whole the one of a phase begins."""
    if not g.depth:
        return 0
    return ((whole.top - g.top) * window.width + whole.left - g.left) * window.pixel


@body
def task_of(numbers):
    """Read the (Geometry, Window, Places, Plan, start of its weights, shift) of a phase."""
    row = tuple_of(numbers, _TASK)
    g, window = Geometry(*row[:_WINDOW]), Window(*row[_WINDOW:_PLACES])
    return (
        g,
        window,
        Places(*row[_PLACES:_PLAN]),
        Plan(*row[_PLAN:_REST]),
        row[_REST],
        row[_REST + 1],
    )


@body
def strip_of(g, plan, number):
    """Return the (n, oh, strip) of a strip."""
    row = number // plan.row_strips
    return row // g.OH, row % g.OH, number % plan.row_strips


@body
def strip_number(g, plan, strip):
    """Return the number of a strip, or of the first one behind it where rows have ended."""
    return (strip[0] * g.OH + min(strip[1], g.OH)) * plan.row_strips + strip[2]
