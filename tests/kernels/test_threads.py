"""Every family of kernels gives the same bits on any number of threads, under any layer.

Each case runs in a process of its own, with more threads than most machines have cores. Arrays are
small and the bound below which kernels stay serial is lifted, so that all of them share their work.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minigrad import kernels

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import hashlib, os, sys, threading, warnings
import numba
import numpy as np
from minigrad import kernels
from minigrad.kernels import _jit, _threads, norm_pool
from minigrad.kernels.taps import window_taps
_jit.SERIAL_BELOW = norm_pool._ROOM_OF_ALL = 0

def draw(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)

def run():
    rng = np.random.default_rng(0)
    x, grad = (draw(rng, 3, 13, 11, 20).transpose(0, 3, 1, 2) for _ in range(2))  # channels last
    weight, bias = draw(rng, 20), draw(rng, 20)
    mean, var = kernels.batch_norm_statistics(x)
    norm = weight, bias, mean, 1 / np.sqrt(var + 1e-5)
    y, mask = kernels.batch_norm_relu_forward(x, *norm, grad)
    sums = kernels.batch_norm_sums(grad, x, *norm[2:], mask)
    window = (3, 3), (2, 2), (1, 1), (1, 1)
    pooled, place = kernels.max_pool2d_forward(x, *window, (7, 6))
    stem = kernels.batch_norm_relu_max_pool_training(
        x, weight, bias, 1e-5, (np.zeros(20), np.ones(20)), 0.1, *window[:3], (7, 6)
    )
    filters, conv = draw(rng, 9, 20, 3, 3), ((1, 1), (1, 1, 1, 1), (1, 1), 1)
    z = kernels.conv2d_forward(x, filters, None, *conv)
    left, right = draw(rng, 70, 33), draw(rng, 33, 50)
    logits, labels = draw(rng, 500, 30), rng.integers(0, 30, 500)
    base, hit = np.zeros(30, np.float32), np.ones(30, np.float32)
    losses, p = kernels.softmax_cross_entropy_forward(logits, labels, base, hit)
    params, grads, velocities = ([draw(rng, 70, 500), draw(rng, 9)] for _ in range(3))
    squares = [np.abs(velocity) for velocity in velocities]
    kernels.sgd_step(params, grads, velocities, 0.1, 0.9, 0.0, 1e-4, True)
    kernels.adam_step(params, grads, velocities, squares, None, 3, 0.1, 0.9, 0.99, 1e-8, 0, False)
    kernels.rmsprop_step(params, grads, squares, None, velocities, 0.1, 0.9, 1e-8, 0.0, 0.9)
    many = draw(rng, 2, 41, 27, 32).transpose(0, 3, 1, 2)  # a slot of sums for each image
    wide = draw(rng, 2, 90, 70, 17).transpose(0, 3, 1, 2)  # each image in several parts
    taps = window_taps(13, 7, 3, 2, 1, 1), window_taps(11, 6, 3, 2, 1, 1)
    table = np.arange(1, 43, dtype=np.float32).reshape(7, 6)
    return [
        *kernels.batch_norm_training(x, weight, bias, 1e-5, True, grad),
        *kernels.batch_norm_backward(grad, x, weight, *norm[2:], mask), *stem,
        *kernels.batch_norm_relu_max_pool_backward(
            pooled, stem[1], x, weight, *norm[2:], *window[:3]
        ),
        kernels.matrix_product(left, right), kernels.zero_pad_shortcut(x, 2, 3, 4),
        kernels.zero_pad_shortcut_backward(grad, 2, 3, (3, 12, 26, 22)),
        mean, var, y, mask, *sums, kernels.batch_norm_forward(x, *norm),
        kernels.batch_norm_grad_input(grad, x, weight, *norm[2:], *sums, mask),
        *kernels.relu_forward(x), kernels.relu_backward(grad, mask, (0, 2, 3, 1)),
        kernels.add(x, grad), pooled, place,
        kernels.max_pool2d_backward(pooled, place, *window, (13, 11)),
        kernels.max_pool2d_backward(pooled, place % 4, (2, 2), (2, 2), (0, 0), (1, 1), (15, 13)),
        z, kernels.conv2d_grad_input(z, filters, x.shape, *conv),
        kernels.conv2d_forward(x, filters[:2], None, *conv),  # sums along channels
        kernels.conv2d_grad_weight(z, x, filters.shape, *conv), kernels.conv2d_grad_bias(z),
        kernels.conv2d_grad_weight(many, many, (32, 32, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
        losses, p, kernels.softmax_cross_entropy_backward(losses, p, labels, base, hit),
        kernels.softmax_forward(logits), kernels.softmax_backward(logits, p),
        kernels.log_softmax_forward(logits), kernels.log_softmax_backward(p, logits),
        *params, *velocities, *squares,
        kernels.resample2d(x, *taps), kernels.resample2d(x, *taps, table),
        np.float64(kernels.sum_of_squares(x)), kernels.image_sums(x), kernels.image_sums(wide),
        kernels.to_channels_last(np.ascontiguousarray(x)),
        kernels.spread_over_images(kernels.image_sums(wide), (90, 70)),
    ]

def digest():
    total = hashlib.sha256()
    for array in run():
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()

with kernels.serial_only():
    expected = digest()
kernels.set_num_threads(8)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One folder for all: each process but the first loads what that compiled."""
    return tmp_path_factory.mktemp("threads") / "cache"


def _run(cache, lines, layer="default"):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "MINIGRAD_"))}
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM + lines],
        env={
            **clean, "PYTHONPATH": str(ROOT), "NUMBA_THREADING_LAYER": layer,
            "MINIGRAD_CACHE_DIR": str(cache),
        },
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )  # fmt: skip
    if "SettingError: NUMBA_THREADING_LAYER" in finished.stderr:
        pytest.skip(f"this Numba has no {layer} layer")
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


def test_no_kernel_is_forgotten():
    assert [name for name in kernels.names() if f"kernels.{name}(" not in PROGRAM] == []


def test_the_serial_build_and_any_number_of_threads_give_the_same_bits(cache):
    lines = """
for threads in 8, 1, 2, 3, 4:
    kernels.set_num_threads(threads)
    print(threads, digest() == expected)
"""
    assert _run(cache, lines) == "8 True\n1 True\n2 True\n3 True\n4 True\n"


@pytest.mark.parametrize("layer", ["workqueue", "omp", "tbb"])
def test_python_threads_at_once_a_fork_and_a_nested_launch_change_no_bit(cache, layer):
    lines = """
seen = []
def work():
    seen.extend(digest() == expected for _ in range(5))
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(numba.threading_layer(), len(seen), all(seen))

if hasattr(os, "fork"):
    warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later: forking beside threads
    child = os.fork()
    same = digest() == expected
    if child == 0:
        os._exit(0 if same else 1)
    print(same, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
else:
    print("True 0")

with _threads.entry():  # as when a finaliser launches while a kernel is being launched
    print(digest() == expected)
with kernels.serial_only():
    with kernels.serial_only():
        print(digest() == expected)
"""
    # Numba warns of a fork if another thread than the main one has started the pool of tbb.
    first = "digest()\n" if layer == "tbb" else ""
    assert _run(cache, first + lines, layer) == f"{layer} 10 True\nTrue 0\nTrue\nTrue\n"
