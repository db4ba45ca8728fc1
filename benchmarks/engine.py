"""What the engine itself costs: microseconds a node of a scalar multiply chain, there and back.

python benchmarks/engine.py            # minigrad, and torch beside it where it is installed
python benchmarks/engine.py --nodes 50000
"""

import argparse
import gc
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any


def chain(leaf: Callable[[], Any], nodes: int) -> float:
    """Seconds a node, forward and backward together, for y = x * c * c * ..."""
    start = time.perf_counter()
    y = leaf()
    for _ in range(nodes):
        y = y * 1.0001
    y.backward()
    return (time.perf_counter() - start) / nodes


def contenders() -> dict[str, Callable[[], Any]]:
    import minigrad as mg

    found: dict[str, Callable[[], Any]] = {"minigrad": lambda: mg.tensor(1.0, requires_grad=True)}
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(1)
        found["torch"] = lambda: torch.tensor(1.0, requires_grad=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=10_000, help="length of the chain")
    parser.add_argument("--repeat", type=int, default=15, help="rounds; contenders take turns")
    options = parser.parse_args()
    leaves = contenders()
    # Python's collector would walk over torch's modules for minigrad's sake, and bill minigrad.
    gc.collect()
    gc.freeze()
    times: dict[str, list[float]] = {name: [] for name in leaves}
    for round_ in range(options.repeat + 2):
        for name, leaf in leaves.items():
            seconds = chain(leaf, options.nodes)
            if round_ >= 2:  # the first two warm up
                times[name].append(seconds * 1e6)
    print(f"scalar multiply chain of {options.nodes} nodes, forward + backward, us a node")
    for name, values in times.items():
        print(f"  {name:9s} median {statistics.median(values):6.2f}  min {min(values):6.2f}")
    if "torch" in times:
        ratios = [a / b for a, b in zip(times["minigrad"], times["torch"], strict=True)]
        print(f"  minigrad / torch, median of the rounds: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
