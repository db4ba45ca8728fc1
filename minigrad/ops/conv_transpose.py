"""The adjoint of convolution: conv_transpose2d.

It runs on the kernels of conv2d. What is the gradient of the input for one is the forward of the
other, and the weight gradient is the same with image and cotangent exchanged.
"""

from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.core.errors import ArgumentError, ShapeError
from minigrad.core.function import Function
from minigrad.core.tensor import Tensor
from minigrad.ops._images import Pair, check_images, pair
from minigrad.ops._registry import Sample, Wrong, operation
from minigrad.ops.conv import Sides, bad_arguments, check_bias, check_weight, told_shapes

__all__ = ["conv_transpose2d"]


class ConvTranspose2d(Function):
    """y = the adjoint of conv2d with this weight, applied to x, + bias."""

    @staticmethod
    def forward(
        ctx: Any,
        x: np.ndarray,
        weight: np.ndarray,
        bias: np.ndarray | None,
        *,
        out_size: Pair,
        stride: Pair,
        padding: Sides,
        dilation: Pair,
        groups: int,
    ) -> np.ndarray:
        ctx.save(x, weight)
        ctx.geometry = stride, padding, dilation, groups
        out_shape = (len(x), weight.shape[1] * groups, *out_size)
        out = kernels.conv2d_grad_input(x, weight, out_shape, *ctx.geometry)
        return out if bias is None else out + bias[:, None, None]

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        x, weight = ctx.saved
        grad_x = grad_weight = grad_bias = None
        if ctx.needs[0]:
            grad_x = kernels.conv2d_forward(grad_out, weight, None, *ctx.geometry)
        if ctx.needs[1]:
            grad_weight = kernels.conv2d_grad_weight(x, grad_out, weight.shape, *ctx.geometry)
        if ctx.needs[2]:
            grad_bias = kernels.conv2d_grad_bias(grad_out)
        return grad_x, grad_weight, grad_bias


def _transposed_images(rng: np.random.Generator) -> list[Sample]:
    normal = rng.standard_normal
    x = normal((2, 3, 4, 5))
    return [
        Sample(x, normal((3, 4, 2, 3)), normal(4)),
        Sample(x, normal((3, 2, 3, 3)), stride=2, padding=1, output_padding=1),
        Sample(x, normal((3, 2, 2, 3)), normal(2), stride=(3, 2), output_padding=(2, 0)),
        Sample(x, normal((3, 2, 3, 2)), normal(2), padding=(2, 0), dilation=(2, 3)),
        Sample(x, normal((3, 2, 3, 2)), normal(6), stride=2, groups=3),
        Sample(np.zeros((0, 3, 4, 5)), normal((3, 4, 2, 3)), normal(4)),
    ]


def _bad_transposes(rng: np.random.Generator) -> list[Wrong]:
    x, weight = np.ones((8, 4, 16, 16)), np.ones((4, 16, 3, 3))
    return [
        *bad_arguments("conv_transpose2d", x, weight, 16),
        Wrong(
            ShapeError,
            "conv_transpose2d: weight expects 3 input channels, x has 4. x is (8, 4, 16, 16) as "
            "(N, C, H, W); weight is (3, 16, 3, 3) as (C, F/groups, KH, KW); groups=1. Pass an x "
            "with 3 channels, or a weight of shape (4, 16, 3, 3).",
            x,
            np.ones((3, 16, 3, 3)),
        ),
        Wrong(
            ShapeError,
            "conv_transpose2d: groups must divide the channels, got groups=3. x is "
            "(8, 4, 16, 16) as (N, C, H, W); weight is (4, 16, 3, 3) as (C, F/groups, KH, KW). "
            "Pass a divisor of 4.",
            x,
            weight,
            groups=3,
        ),
        Wrong(
            ArgumentError,
            "conv_transpose2d: output_padding chooses among the sizes that conv2d with this stride "
            "takes to the size of x, and is smaller than the stride, got output_padding=(2, 0) and "
            "stride=(2, 2). Pass at most (1, 1).",
            x,
            weight,
            stride=2,
            output_padding=(2, 0),
        ),
        Wrong(
            ShapeError,
            "conv_transpose2d: an image with at least one pixel must remain, the result would be "
            "12x-2. x is (8, 4, 16, 2) as (N, C, H, W); weight is (4, 16, 3, 3) as "
            "(C, F/groups, KH, KW); stride=(1, 1), padding=(3, 3). Pass less padding or a larger "
            "image.",
            np.ones((8, 4, 16, 2)),
            weight,
            padding=3,
        ),
    ]


