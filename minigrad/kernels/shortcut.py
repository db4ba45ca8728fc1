"""Option A of the residual networks: every stride-th pixel between channels of zeros, and back.

Both directions are one loop over the rows of what they make. A row is filled with zeros, which
keeps it in the nearest cache, and then receives the channels of the pixels that have a source.
"""

import numpy as np

from minigrad.kernels._jit import chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import channels_last, empty_channels_last
from minigrad.kernels._runs import copy_run


@kernel
def _place_loop(x, step, apart, skip, lead, chunks, out):
    """Write every step-th pixel of x to every apart-th pixel of out, from channel ``lead`` on.

    The first ``skip`` channels of x are left out; all else in out is 0.
    """
    N, H, W, C = out.shape
    count = min(x.shape[3] - skip, C - lead)
    for chunk in prange(chunks):
        first, last = chunk_bounds(chunk, chunks, N * H)
        for n_h in range(first, last):
            n, h = n_h // H, n_h % H
            row = out[n, h].reshape(-1)
            row[:] = 0
            if h % apart == 0:
                source = x[n, h // apart * step].reshape(-1)
                for w in range(0, W, apart):
                    pixel = w // apart * step
                    copy_run(row, w * C + lead, source, pixel * x.shape[3] + skip, count)


def _place(x: np.ndarray, step: int, apart: int, skip: int, lead: int, out: np.ndarray) -> None:
    chunks = chunks_of(out.size)
    _place_loop.launch(
        out.size, channels_last(x), step, apart, skip, lead, chunks, channels_last(out)
    )


def zero_pad_shortcut(x: np.ndarray, stride: int, before: int, after: int) -> np.ndarray:
    """Return every stride-th pixel of x, with channels of zeros around its own."""
    N, C, H, W = x.shape
    shape = N, before + C + after, -(-H // stride), -(-W // stride)
    out = empty_channels_last(shape, x.dtype)
    _place(x, stride, 1, 0, before, out)
    return out


def zero_pad_shortcut_backward(
    grad_out: np.ndarray, stride: int, before: int, shape: tuple[int, int, int, int]
) -> np.ndarray:
    """Return the gradient of x."""
    grad_x = empty_channels_last(shape, grad_out.dtype)
    _place(grad_out, 1, stride, before, 0, grad_x)
    return grad_x
