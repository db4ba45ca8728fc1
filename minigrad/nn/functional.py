"""Operations under the names, arguments and conventions of ``torch.nn.functional``.

``import minigrad.nn.functional as F``. Array operations with torch's names (``F.cat``, ``F.sum``
with ``dim``) stand here too, from ``torch_names.py``. Gradients, errors and examples are told by
the operations they call. What torch offers beyond these arguments is left out, so that asking for
it is an error. Arguments that come in another order than torch's can only be given by name. One
image alone, (C, H, W), may be convolved and pooled.

Examples
--------
>>> import minigrad as mg
>>> import minigrad.nn.functional as F
>>> F.softmax(input=mg.tensor([[0.0, 0.0]]), dim=1).data
array([[0.5, 0.5]], dtype=float32)
"""

from collections.abc import Callable
from numbers import Integral
from typing import Any

from minigrad import ops
from minigrad.core.errors import ArgumentError
from minigrad.core.tensor import Tensor
from minigrad.nn import torch_names
from minigrad.nn.torch_names import *  # noqa: F403 (its __all__ is the list of names)
from minigrad.nn.torch_names import dims_of
from minigrad.ops.shaping import shape_of

__all__ = [
    "adaptive_avg_pool2d", "avg_pool2d", "batch_norm", "binary_cross_entropy_with_logits", "conv2d",
    "conv_transpose2d", "cross_entropy", "dropout", "interpolate", "leaky_relu", "linear",
    "local_response_norm", "log_softmax", "max_pool2d", "mse_loss", "nll_loss", "pad", "prelu",
    "relu", "sigmoid", "softmax", "softplus", "tanh", "upsample",
]  # fmt: skip
__all__ += torch_names.__all__


def _not_in_place(name: str, inplace: bool) -> None:
    if inplace:
        raise ArgumentError(
            f"{name}: inplace=True would write into its input, and a tensor is never written to. "
            f"Leave inplace out, and use what is returned: x = {name}(x)."
        )


# Activations.


def relu(input: Any, inplace: bool = False) -> Tensor:
    """max(input, 0): :func:`minigrad.relu`."""
    _not_in_place("relu", inplace)
    return ops.relu(input)


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """Input where positive, else negative_slope input: :func:`minigrad.leaky_relu`."""
    _not_in_place("leaky_relu", inplace)
    return ops.leaky_relu(input, negative_slope)


def prelu(input: Any, weight: Any) -> Tensor:
    """Leaky relu with learned slopes: :func:`minigrad.prelu`."""
    return ops.prelu(input, weight)


def sigmoid(input: Any) -> Tensor:
    """1 / (1 + exp(-input)): :func:`minigrad.sigmoid`."""
    return ops.sigmoid(input)


def tanh(input: Any) -> Tensor:
    """Hyperbolic tangent: :func:`minigrad.tanh`."""
    return ops.tanh(input)


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta input)) / beta: :func:`minigrad.softplus`."""
    return ops.softplus(input, beta, threshold)


def softmax(input: Any, dim: int, *, dtype: Any = None) -> Tensor:
    """Probabilities along a dim: :func:`minigrad.softmax`."""
    input = input if dtype is None else ops.astype(input, dtype)
    return ops.softmax(input, dims_of(input, dim))


def log_softmax(input: Any, dim: int, *, dtype: Any = None) -> Tensor:
    """Logarithms of probabilities along a dim: :func:`minigrad.log_softmax`."""
    input = input if dtype is None else ops.astype(input, dtype)
    return ops.log_softmax(input, dims_of(input, dim))


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Entries set to zero with probability p: :func:`minigrad.dropout`."""
    _not_in_place("dropout", inplace)
    return ops.dropout(input, p, training)


# Layers.


def _on_images(operation: Callable[..., Tensor], input: Any, *settings: Any) -> Tensor:
    """``operation(input, ...)`` of images; one alone, (C, H, W), gets a batch axis on the way."""
    if getattr(input, "ndim", 4) != 3:
        return operation(input, *settings)
    return ops.squeeze(operation(ops.expand_dims(input, 0), *settings), 0)


