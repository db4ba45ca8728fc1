"""What the environment asks of the kernels, and what of it cannot be.

It is looked at before the first kernel is loaded. Left alone with a variable that is wrong, Numba
stops in the midst of its own import, or does something else without a word.
"""

import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

__all__ = ["MOST_THREADS", "SettingError", "Wrong", "check_environment", "wrong_settings"]

# Four times the cores of the largest machines. Each thread takes a stack and a place in the tables
# of the system, and with tens of thousands loops overflow their own stack.
MOST_THREADS = 1024

FORMS = ("fast", "reference")
WIDTHS = {"scalar": 0, "128": 128, "256": 256, "512": 512}  # of vectors, in bits

_LAYERS = ("omp", "tbb", "workqueue")
_PROMISES = ("default", "safe", "threadsafe", "forksafe")  # by which Numba chooses a layer


class SettingError(ValueError):
    """A variable of the environment asks for what cannot be."""


class Wrong(NamedTuple):
    """A variable, what it chooses, what it is, and what would work."""

    variable: str
    chooses: str
    value: str
    cure: str

    def __str__(self) -> str:
        return f"{self.variable} chooses {self.chooses}. It is {self.value!r}. {self.cure}"


class _Rule(NamedTuple):
    chooses: str
    allows: Callable[[str], bool]
    cure: str


def _number_of_threads(value: str) -> bool:
    try:
        return 1 <= int(value) <= MOST_THREADS
    except ValueError:
        return False


_RULES = {
    "MINIGRAD_KERNELS": _Rule(
        "the form of the kernels",
        lambda value: value in FORMS,
        "Set it to fast or reference, or leave it unset.",
    ),
    "MINIGRAD_SIMD": _Rule(
        "the width of vectors in bits",
        lambda value: value in WIDTHS,
        "Set it to scalar, 128, 256 or 512, or leave it unset for the host's own width.",
    ),
    "NUMBA_NUM_THREADS": _Rule(
        "the number of threads",
        _number_of_threads,
        f"Set it to a number from 1 to {MOST_THREADS}, or leave it unset for all cores.",
    ),
    "NUMBA_THREADING_LAYER": _Rule(
        "the library that makes threads",
        lambda value: value.lower() in (*_LAYERS, *_PROMISES),
        "Set it to omp, tbb or workqueue, or leave it unset.",
    ),
    "NUMBA_THREADING_LAYER_PRIORITY": _Rule(
        "which library that makes threads is tried first",
        lambda value: sorted(value.split()) == sorted(_LAYERS),
        "Set it to omp, tbb and workqueue in some order, or leave it unset.",
    ),
}


def wrong_settings(environ: Mapping[str, str]) -> list[Wrong]:
    """List the variables that ask for what cannot be."""
    return [
        Wrong(variable, rule.chooses, environ[variable], rule.cure)
        for variable, rule in _RULES.items()
        if variable in environ and not rule.allows(environ[variable])
    ]


def check_environment() -> None:
    """Raise SettingError for the first variable that asks for what cannot be."""
    for wrong in wrong_settings(os.environ):
        raise SettingError(str(wrong))


def missing_layer(name: str) -> SettingError:
    """The error for a threading layer that Numba knows and cannot load."""
    rule = _RULES["NUMBA_THREADING_LAYER"]
    return SettingError(
        f"NUMBA_THREADING_LAYER chooses {rule.chooses}. It is {name!r}, for which none can be "
        f"loaded here. Install it (pip install tbb), set the variable to omp or workqueue, or "
        f"leave it unset."
    )
