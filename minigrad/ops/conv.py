"""Convolution: conv2d. Its adjoint, conv_transpose2d, has a file of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.core.errors import ArgumentError, DTypeError, ShapeError
from minigrad.core.function import Function
from minigrad.core.tensor import Tensor
from minigrad.kernels import conv_choice
from minigrad.kernels._layout import remembered
from minigrad.ops._images import Pair, bad_images, check_floats, check_images, is_int, pair
from minigrad.ops._registry import Sample, Wrong, operation

__all__ = ["conv2d", "conv_algorithm"]

Sides = tuple[int, int, int, int]  # top, bottom, left, right


class Conv2d(Function):
    """y = x convolved with weight, + bias."""

    @staticmethod
    def forward(
        ctx: Any,
        x: np.ndarray,
        weight: np.ndarray,
        bias: np.ndarray | None,
        *,
        stride: Pair,
        padding: Sides,
        dilation: Pair,
        groups: int,
        algorithm: str = "auto",
        other: np.ndarray | None = None,
        relu: bool = False,
    ) -> np.ndarray:
        """Compute y, or relu(y + other) for those who will not call this backward."""
        # Images as a data set has them are brought to the order of the kernels here, once, not
        # again when the weight's gradient is computed from them.
        if not x.transpose(0, 2, 3, 1).flags.c_contiguous:
            x = kernels.to_channels_last(x)
        ctx.save(x, weight)
        ctx.geometry = stride, padding, dilation, groups
        ctx.algorithm = algorithm
        with conv_choice.asking(algorithm):
            return kernels.conv2d_forward(x, weight, bias, *ctx.geometry, other, relu)

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> Any:
        grad_x = grad_input(ctx, grad_out) if ctx.needs[0] else None
        return grad_x, *grad_parameters(ctx, grad_out)


def grad_input(
    ctx: Any, grad_out: np.ndarray, other: np.ndarray | None = None, mask: np.ndarray | None = None
) -> np.ndarray:
    """Return the gradient of x, plus those values of ``other`` whose bits in ``mask`` are set."""
    x, weight, *_ = ctx.saved
    with conv_choice.asking(ctx.algorithm):
        return kernels.conv2d_grad_input(grad_out, weight, x.shape, *ctx.geometry, other, mask)


def grad_parameters(ctx: Any, grad_out: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the gradients of weight and bias."""
    x, weight, *_ = ctx.saved
    grad_weight = grad_bias = None
    if ctx.needs[1]:
        with conv_choice.asking(ctx.algorithm):
            grad_weight = kernels.conv2d_grad_weight(grad_out, x, weight.shape, *ctx.geometry)
    if ctx.needs[2]:
        grad_bias = kernels.conv2d_grad_bias(grad_out)
    return grad_weight, grad_bias


def _images(rng: np.random.Generator) -> list[Sample]:
    normal = rng.standard_normal
    x = normal((2, 3, 5, 7))
    return [
        Sample(x, normal((4, 3, 2, 3)), normal(4)),
        Sample(x, normal((4, 3, 3, 3)), stride=2, padding=1),
        Sample(x, normal((2, 3, 2, 3)), normal(2), stride=(2, 3), padding=(1, 2), dilation=(3, 2)),
        Sample(x, normal((2, 3, 2, 4)), normal(2), padding="same", dilation=(1, 2)),
        Sample(x, normal((4, 3, 1, 1)), None, stride=2, padding="valid"),
        Sample(x, normal((6, 1, 3, 2)), normal(6), padding=1, groups=3),
        Sample(normal((2, 4, 5, 3)), normal((6, 2, 2, 3)), normal(6), stride=2, groups=2),
        Sample(x, normal((4, 3, 5, 7)), normal(4)),
        Sample(np.zeros((0, 3, 5, 7)), normal((4, 3, 2, 3)), normal(4)),
    ]


