"""What is checked, brought into one form: float64 arrays in, arrays out, and a backward.

A function of tensors, a module with its parameters, an operation on one of its samples: a
:class:`Problem` calls each in the same way. Branches at kinks are those of the base point.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from minigrad.check.samples import Change, is_input, unchanged
from minigrad.core import decisions
from minigrad.core.errors import ArgumentError, ShapeError
from minigrad.core.function import Function
from minigrad.core.mode import complex_step, no_grad, state
from minigrad.core.rng import generator
from minigrad.core.tensor import Tensor, grad
from minigrad.nn.module import Module

__all__ = ["PlainProblem", "Problem", "inner", "problem_of"]

Arrays = Sequence[np.ndarray]
Variant = Callable[[Change], tuple[list[Tensor], list[Tensor]]]
# What decides there is given, and not computed from the input; softplus jumps by a rounding.
_NO_KINKS = ("dropout", "where", "softplus")


class Problem:
    """A function of float64 arrays whose backward is on trial.

    Parameters
    ----------
    call : callable
        From tensors to a tensor or a sequence of tensors.
    inputs : list of ndarray
        The base point, float64.
    names : list of str
        What messages call each input.
    frozen : bool
        Hold the branches at kinks as they are at the base point.
    parameters : sequence of Tensor
        Leaves that ``call`` uses without being handed them: they take the last of the inputs.
    variant : callable, optional
        From a change of arrays to the leaves and outputs of a pass in which every array of the
        arguments is changed so, those of labels too.
    single : bool
        Whether the inputs that were given are float32.

    Attributes
    ----------
    forwards : int
        How often the function was run.
    taken : Decisions
        The branches at the base point, in the order they were taken.
    """

    def __init__(
        self,
        name: str,
        call: Callable[..., Any],
        inputs: list[np.ndarray],
        names: list[str],
        frozen: bool = True,
        parameters: Sequence[Tensor] = (),
        variant: "Variant | None" = None,
        single: bool = False,
    ) -> None:
        self.name = name
        self.inputs = inputs
        self.names = names
        self.frozen = frozen
        self.forwards = 0
        self._call = call
        self.variant = variant
        self.single = single
        self._parameters = parameters
        self.random_state = copy.deepcopy(generator().bit_generator.state)
        with decisions.record() as self.taken:
            self.leaves, self.outputs = self.run(inputs)
        self.kinks = any(d.name not in _NO_KINKS for d in self.taken)

    def run(self, arrays: Arrays) -> tuple[list[Tensor], list[Tensor]]:
        """Call it on new leaves; random numbers are drawn as at the base point."""
        self.forwards += 1
        split = len(arrays) - len(self._parameters)
        leaves = [Tensor(a, requires_grad=state.grad_enabled) for a in arrays[:split]]
        try:
            for parameter, array in zip(self._parameters, arrays[split:], strict=True):
                parameter.data = array
            result = self.drawn(lambda: self._call(*leaves))
        finally:
            for parameter, array in zip(self._parameters, self.inputs[split:], strict=True):
                parameter.data = array
        leaves += self._parameters
        return leaves, _outputs_of(self.name, result)

    def drawn(self, function: Callable[[], Any]) -> Any:
        """``function()``, with random numbers drawn as at the base point."""
        before = generator().bit_generator.state
        generator().bit_generator.state = self.random_state
        try:
            return function()
        finally:
            generator().bit_generator.state = before

    @contextlib.contextmanager
    def branches(self, frozen: bool | None = None) -> Iterator[None]:
        """The branches of the base point, where they are to be held."""
        if self.frozen if frozen is None else frozen:
            with decisions.replay(self.taken):
                yield
        else:
            yield

    def forward(self, arrays: Arrays, frozen: bool | None = None) -> list[np.ndarray]:
        """Its outputs as arrays, nothing recorded."""
        with no_grad(), self.branches(frozen):
            return [out.data for out in self.run(arrays)[1]]

    def moved(
        self, direction: Arrays, frozen: bool | None = None
    ) -> Callable[[float], list[np.ndarray]]:
        """Its outputs as a function of the distance along ``direction``."""

        def f(t: float) -> list[np.ndarray]:
            moved = [np.asarray(x + t * u) for x, u in zip(self.inputs, direction, strict=True)]
            with np.errstate(all="ignore"):  # a step may leave the domain; the bound will say so
                return self.forward(moved, frozen)

        return f

    def gradient(self, cotangents: Arrays) -> list[np.ndarray]:
        """J^T cotangents by backward, on the graph recorded at the base point."""
        pairs = [
            (out, w) for out, w in zip(self.outputs, cotangents, strict=True) if out.requires_grad
        ]
        if not pairs:
            return [np.zeros_like(x) for x in self.inputs]
        return grad([out for out, _ in pairs], self.leaves, [w for _, w in pairs], True)

    def crossed(self, direction: Arrays, step: float = 2.0**-7) -> list[str]:
        """The operations at whose kinks a step along ``direction`` takes another branch."""
        found = []
        for t in (step, -step):
            with decisions.record() as taken, no_grad():
                self.run(
                    [np.asarray(x + t * u) for x, u in zip(self.inputs, direction, strict=True)]
                )
            for old, new in zip(self.taken, taken, strict=True):
                if not np.array_equal(old.branches, new.branches):
                    found.append(f"{new.name} in {new.path}" if new.path else new.name)
        return sorted(set(found))

    def complex_slope(self, direction: Arrays, cotangents: Arrays) -> float:
        """<cotangents, J direction> by the complex step: exact, where all of it is analytic."""
        step = 1e-20
        with complex_step():
            outputs = self.moved([1j * np.asarray(u) for u in direction])(step)
        pairs = zip(cotangents, outputs, strict=True)
        return sum(float(np.sum(w * y.imag)) for w, y in pairs) / step


class PlainProblem(Problem):
    """A function of one array to a number, with a gradient written by hand.

    Parameters
    ----------
    f, grad_f : callable
        From an array to a number, and to an array of its shape.
    x : ndarray
    """

    def __init__(self, f: Callable[..., Any], grad_f: Callable[..., Any], x: np.ndarray) -> None:
        self._grad_f = grad_f
        super().__init__(
            getattr(f, "__name__", "f"), lambda leaf: _number(f, leaf), [x], ["x"], frozen=False
        )

    def gradient(self, cotangents: Arrays) -> list[np.ndarray]:
        x = self.inputs[0]
        g = np.asarray(self._grad_f(x.copy()), np.float64)
        if g.shape != x.shape:
            raise ShapeError(
                f"check_grad: a gradient of the shape {x.shape} of x is needed, grad_f returned "
                f"shape {g.shape}. Return one number for each entry of x."
            )
        return [g * cotangents[0]]


def _number(f: Callable[..., Any], leaf: Tensor) -> Tensor:
    value = np.asarray(f(leaf.data.copy()))
    if value.size != 1:
        raise ShapeError(
            f"check_grad: f returns one number, it returned an array of shape {value.shape}. Check "
            f"a function with several outputs with gradcheck, or sum it with random weights."
        )
    return Tensor(value.astype(np.float64).reshape(()))


def _outputs_of(name: str, result: Any) -> list[Tensor]:
    outputs = list(result) if isinstance(result, tuple | list) else [result]
    for out in outputs:
        if not isinstance(out, Tensor):
            raise ArgumentError(
                f"gradcheck: {name} returns a tensor, or a tuple of tensors; it returned "
                f"{type(out).__name__}. Return the tensors themselves, not their numbers."
            )
    return outputs


def problem_of(target: Any, inputs: Sequence[Any], frozen: bool = True) -> Problem:
    """The problem of checking ``target`` at ``inputs``.

    Float arrays and tensors among the inputs, also inside lists, are differentiated, in float64;
    everything else is handed over as it is. A module is copied, and its parameters are inputs too.
    """
    if isinstance(target, type) and issubclass(target, Function):
        target = target.apply
    if not callable(target):
        raise ArgumentError(
            f"gradcheck: a function of tensors or a module is needed, got "
            f"{type(target).__name__}. Pass for example minigrad.exp, or lambda x: x * x."
        )
    arrays: list[np.ndarray] = []
    names: list[str] = []
    places = [_gather(value, f"input {i}", arrays, names) for i, value in enumerate(inputs)]
    if isinstance(target, Module):
        return _module_problem(target, places, arrays, names, frozen, _all_single(inputs))
    _some(arrays)
    name = _name_of(target)

    def call(*leaves: Tensor) -> Any:
        return target(*[place(leaves, unchanged) for place in places])

    def variant(change: Change) -> tuple[list[Tensor], list[Tensor]]:
        leaves = [Tensor(change(a), requires_grad=True) for a in arrays]
        return leaves, _outputs_of(name, target(*[place(leaves, change) for place in places]))

    return Problem(name, call, arrays, names, frozen, variant=variant, single=_all_single(inputs))


def _name_of(target: Any) -> str:
    owner = getattr(target, "__self__", None)  # of Cube.apply that is Cube
    if isinstance(owner, type) and issubclass(owner, Function):
        return owner.name
    return str(getattr(target, "__name__", type(target).__name__))


def _all_single(value: Any) -> bool:
    """Whether every array of floats in an argument is float32."""
    if isinstance(value, list | tuple):
        return all(_all_single(v) for v in value)
    array = value.data if isinstance(value, Tensor) else value
    return not is_input(array) or array.dtype == np.float32


def _some(arrays: Arrays) -> None:
    if not arrays:
        raise ArgumentError(
            "gradcheck: at least one array or tensor of floats to differentiate is needed, got "
            "none. Pass the inputs after the function: gradcheck(f, x, ...)."
        )


Place = Callable[[Sequence[Tensor], Change], Any]


def _gather(value: Any, name: str, arrays: list[np.ndarray], names: list[str]) -> Place:
    """Put the float arrays of an argument on the list; how to rebuild it from their leaves."""
    if isinstance(value, list | tuple):
        parts = [_gather(v, f"{name}[{i}]", arrays, names) for i, v in enumerate(value)]
        make = getattr(value, "_make", type(value))  # a named tuple is made in its own way
        return lambda leaves, change: make([part(leaves, change) for part in parts])
    array = value.data if isinstance(value, Tensor) else value
    if not is_input(array):
        return lambda leaves, change: change(value) if isinstance(value, np.ndarray) else value
    index = len(arrays)
    arrays.append(array.astype(np.float64))
    names.append((isinstance(value, Tensor) and value.name) or name)
    return lambda leaves, change: leaves[index]


def _module_problem(
    module: Module,
    places: list[Place],
    arrays: list[np.ndarray],
    names: list[str],
    frozen: bool,
    single_inputs: bool,
) -> Problem:
    """A copy of the module, in float64, as a function of its inputs and parameters."""
    double = copy.deepcopy(module).double()
    parameters = {n: p for n, p in double.named_parameters() if p.requires_grad}
    everything = [*arrays, *[p.data for p in parameters.values()]]
    _some(everything)
    name = type(module).__name__

    def variant(change: Change) -> tuple[list[Tensor], list[Tensor]]:
        changed = copy.deepcopy(module)
        leaves = [Tensor(change(a), requires_grad=True) for a in arrays]
        changed = changed.float() if change(np.zeros(1)).dtype == np.float32 else changed.double()
        result = changed(*[place(leaves, change) for place in places])
        leaves += [p for p in changed.parameters() if p.requires_grad]
        return leaves, _outputs_of(name, result)

    return Problem(
        name,
        lambda *leaves: double(*[place(leaves, unchanged) for place in places]),
        everything,
        [*names, *parameters],
        frozen,
        list(parameters.values()),
        variant,
        single_inputs and all(p.dtype == np.float32 for p in module.parameters()),
    )


def inner(a: Arrays, b: Arrays) -> float:
    """Sum of the products of all entries."""
    return sum((float(np.sum(x * y)) for x, y in zip(a, b, strict=True)), 0.0)
