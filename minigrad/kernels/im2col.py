"""Lowering: a convolution becomes a product of matrices, and its adjoint.

A filter of KH x KW taps over C channels sees, for each output pixel, KH*KW*C values of the input.
``im2col`` copies what one pixel sees into one row; the convolution is then the product of those
rows with the filters. For one image row, a filter of 1 x 3 taps, stride 1, one pixel of padding::

      x        columns (one row a pixel)          col2im adds them back where they came from

      a     |  0  a  b  |  pixel 0                a receives  (pixel 0, tap 1) + (pixel 1, tap 0)
      b     |  a  b  c  |  pixel 1                b receives  (0, 2) + (1, 1) + (2, 0)
      c     |  b  c  d  |  pixel 2                c receives  (1, 2) + (2, 1) + (3, 0)
      d     |  c  d  0  |  pixel 3                d receives  (2, 2) + (3, 1)
             tap 0  1  2

Each letter is a pixel, that is C numbers side by side. Output pixel (oh, ow) and tap (kh, kw) meet
at input pixel

    h = oh * stride_h - top  + kh * dilation_h
    w = ow * stride_w - left + kw * dilation_w

or, outside the image, at a zero. ``im2col`` copies along that relation and ``col2im``, its
adjoint, adds along it in the opposite direction: <im2col(x), y> = <x, col2im(y)>. The two functions
below differ in nothing else.

In channels-last memory the taps of one filter row are one run of KW*C values, so a run is what both
of them move: of several taps where these are neighbours, of one tap where dilation or groups set
them apart.
"""

from minigrad.kernels._jit import body
from minigrad.kernels._runs import add_run, copy_run, zero_run
from minigrad.kernels.conv_geometry import inside


@body
def _runs(g):
    """Return how many runs a filter row falls into, and how many taps each has."""
    neighbours = g.groups == 1 and g.dilation_w == 1
    return (1, g.KW) if neighbours else (g.KW, 1)


@body
def _next_pixel(g, n, oh, ow):
    """Count on over (N, OH, OW); dividing the number of the pixel would cost more than the copy."""
    ow += 1
    if ow == g.OW:
        ow, oh = 0, oh + 1
        if oh == g.OH:
            oh, n = 0, n + 1
    return n, oh, ow


@body
def im2col(x, g, group, first, last, columns, row):
    """Copy what the output pixels from ``first`` up to ``last`` see of one group of channels.

    Parameters
    ----------
    x : ndarray, shape (N * H * W * C,)
    g : Geometry
    group, first, last : int
        Output pixels are counted over (N, OH, OW).
    columns : ndarray, shape (at least (last - first) * row,)
        Row i begins at ``i * row`` and receives the KH * KW * C/groups values of pixel first + i.
    row : int
    """
    channels = g.channels
    runs, taps = _runs(g)
    n, oh, ow = first // (g.OH * g.OW), first // g.OW % g.OH, first % g.OW
    for i in range(last - first):
        for run in range(runs):
            w = ow * g.stride_w - g.left + run * g.dilation_w
            start, stop = inside(w, taps, g.W)
            for kh in range(g.KH):
                h = oh * g.stride_h - g.top + kh * g.dilation_h
                to = i * row + (kh * g.KW + run) * channels
                if 0 <= h < g.H:
                    at = ((n * g.H + h) * g.W + w + start) * g.C + group * channels
                    zero_run(columns, to, start * channels)
                    copy_run(columns, to + start * channels, x, at, (stop - start) * channels)
                    zero_run(columns, to + stop * channels, (taps - stop) * channels)
                else:
                    zero_run(columns, to, taps * channels)
        n, oh, ow = _next_pixel(g, n, oh, ow)


@body
def col2im(columns, row, g, group, first, last, x, top_row, bottom_row):
    """Add rows of columns to the pixels they would have been copied from.

    Parameters
    ----------
    columns, row, g, group, first, last
        As for ``im2col``.
    x : ndarray, shape (N * H * W * C,)
        Added to.
    top_row, bottom_row : int
        Only image rows from ``top_row`` up to ``bottom_row`` are touched, so that threads can each
        own a band of rows.
    """
    channels = g.channels
    runs, taps = _runs(g)
    n, oh, ow = first // (g.OH * g.OW), first // g.OW % g.OH, first % g.OW
    for i in range(last - first):
        for run in range(runs):
            w = ow * g.stride_w - g.left + run * g.dilation_w
            start, stop = inside(w, taps, g.W)
            for kh in range(g.KH):
                h = oh * g.stride_h - g.top + kh * g.dilation_h
                to = i * row + (kh * g.KW + run) * channels
                if top_row <= h < bottom_row:
                    at = ((n * g.H + h) * g.W + w + start) * g.C + group * channels
                    add_run(x, at, columns, to + start * channels, (stop - start) * channels)
        n, oh, ow = _next_pixel(g, n, oh, ow)