def _bad_convs(rng: np.random.Generator) -> list[Wrong]:
    x, weight = np.ones((8, 4, 32, 32)), np.ones((16, 4, 3, 3))
    return [
        *bad_arguments("conv2d", x, weight, 16),
        *_bad_algorithms(x, weight),
        Wrong(
            ShapeError,
            "conv2d: weight expects 3 input channels, x has 4. x is (8, 4, 32, 32) as "
            "(N, C, H, W); weight is (16, 3, 3, 3) as (F, C/groups, KH, KW); groups=1. Pass an x "
            "with 3 channels, or a weight of shape (16, 4, 3, 3).",
            x,
            np.ones((16, 3, 3, 3)),
        ),
        Wrong(
            ShapeError,
            "conv2d: weight expects 8 input channels, x has 4. x is (8, 4, 32, 32) as "
            "(N, C, H, W); weight is (16, 4, 3, 3) as (F, C/groups, KH, KW); groups=2. Pass an x "
            "with 8 channels, or a weight of shape (16, 2, 3, 3).",
            x,
            weight,
            groups=2,
        ),
        Wrong(
            ShapeError,
            "conv2d: groups must divide the channels and the filters, got groups=3. x is "
            "(8, 4, 32, 32) as (N, C, H, W); weight is (16, 4, 3, 3) as (F, C/groups, KH, KW). "
            "Pass a common divisor of 4 and 16.",
            x,
            weight,
            groups=3,
        ),
        Wrong(
            ShapeError,
            "conv2d: a filter that fits into the image is needed, the filter spans 9x3 and the "
            "image with its padding 5x7. x is (2, 4, 5, 5) as (N, C, H, W); weight is "
            "(16, 4, 3, 3) as (F, C/groups, KH, KW); padding=(0, 1), dilation=(4, 1). Pass a "
            "smaller filter, a larger image or more padding.",
            np.ones((2, 4, 5, 5)),
            weight,
            padding=(0, 1),
            dilation=(4, 1),
        ),
        Wrong(
            ArgumentError,
            "conv2d: padding='same' needs stride 1, for else the sizes cannot be the same, got "
            "stride=(2, 2). Pass stride=1, or the padding as a number.",
            x,
            weight,
            stride=2,
            padding="same",
        ),
        Wrong(
            ArgumentError,
            "conv2d: padding is an int, a pair of ints, 'same' or 'valid', got 'full'. Pass for "
            "example padding=1.",
            x,
            weight,
            padding="full",
        ),
    ]


def _bad_algorithms(x: np.ndarray, weight: np.ndarray) -> list[Wrong]:
    return [
        Wrong(
            ArgumentError,
            "conv2d: algorithm is 'auto', 'winograd', 'direct', 'im2col' or 'reference', got "
            "array(['direct', 'auto'], dtype='<U6'). Pass for example algorithm='auto'.",
            x,
            weight,
            algorithm=np.array(["direct", "auto"]),
        ),
        Wrong(
            ArgumentError,
            "conv2d: algorithm is 'auto', 'winograd', 'direct', 'im2col' or 'reference', got "
            "'fft'. Pass for example algorithm='auto'.",
            x,
            weight,
            algorithm="fft",
        ),
        Wrong(
            ArgumentError,
            "conv2d: algorithm='winograd' computes 3x3 filters in float32, with stride 1, dilation "
            "1 and groups 1. weight is (16, 4, 3, 3) in float64; stride=(2, 2), dilation=(1, 1), "
            "groups=1. Pass algorithm='auto' or 'direct'.",
            x,
            weight,
            stride=2,
            algorithm="winograd",
        ),
    ]


