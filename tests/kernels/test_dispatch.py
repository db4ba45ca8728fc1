"""The dispatch: which form of a kernel runs, and that each has both forms."""

import importlib
import inspect
import os
import re
import subprocess
import sys
import threading

import numpy as np
import pytest

from minigrad import kernels


@pytest.mark.parametrize("name", kernels.names())
def test_a_fast_kernel_and_its_twin_have_one_signature(name):
    fast = inspect.signature(kernels.implementation(name, "fast"))
    twin = inspect.signature(kernels.implementation(name, "reference"))
    assert fast == twin


@pytest.mark.parametrize("name", kernels.names())
def test_the_dispatch_shows_the_docstring_of_the_twin(name):
    assert getattr(kernels, name).__doc__ == kernels.implementation(name, "reference").__doc__
    assert getattr(kernels, name).__name__ == name


def test_every_twin_in_the_table_is_named_once():
    members = [name for family in kernels.FAMILIES.values() for name in family]
    assert len(members) == len(set(members))


def _record_calls(monkeypatch):
    calls = []
    for form, package in ("fast", "kernels"), ("reference", "kernels.reference"):
        module = importlib.import_module(f"minigrad.{package}.elementwise")
        monkeypatch.setattr(module, "relu_forward", lambda x, form=form: calls.append(form))
    # A dispatching function made now sees the recorders in place of the kernels.
    return calls, kernels._dispatching("relu_forward")


def test_the_fast_form_runs_unless_the_twin_is_asked_for(monkeypatch):
    calls, relu_forward = _record_calls(monkeypatch)
    x = np.ones(3)
    monkeypatch.setattr(kernels, "_default_form", "fast")
    relu_forward(x)
    with kernels.use("reference"):
        relu_forward(x)
        with kernels.use("fast"):
            relu_forward(x)
        relu_forward(x=x)
    relu_forward(x)
    assert calls == ["fast", "reference", "fast", "reference", "fast"]


@pytest.mark.parametrize("argument", [np.ones(3, complex), np.complex128(1), 1j])
def test_a_complex_argument_runs_the_twin(monkeypatch, argument):
    calls, relu_forward = _record_calls(monkeypatch)
    relu_forward(argument)
    relu_forward(x=argument)
    assert calls == ["reference", "reference"]


def test_the_choice_of_form_belongs_to_one_thread():
    seen = []
    with kernels.use("reference"):
        thread = threading.Thread(target=lambda: seen.append(kernels.form_in_use()))
        thread.start()
        thread.join()
    assert seen == [kernels._default_form]


def test_an_unknown_form_is_an_error():
    text = (
        "kernels.use chooses the form of the kernels. It is 'fastest'. Pass 'fast' or 'reference'."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"), kernels.use("fastest"):
        pass


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'minigrad.kernels' has no attribute 'conv9d'"):
        kernels.conv9d  # noqa: B018 (the attribute access is what is tested)


def _python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_package_and_the_twins_do_without_numba():
    run = _python(
        "import sys, numpy as np; from minigrad import kernels; kernels.relu_forward(np.ones(3));"
        "print('numba' in sys.modules)",
        MINIGRAD_KERNELS="reference",
    )
    assert (run.stdout, run.stderr) == ("False\n", "")


def test_a_wrong_form_is_a_clear_error():
    text = "kernels.use chooses the form of the kernels. It is 'slow'. Pass 'fast' or 'reference'."
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"), kernels.use("slow"):
        pass
