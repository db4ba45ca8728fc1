"""False alarms of gradcheck: Hypothesis draws cases over all operations, none of them wrong.

    python benchmarks/campaign.py --cases 10000 | tee benchmarks/results/campaign.log

Inputs have ties, exact and negative zeros, broadcast shapes, permuted, reversed and read-only
memory, images any window and groups; every case has its own cotangent and direction. Half of them
also check each call by itself, with its kinks (``whole+blame``). A "wrong" is a false alarm; an
"inconclusive" is counted apart.
"""

import argparse
import collections
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.check.samples import call, inputs_of, samples_of
from minigrad.ops import Op, Sample, registry
from minigrad.testing import strategies

Case = tuple[str, Callable[..., Any], list[np.ndarray]]
# Where their inputs have to stay inside a domain, ties would leave it: only the layout is drawn.
_DOMAIN = ("log", "sqrt", "pow", "div", "binary_cross_entropy_with_logits", "cross_entropy")


def on_sample(op: Op, sample: Sample) -> Any:
    """The operation on inputs of a sample's shapes, with ties where it can take them."""
    arrays = inputs_of(sample)

    def again(a: np.ndarray) -> Any:
        return strategies.layouts(a) if op.name in _DOMAIN else strategies.arrays(a.shape)

    drawn = st.tuples(*[again(a) for a in arrays]) if arrays else st.nothing()
    return drawn.map(lambda xs: (op.name, lambda *t: tuple(call(op, sample, t)), list(xs)))


def own_shapes() -> list[Any]:
    """Shapes of their own for those that take any."""
    ones = (mg.relu, mg.abs, mg.exp, mg.tanh, mg.sigmoid, mg.softplus, mg.sum, mg.max, mg.min)
    twos = (mg.add, mg.sub, mg.mul, mg.maximum, mg.minimum)

    def one(f: Any) -> Any:
        return strategies.arrays().map(lambda x: (f.__name__, f, [x]))

    def two(f: Any) -> Any:
        return strategies.broadcastable().map(lambda p: (f.__name__, f, list(p)))

    def pooled(pool: Any, dilated: bool) -> Any:
        return strategies.windows(dilated=dilated).flatmap(
            lambda w: strategies.arrays(w[0]).map(
                lambda x: (pool.__name__, lambda x: pool(x, **w[1]), [x])
            )
        )

    def convolved(drawn: Any) -> Case:
        *arrays, options = drawn
        given = [a for a in arrays if a is not None]
        return "conv2d", lambda *t: mg.conv2d(*t, **options), given

    images = [pooled(mg.max_pool2d, True), pooled(mg.avg_pool2d, False)]
    return [*map(one, ones), *map(two, twos), *images, strategies.convolutions().map(convolved)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cases = own_shapes() + [
        on_sample(op, sample)
        for op in registry.values()
        if op.differentiable
        for sample in samples_of(op)
        if inputs_of(sample)
    ]
    kinds: collections.Counter[str] = collections.Counter()
    by_op: collections.Counter[str] = collections.Counter()
    alarms: list[str] = []

    @seed(options.seed)
    @settings(
        max_examples=options.cases, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(
        st.integers(0, len(cases) - 1).flatmap(lambda i: cases[i]),
        st.integers(0, 2**31),
        st.sampled_from(["directional", "whole+blame"]),
    )
    def check(case: Case, number: int, mode: str) -> None:
        name, f, inputs = case
        report = mg.gradcheck(f, *inputs, mode=mode, seed=number, raise_exception=False)
        kind = "right" if report.ok else "wrong" if report.wrong else "inconclusive"
        kinds[kind] += 1
        by_op[name] += 1
        if kind != "right":
            shapes = [x.shape for x in inputs]
            alarms.append(f"{kind}: {name} {shapes} seed {number}\n{report.message()}")

    begin = time.perf_counter()
    check()
    for name, count in sorted(by_op.items()):
        print(f"{count:6d}  {name}")
    print(f"cases of {len(by_op)} operations: {sum(kinds.values())}, seed {options.seed}")
    print(f"right {kinds['right']}, wrong {kinds['wrong']}, inconclusive {kinds['inconclusive']}")
    print(f"false alarms: {kinds['wrong']}; {time.perf_counter() - begin:.0f} s")
    print("\n".join(alarms))


if __name__ == "__main__":
    main()
