"""Where the time of a network goes: seconds in each kernel, and outside of all of them."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.bench.limits import Roofs
from minigrad.bench.products import Multiply, Product, measure_products, product_of

__all__ = ["measure_profile", "profile_lines"]

# Kernels with less than this part of the time are told together.
_SMALL = 0.01

_NOTHING: dict[str, Any] = {"calls": 0, "seconds": 0.0, "flops": 0, "bytes": 0, "moved": 0}

# How many of its first arguments a kernel reads twice.
_READ_TWICE = {
    "batch_norm_training": 1, "batch_norm_backward": 2, "batch_norm_relu_max_pool_training": 1,
    "batch_norm_relu_max_pool_backward": 3,
}  # fmt: skip


def measure_profile(
    call: Callable[[], Any], libraries: dict[str, Multiply], calls: int = 3
) -> dict[str, Any]:
    """Run a warm call some times and account for its time.

    Parameters
    ----------
    call : callable
    libraries : dict of str to callable
        Products of matrices, to be held against the kernels that make such products.
    calls : int

    Returns
    -------
    dict
        ``seconds`` of one call, ``outside``, those in no kernel, and for each kernel in
        ``kernels``, the longest first: ``calls``, ``seconds``, ``loops`` (seconds of each compiled
        loop; the rest of the kernel's time is Python's), ``flops`` as the definition asks for
        them, ``bytes`` of all its arrays, ``moved``, the same with what is read twice, and
        ``works``, for each amount of work apart ``calls``, ``seconds`` of all, ``flops``, ``bytes``
        and ``moved`` of one, and in ``alone`` what one takes that is a product of matrices, by
        minigrad and each library.
    """
    found: dict[str, dict[str, Any]] = {}
    telling = 0.0

    def tell(watched: Any) -> None:
        nonlocal telling
        start = time.perf_counter()
        mine = found.setdefault(watched.name, dict(_NOTHING, loops=Counter(), works={}))
        flops, nbytes = _flops(watched), _bytes((*watched.args, watched.result))
        moved = nbytes + _bytes(watched.args[: _READ_TWICE.get(watched.name, 0)])
        mine["calls"] += 1
        mine["seconds"] += watched.seconds
        mine["flops"] += flops
        mine["bytes"] += nbytes
        mine["moved"] += moved
        mine["loops"].update(watched.loops)
        work = flops, nbytes, moved, product_of(watched)
        mine["works"].setdefault(work, []).append(watched.seconds)
        telling += time.perf_counter() - start

    call()
    with kernels.watch_kernels(tell):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        seconds = time.perf_counter() - start - telling
    products = [work[-1] for mine in found.values() for work in mine["works"] if work[-1]]
    alone = measure_products(products, libraries)
    for mine in found.values():
        mine["calls"] //= calls
        for key in ("seconds", "flops", "bytes", "moved"):
            mine[key] /= calls
        mine["loops"] = {name: spent / calls for name, spent in mine["loops"].most_common()}
        mine["works"] = [_work(work, times, calls, alone) for work, times in mine["works"].items()]
    longest = sorted(found, key=lambda name: -found[name]["seconds"])
    inside = sum(mine["seconds"] for mine in found.values())
    return {
        "seconds": seconds / calls,
        "outside": seconds / calls - inside,
        "kernels": {name: found[name] for name in longest},
    }


def _work(
    work: tuple[Any, ...],
    times: list[float],
    calls: int,
    alone: dict[Product, dict[str, float]],
) -> dict[str, Any]:
    flops, nbytes, moved, product = work
    return {
        "calls": len(times) // calls,
        "seconds": sum(times) / calls,
        "flops": flops,
        "bytes": nbytes,
        "moved": moved,
        "alone": alone.get(product, {}),
    }


def _flops(watched: Any) -> int:
    """Of a convolution; other kernels are limited by memory, and count as 0."""
    args, result = watched.args, watched.result
    out_and_weight = {
        "conv2d_forward": lambda: (result, args[1]),
        "conv2d_grad_input": lambda: (args[0], args[1]),
        "conv2d_grad_weight": lambda: (args[0], result),
    }
    if watched.name not in out_and_weight:
        return 0
    out, weight = out_and_weight[watched.name]()
    return 2 * out.size * math.prod(weight.shape[1:])


def _bytes(values: Any) -> int:
    if isinstance(values, np.ndarray):
        return values.nbytes
    return sum(map(_bytes, values)) if isinstance(values, tuple | list) else 0


def profile_lines(profile: dict[str, Any], roofs: Roofs) -> Iterator[str]:
    """The account as text, with the part of the roofs that each kernel reaches."""
    whole, small = profile["seconds"], 0.0
    yield f"  of minigrad's {1e3 * whole:.1f} ms a call:"
    for name, mine in profile["kernels"].items():
        if mine["seconds"] < _SMALL * whole:
            small += mine["seconds"]
            continue
        told = f"{name}, {mine['calls']} calls{_rates(mine, roofs)}"
        yield f"    {_share(mine['seconds'], whole)}  {told}"
        loops = {loop: spent for loop, spent in mine["loops"].items() if spent > _SMALL * whole}
        if len(mine["loops"]) > 1 and loops:
            told = ", ".join(f"{n.strip('_')} {1e3 * s:.1f} ms" for n, s in loops.items())
            yield f"{'':22s}in {told}"
    if small:
        yield f"    {_share(small, whole)}  other kernels"
    yield f"    {_share(profile['outside'], whole)}  outside kernels"
    yield from _products_lines(profile)


def _products_lines(profile: dict[str, Any]) -> Iterator[str]:
    """What products of matrices take, and what they take elsewhere."""
    works = [work for mine in profile["kernels"].values() for work in mine["works"]]
    products = [work for work in works if work["alone"]]
    if products:
        calls, seconds = (sum(work[key] for work in products) for key in ("calls", "seconds"))
        elsewhere: Counter[str] = Counter()
        for work in products:
            for library, spent in work["alone"].items():
                elsewhere[library] += work["calls"] * spent
        told = ", ".join(f"{1e3 * spent:.1f} ms by {name}" for name, spent in elsewhere.items())
        yield (
            f"  {calls} of its calls are products of matrices: {1e3 * seconds:.1f} ms; each alone, "
            f"with matrices from memory, {told}"
        )


def _share(seconds: float, whole: float) -> str:
    return f"{1e3 * seconds:8.1f} ms {seconds / whole:4.0%}"


def _rates(mine: dict[str, Any], roofs: Roofs) -> str:
    if mine["flops"]:
        rate = mine["flops"] / mine["seconds"]
        return f", {rate / 1e9:.0f} GFLOP/s, {rate / roofs.flops:.0%} of peak"
    rate = mine["moved"] / mine["seconds"]
    copy = roofs.bandwidth(mine["bytes"] // max(1, mine["calls"]))
    return f", {rate / 1e9:.1f} GB/s, {rate / copy:.0%} of copy"
