"""Direct convolution where rows are too short for strips: tiles of single pixels from anywhere.

Two strips of one pixel would have too few sums: each waits for itself four times as long as the
processor takes to begin two others. So four pixels, of whatever rows and images, are summed side by
side, for two vectors of filters. Images of few pixels, at the end of a deep network, are computed
so, and rows of which strips would compute much twice.
"""

from minigrad.kernels._bits import tile_keep_marked_part, tile_keep_positive
from minigrad.kernels._jit import body
from minigrad.kernels._simd import (
    lanes_of,
    tile_add,
    tile_load,
    tile_load_columns,
    tile_outer,
    tile_store_columns,
)
from minigrad.kernels.conv_window import SEEN, WRITTEN, seen_by


@body
def single_pixels(
    zeros, values, weight, bias, other, relu, g, window, plan, group, near, strips, out
):  # fmt: skip
    """Compute tiles for all pixels, from vector near[0] up to near[1]."""
    width, last, there = lanes_of(out), strips.shape[1] - 1, strips[SEEN]
    for i in range(0, last + 1, 4):
        j, k, m = min(i + 1, last), min(i + 2, last), min(i + 3, last)  # or computed once more
        seen = seen_by(g, window, strips, i, 4, 1)
        for v in range(near[0], near[1], plan.wide):
            vector, columns = group * plan.vectors + v, g.filters - v * width
            at = group * g.filters + v * width
            a, b, c, d = _four_pixels(
                tile_load(zeros, bias, vector * width, 0), values, there[i], there[j], there[k],
                there[m], weight, vector * g.depth * width, g, window, seen, width,
            )  # fmt: skip
            _finish(a, other, relu, strips[WRITTEN, i] + at, columns, out)
            _finish(b, other, relu, strips[WRITTEN, j] + at, columns, out)
            _finish(c, other, relu, strips[WRITTEN, k] + at, columns, out)
            _finish(d, other, relu, strips[WRITTEN, m] + at, columns, out)


@body
def _four_pixels(
    start, values, a_at, b_at, c_at, d_at, weight, k, g, window, seen, width
):  # fmt: skip
    """Sum over taps and channels for four pixels."""
    a = b = c = d = start
    vector = g.depth * width
    k += seen.weight * width
    for kh in range(seen.top, seen.bottom):
        for run in range(seen.left, seen.right):
            at = kh * window.down + run * window.right
            for i in range(at + seen.first, at + seen.last):
                a = tile_outer(a, values, a_at + i, 0, weight, k, vector)
                b = tile_outer(b, values, b_at + i, 0, weight, k, vector)
                c = tile_outer(c, values, c_at + i, 0, weight, k, vector)
                d = tile_outer(d, values, d_at + i, 0, weight, k, vector)
                k += width
        k += seen.rest * width
    return a, b, c, d


@body
def _finish(sums, other, relu, to, columns, out):
    """Do what follows the convolution, and write a pixel."""
    if other.values.size > 0:
        share = tile_load_columns(sums, other.values, to, 0, columns)
        if other.mask.size > 0:
            share = tile_keep_marked_part(share, other.mask, to, 0, 1, columns)
        sums = tile_add(sums, share)
    if relu:
        sums = tile_keep_positive(sums)
    tile_store_columns(sums, out, to, 0, columns)
