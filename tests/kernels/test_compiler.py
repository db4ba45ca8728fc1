"""Kernels are compiled whole; what they call stays a part, and serves whoever else needs it."""

import gc

import numba
import numpy as np
import pytest

from minigrad.kernels._compiler import _Part
from minigrad.kernels._jit import body, kernel, prange

pytestmark = pytest.mark.skipif(
    numba.config.DISABLE_JIT, reason="NUMBA_DISABLE_JIT=1: nothing is compiled"
)


@pytest.fixture
def halves_and_loop():
    """A function and a kernel that calls it, compiled now: closures never come from the cache."""

    @body
    def halves(x):
        if x < 0:
            raise ValueError("a negative number has no half here", 2)
        return max(x - 0.5 * x, 0.0)

    @kernel
    def halve_loop(x, out):
        for i in prange(x.size):
            out[i] = halves(x[i])

    x = np.arange(6.0)
    for work in 0, 10**9:
        out = np.zeros(6)
        halve_loop.launch(work, x, out)
        np.testing.assert_array_equal(out, x / 2)
    assert gc.isenabled()
    return halves, halve_loop


def _refuses(function, *args):
    with pytest.raises(ValueError, match="a negative number") as caught:
        function(*args)
    assert caught.value.args == ("a negative number has no half here", 2)


def test_only_the_kernel_is_translated(halves_and_loop):
    halves, halve_loop = halves_and_loop
    (part,) = halves.part.overloads.values()
    assert isinstance(part.library, _Part)
    for build in halve_loop.serial, halve_loop.parallel:
        (whole,) = build.overloads.values()
        assert not isinstance(whole.library, _Part)
        assert whole.library.get_pointer_to_function(whole.fndesc.llvm_func_name)
    engine = part.library.codegen._engine
    assert part.fndesc.llvm_func_name in part.library.get_llvm_str()
    assert not engine.is_symbol_defined(part.fndesc.llvm_cpython_wrapper_name)


def test_python_calls_a_function_that_is_a_part_of_a_kernel(halves_and_loop):
    halves, _ = halves_and_loop
    assert halves(3.0) == 1.5
    _refuses(halves, -1.0)


def test_an_error_in_a_part_arrives_with_its_constants(halves_and_loop):
    _, halve_loop = halves_and_loop
    _refuses(halve_loop.launch, 0, np.full(3, -1.0), np.zeros(3))


def test_other_users_of_numba_link_to_parts(halves_and_loop):
    halves, _ = halves_and_loop

    @numba.njit
    def quarter(x):
        return halves(halves(x)) + max(x - x, 0.0)

    assert quarter(3.0) == 0.75
    _refuses(quarter, -1.0)
