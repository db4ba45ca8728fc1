"""Loops over plain arrays: each kernel has a fast form and a naive twin.

Call a kernel by its name, ``kernels.relu_forward(x)``. The dispatch here runs

- the fast form, ``minigrad/kernels/<family>.py``, compiled by Numba; or
- the naive twin, ``minigrad/kernels/reference/<family>.py``, NumPy written to be read, when it is
  asked for (``with kernels.use("reference"):`` or ``MINIGRAD_KERNELS=reference`` in the
  environment) or when an argument is complex, for the twins alone know complex numbers.

A family is imported at its first call, so ``import minigrad`` does not import Numba. A new kernel
is one name in the table below, and two functions of that name and one signature.
``docs/kernels.md`` says in which order to read the files.
"""

import functools
import importlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from minigrad.kernels import _pool
from minigrad.kernels._constant import release_prepared
from minigrad.kernels._cores import cpu_quota, present_cores, usable_cores
from minigrad.kernels._environment import (
    FORMS,
    SettingError,
    Wrong,
    check_environment,
    wrong_settings,
)
from minigrad.kernels._serial import serial_only

FAMILIES: dict[str, tuple[str, ...]] = {
    "average": ("image_sums", "spread_over_images"),
    "conv": ("conv2d_forward", "conv2d_grad_input", "conv2d_grad_weight", "conv2d_grad_bias"),
    "elementwise": ("relu_forward", "relu_backward", "add"),
    "images": ("to_channels_last",),
    "loss": ("softmax_cross_entropy_forward", "softmax_cross_entropy_backward"),
    "norm": (
        "batch_norm_statistics",
        "batch_norm_forward",
        "batch_norm_relu_forward",
        "batch_norm_training",
        "batch_norm_backward",
        "batch_norm_sums",
        "batch_norm_grad_input",
    ),
    "norm_pool": (
        "batch_norm_relu_max_pool_training",
        "batch_norm_relu_max_pool_backward",
    ),
    "pool": ("max_pool2d_forward", "max_pool2d_backward"),
    "product": ("matrix_product",),
    "resample": ("resample2d",),
    "softmax": (
        "softmax_forward",
        "softmax_backward",
        "log_softmax_forward",
        "log_softmax_backward",
    ),
    "shortcut": ("zero_pad_shortcut", "zero_pad_shortcut_backward"),
    "update": ("sgd_step", "adam_step", "rmsprop_step", "sum_of_squares"),
}

# Functions that are no kernels, from files that import Numba: they are served when first asked for.
_SERVED = {
    "get_num_threads": "_threads",
    "set_num_threads": "_threads",
    "host": "_host",
    "watch_compilation": "_host",
    "watch_kernels": "_watch",
    "copy": "_limits",
    "fill": "_limits",
    "multiply_adds": "_limits",
    "products": "_limits",
    "read": "_limits",
}

_COMPLEX = (complex, np.complexfloating)
_FAMILY_OF = {name: family for family, members in FAMILIES.items() for name in members}


# What is neither is refused when the first kernel is asked for.
_default_form = "reference" if os.environ.get("MINIGRAD_KERNELS") == "reference" else "fast"


class _Local(threading.local):
    form: str | None = None  # that a thread asks for


_local = _Local()


def release_memory() -> int:
    """Give memory back that is kept for later: prepared weights, and what waits in the pool."""
    return release_prepared() + _pool.release_memory()


def names() -> list[str]:
    """List every kernel, in alphabetical order."""
    return sorted(_FAMILY_OF)


@contextmanager
def use(form: str) -> Iterator[None]:
    """Run the kernels of this thread in one form while the block lasts.

    Parameters
    ----------
    form : {"fast", "reference"}
        The compiled loops, or their naive twins.

    Examples
    --------
    >>> import numpy as np
    >>> from minigrad import kernels
    >>> with kernels.use("reference"):
    ...     kernels.relu_forward(np.array([-1.0, 2.0]))[0]
    array([0., 2.])
    """
    if form not in FORMS:
        raise ValueError(
            f"kernels.use chooses the form of the kernels. It is {form!r}. "
            "Pass 'fast' or 'reference'."
        )
    outer = _local.form
    _local.form = form
    try:
        yield
    finally:
        _local.form = outer


def form_in_use() -> str:
    """Return ``"fast"`` or ``"reference"``: the form that real-valued calls run in here."""
    return _local.form or _default_form


@functools.cache
def _module(family: str, form: str) -> ModuleType:
    check_environment()
    package = "minigrad.kernels.reference" if form == "reference" else "minigrad.kernels"
    return importlib.import_module(f"{package}.{family}")


def implementation(name: str, form: str) -> Callable[..., Any]:
    """Return one form of a kernel itself, past the dispatch."""
    return getattr(_module(_FAMILY_OF[name], form), name)


_Array = np.ndarray  # under a name of its own, for every call looks at all its arguments


def _any_complex(arguments: Iterable[Any]) -> bool:
    for argument in arguments:
        if isinstance(argument, _Array):
            if argument.dtype.kind == "c":
                return True
        elif isinstance(argument, _COMPLEX):
            return True
    return False


def _dispatching(name: str) -> Callable[..., Any]:
    """Make the function that callers see; it has the docstring and signature of the twin."""
    twin = implementation(name, "reference")
    fast = functools.cache(lambda: implementation(name, "fast"))  # imported at the first call

    @functools.wraps(twin)
    def kernel(*args: Any, **options: Any) -> Any:
        if (
            form_in_use() == "reference"
            or _any_complex(args)
            or (options and _any_complex(options.values()))
        ):
            return twin(*args, **options)
        return fast()(*args, **options)

    return kernel


def __getattr__(name: str) -> Any:
    if name in _FAMILY_OF:
        value = _dispatching(name)
    elif name in _SERVED:
        check_environment()
        value = getattr(importlib.import_module(f"minigrad.kernels.{_SERVED[name]}"), name)
    else:
        raise AttributeError(f"module 'minigrad.kernels' has no attribute {name!r}")
    globals()[name] = value  # the next look-up finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_FAMILY_OF, *_SERVED})
