"""References are counted by the functions that own arrays, and by no others."""

import sys

import numba
import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys

from minigrad import kernels
from minigrad.kernels._jit import body, kernel, prange
from minigrad.kernels._runs import aligned_empty

pytestmark = pytest.mark.skipif(
    numba.config.DISABLE_JIT, reason="NUMBA_DISABLE_JIT=1: nothing is compiled"
)


@body
def last(run):
    return run[-1]


@body
def sum_parts(x, places):
    """Rows, slices and the arrays in a tuple: all of them are the caller's."""
    pair = (x[1:], x)
    total = x.dtype.type(0)
    for i in range(pair[0].shape[0]):
        row, k = pair[i % 2][i], 0
        while k < row.size:
            run = row[k:]
            if k < places[0]:
                total += last(run)
                k += 1
            else:
                total += last(run[:1])
                k += places[1]
    return total


@body
def make(x):
    return np.empty_like(x[0])


@body
def sum_made(x, places):
    made = make(x)
    made[:] = x[places[0]]
    return made[1:].sum()


@body
def sum_aligned(x, places):
    made = aligned_empty(x.shape[1], x)
    for k in range(made.size):
        made[k] = x[places[0], k]
    return made[2:][0]


@body
def sum_chosen(x, places):
    chosen = x[0][places]  # an array as an index: NumPy copies, and so does Numba
    return chosen[:1][0] + chosen[-1]


@body
def sum_of_sums(x, places):
    return (x[0] + x[places[0]])[1]


@body
def sum_flat(x, places):
    return x.reshape(x.size)[places[0]]


@body
def part_of(x, places):
    return x[places[0]][1:]


@body
def sum_handed(x, places):
    return last(part_of(x, places))


@body
def either(x, places):
    made = np.zeros(x.shape[1], x.dtype)
    return (made, x[1]) if places[0] > 5 else (x[places[0]], made)


@body
def sum_either(x, places):
    first, second = either(x, places)
    return first[0] + second[1]


OWNERS = [sum_made, sum_aligned, sum_chosen, sum_of_sums, sum_flat, sum_handed, sum_either]


@pytest.fixture
def counted():
    """How many arrays were made and freed since the last time it was asked."""
    was = _nrt_python.memsys_stats_enabled()
    _nrt_python.memsys_enable_stats()
    before = [rtsys.get_allocation_stats()]

    def made_and_freed():
        now = rtsys.get_allocation_stats()
        made, freed = now.mi_alloc - before[0].mi_alloc, now.mi_free - before[0].mi_free
        before[0] = now
        return made, freed

    yield made_and_freed
    if not was:
        _nrt_python.memsys_disable_stats()


def _loop_of(function):
    @kernel
    def loop(x, places, out):
        for i in prange(out.size):
            out[i] = function(x, places)

    return loop


def _counts(function):
    (part,) = function.part.overloads.values()
    code = part.library.get_llvm_str()
    return "NRT_incref" in code or "NRT_decref" in code


@pytest.mark.parametrize("work", [0, 10**9], ids=["serial", "parallel"])
@pytest.mark.parametrize("function", [sum_parts, *OWNERS], ids=lambda function: function.__name__)
def test_what_is_made_is_freed_once(function, work, counted):
    x, places, out = np.arange(24.0).reshape(4, 6), np.array([2, 3]), np.zeros(500)
    loop = _loop_of(function)
    loop.launch(work, x, places, out)
    assert _counts(function) == (function is not sum_parts)
    counted()
    held = sys.getrefcount(x), sys.getrefcount(places)
    for _ in range(20):
        loop.launch(work, x, places, out)
    made, freed = counted()
    assert made == freed
    assert made >= 20 * out.size or function in (sum_parts, sum_flat, sum_handed)
    assert (sys.getrefcount(x), sys.getrefcount(places)) == held
    assert set(out) == {function.__wrapped__(x, places)}


@pytest.mark.parametrize("shape", [(2, 3, 9, 7), (2, 32, 9, 7), (1, 130, 4, 4)], ids=str)
def test_convolutions_free_what_they_make(shape, counted):
    weight = np.ones((5, shape[1], 3, 3), np.float32)
    x = np.ones(shape, np.float32)
    grad_out = kernels.conv2d_forward(x, weight, None, (1, 1), (1, 1, 1, 1), (1, 1), 1)
    for _ in range(2):
        counted()
        kernels.conv2d_forward(x, weight, None, (1, 1), (1, 1, 1, 1), (1, 1), 1)
        kernels.conv2d_grad_input(grad_out, weight, x.shape, (1, 1), (1, 1, 1, 1), (1, 1), 1)
        kernels.conv2d_grad_weight(grad_out, x, weight.shape, (1, 1), (1, 1, 1, 1), (1, 1), 1)
    made, freed = counted()
    assert made == freed > 0
