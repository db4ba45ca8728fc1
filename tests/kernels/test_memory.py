"""The pool of memory: what it hands out again, and above all what it must not."""

import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from minigrad import kernels
from minigrad.kernels import _pool
from minigrad.kernels._layout import empty_channels_last, empty_in_order

FLOAT = np.dtype(np.float32)
LARGE = (64, 5, 1024)  # 1.25 MiB


def _address(array):
    return array.__array_interface__["data"][0]


@pytest.fixture
def pool():
    return _pool.Pool(limit=8 << 20)


def test_the_memory_of_a_dead_array_serves_the_next_of_its_size(pool):
    first = pool.empty(LARGE, FLOAT)
    place = _address(first)
    assert first.shape == LARGE
    assert first.dtype == FLOAT
    assert first.flags.c_contiguous
    assert first.flags.writeable
    assert place % 64 == 0
    assert pool.empty(LARGE, FLOAT).size  # while the first lives, other memory
    del first
    gc.collect()
    again = [pool.empty((5, 64, 512), np.dtype(np.float64)) for _ in range(2)]
    assert place in map(_address, again)


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x[3:, ::2],
        lambda x: x.T,
        lambda x: x.reshape(-1)[7:],
        lambda x: x.view(np.uint8)[..., :1],
        memoryview,
        lambda x: np.frombuffer(x, np.uint8),
        lambda x: x.transpose(2, 0, 1)[0][1:],
        lambda x: np.lib.stride_tricks.as_strided(x, (3,), (4,)),
        lambda x: np.ma.masked_array(x),
    ],
)
def test_memory_that_somebody_still_views_is_not_handed_out(pool, look):
    x = pool.empty(LARGE, FLOAT)
    x[:] = 1
    view = look(x)
    del x
    others = [pool.empty(LARGE, FLOAT) for _ in range(3)]
    for other in others:
        other[:] = 2
    assert not any(np.shares_memory(np.asarray(view), other) for other in others)
    assert not (np.asarray(view) == 2).any()
    assert pool.idle_bytes() == 0
    del view
    gc.collect()
    assert pool.idle_bytes() > 0


def test_a_part_or_a_copy_of_lent_memory_gives_nothing_back(pool):
    x = pool.empty(LARGE, FLOAT)
    x[:] = 1
    part, copied = x.base[8:], x.base.copy()
    del x, copied
    gc.collect()
    other = pool.empty(LARGE, FLOAT)
    assert not np.shares_memory(part, other)
    assert pool.idle_bytes() == 0
    del part
    gc.collect()
    assert pool.idle_bytes() == 64 * 5 * 1024 * 4


def test_small_and_empty_arrays_are_left_to_numpy(pool):
    for shape in (0, 5), (), (3, 4):
        assert pool.empty(shape, FLOAT).shape == shape
    assert pool.idle_bytes() == 0


def test_what_waits_is_bounded(pool):
    arrays = [pool.empty((1 << 20,), np.dtype(np.uint8)) for _ in range(12)]
    while arrays:
        del arrays[-1]
        assert pool.idle_bytes() <= pool.limit
    huge = pool.empty((pool.limit + 1,), np.dtype(np.uint8))
    del huge
    assert pool.idle_bytes() <= pool.limit


def test_neighbours_that_come_back_serve_a_larger_array_together(pool):
    small = [pool.empty(LARGE, FLOAT) for _ in range(4)]
    places = {_address(array) for array in small}
    small = [small[i] for i in (2, 0, 3, 1)]
    while small:
        del small[0]
    assert _address(pool.empty((4, *LARGE), FLOAT)) == min(places)
    assert pool.idle_bytes() == 4 * 64 * 5 * 1024 * 4


def test_an_array_takes_the_shortest_place_that_has_room(pool):
    sizes = [3 << 18, 1 << 18, 2 << 18, 1 << 18, 1 << 20, 1 << 18]
    arrays = [pool.empty((size,), np.dtype(np.uint8)) for size in sizes]
    place = _address(arrays[2])
    arrays[0] = arrays[2] = arrays[4] = None  # leave holes of 3, 2 and 4 times 256 KiB
    assert _address(pool.empty(((1 << 18) + 1,), np.dtype(np.uint8))) == place


def test_sizes_that_came_back_a_little_before_are_still_there(pool):
    shapes = LARGE, (1 << 18,), (1 << 17,)
    arrays = [pool.empty(shape, FLOAT) for shape in shapes]
    places = [_address(array) for array in arrays]
    del arrays
    again = [pool.empty(shape, FLOAT) for shape in shapes]
    assert [_address(array) for array in again] == places