@operation(ConvTranspose2d, samples=_transposed_images, wrong=_bad_transposes)
def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """Spread images with filters: the adjoint of :func:`conv2d`, known as deconvolution.

    Each entry of x adds a copy of the filter, times itself, to y: y[n, f, i stride_h - padding_h +
    kh dilation_h, j stride_w - padding_w + kw dilation_w] += weight[c, f, kh, kw] x[n, c, i, j],
    and what falls into the padding is lost. The inner product of y with any image equals that of x
    with conv2d of that image, at the same weight, stride, padding and dilation.

    Parameters
    ----------
    x : Tensor or ndarray, (N, C, H, W), float32 or float64
    weight : Tensor or ndarray, (C, F/groups, KH, KW), dtype of x
        The weight of the conv2d whose adjoint this is: from F to C channels.
    bias : Tensor or ndarray, (F,), dtype of x, optional
    stride, padding : int or pair of int
    output_padding : int or pair of int
        Rows and columns more at the bottom and right, fewer than the stride: several sizes of an
        image are one after a strided conv2d, and this chooses among them.
    groups : int
    dilation : int or pair of int

    Returns
    -------
    Tensor
        (N, F, OH, OW) with OH = (H - 1) stride_h - 2 padding_h + dilation_h (KH - 1) + 1 +
        output_padding_h; OW alike.

    Raises
    ------
    ShapeError
        If x is not (N, C, H, W), or weight or bias does not fit it, or nothing would remain.
    ArgumentError
        For settings out of range. (torch also takes an output_padding below the dilation.)
    DTypeError
        If x, weight and bias are not floats of one dtype.

    Gradient
    --------
    grad_x = conv2d(grad_out, weight). grad_weight is that of this conv2d, with x as its cotangent
    and grad_out as its image. grad_bias = grad_out summed over all but f. Saves x and weight.

    Source
    ------
    Dumoulin and Visin, A guide to convolution arithmetic for deep learning (2016), chapter 4.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> edge = np.array([[[[-1.0, 1.0]]]])
    >>> mg.conv_transpose2d(np.array([[[[0.0, 3.0, 0.0]]]]), edge).data
    array([[[[ 0., -3.,  3.,  0.]]]])
    """
    name = "conv_transpose2d"
    check_images(name, x)
    check_weight(name, x, weight, bias, groups)
    C, filters, KH, KW = weight.shape
    told = told_shapes(name, x, weight)
    if x.shape[1] != C:
        raise ShapeError(
            f"{name}: weight expects {C} input channels, x has {x.shape[1]}. {told}; "
            f"groups={groups}. Pass an x with {C} channels, or a weight of shape "
            f"{(x.shape[1], filters, KH, KW)}."
        )
    if C % groups:
        raise ShapeError(
            f"{name}: groups must divide the channels, got groups={groups}. {told}. Pass a divisor "
            f"of {C}."
        )
    check_bias(name, bias, filters * groups)
    stride, dilation = pair(name, "stride", stride, 1), pair(name, "dilation", dilation, 1)
    padding, extra = (
        pair(name, "padding", padding, 0),
        pair(name, "output_padding", output_padding, 0),
    )
    if extra[0] >= stride[0] or extra[1] >= stride[1]:
        raise ArgumentError(
            f"{name}: output_padding chooses among the sizes that conv2d with this stride takes to "
            f"the size of x, and is smaller than the stride, got output_padding={extra} and "
            f"stride={stride}. Pass at most {(stride[0] - 1, stride[1] - 1)}."
        )
    out_size = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + 1 + e
        for n, s, p, d, k, e in zip(
            x.shape[2:], stride, padding, dilation, (KH, KW), extra, strict=True
        )
    )
    if min(out_size) < 1:
        raise ShapeError(
            f"{name}: an image with at least one pixel must remain, the result would be "
            f"{out_size[0]}x{out_size[1]}. {told}; stride={stride}, padding={padding}. Pass less "
            f"padding or a larger image."
        )
    sides = padding[0], padding[0], padding[1], padding[1]
    return ConvTranspose2d.apply(
        x,
        weight,
        bias,
        out_size=out_size,
        stride=stride,
        padding=sides,
        dilation=dilation,
        groups=groups,
    )
