"""Kernels are compiled whole; what they call stays a part, and serves whoever else needs it."""

import gc
import os

import llvmlite.binding as llvm
import numba
import numba.extending
import numpy as np
import pytest
from llvmlite import ir

from minigrad.kernels import _wide_division
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


@numba.extending.intrinsic
def _divided_widely(typing_context, x, y):
    def emit(context, builder, signature, args):
        wide = [builder.zext(arg, ir.IntType(128)) for arg in args]
        quotient = builder.udiv(builder.shl(wide[0], wide[0].type(64)), wide[1])
        return builder.trunc(quotient, ir.IntType(64))

    return numba.types.uint64(x, y), emit


@pytest.mark.skipif(os.name != "posix", reason="the compiler's library is another one here")
def test_a_kernel_may_divide_in_128_bits():
    for name in _wide_division.NAMES:  # else what follows ends the process
        assert llvm.address_of_symbol(name), name

    @kernel
    def divide_loop(x, y, out):
        for i in prange(x.size):
            out[i] = _divided_widely(x[i], y[i])

    x, y = np.array([3, 5, 7], np.uint64), np.array([11, 2**63 + 9, 2**64 - 1], np.uint64)
    out = np.zeros(3, np.uint64)
    divide_loop.launch(0, x, y, out)
    assert out.tolist() == [2**64 * int(a) // int(b) % 2**64 for a, b in zip(x, y, strict=True)]
