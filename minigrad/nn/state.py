"""Loading a state dict: compare everything, explain name by name, and only then copy."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from minigrad.core.errors import StateError
from minigrad.core.tensor import Tensor
from minigrad.ops.memory import constant, is_constant

__all__ = ["LoadReport", "load_state"]

_SHOWN = 8  # lines of each kind in a message; a wrong network would fill pages
_COUNTER = "num_batches_tracked"


class LoadReport(NamedTuple):
    """What a lenient load left out.

    Attributes
    ----------
    missing_keys : list of str
        Names the module has and the state lacks; these keep their values.
    unexpected_keys : list of str
        Names of the state that the module does not know; ignored.
    """

    missing_keys: list[str]
    unexpected_keys: list[str]


def load_state(
    own: dict[str, np.ndarray],
    parameters: Iterable[Tensor],
    arrays: Mapping[str, Any],
    strict: bool,
) -> LoadReport:
    """Copy ``arrays`` into ``own`` in place, or raise StateError and copy nothing.

    Read-only arrays that ``parameters`` stand on are replaced, constant ones by constant ones.
    """
    given = {name: v.data if isinstance(v, Tensor) else v for name, v in arrays.items()}
    missing = [name for name in own if name not in given]
    unexpected = [name for name in given if name not in own]
    pairs = [(name, own[name], given[name]) for name in own if name in given]

    unfit = [line for name, mine, new in pairs for line in _misfit(name, mine, new)]
    problems = _told("does not fit", unfit)
    counters = [name for name in missing if name.rpartition(".")[2] == _COUNTER]
    if strict:
        lacking = [name for name in missing if name not in counters]
        hints = [f"{name} {own[name].shape}{_hint(name, own, unexpected, given)}" for name in
                 lacking[:_SHOWN]]  # fmt: skip
        problems += _told("missing", hints, len(lacking))
        problems += _told("unexpected", [f"{n} {np.shape(given[n])}" for n in unexpected])
    if problems:
        raise StateError(
            f"load_state_dict: {len(own)} arrays with the module's names and shapes are expected, "
            f"{len(given)} arrived, and these differ; nothing was loaded.\n"
            + "\n".join(problems)
            + "\n"
            + _cure(list(own), missing, unexpected, bool(unfit))
        )
    standing: dict[int, list[Tensor]] = {}
    for parameter in parameters:
        standing.setdefault(id(parameter.data), []).append(parameter)
    for _, mine, new in pairs:
        if mine.flags.writeable or id(mine) not in standing:
            np.copyto(mine, new, casting="same_kind")
            continue
        copied = np.array(new, mine.dtype)
        for parameter in standing[id(mine)]:
            parameter.data = constant(copied) if is_constant(mine) else copied
    for name in counters:
        own[name][...] = 0
    return LoadReport(missing, unexpected)


def _misfit(name: str, mine: np.ndarray, new: Any) -> Iterable[str]:
    """One line if ``new`` cannot be copied into ``mine``."""
    if not isinstance(new, np.ndarray | np.generic):
        yield f"{name} is an array of shape {mine.shape} here, a {type(new).__name__} in the state"
    elif new.shape != mine.shape:
        yield f"{name} is {mine.shape} here, {new.shape} in the state"
    elif not np.can_cast(new.dtype, mine.dtype, "same_kind"):
        yield f"{name} is {mine.dtype} here, {new.dtype} in the state"


def _told(kind: str, lines: list[str], count: int | None = None) -> list[str]:
    """``lines`` with what is wrong in front of each, cut to a screenful."""
    count = len(lines) if count is None else count
    told = [f"  {kind}: {line}" for line in lines[:_SHOWN]]
    if count > _SHOWN:
        told.append(f"  {kind}: and {count - _SHOWN} more")
    return told


def _hint(
    name: str, own: Mapping[str, Any], unexpected: list[str], given: Mapping[str, Any]
) -> str:
    """The unexpected name of the same shape that looks most like ``name``."""
    alike = [other for other in unexpected if np.shape(given[other]) == own[name].shape]
    near = difflib.get_close_matches(name, alike, n=1)
    return f"; is it {near[0]!r} in the state?" if near else ""


def _cure(own: list[str], missing: list[str], unexpected: list[str], unfit: bool) -> str:
    prefix = _shared_prefix(own, unexpected)
    if prefix:
        return (
            f"The names agree once {prefix!r} is dropped: pass minigrad.io.drop_prefix(state, "
            f"{prefix!r})."
        )
    if unfit:
        return (
            "Build the module with the sizes of the state, or leave out of the state what must "
            "not be loaded and pass strict=False."
        )
    return "Rename what differs, or pass strict=False to load the names that agree."


def _shared_prefix(own: list[str], unexpected: list[str]) -> str:
    """A prefix of all ``unexpected`` names without which each is a name of the module."""
    for first in own[:1]:
        for name in unexpected:
            if name.endswith("." + first):
                prefix = name.removesuffix(first)
                if all(other.removeprefix(prefix) in own for other in unexpected):
                    return prefix
    return ""
