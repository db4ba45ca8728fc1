"""Convolution by lowering: copy what each output pixel sees into a row, then multiply.

With ``columns`` the rows that ``im2col`` makes, (N*OH*OW, KH*KW*C), and the weight as a matrix
(KH*KW*C, F), for each group of channels:

- forward          out         = columns @ weight
- input gradient   grad_x      = col2im(grad_out @ weight.T)
- weight gradient  grad_weight = columns.T @ grad_out

The columns are KH*KW times as large as x and never exist as a whole: a thread lowers a block of
pixels that fits its cache and multiplies it at once.
"""

import numpy as np

from minigrad.kernels._jit import body, chunk_bounds, chunks_of, kernel, prange
from minigrad.kernels._layout import (
    Shape,
    empty_channels_last,
    flat_channels_last,
    values_or_none,
)
from minigrad.kernels._runs import add_run, copy_run
from minigrad.kernels._simd import ROWS, lanes, lanes_of
from minigrad.kernels.conv_choice import bands_of
from minigrad.kernels.conv_finish import finish_apart
from minigrad.kernels.conv_geometry import Geometry, Pair, Sides, geometry, matrices, seeing
from minigrad.kernels.gemm import ADD, NEIGHBOUR, OVERWRITE, multiply, pack, whole_vectors
from minigrad.kernels.im2col import col2im, im2col

# Bytes that a block of pixels may take as columns, to be multiplied before they leave the cache.
BLOCK_BYTES = 128 * 1024

# Into how many chunks a small problem is cut, and how much memory partial sums may take.
CHUNKS = 16
PARTIAL_BYTES = 64 * 1024 * 1024


def conv2d_forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    groups: int,
    other: np.ndarray | None = None,
    relu: bool = False,
) -> np.ndarray:
    """Return the convolution of x with the filters in weight."""
    g = geometry(x.shape, weight.shape, stride, padding, dilation, groups)
    out = empty_channels_last((g.N, g.F, g.OH, g.OW), x.dtype)
    _forward_loop.launch(
        g.pixels * g.depth * g.F,
        flat_channels_last(x),
        pack(matrices(weight, groups)).reshape(-1),
        values_or_none(bias, x.dtype),
        g,
        _block(g, g.depth + g.filters, x.dtype),
        flat_channels_last(out),
    )
    return finish_apart(out, other, relu)


@kernel
def _forward_loop(x, weight, bias, g, block, out):
    for chunk in prange(chunks_of(g.pixels, block)):
        first = chunk * block
        _forward_block(x, weight, bias, g, first, min(first + block, g.pixels), out)


