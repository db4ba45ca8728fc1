"""Average pooling: avg_pool2d, adaptive_avg_pool2d and global_avg_pool2d.

All three add up rectangles and divide. A rectangle is a range of rows and a range of columns, so a
sparse matrix of ones acts on the rows and another on the columns
(:func:`minigrad.kernels.resample2d`); backward is the same with both transposed. A single rectangle
that is the whole image, as at the head of a network, has kernels of its own.
"""

import functools
from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.core.dtypes import real_dtype
from minigrad.core.errors import ArgumentError
from minigrad.core.function import Function
from minigrad.core.tensor import Tensor
from minigrad.kernels.taps import Taps, from_table
from minigrad.ops._images import Pair, bad_images, check_images, pair
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.pool import bad_windows, pooled_size

__all__ = ["adaptive_avg_pool2d", "avg_pool2d", "global_avg_pool2d"]


Both = tuple[Taps, Taps]  # a matrix, and the transposed one


def _ranges(first: np.ndarray, last: np.ndarray, size: int, dtype: np.dtype) -> Both:
    """Return the matrix that adds the entries from first[i] up to last[i], of so many."""
    longest = np.arange((last - first).max())
    table = first[:, None] + longest
    taps = from_table(table, np.ones(table.shape, dtype), table < last[:, None])
    return taps, taps.transposed(size)


class AvgPool2d(Function):
    """y = the sum of each rectangle, divided."""

    @staticmethod
    def forward(
        ctx: Any, x: np.ndarray, *, rows: Both, columns: Both, divisor: np.ndarray
    ) -> np.ndarray:
        ctx.size = H, W = x.shape[2:]
        ctx.divisor = divisor
        ctx.whole = _is_all(rows[0], H) and _is_all(columns[0], W)
        if ctx.whole:
            return kernels.image_sums(x, divisor.item())[:, :, None, None]
        ctx.transposed = rows[1], columns[1]
        return kernels.resample2d(x, rows[0], columns[0], divisor)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> np.ndarray:
        share = grad_out / ctx.divisor
        if ctx.whole:
            return kernels.spread_over_images(share[:, :, 0, 0], ctx.size)
        return kernels.resample2d(share, *ctx.transposed)


def _is_all(taps: Taps, size: int) -> bool:
    """Whether the matrix has one row, which adds up the whole axis."""
    return taps.size == 1 and taps.sources.size == size