def test_memory_that_waits_serves_other_sizes_before_fresh_memory_does(pool):
    held = [pool.empty(LARGE, FLOAT) for _ in range(3)]
    place = _address(held[1])
    del held[1]
    assert _address(pool.empty((1 << 18,), FLOAT)) == place


@pytest.mark.parametrize("seed", range(3))
def test_live_arrays_never_overlap(pool, seed):
    rng = np.random.default_rng(seed)
    live = {}
    for number in range(400):
        if len(live) > 8 or (live and rng.random() < 0.45):
            key = rng.choice(list(live))
            array = live.pop(key)
            assert (array == key).all()
            del array
        size = int(rng.integers(60_000, 600_000))
        live[number] = pool.empty((size,), FLOAT)
        live[number][:] = number
    for key, array in live.items():
        assert (array == key).all()


def test_who_asks_in_the_middle_of_an_answer_gets_memory_of_its_own(pool):
    first = pool.empty(LARGE, FLOAT)
    with pool._lock:
        second = pool.empty(LARGE, FLOAT)
        del first
        assert pool.release() == 0
    second[:] = 1
    assert pool.idle_bytes() == 64 * 5 * 1024 * 4


def test_addresses_that_the_system_refuses_are_asked_of_numpy(pool, monkeypatch):
    def refuse(size):
        raise OSError("Cannot allocate memory")

    monkeypatch.setattr(_pool, "Arena", refuse)
    assert pool.empty(LARGE, FLOAT).shape == LARGE
    with pytest.raises((MemoryError, ValueError)):
        pool.empty((1 << 60,), FLOAT)


def test_released_memory_goes_back_to_the_system(pool):
    statm = "/proc/self/statm"
    if not os.path.exists(statm):
        pytest.skip("the system does not tell how much memory is in use")

    def in_use():
        with open(statm) as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    size = 6 << 20
    pool.empty((size,), np.dtype(np.uint8))[:] = 1
    before = in_use()
    assert pool.release() == size
    assert pool.idle_bytes() == 0
    assert in_use() <= before - size // 2


def test_kernels_take_their_results_from_the_pool():
    def made():
        x = np.ones((2, 16, 64, 64), np.float32)
        mean, var = kernels.batch_norm_statistics(x)
        yield empty_channels_last(x.shape, x.dtype)
        yield empty_in_order(x.shape, x.dtype, (3, 0, 2, 1))[0]
        with kernels.use("fast"):
            yield kernels.relu_forward(x)[0]
            yield kernels.batch_norm_forward(x, None, None, mean, var)

    kernels.release_memory()
    arrays = list(made())
    assert _pool.idle_bytes() == 0
    count = len(arrays)
    del arrays
    gc.collect()
    assert kernels.release_memory() == count * 2 * 16 * 64 * 64 * 4


def test_threads_never_share_an_array(pool):
    failures = []

    def work(number):
        for _ in range(300):
            x = pool.empty((70_000,), FLOAT)
            x[:] = number
            y = pool.empty((70_000,), FLOAT)
            y[:] = -number
            if (x != number).any():
                failures.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_step_touches_no_fresh_pages():
    resource = pytest.importorskip("resource", reason="page faults are counted by Unix systems")
    x = np.ones((16, 16, 64, 64), np.float32)  # 4 MiB: 1024 pages

    def step():
        with kernels.use("fast"):
            y, mask = kernels.relu_forward(x)
            return kernels.relu_backward(y, mask, (0, 1, 2, 3))

    step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(2):
        step()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 1024


SMALL_CALLS = """
import resource
import numpy as np
from minigrad import kernels
from minigrad.kernels.conv_choice import conv_algorithm
x = np.ones((8, 64, 7, 7), np.float32)
def faults(calls):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(calls):
        kernels.conv2d_grad_weight(x, x, (64, 64, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
with kernels.use("fast"), conv_algorithm("winograd"):
    faults(3)
    print(faults(10))
"""


# Other systems have another malloc, which may keep scratch or not: nothing here asks it to.
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's malloc is asked to keep scratch")
def test_scratch_of_small_calls_stays_with_the_process():
    done = subprocess.run([sys.executable, "-c", SMALL_CALLS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 200  # 5000 to 20000 where malloc gives scratch back after each chunk