def linear(input: Any, weight: Any, bias: Any = None) -> Tensor:
    """Input times the transposed weight, plus bias: :func:`minigrad.ops.linear`."""
    return ops.linear(input, weight, bias)


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution of images: :func:`minigrad.conv2d`."""
    return _on_images(ops.conv2d, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The adjoint of convolution, as a layer: :func:`minigrad.conv_transpose2d`."""
    settings = stride, padding, output_padding, groups, dilation
    return _on_images(ops.conv_transpose2d, input, weight, bias, *settings)


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel normalised, running statistics updated in place: :func:`minigrad.batch_norm`."""
    running = {"running_mean": _array(running_mean), "running_var": _array(running_var)}
    return ops.batch_norm(
        input, weight, bias, **running, training=training, momentum=momentum, eps=eps
    )


def _array(value: Any) -> Any:
    return value.data if isinstance(value, Tensor) else value


def local_response_norm(
    input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """Each entry divided by its neighbours in other channels: see the operation."""
    return ops.local_response_norm(input, size, alpha, beta, k)


def max_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Largest entry of each window: :func:`minigrad.max_pool2d`."""
    settings = kernel_size, stride, padding, dilation, ceil_mode
    return _on_images(ops.max_pool2d, input, *settings)


def avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Mean of each window: :func:`minigrad.avg_pool2d`."""
    settings = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    return _on_images(ops.avg_pool2d, input, *settings)


def adaptive_avg_pool2d(input: Any, output_size: Any) -> Tensor:
    """Means of windows that give the size asked for: :func:`minigrad.adaptive_avg_pool2d`."""
    return _on_images(ops.adaptive_avg_pool2d, input, output_size)


def interpolate(
    input: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
) -> Tensor:
    """Images in another size: :func:`minigrad.upsample`.

    ``recompute_scale_factor`` replaces a scale factor by the ratio of the sizes that it leads to.
    """
    if recompute_scale_factor:
        none_of_them = input[:0]  # tells the size too
        size, scale_factor = ops.upsample(none_of_them, scale_factor, size).shape[2:], None
    return ops.upsample(input, scale_factor, size, mode, bool(align_corners))


def upsample(
    input: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """Torch's older name of :func:`interpolate`."""
    return interpolate(input, size, scale_factor, mode, align_corners)


# torch's name of a mode -> NumPy's, which minigrad.pad uses.
_PAD_MODES = {"replicate": "edge", "circular": "wrap"}


def pad(input: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Tensor:
    """Entries put around input: :func:`minigrad.pad`.

    ``pad`` is flat and begins with the last dim: (left, right, top, bottom, ...). In mode
    "constant", negative widths cut entries off.
    """
    shape = shape_of("pad", input)
    flat = list(pad) if isinstance(pad, tuple | list) else [pad]
    if len(flat) % 2 or len(flat) > 2 * len(shape):
        raise ArgumentError(
            f"pad: two widths for each dim, the last dim first, are needed, got {len(flat)} for an "
            f"input of shape {shape}. Pass for example (left, right, top, bottom)."
        )
    pairs = [tuple(flat[i : i + 2]) for i in range(0, len(flat), 2)][::-1]
    widths = [(0, 0)] * (len(shape) - len(pairs)) + pairs
    if mode == "constant" and all(isinstance(n, Integral) for n in flat):
        input, widths = _cut(input, shape, widths)
    value = 0 if value is None else value
    return ops.pad(input, widths, _PAD_MODES.get(mode, mode), constant_values=value)


def _cut(input: Any, shape: Any, widths: Any) -> tuple[Tensor, Any]:
    """The input without what negative widths take off, and the other widths."""
    inside = []
    for n, (before, after) in zip(shape, widths, strict=True):
        first, last = max(0, -before), n - max(0, -after)
        if first > last:
            raise ArgumentError(
                f"pad: negative widths cut off at most the {n} entries there are, got "
                f"{(before, after)} for an input of shape {shape}. Pass smaller ones."
            )
        inside.append(slice(first, last))
    rest = [(max(0, before), max(0, after)) for before, after in widths]
    return (input if rest == widths else ops.getitem(input, tuple(inside))), rest


# Losses.


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Softmax and cross-entropy against labels or probabilities: :func:`minigrad.cross_entropy`."""
    return ops.cross_entropy(input, target, weight, ignore_index, reduction, label_smoothing)


def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log probability of the labels: :func:`minigrad.nll_loss`."""
    return ops.nll_loss(input, target, weight, ignore_index, reduction)


def mse_loss(input: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """Mean of (input - target)**2: :func:`minigrad.mse_loss`."""
    return ops.mse_loss(input, target, reduction)


def binary_cross_entropy_with_logits(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Tensor:
    """Cross-entropy of yes-or-no answers: see the operation of this name."""
    return ops.binary_cross_entropy_with_logits(input, target, weight, pos_weight, reduction)