def _images(rng: np.random.Generator) -> list[Sample]:
    x = rng.standard_normal((2, 3, 5, 7))
    return [
        Sample(x, 2),
        Sample(x, (3, 2), stride=(2, 1), padding=(1, 0)),
        Sample(x, 3, stride=2, padding=1, count_include_pad=False),
        Sample(x, 2, stride=3),
        Sample(x, 2, ceil_mode=True),
        Sample(x, 3, stride=(3, 2), padding=1, ceil_mode=True),
        Sample(x, 3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
        Sample(x, (2, 3), padding=1, divisor_override=-4),
        Sample(x, (5, 7)),
        Sample(np.zeros((0, 3, 5, 7)), 2),
    ]


@operation(
    AvgPool2d,
    samples=_images,
    wrong=lambda rng: [
        *bad_windows("avg_pool2d"),
        Wrong(
            ArgumentError,
            "avg_pool2d: divisor_override is a number other than 0, or None, got 0. Leave it out "
            "to divide by the size of the window.",
            np.ones((2, 3, 5, 7)),
            2,
            divisor_override=0,
        ),
    ],
)
def avg_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: float | None = None,
) -> Tensor:
    """Average each window.

    y[n, c, i, j] is the sum over kh, kw of x[n, c, i stride_h - padding_h + kh,
    j stride_w - padding_w + kw], divided by their number; padding counts as 0.

    Parameters
    ----------
    x : Tensor or ndarray, (N, C, H, W), float32 or float64
    kernel_size : int or pair of int
        (KH, KW).
    stride : int or pair of int, optional
        Of the window; kernel_size without it.
    padding : int or pair of int
        At most half the window.
    ceil_mode : bool
        Also take a last window that reaches beyond the padding, if it begins inside.
    count_include_pad : bool
        Whether padding counts in the number; what ``ceil_mode`` reaches beyond it never does.
    divisor_override : float, optional
        Divide by this instead.

    Returns
    -------
    Tensor
        (N, C, OH, OW) with OH = (H + 2 padding_h - KH) / stride_h + 1, rounded down, or up with
        ``ceil_mode``; OW alike.

    Raises
    ------
    ShapeError
        If x is not (N, C, H, W) or the window does not fit.
    ArgumentError
        For settings out of range.
    DTypeError
        If x is not made of floats.

    Gradient
    --------
    grad_x is, for each entry, the sum of grad_out / number over the windows it lies in. Saves no
    array of the size of x or y.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> mg.avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2).data
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])
    """
    check_images("avg_pool2d", x)
    kernel_size = pair("avg_pool2d", "kernel_size", kernel_size, 1)
    stride = kernel_size if stride is None else pair("avg_pool2d", "stride", stride, 1)
    padding = pair("avg_pool2d", "padding", padding, 0)
    if divisor_override == 0:
        raise ArgumentError(
            "avg_pool2d: divisor_override is a number other than 0, or None, got 0. Leave it out "
            "to divide by the size of the window."
        )
    window = kernel_size, stride, padding
    out_size = pooled_size("avg_pool2d", x.shape, *window, (1, 1), bool(ceil_mode))
    sizes, dtype = (x.shape[2:], out_size), real_dtype(x.dtype)
    rows, columns, divisor = _windows(*sizes, *window, bool(count_include_pad), dtype)
    if divisor_override is not None:
        divisor = np.full((1, 1), divisor_override, dtype)
    return AvgPool2d.apply(x, rows=rows, columns=columns, divisor=divisor)


@functools.lru_cache(maxsize=64)
def _windows(
    size: Pair,
    out_size: Pair,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    padding_counts: bool,
    dtype: np.dtype,
) -> tuple[Both, Both, np.ndarray]:
    """Return the matrices that add up windows of both axes, and what their sums are divided by."""
    taps, numbers = [], []
    for axis in range(2):
        first = stride[axis] * np.arange(out_size[axis]) - padding[axis]
        last = np.minimum(first + kernel_size[axis], size[axis] + padding[axis])
        inside = np.maximum(first, 0), np.minimum(last, size[axis])
        taps.append(_ranges(*inside, size[axis], dtype))
        numbers.append(last - first if padding_counts else inside[1] - inside[0])
    rows, columns = taps
    return rows, columns, _divisor(numbers[0], numbers[1], dtype)


class AdaptiveAvgPool2d(AvgPool2d):
    """y = the mean of each of OH×OW rectangles that cover the image."""


def _adaptive(rng: np.random.Generator) -> list[Sample]:
    x = rng.standard_normal((2, 3, 5, 7))
    sizes: list[Any] = [1, (2, 3), (None, 4), (7, None), (5, 7), (8, 9)]
    return [*(Sample(x, size) for size in sizes), Sample(np.zeros((0, 3, 5, 7)), 2)]


