"""Max pooling: max_pool2d. The averages are in average.py; they share the window's geometry."""

import functools
from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.core.decisions import decide, held
from minigrad.core.errors import ArgumentError, ShapeError
from minigrad.core.function import Function
from minigrad.core.tensor import Tensor
from minigrad.ops._images import Pair, bad_images, check_images, pair
from minigrad.ops._registry import Sample, Wrong, operation

__all__ = ["max_pool2d"]


@functools.lru_cache(maxsize=64)
def pooled_size(
    name: str,
    shape: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    ceil_mode: bool,
) -> Pair:
    """Count the positions of a sliding window, (OH, OW); raise where the window does not fit.

    The images are of ``shape`` (N, C, H, W). With ``ceil_mode`` a last window may reach beyond the
    padding, if it begins inside it.
    """
    span = tuple((k - 1) * d + 1 for k, d in zip(kernel_size, dilation, strict=True))
    if any(2 * p > s for p, s in zip(padding, span, strict=True)):
        raise ArgumentError(
            f"{name}: padding of at most half the window is needed, got padding={padding} for a "
            f"window of {span[0]}x{span[1]}. Pass padding of at most "
            f"({span[0] // 2}, {span[1] // 2})."
        )
    padded = tuple(n + 2 * p for n, p in zip(shape[2:], padding, strict=True))
    sizes = []
    for n, w, s, p in zip(padded, span, stride, padding, strict=True):
        size = (n - w + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (size - 1) * s >= n - p:
            size -= 1
        sizes.append(size)
    if min(sizes) < 1:
        raise ShapeError(
            f"{name}: a window that fits into the image is needed, the window spans "
            f"{span[0]}x{span[1]} and the image with its padding {padded[0]}x{padded[1]} (x is "
            f"{shape}, padding={padding}). Pass a smaller window or a larger image."
        )
    return sizes[0], sizes[1]


def bad_windows(name: str) -> list[Wrong]:
    """Wrong calls of every operation with a sliding window."""
    x = np.ones((2, 3, 5, 7))
    return [
        *bad_images(name, 2),
        Wrong(
            ArgumentError,
            f"{name}: kernel_size is an int or a pair of ints, each at least 1, got 0. Pass for "
            f"example kernel_size=2 or kernel_size=(2, 1).",
            x,
            0,
        ),
        Wrong(
            ArgumentError,
            f"{name}: stride is an int or a pair of ints, each at least 1, got (1, 2, 3). Pass for "
            f"example stride=2 or stride=(2, 1).",
            x,
            2,
            stride=(1, 2, 3),
        ),
        Wrong(
            ArgumentError,
            f"{name}: padding is an int or a pair of ints, each at least 0, got -1. Pass for "
            f"example padding=1 or padding=(1, 0).",
            x,
            2,
            padding=-1,
        ),
        Wrong(
            ArgumentError,
            f"{name}: padding of at most half the window is needed, got padding=(0, 2) for a "
            f"window of 3x3. Pass padding of at most (1, 1).",
            x,
            3,
            padding=(0, 2),
        ),
        Wrong(
            ShapeError,
            f"{name}: a window that fits into the image is needed, the window spans 8x2 and the "
            f"image with its padding 7x7 (x is (2, 3, 5, 7), padding=(1, 0)). Pass a smaller "
            f"window or a larger image.",
            x,
            (8, 2),
            padding=(1, 0),
        ),
    ]


class MaxPool2d(Function):
    """y = the largest entry of each window."""

    @staticmethod
    def forward(
        ctx: Any,
        x: np.ndarray,
        *,
        kernel_size: Pair,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        out_size: Pair,
    ) -> np.ndarray:
        ctx.window = kernel_size, stride, padding, dilation
        ctx.in_size = x.shape[2:]
        out, place = kernels.max_pool2d_forward(x, *ctx.window, out_size)
        ctx.save(place)
        return held_max("max_pool2d", x, ctx.window, out_size) if held() else out

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> np.ndarray:
        (place,) = ctx.saved
        return kernels.max_pool2d_backward(grad_out, place, *ctx.window, ctx.in_size)


_Window = tuple[Pair, Pair, Pair, Pair]  # kernel_size, stride, padding and dilation


def held_max(name: str, x: np.ndarray, window: _Window, out_size: Pair) -> np.ndarray:
    """Pool within a gradient check, for the operation ``name``: its winners are held."""
    winners = decide(name, lambda: _winners(x.real, window, out_size))
    N, C, H, W = x.shape
    images = x.reshape(N, C, 1, H * W)
    largest = np.take_along_axis(images, np.maximum(winners, 0), axis=-1)
    return np.where(winners < 0, -np.inf, largest)


def _winners(x: np.ndarray, window: _Window, out_size: Pair) -> np.ndarray:
    """Position h * W + w of the first largest entry of each window: (N, C, OH, OW).

    -1 where a window with holes sees padding alone.
    """
    (KH, KW), stride, padding, dilation = window
    H, W = x.shape[2:]
    flat = x.reshape(*x.shape[:2], H * W)
    winners = np.full((*x.shape[:2], *out_size), -1, np.intp)
    for i, j in np.ndindex(out_size):
        h = i * stride[0] - padding[0] + dilation[0] * np.arange(KH)
        w = j * stride[1] - padding[1] + dilation[1] * np.arange(KW)
        h, w = h[(h >= 0) & (h < H)], w[(w >= 0) & (w < W)]
        places = (h[:, None] * W + w).ravel()  # row by row: argmax takes the first of a tie
        if places.size:
            winners[:, :, i, j] = places[np.argmax(flat[:, :, places], axis=-1)]
    return winners


def _distinct(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Entries at least 1/50 apart, so that no difference quotient crosses a tie."""
    return rng.permutation(int(np.prod(shape))).reshape(shape) / 50 - 1.5


def _images(rng: np.random.Generator) -> list[Sample]:
    x = _distinct(rng, 2, 3, 5, 7)
    return [
        Sample(x, 2),
        Sample(x, (3, 2), stride=(2, 1), padding=(1, 0)),
        Sample(x, 3, stride=2, padding=1),
        Sample(x, (2, 3), stride=1, dilation=(3, 2)),
        Sample(x, 2, stride=3),
        Sample(x, 2, ceil_mode=True),
        Sample(x, 3, stride=(3, 2), padding=1, ceil_mode=True),
        Sample(x, (5, 7)),
        Sample(_distinct(rng, 1, 1, 17, 17), 17, padding=8, stride=9),
        Sample(np.zeros((0, 3, 5, 7)), 2),
    ]


@operation(
    MaxPool2d,
    samples=_images,
    wrong=lambda rng: [
        *bad_windows("max_pool2d"),
        Wrong(
            ArgumentError,
            "max_pool2d: dilation is an int or a pair of ints, each at least 1, got 1.5. Pass for "
            "example dilation=2 or dilation=(2, 1).",
            np.ones((2, 3, 5, 7)),
            2,
            dilation=1.5,
        ),
    ],
)
def max_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Take the largest entry of each window.

    y[n, c, i, j] is the maximum over kh, kw of x[n, c, i stride_h - padding_h + kh dilation_h,
    j stride_w - padding_w + kw dilation_w]; padding counts as -inf, and a NaN as the largest.

    Parameters
    ----------
    x : Tensor or ndarray, (N, C, H, W), float32 or float64
    kernel_size : int or pair of int
        (KH, KW).
    stride : int or pair of int, optional
        Of the window; kernel_size without it.
    padding : int or pair of int
        At most half the window.
    dilation : int or pair of int
        Distance of the entries that a window looks at.
    ceil_mode : bool
        Also take a last window that reaches beyond the padding, if it begins inside.

    Returns
    -------
    Tensor
        (N, C, OH, OW) with OH = (H + 2 padding_h - dilation_h (KH - 1) - 1) / stride_h + 1, rounded
        down, or up with ``ceil_mode``; OW alike.

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
    The largest entry of a window receives its grad_out, the first of them in a tie (row by row);
    an entry that is the largest of several windows receives the sum. Saves one byte an output:
    the place within the window.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> mg.max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2).data
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """
    check_images("max_pool2d", x)
    kernel_size = pair("max_pool2d", "kernel_size", kernel_size, 1)
    stride = kernel_size if stride is None else pair("max_pool2d", "stride", stride, 1)
    padding = pair("max_pool2d", "padding", padding, 0)
    dilation = pair("max_pool2d", "dilation", dilation, 1)
    out_size = pooled_size(
        "max_pool2d", x.shape, kernel_size, stride, padding, dilation, bool(ceil_mode)
    )
    return MaxPool2d.apply(
        x,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        out_size=out_size,
    )
