"""Sums over whole images, and what spreads over them: the global average pool.

An image is a list of pixels, and its sums are those of the columns: of wide rows as in ``norm.py``
where that spares many vectors, else of the pixels themselves; in float64 from block to block. Large
images are cut into parts, each with a slot of its own, so that one image alone is shared among
threads too.
"""

import math

import numpy as np

from minigrad.kernels._columns import add_row, folded, sum_values, wide_row
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import empty_channels_last, flat_channels_last, remembered
from minigrad.kernels._runs import aligned_empty, copy_run
from minigrad.kernels._simd import lanes, lanes_of

# Values of a wide row, or C if that is more: a few vectors, so that there is little to fold,
_COLUMNS = 64
# or, where they are only written, enough for a loop over them to be fast.
_WIDTH = 1_024

# To fold a value of a wide row takes about as long as to add so many vectors.
_FOLDED = 2

# Wide rows that are summed before the sums become float64: so few that little is rounded.
_ROWS = 64

# Values of a part of an image, and of a chunk: small enough to be shared.
_PART = 32_768

# Parts that all images together are cut into: whole images are shared where there are many.
_PARTS = 16


@remembered
def _parts(N: int, C: int, P: int) -> tuple[int, int]:
    """Return into how many parts an image of P pixels is cut, and into how many chunks they go."""
    parts = 1 if P <= _ROWS else min(P, chunks_of(P * C, _PART), chunks_of(_PARTS, max(1, N)))
    together = N * parts // max(chunks_of(N * P * C, _PART), 1)  # in each chunk as many
    return parts, chunks_of(N * parts, max(together, 1))


@remembered
def _summed_width(C: int, P: int, dtype: np.dtype) -> int:
    """Return how many columns are summed at once over P pixels: those of a wide row, or C.

    A wide row is whole vectors, and the last vector of a pixel has lanes to spare.
    """
    wide, vectors = wide_row(C, _COLUMNS), C / lanes(dtype)
    spare = P * (math.ceil(vectors) - vectors)
    return wide if spare > _FOLDED * wide else C


@body
def _place(i, parts, P):
    """Return the image of a part, and its first pixel and the one behind its last."""
    n = i // parts
    first, last = chunk_bounds(i - n * parts, parts, P)
    return n, n * P + first, n * P + last


@body
def _sum_pixels(x, first, last, C, width, row, total):
    """Set the sum of each channel over the values from ``first`` up to ``last``: total[:C]."""
    total[:] = 0
    whole = first + (last - first) // width * width
    for at in range(first, whole, _ROWS * width):
        sum_values(x, at, min(at + _ROWS * width, whole), width, row)
        add_row(total, row)
    for at in range(whole, last, C):
        add_row(total[:C], x[at : at + C])
    if width > C:
        for c in range(C):
            total[c] = folded(total[:width], c, C)


@body
def _round(total, divisor, out):
    """Write sums, divided by a number, in the dtype of out."""
    for c in range(out.size):
        out[c] = total[c] / divisor


@kernel
def _sums_loop(x, P, width, parts, chunks, divisor, out):
    N, C = out.shape
    slots = np.empty((N * parts if parts > 1 else 0, C))
    for chunk in prange(chunks):
        first, last = chunk_bounds(chunk, chunks, N * parts)
        room = width + lanes_of(x)
        row, total = aligned_empty(room, x), np.empty(room)
        for i in range(first, last):
            n, start, stop = _place(i, parts, P)
            if P <= _ROWS and width == C:  # one block and nothing to fold: no float64 is needed
                sum_values(x, start * C, stop * C, C, row)
                _round(row, divisor, out[n])
                continue
            _sum_pixels(x, start * C, stop * C, C, width, row, total)
            if parts == 1:
                _round(total, divisor, out[n])
            else:
                _round(total, 1.0, slots[i])
    if parts > 1:
        for n in range(N):
            total = slots[n * parts]
            for i in range(n * parts + 1, (n + 1) * parts):
                add_row(total, slots[i])
            _round(total, divisor, out[n])


def image_sums(x: np.ndarray, divisor: float = 1.0) -> np.ndarray:
    """Return the sum of each channel of each image, divided by a number."""
    N, C, H, W = x.shape
    out, (parts, chunks) = np.empty((N, C), x.dtype), _parts(N, C, H * W)
    width = _summed_width(C, H * W // parts, x.dtype)
    _sums_loop.launch(
        x.size, flat_channels_last(x), H * W, width, parts, chunks, float(divisor), out
    )
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
