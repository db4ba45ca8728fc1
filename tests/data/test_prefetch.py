"""The worker thread: same results as without it, and it always ends."""

import gc
import subprocess
import sys
import threading
import time

import pytest

from minigrad.data.prefetch import prefetch


def workers():
    return [t for t in threading.enumerate() if t.name == "minigrad-prefetch"]


@pytest.fixture(autouse=True)
def _no_worker_is_left():
    assert not workers()
    yield
    assert not workers()


@pytest.mark.parametrize("depth", [1, 2, 5, 100])
def test_same_as_map(depth):
    assert list(prefetch(lambda i: i * i, range(3, 20, 2), depth)) == [
        i * i for i in range(3, 20, 2)
    ]
    assert list(prefetch(lambda i: i, range(0), depth)) == []


def test_runs_ahead_in_one_other_thread_but_not_further_than_asked():
    made = []

    def make(i):
        made.append((i, threading.current_thread().name))
        return i

    results = prefetch(make, range(100), depth=3)
    assert not made  # nothing starts before the first result is asked for
    for taken in (1, 2, 3):
        next(results)
        deadline = time.monotonic() + 5
        while len(made) < taken + 3 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.01)  # time enough to go too far
        assert [i for i, _ in made] == list(range(taken + 3))
    assert {name for _, name in made} == {"minigrad-prefetch"}
    results.close()


def test_an_exception_arrives_after_the_results_before_it():
    def make(i):
        if i == 3:
            raise ZeroDivisionError("made on purpose")
        return i

    seen = []
    with pytest.raises(ZeroDivisionError, match="made on purpose") as caught:
        seen.extend(prefetch(make, range(10), 2))
    assert seen == [0, 1, 2]
    assert "make" in [entry.name for entry in caught.traceback]  # it shows where it was raised


def test_break_stops_the_worker():
    for result in prefetch(lambda i: i, range(1000), 2):
        if result == 5:
            break
    assert not workers()


def test_dropping_the_iterator_stops_the_worker():
    results = prefetch(lambda i: i, range(1000), 2)
    next(results)
    assert len(workers()) == 1
    del results
    gc.collect()
    assert not workers()


def test_an_iterator_never_asked_starts_nothing():
    results = prefetch(lambda i: i, range(1000), 2)
    assert not workers()
    del results


def test_an_error_in_the_loop_stops_the_worker():
    def loop():
        for _ in prefetch(lambda i: i, range(1000), 2):
            raise KeyError("the consumer's own")

    with pytest.raises(KeyError):
        loop()
    gc.collect()


def test_the_interpreter_ends_while_an_iterator_is_open():
    code = (
        "from minigrad.data.prefetch import prefetch\n"
        "results = prefetch(lambda i: i, range(1000), 2)\n"
        "print(next(results))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