def bad_arguments(name: str, x: np.ndarray, weight: np.ndarray, F: int) -> list[Wrong]:
    """Wrong calls of both operations; x, weight and F filters go together."""
    return [
        *bad_images(name, weight),
        Wrong(
            DTypeError,
            f"{name}: one dtype is needed, x is float64 and weight is float32. Convert one of "
            f"them, for example with weight.astype('float64').",
            x,
            weight.astype(np.float32),
        ),
        Wrong(
            ShapeError,
            f"{name}: a weight with four axes, none of them empty, is needed, got shape "
            f"(16, 4, 0, 3). Pass one of shape {_AXES[name]}.",
            x,
            np.ones((16, 4, 0, 3)),
        ),
        Wrong(
            ShapeError,
            f"{name}: one bias for each of the {F} filters is needed, got an array of shape (3,). "
            f"Pass bias of shape ({F},), or None.",
            x,
            weight,
            np.ones(3),
        ),
        Wrong(
            DTypeError,
            f"{name}: weight is a Tensor or an ndarray of float32 or float64, got NoneType. Make "
            f"one with minigrad.tensor(...).",
            x,
            None,
        ),
        *_bad_settings(name, x, weight),
    ]


def _bad_settings(name: str, x: np.ndarray, weight: np.ndarray) -> list[Wrong]:
    groups, two = "groups is an int of at least 1, got", "is an int or a pair of ints, each at"
    cure = "Pass groups=1 for one filter that sees all channels."
    rows: list[tuple[dict[str, Any], str]] = [
        ({"groups": 0}, f"{groups} 0. {cure}"),
        ({"groups": True}, f"{groups} True. {cure}"),
        (
            {"stride": 0},
            f"stride {two} least 1, got 0. Pass for example stride=2 or stride=(2, 1).",
        ),
        (
            {"stride": 2**63},
            f"stride {two} most 16777216, got 9223372036854775808. Pass for example stride=2.",
        ),
        (
            {"stride": 10**7, "padding": (1, 10**9)},
            f"padding {two} most 16777216, got (1, 1000000000). Pass for example padding=1.",
        ),
    ]
    return [Wrong(ArgumentError, f"{name}: {text}", x, weight, **given) for given, text in rows]


@operation(Conv2d, samples=_images, wrong=_bad_convs)
def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> Tensor:
    """Slide filters over images.

    y[n, f, i, j] = bias[f] + sum over c, kh, kw of weight[f, c, kh, kw] times
    x[n, c, i stride_h - padding_h + kh dilation_h, j stride_w - padding_w + kw dilation_w], where
    padding counts as 0. (Cross-correlation, as everywhere in deep learning: no filter is flipped.)

    Parameters
    ----------
    x : Tensor or ndarray, (N, C, H, W), float32 or float64
    weight : Tensor or ndarray, (F, C/groups, KH, KW), dtype of x
    bias : Tensor or ndarray, (F,), dtype of x, optional
    stride : int or pair of int
    padding : int, pair of int, "same" or "valid"
        Zeros on either side. "same" keeps H and W, with one more zero at the bottom and right
        where their number is odd, and needs stride 1; "valid" is 0.
    dilation : int or pair of int
        Distance of the pixels that a filter looks at.
    groups : int
        Channels and filters are split into so many groups, which do not see each other.
    algorithm : {"auto", "im2col", "direct", "winograd", "reference"}
        How it is computed, here and in the gradients: see :func:`conv_algorithm`, which "auto"
        follows. "winograd" is refused where it cannot serve.

    Returns
    -------
    Tensor
        (N, F, OH, OW) with OH = (H + 2 padding_h - dilation_h (KH - 1) - 1) / stride_h + 1,
        rounded down; OW alike.

    Raises
    ------
    ShapeError
        If x is not (N, C, H, W), or weight or bias does not fit it, or the filter the image.
    ArgumentError
        For settings out of range.
    DTypeError
        If x, weight and bias are not floats of one dtype.

    Gradient
    --------
    grad_x = conv_transpose2d(grad_out, weight): each pixel collects from the outputs that saw it.
    grad_weight[f, c, kh, kw] = sum over n, i, j of grad_out[n, f, i, j] times the entry of x above.
    grad_bias = grad_out summed over n, i, j. Saves x and weight.

    Notes
    -----
    2 N F OH OW C/groups KH KW floating-point operations forward, and again for each of grad_x and
    grad_weight.

    Source
    ------
    Dumoulin and Visin, A guide to convolution arithmetic for deep learning (2016), chapters 2, 4.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> edge = np.array([[[[-1.0, 1.0]]]])
    >>> mg.conv2d(np.array([[[[1.0, 1.0, 4.0, 4.0]]]]), edge).data
    array([[[[0., 3., 0.]]]])
    """
    options = conv_options(x, weight, bias, stride, padding, dilation, groups, algorithm)
    return Conv2d.apply(x, weight, bias, **options)


