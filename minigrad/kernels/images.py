"""Images as data sets have them, plane by plane, brought to the order of the kernels."""

import numpy as np

from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import empty_channels_last, flat_channels_last


def to_channels_last(x: np.ndarray) -> np.ndarray:
    """Return x in channels-last memory; x itself if it is there already."""
    if x.transpose(0, 2, 3, 1).flags.c_contiguous:
        return x
    out = empty_channels_last(x.shape, x.dtype)
    planes = np.ascontiguousarray(x)
    _rows_loop.launch(x.size, planes, chunks_of(x.size), flat_channels_last(out))
    return out


@kernel
def _rows_loop(x, chunks, out):
    N, C, H, W = x.shape
    for chunk in prange(chunks):
        first, last = chunk_bounds(chunk, chunks, N * H)
        for row in range(first, last):
            n = row // H
            _weave(x[n], row - n * H, out[row * W * C :])


@body
def _weave(image, h, out):
    """Write a row of an image: the channels of a pixel side by side."""
    C, W = image.shape[0], image.shape[2]
    for c in range(C):
        plane = image[c, h]
        for w in range(W):
            out[w * C + c] = plane[w]
