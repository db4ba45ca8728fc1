"""Seconds from the start of a process to the end of its first training step.

    python benchmarks/first_step.py                    # ResNet-20, batches of 128
    python benchmarks/first_step.py resnet18 --batch-size 16 --kernels

Once with an empty folder for compiled kernels, then with what the first process has kept there.
With ``--kernels`` it lists the functions that took longest to compile.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def take_first_step(name: str, batch_size: int, listing: bool) -> None:
    """What the measured process does; the clock of its parent has run since before its start."""
    import contextlib

    import numpy as np

    import minigrad as mg
    from minigrad import kernels, models
    from minigrad.optim import SGD

    model = models.build(name)
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    C, H, W = models.find(name).input_shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch_size, H, W, C), np.float32).transpose(0, 3, 1, 2)
    y = rng.integers(0, 10, batch_size)
    compiled: list[tuple[float, str]] = []

    def tell(function: str, seconds: float) -> None:
        compiled.append((seconds, function))

    with kernels.watch_compilation(tell) if listing else contextlib.nullcontext():
        optimizer.zero_grad()
        mg.cross_entropy(model(mg.Tensor(x)), y).backward()
        optimizer.step()
    print(time.time())
    for seconds, function in sorted(compiled, reverse=True)[:20]:
        print(f"  {seconds:6.2f}  {function}")


def measured(options: argparse.Namespace, cache: str, listing: bool) -> tuple[float, str]:
    """Return the seconds of a process of its own, and what it printed of its kernels."""
    command = [sys.executable, __file__, options.model, "--inside"]
    command += ["--batch-size", str(options.batch_size)] + ["--kernels"] * listing
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"MINIGRAD_CACHE_DIR": cache, "PYTHONPATH": os.pathsep.join(paths)}
    start = time.time()
    printed = subprocess.run(
        command, env={**os.environ, **environment}, check=True, text=True, stdout=subprocess.PIPE
    ).stdout
    end, _, table = printed.partition("\n")
    return float(end) - start, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="resnet20")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=5, help="processes with a warm cache")
    parser.add_argument("--kernels", action="store_true", help="list what took long to compile")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        take_first_step(options.model, options.batch_size, options.kernels)
        return
    with tempfile.TemporaryDirectory() as cache:
        cold, table = measured(options, cache, options.kernels)
        warm = [measured(options, cache, False)[0] for _ in range(options.repeat)]
    print(f"first training step of {options.model}, batch {options.batch_size}, from process start")
    print(f"  nothing compiled yet  {cold:.2f} s")
    print(f"  compiled before       {statistics.median(warm):.2f} s, min {min(warm):.2f}")
    if table:
        print(f"seconds to compile, with what a function calls\n{table}", end="")


if __name__ == "__main__":
    main()