def out_shape(
    x: Any, weight: Any, stride: Pair, padding: Sides, dilation: Pair, groups: int, **others: Any
) -> tuple[int, ...]:
    """The shape of the result, (N, F, OH, OW), from options that :func:`conv_options` checked."""
    return _out_shape(x.shape, weight.shape, stride, padding, dilation)


@remembered
def _out_shape(
    x_shape: tuple[int, ...], weight_shape: tuple[int, ...], stride: Pair, padding: Sides,
    dilation: Pair,
) -> tuple[int, ...]:  # fmt: skip
    top, bottom, left, right = padding
    H, W = x_shape[2] + top + bottom, x_shape[3] + left + right
    span_h, span_w = (d * (k - 1) + 1 for d, k in zip(dilation, weight_shape[2:], strict=True))
    OH, OW = (H - span_h) // stride[0] + 1, (W - span_w) // stride[1] + 1
    return x_shape[0], weight_shape[0], OH, OW


def _check_serves(
    algorithm: Any, x: Any, weight: Any, stride: Pair, dilation: Pair, groups: int
) -> None:
    """Refuse an algorithm that cannot compute this convolution."""
    check_algorithm("conv2d", algorithm)
    case = conv_choice.Case("forward", x.dtype, x.shape, weight.shape, stride, dilation, groups)
    if not conv_choice.serves(algorithm, case):
        raise ArgumentError(
            f"conv2d: algorithm={algorithm!r} computes 3x3 filters in float32, with stride 1, "
            f"dilation 1 and groups 1. weight is {weight.shape} in {weight.dtype}; "
            f"stride={stride}, dilation={dilation}, groups={groups}. Pass algorithm='auto' or "
            f"'direct'."
        )


def check_algorithm(name: str, algorithm: Any) -> None:
    """Refuse what is no algorithm of convolution."""
    if not isinstance(algorithm, str) or algorithm not in ("auto", *conv_choice.ALGORITHMS):
        raise ArgumentError(
            f"{name}: algorithm is 'auto', 'winograd', 'direct', 'im2col' or 'reference', got "
            f"{algorithm!r}. Pass for example algorithm='auto'."
        )


@contextmanager
def conv_algorithm(algorithm: str) -> Iterator[None]:
    """Let the convolutions of this thread use one algorithm while the block lasts.

    Parameters
    ----------
    algorithm : {"auto", "im2col", "direct", "winograd", "reference"}
        "im2col" copies what each output sees into a row and multiplies matrices: the one to read
        first. "direct" keeps tiles of sums in registers and copies next to nothing. "winograd"
        needs a quarter of the products, for 3 x 3 filters with stride 1 in float32, and rounds
        somewhat more; what it cannot compute, "direct" does. "reference" is NumPy, tap by tap.
        "auto" goes by a table of shapes.

    Raises
    ------
    ArgumentError
        If it is none of these.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> x, weight = np.ones((1, 2, 4, 4)), np.ones((3, 2, 3, 3))
    >>> with mg.conv_algorithm("im2col"):
    ...     y = mg.conv2d(x, weight)
    >>> float(y.data[0, 0, 0, 0])
    18.0
    """
    check_algorithm("conv_algorithm", algorithm)
    with conv_choice.conv_algorithm(algorithm):
        yield


