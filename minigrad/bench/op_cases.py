"""The suite ``ops``: steps of networks at their real size, and what a call of each operation costs.

``forward:NAME,SHAPE`` records the graph as training does; ``backward:NAME,SHAPE`` runs it alone.
``update:OPTIMISER,NETWORK`` is in ``update_cases.py``. ``call:NAME`` is forward and backward of an
operation on a sample of a few numbers: all overhead.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import kernels, ops
from minigrad.bench.against import Torch
from minigrad.bench.case import Case, Contenders, Draw, Work
from minigrad.bench.inputs import drawn, sized
from minigrad.bench.shapes import parse_shape
from minigrad.bench.update_cases import update_case
from minigrad.check import samples
from minigrad.core.errors import ArgumentError
from minigrad.core.tensor import Tensor, grad

__all__ = ["STEPS", "call_cases", "op_cases", "step_case"]

# Of both libraries, one name and one meaning for plain tensors.
_SHARED = (
    "abs", "add", "div", "exp", "log", "matmul", "maximum", "minimum", "mul", "neg", "relu",
    "sigmoid", "sqrt", "sub", "tanh",
)  # fmt: skip


# A step takes its arrays as tensors of either library, and the functions of that library.


def _bn_relu(f: Any, x: Any, weight: Any, bias: Any) -> Any:
    return f.batch_norm_relu(x, weight, bias)


def _conv_bn_relu(f: Any, x: Any, filters: Any, weight: Any, bias: Any) -> Any:
    return f.batch_norm_relu(f.conv2d(x, filters, padding=1), weight, bias)


def _batch_norm_eval(f: Any, x: Any, weight: Any, bias: Any) -> Any:
    mean, var = (f.constant(fill(x.shape[1], np.float32)) for fill in (np.zeros, np.ones))
    return f.batch_norm(x, mean, var, weight, bias)


def _add_relu(f: Any, x: Any, y: Any) -> Any:
    return f.relu(x + y)


def _avg_pool(f: Any, x: Any) -> Any:
    return f.avg_pool2d(x, 3, 2, 1)


def _softmax(f: Any, x: Any) -> Any:
    return f.softmax(x, 1)


def _upsample(f: Any, x: Any) -> Any:
    return f.interpolate(x, scale_factor=2, mode="bilinear")


def _cross_entropy(f: Any, x: Any) -> Any:
    return f.cross_entropy(x, f.constant(_labels(*x.shape)))


@functools.cache
def _labels(N: int, K: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, K, N)


def _global_avg_pool(f: Any, x: Any) -> Any:
    return f.adaptive_avg_pool2d(x, 1)


def _linear(f: Any, x: Any, weight: Any, bias: Any) -> Any:
    return f.linear(x, weight, bias)


class _Ours:
    """The operations by torch's names."""

    batch_norm_relu = staticmethod(ops.batch_norm_relu)
    conv2d = staticmethod(ops.conv2d)
    relu = staticmethod(ops.relu)
    avg_pool2d = staticmethod(ops.avg_pool2d)
    softmax = staticmethod(ops.softmax)
    linear = staticmethod(ops.linear)
    adaptive_avg_pool2d = staticmethod(ops.adaptive_avg_pool2d)
    interpolate = staticmethod(ops.upsample)
    cross_entropy = staticmethod(ops.cross_entropy)

    @staticmethod
    def batch_norm(x: Any, mean: Any, var: Any, weight: Any, bias: Any) -> Any:
        return ops.batch_norm(x, weight, bias, mean, var, training=False)

    @staticmethod
    def constant(values: np.ndarray) -> np.ndarray:
        return values


class _Theirs:
    """torch.nn.functional, and what it has no single name for."""

    def __init__(self, rival: Torch) -> None:
        self._functional = rival.torch.nn.functional
        self.constant = rival.torch.from_numpy

    def __getattr__(self, name: str) -> Any:
        return getattr(self._functional, name)

    def batch_norm_relu(self, x: Any, weight: Any, bias: Any) -> Any:
        return self._functional.relu(self._functional.batch_norm(x, None, None, weight, bias, True))


