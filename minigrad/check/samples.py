"""Calling an operation on one of its own samples, with a random cotangent.

What the battery of tests, the mutants and the gradient checker have in common. The cotangents are
random: the sum of a normalised batch does not depend on x, and a backward that returned zeros would
pass.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.check.numeric import complex_step_gradients
from minigrad.core.mode import complex_step, no_grad
from minigrad.core.tensor import Tensor, grad
from minigrad.ops import Op, Sample

__all__ = [
    "Change", "call", "changed", "cotangents_of", "forward", "gradients", "inputs_of", "is_input",
    "samples_of", "single", "unchanged", "without_rows", "witness",
]  # fmt: skip

Arrays = Sequence[np.ndarray]
Change = Callable[[np.ndarray], np.ndarray]


def samples_of(op: Op) -> list[Sample]:
    """The samples of an operation, always with the same numbers."""
    return list(op.samples(np.random.default_rng(20)))


def is_input(value: Any) -> bool:
    """Whether an argument is differentiated: an array of floats."""
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def inputs_of(sample: Sample) -> list[np.ndarray]:
    """The arrays to differentiate, from the inside of lists and tuples too."""

    def flat(arg: Any) -> list[np.ndarray]:
        if isinstance(arg, list | tuple):
            return [array for item in arg for array in flat(item)]
        return [arg] if is_input(arg) else []

    return flat(sample.args)


# What may be done to every array among the arguments.


def unchanged(array: np.ndarray) -> np.ndarray:
    """The array itself."""
    return array


def single(array: np.ndarray) -> np.ndarray:
    """Floats as float32."""
    return array.astype(np.float32) if is_input(array) else array


def without_rows(count: int) -> Change:
    """Arrays of ``count`` rows lose them all: an empty batch, with its labels."""
    return lambda array: array[:0] if array.ndim and len(array) == count else array


def changed(sample: Sample, change: Change) -> Sample:
    """The sample with every array among its arguments changed."""

    def walk(arg: Any) -> Any:
        if isinstance(arg, list | tuple):
            make = getattr(arg, "_make", type(arg))
            return make([walk(a) for a in arg])
        return change(arg) if isinstance(arg, np.ndarray) else arg

    return Sample(*walk(sample.args), **sample.options)


def call(op: Op, sample: Sample, inputs: Sequence[Any]) -> list[Tensor]:
    """Call the public function with ``inputs`` in the places of the differentiable arrays."""
    queue = iter(inputs)

    def place(arg: Any) -> Any:
        if isinstance(arg, list | tuple):
            make = getattr(arg, "_make", type(arg))  # a named tuple is made in its own way
            return make([place(a) for a in arg])
        return next(queue) if is_input(arg) else arg

    args = [place(arg) for arg in sample.args]
    result = op.public(*args, **copy.deepcopy(sample.options))
    return list(result) if isinstance(result, tuple | list) else [result]


def forward(op: Op, sample: Sample) -> Callable[[Arrays], list[np.ndarray]]:
    """The operation as a function of plain arrays, nothing recorded."""

    def f(arrays: Arrays) -> list[np.ndarray]:
        with no_grad():
            return [out.data for out in call(op, sample, [Tensor(a) for a in arrays])]

    return f


def cotangents_of(op: Op, sample: Sample, seed: int = 3) -> list[np.ndarray]:
    """A random cotangent for each output; zeros for integers and booleans, which have none."""
    rng = np.random.default_rng(seed)
    return [
        np.asarray(rng.standard_normal(out.shape)) if out.dtype.kind == "f" else np.zeros(out.shape)
        for out in forward(op, sample)(inputs_of(sample))
    ]


def gradients(op: Op, sample: Sample, inputs: Arrays, cotangents: Arrays) -> list[np.ndarray]:
    """The gradient of <cotangents, outputs> with respect to each input, by backward."""
    tensors = [Tensor(x, requires_grad=True) for x in inputs]
    outputs = zip(call(op, sample, tensors), cotangents, strict=True)
    outs, ws = zip(*[(out, w) for out, w in outputs if out.requires_grad], strict=True)
    return grad(outs, tensors, ws)


def witness(op: Op, sample: Sample, cotangents: Arrays) -> list[np.ndarray]:
    """The same by the complex step through the naive twins, entry by entry."""
    with complex_step(), kernels.use("reference"):
        return complex_step_gradients(forward(op, sample), inputs_of(sample), cotangents)
