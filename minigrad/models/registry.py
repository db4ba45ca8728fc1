"""The table of networks: each has a name, a builder, and a number of parameters it must have."""

import dataclasses
import difflib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from minigrad.core.errors import ArgumentError
from minigrad.nn.module import Module

__all__ = ["Entry", "build", "find", "model", "names"]

_Builder = TypeVar("_Builder", bound=Callable[..., Module])


@dataclasses.dataclass(frozen=True)
class Entry:
    """One network.

    Attributes
    ----------
    name : str
    builder : callable
        From options, all with defaults, to the network.
    parameters : int
        How many numbers are trained, with the default options; a test counts them.
    input_shape : tuple of int
        (C, H, W) the network was published for.
    description : str
        One line.
    """

    name: str
    builder: Callable[..., Module]
    parameters: int
    input_shape: tuple[int, int, int]
    description: str

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options that the builder takes, without those a partial has fixed."""
        fixed = getattr(self.builder, "keywords", {})
        return tuple(
            name for name in inspect.signature(self.builder).parameters if name not in fixed
        )


_entries: dict[str, Entry] = {}


def model(
    name: str, *, parameters: int, input_shape: tuple[int, int, int], description: str
) -> Callable[[_Builder], _Builder]:
    """Enter the decorated builder into the table.

    Parameters
    ----------
    name : str
        For :func:`build`.
    parameters : int
        How many numbers are trained, with the default options.
    input_shape : (int, int, int)
        (C, H, W) the network was published for.
    description : str
        One line.
    """

    def enter(builder: _Builder) -> _Builder:
        if name in _entries:
            raise ValueError(f"model {name!r} is registered twice; rename one of them")
        _entries[name] = Entry(name, builder, parameters, input_shape, description)
        return builder

    return enter


def names() -> list[str]:
    """All names that :func:`build` knows, family by family.

    Examples
    --------
    >>> from minigrad import models
    >>> "resnet20" in models.names()
    True
    """
    return list(_entries)


def find(name: str) -> Entry:
    """The entry of a network.

    Raises
    ------
    ArgumentError
        For an unknown name, with the ones that look like it.

    Examples
    --------
    >>> from minigrad import models
    >>> models.find("resnet50").parameters
    25557032
    """
    if name not in _entries:
        raise ArgumentError(
            f"models: a network of the registry is needed, got {name!r}. "
            f"{_suggestion(name, list(_entries))}"
        )
    return _entries[name]


def build(name: str, **options: Any) -> Module:
    """Build a network by name, with weights drawn from the library's generator.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    **options
        What the network's builder takes, for example ``num_classes=10``.

    Returns
    -------
    Module

    Raises
    ------
    ArgumentError
        For an unknown name or option.

    Examples
    --------
    >>> from minigrad import models
    >>> net = models.build("resnet20", num_classes=100)
    >>> sum(p.size for p in net.parameters())
    275572
    """
    entry = find(name)
    for option in options:
        if option not in entry.options:
            raise ArgumentError(
                f"models.build({name!r}): an option of the network is needed, got {option!r}. "
                f"{_suggestion(option, list(entry.options))}"
            )
    return entry.builder(**options)


def _suggestion(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    if near:
        return f"Did you mean {' or '.join(repr(n) for n in near)}?"
    return f"There are {', '.join(known)}."
