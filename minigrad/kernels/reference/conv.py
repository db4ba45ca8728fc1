"""Convolution, tap by tap.

A convolution is a sum over the KH x KW taps of the filter. Each tap sees one strided window of the
padded input and multiplies its channels with one matrix of the weight. The gradients are the same
sums with the factors exchanged.

Letters beside matrices: n image, g group, c channel of a group, f filter of a group, p pixel.
"""

from collections.abc import Iterator

import numpy as np

from minigrad.kernels.reference.elementwise import relu_backward

Pair = tuple[int, int]
Sides = tuple[int, int, int, int]
Shape = tuple[int, int, int, int]


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
    """Return the convolution of x with the filters in weight.

    Parameters
    ----------
    x : ndarray, shape (N, C, H, W)
    weight : ndarray, shape (F, C/groups, KH, KW)
    bias : ndarray, shape (F,), or None
    stride : tuple of int
        (vertical, horizontal).
    padding : tuple of int
        Zeros around the image: (top, bottom, left, right).
    dilation : tuple of int
        Pixels between the taps of the filter: (vertical, horizontal).
    groups : int
        Channels and filters are split into so many groups that do not see each other.
    other : ndarray, shape and dtype of out, or None
        Is added to the result: the other path of a residual unit.
    relu : bool
        Whether what is negative in the end becomes 0.

    Returns
    -------
    out : ndarray, shape (N, F, OH, OW)
        With OH = (H + top + bottom - dilation_h * (KH - 1) - 1) // stride_h + 1, and OW alike.
    """
    N, F = len(x), len(weight)
    OH, OW = _out_size(x.shape, weight.shape, stride, padding, dilation)
    padded = np.pad(x, ((0, 0), (0, 0), padding[:2], padding[2:]))
    out = np.zeros((N, F, OH, OW), np.result_type(x, weight))
    for tap, window in _taps(weight.shape, (OH, OW), stride, dilation):
        seen = _in_groups(padded[window], groups)  # ngcp
        matrix = _of_groups(weight[tap], groups)  # gfc
        out += (matrix @ seen).reshape(N, F, OH, OW)
    out = out if bias is None else out + bias[:, None, None]
    out = out if other is None else out + other
    return np.where(out.real <= 0, out.dtype.type(0), out) if relu else out


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
    """Return the gradient with respect to x, given the one with respect to the output.

    Parameters
    ----------
    grad_out : ndarray, shape (N, F, OH, OW)
    weight : ndarray, shape (F, C/groups, KH, KW)
    input_shape : tuple of int
        (N, C, H, W) of x.
    stride, padding, dilation, groups
        As for ``conv2d_forward``.
    other : ndarray, shape and dtype of grad_x, or None
        Is added to the result: what the identity path of a residual unit hands back.
    mask : ndarray of uint8, or None
        The bits, in channels-last order, of the values of ``other`` that count; the rest are 0.

    Returns
    -------
    grad_x : ndarray, shape (N, C, H, W)
    """
    N, C, H, W = input_shape
    top, bottom, left, right = padding
    dtype = np.result_type(grad_out, weight)
    grad_padded = np.zeros((N, C, top + H + bottom, left + W + right), dtype)
    split = _in_groups(grad_out, groups)  # ngfp
    for tap, window in _taps(weight.shape, grad_out.shape[2:], stride, dilation):
        matrix = _of_groups(weight[tap], groups)  # gfc
        share = matrix.transpose(0, 2, 1) @ split
        grad_padded[window] += share.reshape(N, C, *grad_out.shape[2:])
    grad_x = grad_padded[:, :, top : top + H, left : left + W]
    if other is None:
        return grad_x.copy()
    return grad_x + (other if mask is None else relu_backward(other, mask, (0, 2, 3, 1)))


def conv2d_grad_weight(
    grad_out: np.ndarray,
    x: np.ndarray,
    weight_shape: Shape,
    stride: Pair,
    padding: Sides,
    dilation: Pair,
    groups: int,
) -> np.ndarray:
    """Return the gradient with respect to weight, given the one with respect to the output.

    Parameters
    ----------
    grad_out : ndarray, shape (N, F, OH, OW)
    x : ndarray, shape (N, C, H, W)
    weight_shape : tuple of int
        (F, C/groups, KH, KW).
    stride, padding, dilation, groups
        As for ``conv2d_forward``.

    Returns
    -------
    grad_weight : ndarray, shape (F, C/groups, KH, KW)
    """
    padded = np.pad(x, ((0, 0), (0, 0), padding[:2], padding[2:]))
    grad_weight = np.zeros(weight_shape, np.result_type(grad_out, x))
    split = _in_groups(grad_out, groups)  # ngfp
    for tap, window in _taps(weight_shape, grad_out.shape[2:], stride, dilation):
        seen = _in_groups(padded[window], groups)  # ngcp
        share = split @ seen.transpose(0, 1, 3, 2)  # ngfc
        grad_weight[tap] = share.sum(axis=0).reshape(weight_shape[:2])
    return grad_weight


def conv2d_grad_bias(grad_out: np.ndarray) -> np.ndarray:
    """Return the gradient with respect to bias, given the one with respect to the output.

    Parameters
    ----------
    grad_out : ndarray, shape (N, F, OH, OW)

    Returns
    -------
    grad_bias : ndarray, shape (F,)
    """
    return grad_out.sum(axis=(0, 2, 3))


def _out_size(
    x_shape: Shape, weight_shape: Shape, stride: Pair, padding: Sides, dilation: Pair
) -> Pair:
    """Count the positions at which the dilated filter fits into the padded image."""
    H = x_shape[2] + padding[0] + padding[1]
    W = x_shape[3] + padding[2] + padding[3]
    return (
        len(range(0, H - dilation[0] * (weight_shape[2] - 1), stride[0])),
        len(range(0, W - dilation[1] * (weight_shape[3] - 1), stride[1])),
    )


def _taps(
    weight_shape: Shape, out_size: Pair, stride: Pair, dilation: Pair
) -> Iterator[tuple[tuple[slice | int, ...], tuple[slice, ...]]]:
    """Give for each tap its index in the weight, and the window of the padded input it sees."""
    everything = slice(None)
    for kh in range(weight_shape[2]):
        for kw in range(weight_shape[3]):
            rows = _every(kh * dilation[0], out_size[0], stride[0])
            columns = _every(kw * dilation[1], out_size[1], stride[1])
            yield (everything, everything, kh, kw), (everything, everything, rows, columns)


def _every(start: int, count: int, step: int) -> slice:
    return slice(start, start + count * step, step) if count else slice(0, 0)


def _in_groups(x: np.ndarray, groups: int) -> np.ndarray:
    """Flatten the pixels; in one piece of memory, which matrices are multiplied from."""
    N, C, H, W = x.shape
    return np.ascontiguousarray(x).reshape(N, groups, C // groups, H * W)


def _of_groups(matrix: np.ndarray, groups: int) -> np.ndarray:
    """Cut the weights of one tap into the matrices of the groups."""
    F, C = matrix.shape
    return np.ascontiguousarray(matrix).reshape(groups, F // groups, C)
