"""Convolutions of well-known networks, shape by shape, against torch in channels_last.

    python benchmarks/conv_shapes.py                   all shapes, the table's algorithm
    python benchmarks/conv_shapes.py cifar --algorithms auto im2col direct
    python benchmarks/conv_shapes.py --serial          one thread, counted in processor time: for
                                                       machines that others use as well

Contenders take turns, so that all see the same weather. GFLOP/s count the products and sums of the
definition, whatever an algorithm does, at the median (best) time; ratios are of medians. Each
result is checked in the same run, on whole numbers: exactly, but for winograd, which rounds.
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import minigrad as mg
from minigrad import kernels
from minigrad.kernels.conv_choice import Case, choose, conv_algorithm

# name: N, C, H = W, F, KH = KW, stride, padding
GROUPS = {
    "cifar": [
        (128, 3, 32, 16, 3, 1, 1),
        (128, 16, 32, 16, 3, 1, 1),
        (128, 16, 32, 32, 3, 2, 1),
        (128, 32, 16, 32, 3, 1, 1),
        (128, 32, 16, 64, 3, 2, 1),
        (128, 64, 8, 64, 3, 1, 1),
    ],
    "imagenet": [
        (16, 64, 56, 64, 3, 1, 1),
        (16, 128, 28, 128, 3, 1, 1),
        (16, 256, 14, 256, 3, 1, 1),
        (16, 512, 7, 512, 3, 1, 1),
        (16, 64, 56, 128, 3, 2, 1),
        (16, 256, 14, 512, 3, 2, 1),
        (16, 3, 224, 64, 7, 2, 3),
    ],
    "pointwise": [
        (8, 64, 56, 256, 1, 1, 0),
        (8, 256, 56, 64, 1, 1, 0),
        (8, 1024, 14, 256, 1, 1, 0),
        (8, 512, 7, 2048, 1, 1, 0),
        (16, 64, 56, 128, 1, 2, 0),
        (16, 256, 14, 512, 1, 2, 0),
    ],
    "odd": [
        (8, 2, 37, 17, 3, 1, 1),
        (1, 16, 33, 17, 3, 1, 1),
        (3, 17, 19, 33, 5, 1, 2),
        (1, 64, 13, 10, 3, 1, 1),
        (1, 256, 14, 256, 3, 1, 1),
    ],
}
PRODUCTS = ("forward", "grad_input", "grad_weight")


def ours(product: str, x: Any, weight: Any, grad_out: Any, stride: int, padding: int) -> Any:
    settings = (stride, stride), (padding,) * 4, (1, 1), 1
    if product == "forward":
        return kernels.conv2d_forward(x, weight, None, *settings)
    if product == "grad_input":
        return kernels.conv2d_grad_input(grad_out, weight, x.shape, *settings)
    return kernels.conv2d_grad_weight(grad_out, x, weight.shape, *settings)


def theirs(product: str, x: Any, weight: Any, grad_out: Any, stride: int, padding: int) -> Any:
    if product == "forward":
        return torch.nn.functional.conv2d(x, weight, None, stride, padding)
    wanted = [product == "grad_input", product == "grad_weight", False]
    return torch.ops.aten.convolution_backward(
        grad_out, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, wanted
    )[wanted.index(True)]


def check(got: np.ndarray, want: torch.Tensor, algorithm: str, told: str) -> None:
    """Refuse to print the speed of a wrong result."""
    allowed = 1e-5 * float(want.abs().max()) if algorithm == "winograd" else 0
    difference = float(np.abs(got - want.numpy()).max(initial=0))
    if difference > allowed:
        raise SystemExit(f"{told}: the results differ by {difference}")


def in_turns(contenders: dict[str, Callable[[], Any]], repeats: int, clock: Any) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats + 1):
        for name, run in contenders.items():
            start = clock()
            run()
            if turn:  # the first one warms up
                seconds[name].append(clock() - start)
    return seconds


def measure(shape: tuple[int, ...], product: str, asked: argparse.Namespace) -> list[float]:
    """Print one line; return our speed relative to torch's, for each algorithm."""
    N, C, H, F, K, stride, padding = shape
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.integers(-2, 3, (N, C, H, H)).astype("f"))
    weight = torch.from_numpy(rng.integers(-2, 3, (F, C, K, K)).astype("f"))
    x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
    grad_out = torch.randint(-2, 3, theirs("forward", x, weight, None, stride, padding).shape)
    grad_out = grad_out.float().contiguous(memory_format=torch.channels_last)
    rest = x, weight, grad_out, stride, padding
    mine = x.numpy(), np.ascontiguousarray(weight.numpy()), grad_out.numpy(), stride, padding
    case = Case(product, mine[0].dtype, x.shape, weight.shape, (stride,) * 2, (1, 1), 1)
    contenders: dict[str, Callable[[], Any]] = {}
    for algorithm in asked.algorithms:
        with conv_algorithm(algorithm):
            used = choose(case)
        name = algorithm if algorithm != "auto" else f"auto:{used}"
        contenders[name] = lambda algorithm=algorithm: forced(algorithm, product, mine)
        check(contenders[name](), theirs(product, *rest), used, f"{shape} {product} {name}")
    contenders["torch"] = lambda: theirs(product, *rest)
    clock = time.thread_time if asked.serial else time.perf_counter
    seconds = in_turns(contenders, asked.repeats, clock)
    flops = 2 * grad_out.numel() * C * K * K
    speed = {n: flops / statistics.median(s) / 1e9 for n, s in seconds.items()}
    best = {n: flops / min(s) / 1e9 for n, s in seconds.items()}
    told = "  ".join(f"{n} {speed[n]:4.0f} ({best[n]:4.0f})" for n in contenders)
    ratios = [speed[n] / speed["torch"] for n in contenders if n != "torch"]
    print(f"{shape!s:32} {product:11} {told}  x", *(f"{r:.2f}" for r in ratios), flush=True)
    return ratios


def forced(algorithm: str, product: str, arrays: Any) -> Any:
    with conv_algorithm(algorithm):
        return ours(product, *arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="*", default=list(GROUPS), help=", ".join(GROUPS))
    parser.add_argument("--algorithms", nargs="+", default=["auto"])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--serial", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1 if asked.serial else mg.get_num_threads())
    with kernels.serial_only() if asked.serial else contextlib.nullcontext():
        for group in asked.groups:
            run_group(group, asked)


def run_group(group: str, asked: argparse.Namespace) -> None:
    print(f"{group}: N, C, H, F, K, stride, padding; GFLOP/s at the median (best)")
    ratios = []
    for shape in GROUPS[group]:
        for product in PRODUCTS:
            if product != "grad_input" or shape[1] > 3:  # images need no gradient
                ratios.append(measure(shape, product, asked))
    means = np.exp(np.log(ratios).mean(axis=0))
    print("geometric mean of ratios:", *(f"{mean:.2f}" for mean in means), "\n")


if __name__ == "__main__":
    main()
