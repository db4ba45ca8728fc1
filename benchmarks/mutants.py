"""Plant bugs in every backward and see who notices: minigrad's checker and four others.

    python benchmarks/mutants.py            runs all of it, writes the JSON, then docs/mutants.md
    python benchmarks/mutants.py --write    only writes docs/mutants.md from the kept JSON

Each bug sits in one operation in the middle of a chain of others. minigrad has to notice it and to
rank that operation first. The others see the same function and the same wrong backward: torch's
gradcheck, fast and slow, through a shim operation, at its defaults; the check of JAX's test_util
(one tangent and one cotangent, step 1e-4, tolerances of 1e-5); and the Taylor rate (remainders at
four halvings of 0.01, at least of order 1.9). Without torch its columns are empty.
"""

import argparse
import itertools
import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.check.catalog import sample_problem
from minigrad.check.directional import Trial
from minigrad.check.gradcheck import check_problem
from minigrad.check.mutants import Mutant, mutants_of, planted
from minigrad.check.problem import Problem, inner
from minigrad.check.samples import call, inputs_of, samples_of
from minigrad.ops import Op, Sample, registry
from minigrad.ops.residual import (
    convolution_path_backward,
    identity_path_backward,
    path_backward,
)

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "benchmarks" / "results" / "mutants.json"
PAGE = ROOT / "docs" / "mutants.md"
RIVALS = ("torch fast", "torch slow", "jax style", "taylor rate")


# More bugs than the battery's: those of convolutions, normalisation and residual junctions.


def _changed(which: int, change: Callable[[np.ndarray], np.ndarray | None]) -> Any:
    def wrong(backward: Any, ctx: Any, grad_outs: tuple) -> list | None:
        result = backward(ctx, *grad_outs)
        grads = list(result if isinstance(result, tuple) else (result,))
        if which >= len(grads) or grads[which] is None:
            return None
        new = change(np.array(grads[which]))
        if new is None:
            return None
        grads[which] = new
        return [None if g is None else np.asarray(g) for g in grads]

    return wrong


def _rolled(axis: int) -> Callable[[np.ndarray], np.ndarray | None]:
    return lambda g: np.roll(g, 1, axis) if g.ndim == 4 else None


def _channel(g: np.ndarray) -> np.ndarray | None:
    if g.ndim < 3 or g.shape[1] < 2:
        return None
    g[:, 1] *= -1
    return g


def _centred(g: np.ndarray) -> np.ndarray | None:
    axes = (0, *range(2, g.ndim))
    return g + 0.1 * np.abs(g).mean(axis=axes, keepdims=True) if g.ndim == 4 else None


def _no_variance(backward: Any, ctx: Any, grad_outs: tuple) -> list | None:
    """Batch norm: mean and variance taken as constants, or the variance alone."""
    grads = list(backward(ctx, *grad_outs))
    if grads[0] is None or not ctx.training:
        return None
    x, weight, _, inv_std = ctx.saved
    shape = (1, -1) + (1,) * (x.ndim - 2)
    axes = (0, *range(2, x.ndim))
    scale = (inv_std if weight is None else weight * inv_std).reshape(shape)
    grads[0] = scale * (grad_outs[0] - grad_outs[0].mean(axis=axes, keepdims=True))
    return grads


def _path(path: Any, factor: float) -> Any:
    """Residual unit: a path's share of grad_x dropped or doubled."""

    def wrong(backward: Any, ctx: Any, grad_outs: tuple) -> list | None:
        grads = list(backward(ctx, *grad_outs))
        grad_sum, _ = path_backward(ctx.activation, grad_outs[0])
        grads[0] = grads[0] + (factor - 1) * path(ctx, grad_sum)[0]
        return grads

    return wrong


SPECIAL = {
    "conv2d": ["shift", "channel"],
    "conv_transpose2d": ["shift", "channel"],
    "max_pool2d": ["shift", "channel"],
    "avg_pool2d": ["shift", "channel"],
    "batch_norm": ["channel", "mean", "variance"],
    "residual": ["channel", "paths"],
    "upsample": ["shift", "channel"],
}
KINDS = {
    "shift": [
        Mutant("grad_x shifted by one row", _changed(0, _rolled(2))),
        Mutant("grad_x shifted by one column", _changed(0, _rolled(3))),
        Mutant("weight gradient shifted by one row", _changed(1, _rolled(2))),
    ],
    "channel": [Mutant("one channel's sign flipped", _changed(0, _channel))],
    "mean": [Mutant("a constant added to each channel", _changed(0, _centred))],
    "variance": [Mutant("variance term dropped", _no_variance)],
    "paths": [
        Mutant("identity path dropped", _path(identity_path_backward, 0)),
        Mutant("identity path doubled", _path(identity_path_backward, 2)),
        Mutant("convolution path dropped", _path(convolution_path_backward, 0)),
        Mutant("convolution path doubled", _path(convolution_path_backward, 2)),
    ],
}


