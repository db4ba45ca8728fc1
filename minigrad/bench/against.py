"""Torch's side of the cases: the same arrays, in both layouts, by the calls torch itself makes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad.bench.case import Contenders
from minigrad.bench.shapes import Conv
from minigrad.core.errors import MissingExtra

__all__ = ["CHANNELS_LAST", "COMPILED", "DEFAULT", "Torch", "load_torch"]

CHANNELS_LAST, DEFAULT, COMPILED = "torch channels_last", "torch", "torch.compile"

# Channels of a block in oneDNN, at most.
_BLOCK = 16


def load_torch() -> Any:
    """Import torch, or say how to get it."""
    try:
        import torch
    except ImportError:
        raise MissingExtra(
            "bench: --against torch needs torch, which is not installed. "
            'Install it with: pip install "minigrad[compare]".'
        ) from None
    return torch


class Torch:
    """Contenders made of torch.

    Parameters
    ----------
    threads : int
        As many as minigrad has.
    compiled : bool
        Whether networks are also run through ``torch.compile``, which takes up to half a minute a
        network.
    """

    def __init__(self, threads: int, compiled: bool = False) -> None:
        self.torch = load_torch()
        self.torch.set_num_threads(threads)
        self.compiled = compiled

    def tensors(self, *arrays: np.ndarray) -> dict[str, list[Any]]:
        """The arrays in both layouts; where none has four axes and is an image, there is one."""
        found = {DEFAULT: self._copies(self.torch.contiguous_format, arrays)}
        if any(array.ndim == 4 for array in arrays):
            found = {CHANNELS_LAST: self._copies(self.torch.channels_last, arrays), **found}
        return found

    def _copies(self, layout: Any, arrays: Sequence[np.ndarray]) -> list[Any]:
        """Copy the arrays to memory of torch's own, which is aligned as torch wants it."""
        plain = self.torch.contiguous_format
        return [
            self.torch.from_numpy(array).clone(memory_format=layout if array.ndim == 4 else plain)
            for array in arrays
        ]

    def both(self, make: Callable[..., Callable[[], Any]], *arrays: np.ndarray) -> Contenders:
        """One contender for each layout; nothing requires a gradient, so no graph is recorded."""
        return {name: make(*given) for name, given in self.tensors(*arrays).items()}

    def conv(self, name: str, conv: Conv, x: Any, weight: Any, grad_out: Any) -> Contenders:
        """A convolution, or one of its gradients alone, in the layout that torch is faster in.

        The other one takes it 1.2 to 1.8 times as long, a quarter of the time of all kernels. It
        serves where the first would damage this process.
        """
        convolution = self.torch.nn.functional.conv2d
        backward = self.torch.ops.aten.convolution_backward
        settings = (conv.stride, conv.padding, conv.dilation)
        mask = [name == "conv2d_grad_input", name == "conv2d_grad_weight", False]

        def make(x: Any, weight: Any, grad_out: Any) -> Callable[[], Any]:
            if name == "conv2d_forward":
                return lambda: convolution(x, weight, None, *settings, conv.groups)
            return lambda: backward(
                grad_out, x, weight, None, *settings, False, [0, 0], conv.groups, mask
            )

        arrays = x, weight, grad_out
        if _overruns(name, conv):
            return {DEFAULT: make(*self._copies(self.torch.contiguous_format, arrays))}
        return {CHANNELS_LAST: make(*self._copies(self.torch.channels_last, arrays))}

    def batch_norm(
        self, name: str, x: Any, other: Any, weight: Any, bias: Any, grad_out: Any
    ) -> Contenders:
        """Batch norm in training, or its backward with the statistics of a normal distribution.

        With the sum and the ReLU behind it, one call after the other, as in eager networks.
        """
        torch, aten = self.torch, self.torch.ops.aten
        zeros, ones = torch.zeros(x.shape[1]), torch.ones(x.shape[1])
        adds, clips = "add" in name, "relu" in name

        def make(x: Any, other: Any, weight: Any, bias: Any, grad_out: Any) -> Callable[[], Any]:
            def forward() -> Any:
                y = torch.native_batch_norm(x, weight, bias, None, None, True, 0.1, 1e-5)[0]
                y = y.add_(other) if adds else y
                return y.relu_() if clips else y

            def backward() -> Any:
                grad = aten.threshold_backward(grad_out, y, 0) if clips else grad_out
                grads = aten.native_batch_norm_backward(
                    grad, x, weight, None, None, zeros, ones, True, 1e-5, [True, True, True]
                )
                return [grads[0], grad] if adds else grads[0]

            normal = torch.nn.functional.batch_norm(x, zeros, ones, weight, bias, eps=0)
            y = normal + other if adds else normal  # what the backward finds saved
            return forward if name.endswith("training") else backward

        return self.both(make, x, other, weight, bias, grad_out)

    def pool(self, name: str, x: Any, geometry: Any, grad_out: Any) -> Contenders:
        """Max pooling with the places of the winners, or its backward from them."""
        aten = self.torch.ops.aten
        settings = [list(pair) for pair in geometry]

        def make(x: Any, grad_out: Any) -> Callable[[], Any]:
            if name == "max_pool2d_forward":
                return lambda: aten.max_pool2d_with_indices(x, *settings)[0]
            places = aten.max_pool2d_with_indices(x, *settings)[1]
            backward = aten.max_pool2d_with_indices_backward
            return lambda: backward(grad_out, x, *settings, False, places)

        return self.both(make, x, grad_out)

    def relu(self, name: str, x: Any, grad_out: Any) -> Contenders:
        """The ReLU, or its backward."""
        torch = self.torch

        def make(x: Any, grad_out: Any) -> Callable[[], Any]:
            if name == "relu_forward":
                return lambda: torch.relu(x)
            result = torch.relu(x)
            return lambda: torch.ops.aten.threshold_backward(grad_out, result, 0)

        return self.both(make, x, grad_out)


def _overruns(name: str, conv: Conv) -> bool:
    """Tell whether torch, with channels last, writes past memory that it has asked for.

    It does in the gradient of 1 x 1 filters with a stride, of fewer channels than oneDNN has in a
    block (oneDNN's issue 6035; torch 2.13 has it).
    """
    _, channels, KH, KW = conv.weight
    strided = KH == KW == 1 and conv.stride != (1, 1)
    return name == "conv2d_grad_weight" and strided and channels < _BLOCK
