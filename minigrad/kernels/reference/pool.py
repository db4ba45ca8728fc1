"""Max-pooling twins: tap by tap, one place of the window at a time for all windows at once."""

from collections.abc import Iterator

import numpy as np

from minigrad.kernels.taps import place_dtype

Pair = tuple[int, int]


def max_pool2d_forward(
    x: np.ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    out_size: Pair,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest value of each window, and its place there.

    Padding counts as -inf and is never the place. The first of equal values wins; a NaN wins over
    every number, and the last NaN over the others, as in torch.

    Parameters
    ----------
    x : ndarray, (N, C, H, W)
    kernel_size, stride, padding, dilation : tuple of int
        (vertical, horizontal).
    out_size : tuple of int
        (OH, OW); windows may reach beyond the padding, where nothing is.

    Returns
    -------
    out : ndarray of x's dtype, (N, C, OH, OW)
    place : ndarray of uint8, or int32 for windows of more than 256, (N, C, OH, OW)
        kh * KW + kw of the winner.
    """
    shape = (*x.shape[:2], *out_size)
    padded = _pad(x, -np.inf, kernel_size, stride, padding, dilation, out_size)
    inside = _pad(np.ones_like(x, bool), False, kernel_size, stride, padding, dilation, out_size)
    out = np.full(shape, -np.inf, x.dtype)
    place = np.zeros(shape, place_dtype(kernel_size[0] * kernel_size[1]))
    seen = np.zeros(shape, bool)
    for tap, window in _taps(kernel_size, stride, dilation, out_size):
        value, exists = padded[window], inside[window]
        wins = exists & (~seen | (value.real > out.real) | np.isnan(value.real))
        out = np.where(wins, value, out)
        place[wins] = tap
        seen |= exists
    return out, place


def max_pool2d_backward(
    grad_out: np.ndarray,
    place: np.ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    in_size: Pair,
) -> np.ndarray:
    """Return the gradient of x: each winner receives the cotangent of its window.

    Parameters
    ----------
    grad_out : ndarray, (N, C, OH, OW)
    place : ndarray, (N, C, OH, OW)
        What ``max_pool2d_forward`` returned.
    kernel_size, stride, padding, dilation : tuple of int
    in_size : tuple of int
        (H, W) of x.

    Returns
    -------
    grad_x : ndarray, (N, C, H, W)
        An entry that wins in several windows receives the sum.
    """
    (H, W), out_size = in_size, grad_out.shape[2:]
    grad_x = np.zeros((*grad_out.shape[:2], H, W), grad_out.dtype)
    grad_padded = _pad(grad_x, 0, kernel_size, stride, padding, dilation, out_size)
    for tap, window in _taps(kernel_size, stride, dilation, out_size):
        grad_padded[window] += np.where(place == tap, grad_out, 0)
    top, left = padding
    return grad_padded[:, :, top : top + H, left : left + W].copy()


def _pad(
    x: np.ndarray,
    value: float,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    out_size: Pair,
) -> np.ndarray:
    """Surround images with ``value``: the padding, and more where the last window goes beyond."""
    widths = [(0, 0), (0, 0)]
    for axis in range(2):
        reach = stride[axis] * (out_size[axis] - 1) + dilation[axis] * (kernel_size[axis] - 1) + 1
        after = max(padding[axis], reach - padding[axis] - x.shape[2 + axis])
        widths.append((padding[axis], after))
    return np.pad(x, widths, constant_values=value)


def _taps(
    kernel_size: Pair, stride: Pair, dilation: Pair, out_size: Pair
) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Give each place in the window its number, and the entries it meets at all positions."""
    for tap, (kh, kw) in enumerate(np.ndindex(kernel_size)):
        rows = slice(kh * dilation[0], kh * dilation[0] + stride[0] * out_size[0], stride[0])
        columns = slice(kw * dilation[1], kw * dilation[1] + stride[1] * out_size[1], stride[1])
        yield tap, (slice(None), slice(None), rows, columns)