def bugs_of(op: Op) -> list[Mutant]:
    return mutants_of(op) + [m for kind in SPECIAL.get(op.name, []) for m in KINDS[kind]]


class Before(mg.Function):
    """y = x: the chain's own, for a bug planted in mul or tanh must not stand in it three times.

    A sign flipped twice is right, and nobody can find it.
    """

    @staticmethod
    def forward(ctx: Any, x: np.ndarray) -> np.ndarray:
        return x.copy()

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> np.ndarray:
        return grad_out


class Behind(mg.Function):
    """y = tanh(x / 2), the chain's own."""

    @staticmethod
    def forward(ctx: Any, x: np.ndarray) -> np.ndarray:
        y = np.tanh(0.5 * x)
        ctx.save(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad_out: np.ndarray) -> np.ndarray:
        (y,) = ctx.saved
        return 0.5 * grad_out * (1 - y * y)


def chain(op: Op, sample: Sample) -> Problem:
    """The operation between two others: its inputs come from one and its outputs go to one."""
    alone = sample_problem(op, sample)

    def run(*leaves: Any) -> Any:
        outs = call(op, sample, [Before.apply(x) for x in leaves])
        return tuple(Behind.apply(y) if y.dtype.kind == "f" else y for y in outs)

    return Problem(f"chain with {op.name}", run, alone.inputs, alone.names)


# The others. Each says True where it finds nothing wrong.


def jax_style(problem: Problem, rng: np.random.Generator) -> bool:
    u = [np.asarray(rng.standard_normal(x.shape)) for x in problem.inputs]
    w = [np.asarray(rng.standard_normal(y.shape)) * (y.dtype.kind == "f") for y in problem.outputs]
    f = problem.moved(u, frozen=False)
    numeric = inner(w, [(a - b) / 1e-4 for a, b in zip(f(5e-5), f(-5e-5), strict=True)])
    return bool(np.isclose(inner(problem.gradient(w), u), numeric, rtol=1e-5, atol=1e-5))


def taylor_rate(problem: Problem, rng: np.random.Generator) -> bool:
    u = [np.asarray(rng.standard_normal(x.shape)) for x in problem.inputs]
    w = [np.asarray(rng.standard_normal(y.shape)) * (y.dtype.kind == "f") for y in problem.outputs]
    f = problem.moved(u, frozen=False)
    base, slope = inner(w, f(0.0)), inner(problem.gradient(w), u)
    steps = [0.01 / 2**k for k in range(4)]
    left = [abs(inner(w, f(h)) - base - h * slope) for h in steps]
    if max(left) < 1e-14:
        return True
    rates = [np.log2(a / b) if b else np.inf for a, b in itertools.pairwise(left)]
    return bool(min(rates) > 1.9)


def torch_check(fast: bool) -> Callable[[Problem, np.random.Generator], bool] | None:
    try:
        import torch
    except ImportError:
        return None

    def check(problem: Problem, rng: np.random.Generator) -> bool:
        floating = [y.dtype.kind == "f" for y in problem.outputs]

        class Shim(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *inputs: Any) -> Any:
                outs = problem.forward([x.detach().numpy().copy() for x in inputs], frozen=False)
                kept = [np.array(y) for y, keep in zip(outs, floating, strict=True) if keep]
                return tuple(torch.from_numpy(y) for y in kept)

            @staticmethod
            def backward(ctx: Any, *grad_outs: Any) -> Any:
                queue = iter(grad_outs)
                w = [
                    next(queue).detach().numpy().copy() if keep else np.zeros(y.shape)
                    for keep, y in zip(floating, problem.outputs, strict=True)
                ]
                return tuple(torch.from_numpy(g) for g in problem.gradient(w))

        torch.manual_seed(int(rng.integers(1 << 30)))
        inputs = [torch.from_numpy(x.copy()).requires_grad_() for x in problem.inputs]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.autograd.gradcheck(
                Shim.apply, inputs, fast_mode=fast, raise_exception=False, nondet_tol=0.0
            )

    return check


def rivals() -> dict[str, Callable[[Problem, np.random.Generator], bool] | None]:
    return {
        "torch fast": torch_check(True),
        "torch slow": torch_check(False),
        "jax style": jax_style,
        "taylor rate": taylor_rate,
    }


