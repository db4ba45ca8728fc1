"""Sums over whole images, and what spreads over them: the global average pool.

An image is a list of pixels, and its sums are those of the columns: over wide rows as in
``norm.py``, or over pixels where those would be long, in float64 from block to block. Large images
are cut into parts, each with a slot of its own, so that one image alone is shared among threads
too.
"""

import math

import numpy as np

from minigrad.kernels._columns import add_row, folded, sum_values, wide_row
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import empty_channels_last, flat_channels_last
from minigrad.kernels._runs import copy_run
from minigrad.kernels._simd import lanes

# Values of a wide row, or C if that is more: as many columns as are summed at once,
_COLUMNS = 64
# or, where they are only written, enough for a loop over them to be fast.
_WIDTH = 1_024

# Wide rows of an image, at least: else its pixels are summed as they are, though the last vector of
# each begins within the one before, for there would be more to fold than to sum.
_FEW = 4

# Wide rows that are summed before the sums become float64: so few that little is rounded.
_ROWS = 64

# Values of a part of an image, and of a chunk: small enough to be shared.
_PART = 32_768

# Parts that all images together are cut into: whole images are shared where there are many.
_PARTS = 16


def _parts(N: int, C: int, P: int) -> tuple[int, int]:
    """Return into how many parts an image of P pixels is cut, and of how many chunks they are."""
    parts = 1 if P <= _ROWS else min(P, chunks_of(P * C, _PART), chunks_of(_PARTS, max(1, N)))
    return parts, min(N * parts, chunks_of(N * P * C, _PART))


@body
def _place(i, parts, P):
    """Return the image of a part, and its first pixel and the one behind its last."""
    n = i // parts
    first, last = chunk_bounds(i - n * parts, parts, P)
    return n, n * P + first, n * P + last


@body
def _sum_pixels(x, width, sums):
    """Set the sum of each channel over some pixels."""
    C = sums.size
    block, whole = _ROWS * width, x.size // width * width
    row, total = np.empty(width, x.dtype), sums if width == C else np.empty(width)
    total[:] = 0
    for at in range(0, whole, block):
        sum_values(x[at : min(at + block, whole)], row)
        add_row(total, row)
    for at in range(whole, x.size, C):
        add_row(total[:C], x[at : at + C])
    if width > C:
        for c in range(C):
            sums[c] = folded(total, c, C)


@body
def _round(total, out):
    for c in range(out.size):
        out[c] = total[c]


@kernel
def _sums_loop(x, P, width, parts, chunks, out):
    N, C = out.shape
    slots = np.empty((N * parts, C))
    for chunk in prange(chunks):
        first, last = chunk_bounds(chunk, chunks, N * parts)
        for i in range(first, last):
            _, start, stop = _place(i, parts, P)
            part = x[start * C : stop * C]
            if P <= _ROWS and width == C:  # one block and nothing to fold: no float64 is needed
                sum_values(part, out[i])
                continue
            _sum_pixels(part, width, slots[i])
            if parts == 1:
                _round(slots[i], out[i])
    if parts > 1:
        for n in range(N):
            total = slots[n * parts]
            for i in range(n * parts + 1, (n + 1) * parts):
                add_row(total, slots[i])
            _round(total, out[n])


def image_sums(x: np.ndarray) -> np.ndarray:
    """Return the sum of each channel of each image."""
    N, C, H, W = x.shape
    out, width = np.empty((N, C), x.dtype), wide_row(C, _COLUMNS)
    if _FEW * width > C * H * W and lanes(x.dtype) <= C:
        width = C
    parts, chunks = _parts(N, C, H * W)
    _sums_loop.launch(x.size, flat_channels_last(x), H * W, width, parts, chunks, out)
    return out


@body
def _spread(pixel, row, out):
    """Repeat a pixel to the end of ``out``, a wide row at a time."""
    for at in range(0, row.size, pixel.size):
        copy_run(row, at, pixel, 0, pixel.size)
    for at in range(0, out.size, row.size):
        copy_run(out, at, row, 0, min(row.size, out.size - at))


@kernel
def _spread_loop(values, P, width, parts, chunks, out):
    N, C = values.shape
    for chunk in prange(chunks):
        first, last = chunk_bounds(chunk, chunks, N * parts)
        row = np.empty(width, out.dtype)
        for i in range(first, last):
            n, start, stop = _place(i, parts, P)
            _spread(values[n], row, out[start * C : stop * C])


def spread_over_images(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return images whose pixels are all alike: out[n, c, h, w] = values[n, c]."""
    (N, C), P = values.shape, math.prod(size)
    out = empty_channels_last((N, C, *size), values.dtype)
    width = C * min(P, wide_row(C, _WIDTH) // C)
    parts, chunks = _parts(N, C, P)
    _spread_loop.launch(
        out.size, np.ascontiguousarray(values), P, width, parts, chunks, flat_channels_last(out)
    )
    return out
