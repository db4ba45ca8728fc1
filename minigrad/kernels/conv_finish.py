"""What may follow a convolution: a sum with another array, then a relu.

As operations of their own they read and write the result once more each. Done to a tile of sums on
its way from registers to memory, they cost what reading the other array costs. The bits are those
of the separate operations: a relu and a sum behind the last sum round alike wherever they are done.
"""

from typing import NamedTuple

import numpy as np

from minigrad.kernels._bits import tile_keep_positive
from minigrad.kernels._jit import CHUNK, body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import NO_VALUES, channels_last_order, flat_channels_last
from minigrad.kernels._runs import copy_run, zero_run
from minigrad.kernels._simd import tile_add, tile_load_part
from minigrad.kernels.elementwise import add, relu_backward, relu_forward


class Other(NamedTuple):
    """What is added, and the bits of those values that count; no bits: all of them do."""

    values: np.ndarray
    mask: np.ndarray


def flat_or_none(other: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
    """Return the values of an image in channels-last order; none of them stand for None."""
    return NO_VALUES[dtype] if other is None else flat_channels_last(other)


@body
def finish(tile, other, at, row, rows, columns, relu):
    """Finish a tile whose first so many rows and columns will be written to ``at``, as in other.

    Both steps are chosen while the loop runs: a build for each choice would have to be compiled.
    """
    if other.size > 0:
        tile = tile_add(tile, tile_load_part(tile, other, at, row, 0, rows, columns))
    if relu:
        tile = tile_keep_positive(tile)
    return tile


def kept(other: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """Return those values that count, and 0 elsewhere."""
    return other if mask is None else relu_backward(other, mask, channels_last_order(other.ndim))


def finish_apart(
    out: np.ndarray, other: np.ndarray | None, relu: bool, mask: np.ndarray | None = None
) -> np.ndarray:
    """Finish a whole result, one operation after the other."""
    if other is not None:
        out = add(out, kept(other, mask))
    return relu_forward(out)[0] if relu else out


def begin(other: np.ndarray, out: np.ndarray) -> None:
    """Copy other to out, or where there is none, write zeros."""
    _begin_loop.launch(out.size, other, out, chunks_of(out.size, CHUNK))


@kernel
def _begin_loop(other, out, chunks):
    for chunk in prange(chunks):
        start, stop = chunk_bounds(chunk, chunks, out.size)
        if other.size > 0:
            copy_run(out, start, other, start, stop - start)
        else:
            zero_run(out, start, stop - start)