def rows() -> Iterator[tuple[Op, Mutant | None, Sample]]:
    """Each operation right, then with each bug, on its smallest sample where the bug shows."""
    for op in registry.values():
        if not op.differentiable or op.function is None:
            continue
        samples = [s for s in samples_of(op) if all(x.size for x in inputs_of(s)) and inputs_of(s)]
        samples.sort(key=lambda s: sum(x.size for x in inputs_of(s)))
        yield op, None, samples[len(samples) // 2]
        for bug in bugs_of(op):
            for sample in samples:
                problem = chain(op, sample)
                with planted(op.function, bug) as trace:
                    Trial(problem, np.random.default_rng(0))
                if trace.changed:
                    yield op, bug, sample
                    break


def one(op: Op, bug: Mutant | None, sample: Sample, others: dict) -> dict[str, Any]:
    nothing = Mutant("none", lambda backward, ctx, grad_outs: None)
    assert op.function is not None
    begin = time.perf_counter()
    with planted(op.function, bug or nothing), np.errstate(all="ignore"):
        report = check_problem(chain(op, sample))
        row: dict[str, Any] = {
            "family": op.public.__module__.rpartition(".")[2],
            "op": op.name,
            "bug": bug.name if bug else None,
            "minigrad": report.wrong,
            "inconclusive": not report.ok and not report.wrong,
            "first": report.worst.where == op.name if report.wrong else None,
            "guess": report.worst.guess if report.wrong else "",
            "lines": len(report.message().splitlines()),
            "seconds": round(time.perf_counter() - begin, 4),
        }
        for name, check in others.items():
            rng = np.random.default_rng(0)
            row[name] = None if check is None else not check(chain(op, sample), rng)
    return row


def run() -> None:
    others = rivals()
    found = []
    for op, bug, sample in rows():
        found.append(one(op, bug, sample, others))
        if bug is None:
            print(op.name, flush=True)
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text("[\n" + ",\n".join(json.dumps(row) for row in found) + "\n]\n")


def _share(rows: list[dict], name: str) -> str:
    told = [row[name] for row in rows if row[name] is not None]
    return f"{sum(told)} of {len(told)}" if told else "not run"


def page(table: list[dict]) -> str:
    """The document: all counts and cells are those of the kept run."""
    wrong = [row for row in table if row["bug"]]
    right = [row for row in table if not row["bug"]]
    names = ["minigrad", *RIVALS]
    lines = [
        "# Planted bugs, and who finds them",
        "",
        "Made by `python benchmarks/mutants.py`; the numbers of the run are kept in",
        "`benchmarks/results/mutants.json`. A bug is planted in the backward of one operation,",
        "which stands between two others. Every checker sees the same function and the same wrong",
        "backward, at its defaults, once:",
        "",
        "- minigrad: `gradcheck`, which also has to rank the wrong operation first;",
        "- torch fast, torch slow: `torch.autograd.gradcheck` through a shim operation;",
        "- jax style: one tangent and one cotangent, step 1e-4, tolerances 1e-5, as in its tests;",
        "- taylor rate: remainders at four halvings of 0.01 have to fall with order 1.9 at least.",
        "",
        "| | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
        "| bugs found | " + " | ".join(_share(wrong, n) for n in names) + " |",
        "| alarms without a bug | " + " | ".join(_share(right, n) for n in names) + " |",
        "| wrong operation ranked first | " + _share(wrong, "first") + " |" + " - |" * len(RIVALS),
        "",
        f"Longest message: {max(row['lines'] for row in table)} lines. Median time of one check, "
        f"with the search for the entry: {np.median([r['seconds'] for r in wrong]):.3f} s.",
        "",
        "## By family",
        "",
        "| family | bugs | " + " | ".join(names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for family in sorted({row["family"] for row in wrong}):
        own = [row for row in wrong if row["family"] == family]
        counts = " | ".join(_share(own, n).partition(" of")[0] for n in names)
        lines.append(f"| {family} | {len(own)} | {counts} |")
    lines += ["", "## All of them", "", "x: found. o: not found. The guess is minigrad's.", ""]
    lines += ["| operation | bug | " + " | ".join(names) + " | guess |"]
    lines += ["|---|---|" + "---|" * len(names) + "---|"]
    for row in wrong:
        cells = " | ".join({True: "x", False: "o", None: ""}[row[n]] for n in names)
        lines.append(f"| {row['op']} | {row['bug']} | {cells} | {row['guess']} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="only write the document")
    if not parser.parse_args().write:
        run()
    PAGE.write_text(page(json.loads(KEPT.read_text())))


if __name__ == "__main__":
    main()
