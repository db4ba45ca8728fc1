"""Page faults of a training step, with the pool of memory and without it.

    python benchmarks/page_faults.py                             # ResNet-20, batches of 128
    python benchmarks/page_faults.py resnet18 --batch-size 16

A fault is the first touch of a page, which the system has to find and to clear. Both ways take
turns in one process on one network; without the pool all its arrays come from NumPy.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from unittest import mock

import numpy as np

import minigrad as mg
from minigrad import models
from minigrad.kernels import _pool
from minigrad.optim import SGD


def training_step(name: str, batch_size: int) -> Callable[[], None]:
    """Make a network, its optimiser and a batch, and return a step."""
    model = models.build(name)
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    C, H, W = models.find(name).input_shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch_size, H, W, C), np.float32).transpose(0, 3, 1, 2)
    y = rng.integers(0, 10, batch_size)

    def step() -> None:
        optimizer.zero_grad()
        mg.cross_entropy(model(mg.Tensor(x)), y).backward()
        optimizer.step()

    return step


def faults_and_seconds(step: Callable[[], None], warm_up: int = 2) -> tuple[int, float]:
    """Return the page faults and the seconds of one step, after a few that are not counted."""
    for _ in range(warm_up):
        step()
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    step()
    seconds = time.perf_counter() - start
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="resnet20")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=5, help="rounds; both ways take turns")
    options = parser.parse_args()
    step = training_step(options.model, options.batch_size)
    found: dict[str, list[tuple[int, float]]] = {"without the pool": [], "with the pool": []}
    for _ in range(options.repeat):
        with mock.patch.object(_pool, "empty", np.empty):
            found["without the pool"].append(faults_and_seconds(step))
        found["with the pool"].append(faults_and_seconds(step))
    print(f"training step of {options.model}, batch {options.batch_size}, medians")
    for name, pairs in found.items():
        faults, seconds = (statistics.median(values) for values in zip(*pairs, strict=True))
        print(f"  {name:16s}  {faults:8,.0f} page faults  {1e3 * seconds:6.1f} ms")


if __name__ == "__main__":
    main()
