"""The table of all operations, with the samples and the wrong calls each one brings.

Tests, checks and benchmarks walk through it; an operation is added by decorating its public
function, and nothing else has to know.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from minigrad.core.function import Function

__all__ = ["Op", "Sample", "Wrong", "operation", "registry"]

_Public = TypeVar("_Public", bound=Callable[..., Any])


class Sample:
    """Arguments of one good call.

    Positional float arrays, also inside a list, are the inputs to differentiate; everything else
    (integer arrays, None, numbers, keyword arguments) is passed as it is.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self.args = args
        self.options = options

    def __repr__(self) -> str:
        told = [str(a.shape) if isinstance(a, np.ndarray) else repr(a) for a in self.args]
        told += [f"{key}={value!r}" for key, value in self.options.items()]
        return f"({', '.join(told)})"


class Wrong(Sample):
    """Arguments of one bad call, with the error it raises and its whole text."""

    def __init__(self, error: type[Exception], text: str, /, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.error = error
        self.text = text


@dataclasses.dataclass(frozen=True)
class Op:
    """One operation.

    Attributes
    ----------
    name : str
        Of the public function.
    public : callable
        What users call.
    function : type or None
        The Function behind it; None where there is no gradient, or where the public function is
        written with other operations.
    samples, wrong : callable
        ``samples(rng)`` and ``wrong(rng)`` give lists of :class:`Sample` and :class:`Wrong`.
    differentiable : bool
        False for comparisons.
    """

    name: str
    public: Callable[..., Any]
    function: type[Function] | None
    samples: Callable[[np.random.Generator], Sequence[Sample]]
    wrong: Callable[[np.random.Generator], Sequence[Wrong]]
    differentiable: bool


registry: dict[str, Op] = {}


def operation(
    function: type[Function] | None,
    *,
    samples: Callable[[np.random.Generator], Sequence[Sample]],
    wrong: Callable[[np.random.Generator], Sequence[Wrong]],
    differentiable: bool = True,
) -> Callable[[_Public], _Public]:
    """Enter the decorated public function into the registry, under its name.

    Parameters
    ----------
    function : type or None
        Its :class:`~minigrad.core.function.Function`, whose ``name`` becomes the public one.
    samples, wrong : callable
        From a seeded Generator to a list of samples; sizes small and all different, every option
        used, ties and kinks avoided.
    differentiable : bool
        Whether it has a gradient.
    """

    def enter(public: _Public) -> _Public:
        name = public.__name__
        if name in registry:
            raise ValueError(f"operation {name!r} is registered twice; rename one of them")
        if function is not None:
            function.name = name
        registry[name] = Op(name, public, function, samples, wrong, differentiable)
        return public

    return enter
