"""How good the choice between winograd and direct is, on shapes its costs were not fitted to.

    python benchmarks/choice.py                      # 40 shapes drawn by chance, 3 products each
    python benchmarks/choice.py --seed 1 --all

The costs in minigrad/kernels/conv_choice.py were fitted to the forward products of some thousand
shapes, drawn as here and others with few rows or few filters. Here come 3 x 3 convolutions of any
width, size and batch, by other seeds. The two algorithms take turns; a choice costs the time of the
chosen one over that of the faster one. Differences below 5 % count as even.
"""

import argparse
import math
import sys

import numpy as np

from minigrad import kernels
from minigrad.bench.case import normal
from minigrad.bench.conv_cases import PRODUCTS, algorithms_case
from minigrad.bench.shapes import Conv
from minigrad.bench.statistics import geometric_mean
from minigrad.bench.timing import interleave

_EVEN = 1.05
_ROUNDS = 9
_LEAST_FLOPS, _MOST_FLOPS = 2e6, 4e9


def drawn(rng: np.random.Generator) -> Conv:
    """Draw a shape whose work is neither nothing nor too much to wait for."""
    while True:
        N = int(2 ** rng.integers(0, 8))
        C, F = (round(2 ** rng.uniform(3, 9.2)) for _ in range(2))
        if rng.random() < 0.5:  # half of them as networks are, the others anything
            C, F = (max(16, 16 * round(size / 16)) for size in (C, F))
        H, W = (round(2 ** rng.uniform(2, 6.5)) for _ in range(2))
        conv = Conv(N, C, H, W, F, 3, 3, padding=(1, 1))
        if _LEAST_FLOPS <= conv.flops <= _MOST_FLOPS:
            return conv


def measured(product: str, conv: Conv) -> tuple[str, float, float]:
    """Return the algorithm chosen, and the seconds of direct and of winograd."""
    case = algorithms_case(f"{product}_algorithms", str(conv))
    contenders = case.work(normal).contenders
    both = {name: contenders[f"minigrad {name}"] for name in ("direct", "winograd")}
    times = interleave(both, 0.0, _ROUNDS)
    return case.algorithm, times["direct"].median, times["winograd"].median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="print right choices, too")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    costs: dict[str, list[float]] = {product: [] for product in PRODUCTS}
    print(f"{kernels.get_num_threads()} threads; ms of direct, of winograd, what the choice costs")
    for _ in range(options.shapes):
        conv = drawn(rng)
        for product in PRODUCTS:
            chosen, direct, winograd = measured(product, conv)
            cost = (direct if chosen == "direct" else winograd) / min(direct, winograd)
            costs[product].append(cost)
            if options.all or cost > _EVEN:
                name = f"{product}:{conv}"
                print(f"{name:52} {1e3 * direct:8.3f} {1e3 * winograd:8.3f}  {chosen} x{cost:.2f}")
                sys.stdout.flush()
    for product, found in costs.items():
        wrong = sum(cost > _EVEN for cost in found)
        print(
            f"{product}: wrong in {wrong} of {len(found)}, costs {geometric_mean(found):.3f} times "
            f"the best on average, at worst {max(found):.2f}"
        )
    whole = [math.log(cost) for found in costs.values() for cost in found]
    print(f"all: {math.exp(sum(whole) / len(whole)):.3f} times the best")


if __name__ == "__main__":
    main()
