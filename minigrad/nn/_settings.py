"""Checks of layer settings at construction, so that a wrong one is found where it is written."""

from typing import Any

import numpy as np

from minigrad.core.dtypes import DEFAULT
from minigrad.core.errors import ArgumentError
from minigrad.nn.parameter import Parameter

__all__ = ["empty", "fraction", "pair", "positive", "same_groups"]


def empty(*shape: int) -> Parameter:
    """A parameter of float32 whose entries some rule of ``nn.init`` will set."""
    return Parameter(np.empty(shape, DEFAULT))


def positive(owner: str, **sizes: Any) -> None:
    """Raise ArgumentError unless each of ``sizes`` is a whole number of at least 1."""
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ArgumentError(
                f"{owner}: {name} is a whole number of at least 1, got {value!r}. "
                f"Pass for example {name}=16."
            )


def pair(owner: str, name: str, value: Any, least: int) -> tuple[int, int]:
    """``value``, one number or one for each of height and width, as a pair of ints >= least."""
    both = tuple(value) if isinstance(value, tuple | list) else (value, value)
    whole = all(isinstance(v, int | np.integer) and not isinstance(v, bool) for v in both)
    if len(both) != 2 or not whole or min(both) < least:
        raise ArgumentError(
            f"{owner}: {name} is a whole number of at least {least}, or a pair of them for height "
            f"and width, got {value!r}. Pass for example {name}={max(least, 1)}."
        )
    return int(both[0]), int(both[1])


def fraction(owner: str, p: Any) -> float:
    """Raise ArgumentError unless ``p`` is a probability."""
    if isinstance(p, bool) or not isinstance(p, int | float | np.number) or not 0 <= p <= 1:
        raise ArgumentError(
            f"{owner}: p is the probability to drop, from 0 to 1, got {p!r}. "
            f"Pass for example p=0.5."
        )
    return float(p)


def same_groups(owner: str, groups: int, **channels: int) -> None:
    """Raise ArgumentError unless ``groups`` divides each number of channels."""
    positive(owner, groups=groups, **channels)
    for name, count in channels.items():
        if count % groups:
            raise ArgumentError(
                f"{owner}: groups divides {name}, got groups={groups} and {name}={count}. Choose "
                f"a number of groups that divides both in_channels and out_channels."
            )