@operation(
    AdaptiveAvgPool2d,
    samples=_adaptive,
    wrong=lambda rng: [
        *bad_images("adaptive_avg_pool2d", 2),
        Wrong(
            ArgumentError,
            "adaptive_avg_pool2d: output_size is an int or a pair of ints, each at least 1, got "
            "(0, 2). Pass for example output_size=2 or output_size=(2, 1).",
            np.ones((2, 3, 5, 7)),
            (0, 2),
        ),
    ],
)
def adaptive_avg_pool2d(x: Any, output_size: Any) -> Tensor:
    """Average over OH×OW rectangles that cover the image, whatever its size.

    y[n, c, i, j] is the mean over the rows from i H / OH, rounded down, to (i + 1) H / OH, rounded
    up, and over the columns alike.

    Parameters
    ----------
    x : Tensor or ndarray, (N, C, H, W), float32 or float64
    output_size : int or pair of int or None
        (OH, OW); None keeps the size of x.

    Returns
    -------
    Tensor
        (N, C, OH, OW)

    Raises
    ------
    ShapeError
        If x is not (N, C, H, W).
    ArgumentError
        If the output size is not positive.
    DTypeError
        If x is not made of floats.

    Gradient
    --------
    grad_x is, for each entry, the sum of grad_out / number over the rectangles it lies in. Saves
    no array of the size of x or y.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> mg.adaptive_avg_pool2d(np.array([[[[1.0, 2.0, 3.0]]]]), (1, 2)).data
    array([[[[1.5, 2.5]]]])
    """
    check_images("adaptive_avg_pool2d", x)
    size = output_size if isinstance(output_size, tuple | list) else (output_size, output_size)
    if len(size) == 2 and None in size:
        size = [
            n if wanted is None else wanted for n, wanted in zip(x.shape[2:], size, strict=True)
        ]
    out_size = pair("adaptive_avg_pool2d", "output_size", tuple(size), 1)
    rows, columns, divisor = _parts(x.shape[2:], out_size, real_dtype(x.dtype))
    return AdaptiveAvgPool2d.apply(x, rows=rows, columns=columns, divisor=divisor)


@functools.lru_cache(maxsize=64)
def _parts(size: Pair, parts: Pair, dtype: np.dtype) -> tuple[Both, Both, np.ndarray]:
    """Return the matrices that add up parts of both axes, which may overlap, and their sizes."""
    found = []
    for whole, number in zip(size, parts, strict=True):
        first = np.arange(number) * whole // number
        last = -(-np.arange(1, number + 1) * whole // number)
        found.append(_ranges(first, last, whole, dtype))
    rows, columns = found
    return rows, columns, _divisor(np.diff(rows[0].starts), np.diff(columns[0].starts), dtype)


def _divisor(heights: np.ndarray, widths: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return what each sum is divided by: (OH, OW), or (1, 1) where all are alike."""
    table = np.outer(heights, widths).astype(dtype)
    return table if np.ptp(table) else table[:1, :1]


class GlobalAvgPool2d(Function):
    """y = the mean of each channel's image."""

    @staticmethod
    def forward(ctx: Any, x: np.ndarray) -> np.ndarray:
        ctx.size = H, W = x.shape[2:]
        return kernels.image_sums(x, H * W)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> np.ndarray:
        H, W = ctx.size
        return kernels.spread_over_images(grad_out / (H * W), ctx.size)


@operation(
    GlobalAvgPool2d,
    samples=lambda rng: [Sample(rng.standard_normal((2, 3, 5, 7))), Sample(np.zeros((0, 3, 5, 7)))],
    wrong=lambda rng: bad_images("global_avg_pool2d"),
)
def global_avg_pool2d(x: Any) -> Tensor:
    """Average each channel's image to one number: y[n, c] = mean of x[n, c].

    Parameters
    ----------
    x : Tensor or ndarray, (N, C, H, W), float32 or float64

    Returns
    -------
    Tensor
        (N, C); for (N, C, 1, 1) see :func:`adaptive_avg_pool2d` with output_size=1.

    Raises
    ------
    ShapeError
        If x is not (N, C, H, W).
    DTypeError
        If x is not made of floats.

    Gradient
    --------
    grad_x = grad_out / (H W) at every pixel. Saves no array.

    Source
    ------
    Lin, Chen and Yan, Network In Network (2013), section 3.2.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> mg.global_avg_pool2d(np.arange(8.0).reshape(1, 2, 2, 2)).data
    array([[1.5, 5.5]])
    """
    check_images("global_avg_pool2d", x)
    return GlobalAvgPool2d.apply(x)