def conv_options(
    x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any,
    algorithm: Any,
) -> dict[str, Any]:  # fmt: skip
    """Check the arguments of conv2d, and put its settings as :class:`Conv2d` takes them."""
    check_images("conv2d", x)
    check_weight("conv2d", x, weight, bias, groups)
    F, channels, KH, KW = weight.shape
    C = x.shape[1]
    if C % groups or F % groups:
        raise ShapeError(
            f"conv2d: groups must divide the channels and the filters, got groups={groups}. "
            f"{told_shapes('conv2d', x, weight)}. Pass a common divisor of {C} and {F}."
        )
    if channels * groups != C:
        raise ShapeError(
            f"conv2d: weight expects {channels * groups} input channels, x has {C}. "
            f"{told_shapes('conv2d', x, weight)}; groups={groups}. Pass an x with "
            f"{channels * groups} channels, or a weight of shape {(F, C // groups, KH, KW)}."
        )
    check_bias("conv2d", bias, F)
    stride = pair("conv2d", "stride", stride, 1)
    dilation = pair("conv2d", "dilation", dilation, 1)
    sides = _sides(padding, (KH, KW), stride, dilation)
    span = dilation[0] * (KH - 1) + 1, dilation[1] * (KW - 1) + 1
    padded = x.shape[2] + sides[0] + sides[1], x.shape[3] + sides[2] + sides[3]
    if span[0] > padded[0] or span[1] > padded[1]:
        raise ShapeError(
            f"conv2d: a filter that fits into the image is needed, the filter spans "
            f"{span[0]}x{span[1]} and the image with its padding {padded[0]}x{padded[1]}. "
            f"{told_shapes('conv2d', x, weight)}; padding={padding}, dilation={dilation}. Pass a "
            f"smaller filter, a larger image or more padding."
        )
    if type(algorithm) is not str or algorithm != "auto":
        _check_serves(algorithm, x, weight, stride, dilation, groups)
    return {
        "stride": stride, "padding": sides, "dilation": dilation, "groups": groups,
        "algorithm": algorithm,
    }  # fmt: skip


def check_weight(name: str, x: Any, weight: Any, bias: Any, groups: Any) -> None:
    check_floats(name, x=x, weight=weight, bias=bias)
    if weight.ndim != 4 or 0 in weight.shape:
        raise ShapeError(
            f"{name}: a weight with four axes, none of them empty, is needed, got shape "
            f"{weight.shape}. Pass one of shape {_AXES[name]}."
        )
    if not is_int(groups) or groups < 1:
        raise ArgumentError(
            f"{name}: groups is an int of at least 1, got {groups!r}. Pass groups=1 for one filter "
            f"that sees all channels."
        )


def check_bias(name: str, bias: Any, F: int) -> None:
    if bias is not None and bias.shape != (F,):
        raise ShapeError(
            f"{name}: one bias for each of the {F} filters is needed, got an array of shape "
            f"{bias.shape}. Pass bias of shape ({F},), or None."
        )


_AXES = {"conv2d": "(F, C/groups, KH, KW)", "conv_transpose2d": "(C, F/groups, KH, KW)"}


def told_shapes(name: str, x: Any, weight: Any) -> str:
    """The shapes, for messages."""
    return f"x is {x.shape} as (N, C, H, W); weight is {weight.shape} as {_AXES[name]}"


def _sides(padding: Any, kernel_size: Pair, stride: Pair, dilation: Pair) -> Sides:
    """Return how many zeros stand above, below, left and right of the image."""
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ArgumentError(
                f"conv2d: padding is an int, a pair of ints, 'same' or 'valid', got {padding!r}. "
                f"Pass for example padding=1."
            )
        if padding == "valid":
            return 0, 0, 0, 0
        if stride != (1, 1):
            raise ArgumentError(
                f"conv2d: padding='same' needs stride 1, for else the sizes cannot be the same, "
                f"got stride={stride}. Pass stride=1, or the padding as a number."
            )
        h, w = (d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True))
        return h // 2, h - h // 2, w // 2, w - w // 2
    h, w = pair("conv2d", "padding", padding, 0)
    return h, h, w, w