def _per_channel(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [shape, shape[1:2], shape[1:2]]


# Name: the step, the shapes of its arguments, how many arrays as large as x forward reads and
# writes at least, and backward; 0 where it is not memory that limits the speed.
_Shapes = Callable[[tuple[int, ...]], list[tuple[int, ...]]]
_Moved = tuple[int, int]
STEPS: dict[str, tuple[Callable[..., Any], _Shapes, _Moved, _Moved]] = {
    "bn_relu": (_bn_relu, _per_channel, (1, 1), (2, 1)),
    "conv_bn_relu": (
        _conv_bn_relu,
        lambda s: [s, (s[1], s[1], 3, 3), s[1:2], s[1:2]],
        (0, 0),
        (0, 0),
    ),
    "batch_norm_eval": (_batch_norm_eval, _per_channel, (1, 1), (2, 1)),
    "add_relu": (_add_relu, lambda shape: [shape, shape], (2, 1), (1, 1)),
    "avg_pool": (_avg_pool, lambda shape: [shape], (1, 0), (0, 1)),
    "softmax": (_softmax, lambda shape: [shape], (1, 1), (2, 1)),
    "global_avg_pool": (_global_avg_pool, lambda shape: [shape], (1, 0), (0, 1)),
    "upsample": (_upsample, lambda shape: [shape], (1, 4), (4, 1)),
    "linear": (_linear, lambda s: [s, (1000, s[1]), (1000,)], (0, 0), (0, 0)),
    "cross_entropy": (_cross_entropy, lambda shape: [shape], (1, 0), (1, 1)),
}
_FLAT = ("linear", "cross_entropy", "softmax")  # of vectors, not of images
_TABLE = (
    "bn_relu,32x16x32x32", "bn_relu,16x64x112x112", "conv_bn_relu,128x16x32x32",
    "global_avg_pool,16x512x7x7", "global_avg_pool,16x64x112x112", "upsample,16x64x28x28",
    "upsample,8x64x112x112", "linear,128x512", "cross_entropy,128x1000",
    "cross_entropy,8192x1000",
)  # fmt: skip
_UPDATES = ("sgd,resnet20", "sgd,resnet18", "adam,resnet18")


def step_case(direction: str, text: str, rival: Torch | None = None) -> Case:
    """Make the case ``forward`` or ``backward`` of a step at a shape: ``bn_relu,128x16x32x32``."""
    name, _, shape_text = text.partition(",")
    if name not in STEPS:
        raise ArgumentError(
            f"bench: a step is one of {', '.join(STEPS)}, got {name!r}. "
            f"Write it like {direction}:bn_relu,128x16x32x32."
        )
    step, shapes_of, *moved = STEPS[name]
    shape = parse_shape(shape_text)
    axes = 2 if name in _FLAT else 4
    if len(shape) != axes:
        raise ArgumentError(
            f"bench: {name} takes a shape of {axes} axes, got {shape_text!r}. Write it like "
            f"{direction}:{name},{'x'.join(['128', '16', '32', '32'][:axes])}."
        )

    def work(draw: Draw) -> Work:
        rng = np.random.default_rng(0)
        arrays = [drawn(draw, rng, wanted) for wanted in shapes_of(shape)]
        out = step(_Ours, *map(Tensor, arrays))
        cotangent = np.asarray(drawn(draw, rng, out.shape))
        ours = {"minigrad": _our_step(step, arrays, cotangent, direction)}
        others = {} if rival is None else _torch_step(rival, step, arrays, cotangent, direction)

        def expected() -> list[np.ndarray]:
            wide = [array.astype(np.float64) for array in (*arrays, cotangent)]
            with kernels.use("reference"):
                result = _our_step(step, wide[:-1], wide[-1], direction)()
            return result if isinstance(result, list) else [result.data]

        return Work(ours | others, expected)

    read, written = (4 * math.prod(shape) * arrays for arrays in moved[direction == "backward"])
    group = name.replace("_", " ")
    return Case(
        "ops", f"{direction}:{text}", work, 0, read + written,
        sized(group, math.prod(shape)) if read + written else group,
        deep="relu" in name, written=written,
    )  # fmt: skip


def _our_step(
    step: Callable[..., Any], arrays: list[np.ndarray], cotangent: np.ndarray, direction: str
) -> Callable[[], Any]:
    tensors = [Tensor(array, requires_grad=True) for array in arrays]
    if direction == "forward":
        return lambda: step(_Ours, *tensors)
    out = step(_Ours, *tensors)
    return lambda: grad(out, tensors, cotangent, retain_graph=True)


def _torch_step(
    rival: Torch,
    step: Callable[..., Any],
    arrays: list[np.ndarray],
    cotangent: np.ndarray,
    direction: str,
) -> Contenders:
    functional, gradient = _Theirs(rival), rival.torch.autograd.grad

    def make(*tensors: Any) -> Callable[[], Any]:
        *inputs, grad_out = tensors
        for tensor in inputs:
            tensor.requires_grad_()
        if direction == "forward":
            return lambda: step(functional, *inputs)
        out = step(functional, *inputs)
        return lambda: gradient(out, inputs, grad_out, retain_graph=True)

    return rival.both(make, *arrays, cotangent)


def call_cases(rival: Torch | None = None) -> list[Case]:
    """What a call of each operation of the registry costs, on its first sample."""
    return [_call_case(name, rival) for name in ops.registry]


def _call_case(name: str, rival: Torch | None) -> Case:
    op = ops.registry[name]

    def work(draw: Draw) -> Work:
        sample = samples.samples_of(op)[0]
        inputs = samples.inputs_of(sample)
        cotangents = samples.cotangents_of(op, sample)

        shared = name in _SHARED and len(inputs) == len(sample.args) and not sample.options

        def run() -> list[np.ndarray]:
            if shared:  # what torch's contender does, and no more
                tensors = [Tensor(array, requires_grad=True) for array in inputs]
                return grad(op.public(*tensors), tensors, cotangents[0])
            if op.differentiable and inputs:
                return samples.gradients(op, sample, inputs, cotangents)
            return samples.forward(op, sample)(inputs)

        def expected() -> list[np.ndarray]:
            with kernels.use("reference"):
                return run()

        others = _torch_call(rival, name, inputs, cotangents) if rival and shared else {}
        return Work({"minigrad": run} | others, expected)

    return Case("ops", f"call:{name}", work, group="call")


def _torch_call(
    rival: Torch, name: str, inputs: list[np.ndarray], cotangents: list[np.ndarray]
) -> Contenders:
    torch, function = rival.torch, getattr(rival.torch, name)
    given = [torch.from_numpy(array) for array in inputs]
    cotangent = torch.from_numpy(cotangents[0])

    def run() -> Any:
        tensors = [tensor.detach().requires_grad_() for tensor in given]
        return torch.autograd.grad(function(*tensors), tensors, cotangent)

    return {"torch": run}


def op_cases(rival: Torch | None = None) -> list[Case]:
    """All cases of the suite."""
    steps = [step_case(way, text, rival) for text in _TABLE for way in ("forward", "backward")]
    updates = [update_case("update", text, rival) for text in _UPDATES]
    return steps + updates + call_cases(rival)
