"""Optimiser steps against their twins, to the bit, in every memory order and on any threads."""

import numpy as np
import pytest

from minigrad import kernels
from minigrad.kernels import _jit

SGD = [
    {"momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False},
    {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.0, "nesterov": False},
    {"momentum": 0.9, "dampening": 0.0, "weight_decay": 0.1, "nesterov": True},
]
ADAM = [
    {"weight_decay": 0.0, "decoupled": False, "step": 1},
    {"weight_decay": 0.1, "decoupled": False, "step": 2},
    {"weight_decay": 0.1, "decoupled": True, "step": 3},
]


def shapes(rng, dtype):
    """A function that draws arrays of one memory order, for each order."""

    def draw(shape):
        return rng.standard_normal(shape).astype(dtype)

    yield lambda: draw((3, 5, 7))
    yield lambda: draw((2, 5, 7, 3)).transpose(0, 3, 1, 2)
    yield lambda: draw((4, 6))[:, ::2]  # gaps in memory
    yield lambda: draw(9)[::-1]
    yield lambda: draw((0, 3))
    yield lambda: np.array(draw(()))
    yield lambda: draw((41, 1000))  # several chunks


def columns(rows):
    """What a step takes, from the arrays of each parameter; a column of None is None."""
    return [None if column[0] is None else list(column) for column in zip(*rows, strict=True)]


def assert_same_bits(name, arrays, options):
    """Runs both forms on copies in the same memory order; returns what the fast one made."""
    twins = [None if a is None else a.copy(order="K") for a in arrays]
    before = arrays[1].copy()
    getattr(kernels, name)(*columns([arrays]), **options)
    with kernels.use("reference"):
        getattr(kernels, name)(*columns([twins]), **options)
    for array, twin in zip(arrays, twins, strict=True):
        np.testing.assert_array_equal(array, twin, strict=True)
    np.testing.assert_array_equal(arrays[1], before)  # the gradient is only read


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", SGD)
def test_sgd(dtype, options):
    rng = np.random.default_rng(0)
    for draw in shapes(rng, dtype):
        velocity = draw() if options["momentum"] else None
        assert_same_bits("sgd_step", [draw(), draw(), velocity], {"lr": 0.1, **options})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("options", ADAM)
def test_adam(dtype, amsgrad, options):
    rng = np.random.default_rng(0)
    options = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, **options}
    for draw in shapes(rng, dtype):
        param, grad, mean, square = (draw() for _ in range(4))
        np.square(square, out=square)
        largest = draw() if amsgrad else None
        if amsgrad:
            np.square(largest, out=largest)
        assert_same_bits("adam_step", [param, grad, mean, square, largest], options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_rmsprop(dtype, centered, momentum, weight_decay):
    rng = np.random.default_rng(0)
    options = {"lr": 0.1, "alpha": 0.9, "eps": 1e-8}
    for draw in shapes(rng, dtype):
        square, mean = draw(), draw()
        np.square(square, out=square)
        # Larger than the mean of squares allows, so that some variances are cut off at 0.
        arrays = [draw(), draw(), square, mean if centered else None, draw() if momentum else None]
        assert_same_bits(
            "rmsprop_step", arrays, {**options, "momentum": momentum, "weight_decay": weight_decay}
        )


@pytest.mark.parametrize("form", ["fast", "reference"])
@pytest.mark.parametrize("name", ["sgd_step", "adam_step", "rmsprop_step"])
def test_all_parameters_at_once_move_as_each_would_alone(name, form):
    options = {
        "sgd_step": {"lr": 0.1, **SGD[2]},
        "adam_step": {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, **ADAM[2]},
        "rmsprop_step": {
            "lr": 0.1, "alpha": 0.9, "eps": 1e-8, "weight_decay": 0.1, "momentum": 0.9,
        },
    }[name]  # fmt: skip
    rng = np.random.default_rng(0)
    rows = []
    for dtype in (np.float32, np.float64):
        for draw in shapes(rng, dtype):
            row = [draw() for _ in range(3 if name == "sgd_step" else 5)]
            for memory in row[2:]:
                np.abs(memory, out=memory)  # some of them are averages of squares
            rows.append(row)
    alone = [[array.copy(order="K") for array in row] for row in rows]
    with kernels.use(form):
        getattr(kernels, name)(*columns(rows), **options)
        for row in alone:
            getattr(kernels, name)(*columns([row]), **options)
    for together, single in zip(rows, alone, strict=True):
        for array, twin in zip(together, single, strict=True):
            np.testing.assert_array_equal(array, twin, strict=True)


def test_a_step_of_all_parameters_is_one_launch(monkeypatch):
    launches = []
    monkeypatch.setattr(_jit.Kernel, "launch", lambda self, *args: launches.append(self.__name__))
    params = [np.ones(size) for size in (3, 20_000, 7)]
    kernels.sgd_step(params, params, None, 0.1, **SGD[0])
    assert launches == ["_sgd_loop"]


def test_a_gradient_in_another_memory_order():
    rng = np.random.default_rng(0)
    param = rng.standard_normal((2, 5, 7, 3)).transpose(0, 3, 1, 2)
    grad = np.ascontiguousarray(rng.standard_normal((2, 3, 5, 7)))
    assert_same_bits("sgd_step", [param, grad, None], {"lr": 0.1, **SGD[0]})


def test_the_memory_of_the_parameter_is_written():
    owner = np.ones((2, 5, 7, 3), np.float32)
    param, grad = owner.transpose(0, 3, 1, 2), np.ones((2, 3, 5, 7), "f4")
    kernels.sgd_step([param], [grad], None, 0.5, **SGD[0])
    assert (owner == 0.5).all()


def test_a_nan_goes_through():
    for form in ("fast", "reference"):
        param, grad = np.ones(3), np.array([1, np.nan, 1])
        with kernels.use(form):
            memories = [[zeros] for zeros in np.zeros((3, 3))]
            kernels.adam_step([param], [grad], *memories, 1, 0.1, 0.9, 0.999, 1e-8, 0.0, False)
        np.testing.assert_array_equal(np.isnan(param), [False, True, False])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sum_of_squares(dtype):
    rng = np.random.default_rng(0)
    for draw in shapes(rng, dtype):
        x = draw()
        exact = np.sum(x.astype(np.longdouble) ** 2)
        for form in ("fast", "reference"):
            with kernels.use(form):
                total = kernels.sum_of_squares(x)
            assert isinstance(total, float)
            np.testing.assert_allclose(total, float(exact), rtol=1e-13)


def test_sum_of_squares_does_not_overflow_in_float32():
    x = np.full(4, 1e30, np.float32)
    np.testing.assert_allclose(kernels.sum_of_squares(x), 4e60, rtol=1e-6)
    assert kernels.sum_of_squares(np.array([np.inf])) == np.inf
    assert np.isnan(kernels.sum_of_squares(np.array([np.nan, np.inf])))


def test_any_number_of_threads_gives_the_same_bits(pool_of_four, always_parallel):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100, 1001)).astype("f4")
    results = []
    for threads in pool_of_four:
        kernels.set_num_threads(threads)
        arrays = [x.copy(), x / 3, x / 5]
        kernels.sgd_step(*columns([arrays]), 0.1, **SGD[2])
        results.append((arrays, kernels.sum_of_squares(x)))
    for arrays, total in results[1:]:
        assert total == results[0][1]
        np.testing.assert_array_equal(arrays, results[0][0])
