"""``minigrad warmup``: compile what a network needs before it is needed."""

import argparse
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import kernels, models
from minigrad.bench.text import counted
from minigrad.core.errors import ArgumentError
from minigrad.core.mode import no_grad
from minigrad.core.tensor import Tensor
from minigrad.ops import cross_entropy
from minigrad.ops.threads import set_num_threads
from minigrad.optim import sgd

__all__ = ["add_parser", "run"]

_EPILOG = """\
examples:
  minigrad warmup                             ResNet-20 on batches of 128 CIFAR images
  minigrad warmup resnet18 --batch-size 16
  minigrad warmup resnet20 --shape 1x8x8      for grey images of 8 x 8 pixels

What is compiled stays on disk ('minigrad doctor' says where) and serves every later process. A
second process compiles ahead for the backward pass; "compiled here" counts only the first.
"""


def add_parser(commands: Any) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "warmup",
        help="compile what a network needs, and say how long it takes",
        description="Run a training step and an evaluation of a network, to compile its kernels.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", nargs="?", default="resnet20", metavar="MODEL", help="default resnet20")
    add("--batch-size", type=int, default=128, metavar="N", help="images a step (default 128)")
    add("--shape", metavar="CxHxW", help="of an image (default what the network was made for)")
    add("--threads", type=int, metavar="N", help="threads of the kernels")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run each step twice: with what there is to compile, and without."""
    if options.threads is not None:
        set_num_threads(options.threads)
    shape = _batch_shape(options)
    images = "x".join(map(str, shape))
    print(f"{options.model}, batches of {images}, {kernels.get_num_threads()} threads")
    for name, step in _steps(options.model, shape).items():
        counter = _Counter(name)
        with kernels.watch_compilation(counter.compiled):
            first = _seconds(step)
        counter.clear()
        again = _seconds(step)
        print(f"{name}: {first:.2f} s, {counter.text()}; again {again:.3f} s", flush=True)
    host = kernels.host()
    if host["cache_folder"] is None:
        print("nothing was kept: 'minigrad doctor' says why")
    else:
        print(f"kept in {host['cache_folder']}, {host['cache_bytes'] / 1e6:.1f} MB")
    return 0


def _batch_shape(options: argparse.Namespace) -> tuple[int, int, int, int]:
    image = models.find(options.model).input_shape
    if options.shape is not None:
        parts = options.shape.split("x")
        if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
            raise ArgumentError(
                f"--shape is the shape CxHxW of an image, got {options.shape!r}. Pass --shape "
                f"{'x'.join(map(str, image))}."
            )
        image = (int(parts[0]), int(parts[1]), int(parts[2]))
    if options.batch_size < 1:
        raise ArgumentError(
            f"--batch-size is at least 1, got {options.batch_size}. Pass --batch-size 1."
        )
    shape = (options.batch_size, *image)
    if 4 * math.prod(shape) > sys.maxsize:
        raise MemoryError(f"for images of shape {shape}")
    return shape


def _steps(name: str, shape: tuple[int, int, int, int]) -> dict[str, Callable[[], Any]]:
    """A training step and an evaluation, as ``minigrad train`` runs them."""
    N, C, H, W = shape
    model = models.build(name, in_channels=C)
    optimizer = sgd.SGD(
        list(model.parameters()), 0.1, momentum=0.9, weight_decay=1e-4, nesterov=True
    )
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, H, W, C), np.float32).transpose(0, 3, 1, 2)
    y = rng.integers(0, 10, N)

    def train() -> None:
        model.train()
        optimizer.zero_grad()
        cross_entropy(model(Tensor(x)), y).backward()
        optimizer.step()

    def evaluate() -> None:
        model.eval()
        with no_grad():
            cross_entropy(model(Tensor(x)), y)

    return {"training step": train, "evaluation": evaluate}


def _seconds(step: Callable[[], Any]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


class _Counter:
    """Counts what this process compiles, and shows it in a line that overwrites itself."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.start = time.perf_counter()

    def compiled(self, function: str, seconds: float) -> None:
        """Count a function."""
        self.count += 1
        if sys.stderr.isatty():
            elapsed = time.perf_counter() - self.start
            line = f"{self.name}: {elapsed:.0f} s, {self.count} compiled, {function}"
            print(f"\r{line[:78]:78s}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if sys.stderr.isatty():
            print(f"\r{'':78s}\r", end="", file=sys.stderr, flush=True)

    def text(self) -> str:
        if self.count == 0:
            return "nothing to compile"
        return f"{counted(self.count, 'function')} compiled here"
