"""All cases, and the one or the few that ``--only`` asks for."""

import fnmatch
from collections.abc import Callable, Sequence

from minigrad.bench import engine_cases, kernel_cases, model_cases, op_cases, update_cases
from minigrad.bench.against import Torch
from minigrad.bench.case import Case
from minigrad.core.errors import ArgumentError

__all__ = ["SUITES", "cases", "find_case", "select"]

# In this order they run: whole networks before the long list of kernels.
SUITES: dict[str, Callable[[Torch | None], list[Case]]] = {
    "engine": engine_cases.engine_cases,
    "models": model_cases.model_cases,
    "kernels": kernel_cases.kernel_cases,
    "ops": op_cases.op_cases,
}

# What a name begins with, and who makes a case of it and of any shape behind the colon.
_MAKERS: dict[str, Callable[[str, str, Torch | None], Case]] = {
    **dict.fromkeys(kernel_cases.NAMES, kernel_cases.kernel_case),
    **dict.fromkeys(model_cases.KINDS, model_cases.model_case),
    **dict.fromkeys(engine_cases.WAYS, engine_cases.engine_case),
    **dict.fromkeys(("forward", "backward"), op_cases.step_case),
    "update": update_cases.update_case,
}


def cases(suites: Sequence[str], rival: Torch | None = None) -> list[Case]:
    """The cases of suites, in the order of the suites."""
    return [case for suite, make in SUITES.items() if suite in suites for case in make(rival)]


def find_case(name: str, rival: Torch | None = None) -> Case:
    """Make the case of a whole name, ``conv2d_forward:128x16x32x32,16x3x3,p1``, listed or not."""
    kind, _, text = name.partition(":")
    if kind in _MAKERS:
        return _MAKERS[kind](kind, text, rival)
    for case in op_cases.call_cases(rival) if kind == "call" else []:
        if case.name == name:
            return case
    raise ArgumentError(
        f"bench: a case begins with one of {', '.join(_MAKERS)} or call and has a colon, got "
        f"{name!r}. 'minigrad bench --list' shows all that are measured by default."
    )


def select(only: Sequence[str], suites: Sequence[str], rival: Torch | None = None) -> list[Case]:
    """The cases that ``--only`` asks for, each a whole name or a pattern with * over the listed."""
    chosen: dict[str, Case] = {}
    for wanted in only:
        kind, colon, text = wanted.partition(":")
        if colon and text and not set("*?[") & set(wanted):
            case = find_case(wanted, rival)
            chosen[case.name] = case
            continue
        pattern = wanted if set("*?[") & set(wanted) else f"{kind}:*"
        found = [c for c in cases(suites, rival) if fnmatch.fnmatchcase(c.name, pattern)]
        if not found:
            raise ArgumentError(
                f"bench: --only names a case or a pattern that fits one, got {wanted!r}. "
                f"'minigrad bench --list' shows them all."
            )
        chosen |= {case.name: case for case in found}
    return list(chosen.values())
