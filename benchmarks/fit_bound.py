"""Fit the constants of the bound in minigrad/check/slope.py on every operation's samples.

    python benchmarks/fit_bound.py

For many directions it takes error / bound with the rounding constant at 1 and the truncation
constant at 1, and prints which rounding constant would have covered which share of the cases.
"""

import argparse

import numpy as np

from minigrad.check import slope
from minigrad.check.catalog import sample_problem
from minigrad.check.directional import Trial
from minigrad.check.samples import inputs_of, samples_of
from minigrad.ops import registry

_IN_USE = slope.ROUNDING


def needed(directions: int) -> np.ndarray:
    """For each case, the rounding constant that would just have covered its error."""
    found = []
    for op in registry.values():
        for sample in samples_of(op) if op.differentiable else []:
            if not inputs_of(sample):
                continue
            trial = Trial(sample_problem(op, sample), np.random.default_rng(0))
            for _ in range(directions):
                direction = trial.direction()
                slope.ROUNDING, slope.TRUNCATION = 0.0, 1.0
                analytic, moved, _ = trial.compare(direction, steps=slope.STEPS[:1])
                change = moved.bound
                slope.ROUNDING, slope.TRUNCATION = 1.0, 0.0
                unit = trial.compare(direction, steps=slope.STEPS[:1])[1].bound
                excess = max(0.0, abs(analytic - moved.value) - change)
                found.append(excess / unit if excess else 0.0)
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directions", type=int, default=20, help="for each sample")
    constants = needed(parser.parse_args().directions)
    print(f"{len(constants)} cases")
    for c in (0.1, 0.3, 1, 3, 10, 30):
        print(f"constant {c:5.1f}: covers {np.mean(constants <= c):.4%}")
    print(f"largest needed: {constants.max():.2f}; in use: {_IN_USE:.0f}")


if __name__ == "__main__":
    main()
