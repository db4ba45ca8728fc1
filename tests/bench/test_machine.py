"""The roofs, the memory and the facts of the machine."""

import dataclasses
import json
import sys

import numba
import numpy as np
import pytest

from minigrad import kernels
from minigrad.bench import limits, machine
from minigrad.bench.beside import beside
from minigrad.bench.case import Case
from minigrad.bench.memory import peak_alone, peak_rise


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_peak_kernel_really_multiplies_and_adds(dtype):
    sums, flops = kernels.multiply_adds(7, dtype)
    rows = np.arange(sums.shape[1]).reshape(1, -1, 1)
    np.testing.assert_array_equal(sums, np.broadcast_to(rows + 14, sums.shape))
    assert flops == 2 * 7 * sums.size


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_kernel_of_products_really_multiplies_them(dtype):
    sums, flops = kernels.products(7, dtype)
    rows = np.arange(sums.shape[1]).reshape(1, -1, 1)
    np.testing.assert_array_equal(sums, np.broadcast_to(7 * rows, sums.shape))
    assert flops == 2 * 7 * 64 * sums.size


@pytest.mark.parametrize("size", [0, 1, 1000, 200_003])
def test_the_copy_copies_all_of_it(size):
    x = np.random.default_rng(0).standard_normal(size).astype("f")
    out = np.zeros(size + 1, "f")
    kernels.copy(x, out[:size])
    np.testing.assert_array_equal(out, np.append(x, np.float32(0)))


@pytest.mark.parametrize("blocks", [0, 1, 1000])
def test_all_is_read(blocks):
    x = np.arange(1024.0 * blocks)
    assert kernels.read(x).sum() == x.sum()


@pytest.mark.parametrize("blocks", [0, 1, 1000])
def test_all_is_filled(blocks):
    values, out = np.arange(1.0, 1025.0), np.zeros(1024 * blocks + 1)
    kernels.fill(values, out[:-1])
    np.testing.assert_array_equal(out, np.append(np.tile(values, blocks), 0))


@pytest.mark.parametrize("written", [0, 10 << 20, 20 << 20, 40 << 20])
def test_beside_a_case_as_many_bytes_are_copied_and_read_and_written(monkeypatch, written):
    moved = dict.fromkeys(("read", "written"), 0)

    def copy(x, out):
        assert x.shape == out.shape
        moved["read"] += x.nbytes
        moved["written"] += out.nbytes

    def read(x):
        moved["read"] += x.nbytes

    def fill(values, out):
        assert values.all()  # zeros may be written faster
        moved["written"] += out.nbytes

    for fake in (copy, read, fill):
        monkeypatch.setattr(kernels, fake.__name__, fake)
    case = Case("kernels", "c", None, bytes=36 << 20, again=4 << 20, written=written)
    for name, call in beside(case).items():
        moved.update(read=0, written=0)
        call()
        wanted = 20 << 20 if name == "copy" else written
        assert moved == {"read": (40 << 20) - wanted, "written": wanted}
    assert beside(dataclasses.replace(case, bytes=32 << 20)) == {}
    assert beside(dataclasses.replace(case, flops=1)) == {}


def test_roofs_are_measured_and_looked_up():
    assert limits.measure_peak(repeat=2, steps=100) > 1e6
    assert limits.measure_fed(repeat=2, repeats=2) > 1e6
    assert limits.measure_copy(16 << 10, repeat=2) > 1e6
    roofs = limits.Roofs(1.0, {1000: 3.0, 10**6: 2.0, 10**9: 1.0})
    assert [roofs.bandwidth(moved) for moved in (0, 2000, 10**6, 10**10)] == [3.0, 3.0, 2.0, 1.0]
    near = 32 << 20  # nearer to 2 * 10**6 than to 2 * 10**9
    assert [roofs.bandwidth(nbytes) for nbytes in (near, near + 1)] == [2.0, 1.0]
    assert (roofs.cache, roofs.memory) == (3.0, 1.0)


def test_of_two_measured_roofs_the_higher_ones_count():
    roofs, again = limits.Roofs(2.0, {8: 1.0, 16: 3.0}, 1.5), limits.Roofs(1.0, {8: 2.0}, 1.7)
    assert roofs.or_higher(again) == limits.Roofs(2.0, {8: 2.0, 16: 3.0}, 1.7)


def test_roofs_come_back_from_json():
    roofs = limits.Roofs(2.0, {8: 1.0, 16: 3.0}, 1.5)
    assert limits.Roofs.read(json.loads(json.dumps(roofs.record()))) == roofs
    assert limits.Roofs.read({"flops": 2.0, "copy": {"8": 1.0}}).fed == 0.0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells and resets a peak")
def test_the_peak_of_memory_is_seen_though_it_is_given_back():
    def call():
        for _ in range(2):
            np.ones(50_000_000, np.uint8)

    rise = peak_rise(call)
    assert 45e6 < rise < 60e6
    assert peak_rise(lambda: None) < 5e6


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells and resets a peak")
def test_a_network_is_measured_in_a_process_of_its_own():
    rise, peak = peak_alone("grad:resnet20,16x3x32x32", "minigrad", 1)
    assert 5e6 < rise < 500e6
    assert rise < peak < 5e9
    assert peak_alone("nonsense", "minigrad", 1) is None


def test_the_environment_says_what_a_result_depends_on():
    found = machine.environment()
    assert found["cores"] >= 1
    assert found["versions"]["numpy"] == np.__version__
    assert found["kernels"]["threads"] == kernels.get_num_threads()


def test_what_is_compiled_is_told_once():
    @numba.njit  # not a kernel's decorator, which would find the code of the last run on disk
    def twice(x):
        return 2 * x

    told = []
    with kernels.watch_compilation(lambda name, seconds: told.append((name, seconds > 0))):
        twice(3)
        twice(4)
    twice(0.5)
    assert told == [("twice", True)]
