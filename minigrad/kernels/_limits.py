"""What no kernel can beat: the arithmetic and the copying of this machine, at their best.

Not the data sheet's figures but what compiled loops of this library reach with nothing else to do:
``multiply_adds`` keeps a full tile of sums in registers and touches no memory, ``products`` loads
its factors from the first cache, as every product of matrices must, and ``copy`` moves runs of
neighbouring values and computes nothing. Memory that takes in and gives out at once moves more than
one that does only one of them: ``read`` and ``fill`` are for kernels whose arrays differ in size.
The benchmark measures every kernel against them.
"""

from typing import Any

import numpy as np

from minigrad.kernels._ahead import LINE_BYTES, PAGE_BYTES, prefetch_lines
from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._runs import copy_run
from minigrad.kernels._simd import (
    ROWS,
    VECTORS,
    lanes,
    lanes_of,
    tile_add,
    tile_load,
    tile_outer,
    tile_store,
    tile_zeros,
)
from minigrad.kernels._stream import end_of_stream, is_far, stream_run

# Many more than threads: a thread that is interrupted leaves its chunks to the others.
_CHUNKS = 64
_COPY_CHUNK = 64 * 1024

# Products that make up a sum: the factors of a tile fill half of a small first cache.
_DEPTH = 64


def multiply_adds(steps: int, dtype: Any) -> tuple[np.ndarray, int]:
    """Add a constant outer product to tiles of sums, so many times.

    Parameters
    ----------
    steps : int
        Outer products a tile.
    dtype : float32 or float64

    Returns
    -------
    sums : ndarray, shape (tiles, ROWS, VECTORS * lanes)
        Each is ``row + 2 * steps``.
    flops : int
        A multiplication and an addition for each sum and step.
    """
    row = VECTORS * lanes(dtype)
    # Rows begin differently, or the compiler would compute one for all.
    sums = np.repeat(np.arange(_CHUNKS * ROWS) % ROWS, row).astype(dtype).reshape(_CHUNKS, -1)
    a, b = np.full(1, 2, dtype), np.ones(row, dtype)
    flops = 2 * sums.size * steps
    _multiply_adds_loop.launch(flops, sums, a, b, steps)
    return sums.reshape(_CHUNKS, ROWS, row), flops


@kernel
def _multiply_adds_loop(sums, a, b, steps):
    for chunk in prange(sums.shape[0]):
        _multiply_adds(sums[chunk], a, b, steps)


@body
def _multiply_adds(sums, a, b, steps):
    width = lanes_of(sums)
    held = tile_load(tile_zeros(ROWS, VECTORS, sums), sums, 0, VECTORS * width)
    for _ in range(steps):
        # One value of a for all rows: with the tile and b it fits into registers, and the loop
        # neither loads nor stores.
        held = tile_outer(held, a, 0, 0, b, 0, width)
    tile_store(held, sums, 0, VECTORS * width)


def products(repeats: int, dtype: Any) -> tuple[np.ndarray, int]:
    """Multiply two small matrices, and add the product to tiles of sums, so many times.

    The matrices lie as they are read, step by step, and stay in the first cache.

    Parameters
    ----------
    repeats : int
        Products a tile.
    dtype : float32 or float64

    Returns
    -------
    sums : ndarray, shape (tiles, ROWS, VECTORS * lanes)
        Each is ``row * repeats``.
    flops : int
        A multiplication and an addition for each sum, step and repeat.
    """
    row = VECTORS * lanes(dtype)
    sums = np.zeros((_CHUNKS, ROWS * row), dtype)
    a = np.tile(np.arange(ROWS, dtype=dtype), _DEPTH)  # (_DEPTH, ROWS)
    b = np.full(_DEPTH * row, 1 / _DEPTH, dtype)  # (_DEPTH, row)
    flops = 2 * sums.size * _DEPTH * repeats
    _products_loop.launch(flops, sums, a, b, repeats)
    return sums.reshape(_CHUNKS, ROWS, row), flops


@kernel
def _products_loop(sums, a, b, repeats):
    for chunk in prange(sums.shape[0]):
        _products(sums[chunk], a, b, repeats)


@body
def _products(sums, a, b, repeats):
    width = lanes_of(sums)
    row = VECTORS * width
    held = tile_zeros(ROWS, VECTORS, sums)
    for _ in range(repeats):
        for i in range(_DEPTH):
            held = tile_outer(held, a, i * ROWS, 1, b, i * row, width)
    tile_store(held, sums, 0, row)


def copy(x: np.ndarray, out: np.ndarray) -> None:
    """Copy x to out, both one-dimensional and of one dtype, on all threads."""
    _copy_loop.launch(x.size, x, out, chunks_of(x.size, _COPY_CHUNK))


@kernel
def _copy_loop(x, out, chunks):
    values = LINE_BYTES // out.itemsize
    for chunk in prange(chunks):
        start, stop = chunk_bounds(chunk, chunks, chunks_of(x.size, values))
        start, stop = start * values, min(stop * values, x.size)
        if is_far(out):
            stream_run(out, start, x, start, stop - start)
        else:
            copy_run(out, start, x, start, stop - start)
        end_of_stream()


def read(x: np.ndarray) -> np.ndarray:
    """Read all of x, one-dimensional and whole blocks of four vectors, on all threads.

    Returns
    -------
    sums : ndarray, shape (chunks, 4 * lanes)
        What was read, summed: a compiler leaves out what nobody asks for.
    """
    chunks = chunks_of(x.size, _COPY_CHUNK)
    sums = np.zeros((chunks, 4 * lanes(x.dtype)), x.dtype)
    _read_loop.launch(x.size, x, sums)
    return sums


@kernel
def _read_loop(x, sums):
    chunks, block = sums.shape
    for chunk in prange(chunks):
        start, stop = chunk_bounds(chunk, chunks, x.size // block)
        _read(x, start * block, stop * block, block, sums[chunk])


@body
def _read(x, start, stop, block, sums):
    # Not by ``sum_values``: the global average, which is held against this, would be its own roof.
    held = tile_zeros(1, 4, x)
    for at in range(start, stop, block):
        line = np.intp(x.ctypes.data) + at * x.itemsize + PAGE_BYTES
        prefetch_lines(line, block * x.itemsize // LINE_BYTES, LINE_BYTES)
        held = tile_add(held, tile_load(held, x, at, 0))
    tile_store(held, sums, 0, 0)


def fill(values: np.ndarray, out: np.ndarray) -> None:
    """Write values again and again from the beginning of out to its end, on all threads.

    Parameters
    ----------
    values : ndarray, one-dimensional
        A few. Some processors write zeros faster than anything else.
    out : ndarray, one-dimensional
        As many values, some whole number of times.
    """
    _fill_loop.launch(out.size, values, out, chunks_of(out.size, _COPY_CHUNK))


@kernel
def _fill_loop(values, out, chunks):
    block = values.size
    for chunk in prange(chunks):
        start, stop = chunk_bounds(chunk, chunks, out.size // block)
        for at in range(start * block, stop * block, block):
            copy_run(out, at, values, 0, block)