@body
def _forward_block(x, weight, bias, g, first, last, out):
    """Compute the output pixels from ``first`` up to ``last``."""
    filters, depth = g.filters, g.depth
    width = lanes_of(x)
    vectors = -(-filters // width)
    columns = np.empty((last - first) * depth, x.dtype)
    sums = np.empty((last - first) * vectors * width, x.dtype)
    for group in range(g.groups):
        im2col(x, g, group, first, last, columns, depth)
        multiply(
            last - first, vectors, depth,
            columns, depth, NEIGHBOUR,
            weight[group * vectors * depth * width :], depth * width, width,
            sums, vectors * width, OVERWRITE,
        )  # fmt: skip
        for i in range(last - first):
            at = (first + i) * g.F + group * filters
            copy_run(out, at, sums, i * vectors * width, filters)
            if bias.size > 0:
                add_run(out, at, bias, group * filters, filters)


def conv2d_grad_input(
    grad_out: np.ndarray,
    weight: np.ndarray,
    input_shape: Shape,
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    groups: int,
    other: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Return the gradient with respect to x, given the one with respect to the output."""
    g = geometry(input_shape, weight.shape, stride, padding, dilation, groups)
    g, rows, columns = seeing(g)
    weight = weight[:, :, rows, columns]
    grad_x = empty_channels_last(input_shape, grad_out.dtype)
    # A band of image rows belongs to one thread; a large batch is shared out by whole images.
    bands = bands_of(g.N, g.H)
    _grad_input_loop.launch(
        g.pixels * g.depth * g.F,
        flat_channels_last(grad_out),
        pack(matrices(weight, groups).swapaxes(1, 2)).reshape(-1),
        g,
        _block(g, g.depth, grad_out.dtype),
        bands,
        flat_channels_last(grad_x),
    )
    return finish_apart(grad_x, other, relu=False, mask=mask)


@kernel
def _grad_input_loop(grad_out, weight, g, block, bands, grad_x):
    for chunk in prange(g.N * bands):
        top_row, bottom_row = chunk_bounds(chunk % bands, bands, g.H)
        _grad_input_band(
            grad_out, weight, g, block, chunk // bands, top_row, bottom_row, grad_x
        )  # fmt: skip


@body
def _grad_input_band(grad_out, weight, g, block, n, top_row, bottom_row, grad_x):
    """Compute image rows from ``top_row`` up to ``bottom_row`` of image n."""
    filters, depth = g.filters, g.depth
    width = lanes_of(grad_x)
    vectors = -(-depth // width)
    columns = np.empty(block * vectors * width, grad_x.dtype)
    grad_x[(n * g.H + top_row) * g.W * g.C : (n * g.H + bottom_row) * g.W * g.C] = 0
    # The output rows that see the band; those at its edges see a neighbouring band as well.
    first_row = -(-max(top_row + g.top - (g.KH - 1) * g.dilation_h, 0) // g.stride_h)
    last_row = min((bottom_row - 1 + g.top) // g.stride_h + 1, g.OH)
    last = (n * g.OH + last_row) * g.OW
    for start in range((n * g.OH + first_row) * g.OW, last, block):
        stop = min(start + block, last)
        for group in range(g.groups):
            multiply(
                stop - start, vectors, filters,
                grad_out[start * g.F + group * filters :], g.F, NEIGHBOUR,
                weight[group * vectors * filters * width :], filters * width, width,
                columns, vectors * width, OVERWRITE,
            )  # fmt: skip
            col2im(columns, vectors * width, g, group, start, stop, grad_x, top_row, bottom_row)


def conv2d_grad_weight(
    grad_out: np.ndarray,
    x: np.ndarray,
    weight_shape: Shape,
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """Return the gradient with respect to weight, given the one with respect to the output."""
    g = geometry(x.shape, weight_shape, stride, padding, dilation, groups)
    padded = whole_vectors(g.filters, x.dtype) * lanes(x.dtype)
    block = _block(g, g.depth + padded, x.dtype)
    size = groups * g.depth * padded
    room = PARTIAL_BYTES // max(size * x.itemsize, 1)
    partial = np.zeros((max(1, min(CHUNKS, room, chunks_of(g.pixels, block))), size), x.dtype)
    _grad_weight_loop.launch(
        g.pixels * g.depth * g.F,
        flat_channels_last(grad_out),
        flat_channels_last(x),
        g,
        block,
        partial,
    )
    # Adding the partial sums in the order of their chunks: the same bits on any number of threads.
    total = partial.sum(axis=0).reshape(groups, g.KH, g.KW, g.channels, padded)[..., : g.filters]
    return np.ascontiguousarray(total.transpose(0, 4, 3, 1, 2)).reshape(weight_shape)


@kernel
def _grad_weight_loop(grad_out, x, g, block, partial):
    chunks = partial.shape[0]
    for chunk in prange(chunks):
        first, last = chunk_bounds(chunk, chunks, g.pixels)
        _grad_weight_chunk(grad_out, x, g, block, first, last, partial[chunk])


@body
def _grad_weight_chunk(grad_out, x, g, block, first, last, total):
    """Add up what the output pixels from ``first`` up to ``last`` contribute."""
    filters, depth = g.filters, g.depth
    width = lanes_of(x)
    row = -(-filters // width) * width
    columns = np.empty(block * depth, x.dtype)
    cotangents = np.zeros(block * row, x.dtype)
    for start in range(first, last, block):
        stop = min(start + block, last)
        for group in range(g.groups):
            im2col(x, g, group, start, stop, columns, depth)
            for i in range(stop - start):
                copy_run(
                    cotangents, i * row, grad_out, (start + i) * g.F + group * filters, filters
                )
            multiply(
                depth, row // width, stop - start,
                columns, NEIGHBOUR, depth,
                cotangents, width, row,
                total[group * depth * row :], row, ADD,
            )  # fmt: skip


def _block(g: Geometry, values: int, dtype: np.dtype) -> int:
    """Choose how many pixels are lowered at once, when each takes so many values."""
    fitting = BLOCK_BYTES // (dtype.itemsize * max(values, 1))
    # Many channels: rather overflow the cache than read all weights again for each few pixels.
    fair = min(max(fitting, 4 * ROWS), chunks_of(g.pixels, CHUNKS))
    return max(fair - fair % ROWS, ROWS)
