"""The figures of the gradient checker, each beside how it is measured.

python benchmarks/gradcheck_figures.py
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import minigrad as mg
from minigrad import models, nn
from minigrad.check.directional import Trial, backward_verdict
from minigrad.check.problem import problem_of


class Cube(mg.Function):
    """x**3, with one entry of the gradient wrong by a factor."""

    @staticmethod
    def forward(ctx, x, *, factor):
        ctx.save(x)
        ctx.factor = factor
        return x**3

    @staticmethod
    def backward(ctx, grad_out):
        (x,) = ctx.saved
        grad_x = 3 * x**2 * grad_out
        grad_x.flat[grad_x.size // 3] *= ctx.factor
        return grad_x


def one_in_a_million(trials: int) -> None:
    x = np.random.default_rng(0).uniform(0.5, 1.5, 1_000_000)
    for factor in (1.00001, 1.0):
        problem = problem_of(lambda x, f=factor: Cube.apply(x, factor=f), [x])
        kinds = [
            backward_verdict(Trial(problem, np.random.default_rng(i))).kind for i in range(trials)
        ]
        print(f"one entry of 1,000,000 times {factor}: wrong in {kinds.count('wrong')} of {trials}")


def residual_unit() -> None:
    mg.manual_seed(0)
    for fused in (False, True):
        unit = nn.BasicBlock(4, 4, fused=fused).double()
        x = np.random.default_rng(0).standard_normal((2, 4, 8, 8))
        mg.gradcheck(unit, x)
        times = []
        for seed in range(20):
            begin = time.perf_counter()
            mg.gradcheck(unit, x, seed=seed)
            times.append(time.perf_counter() - begin)
        form = "fused" if fused else "composed"
        print(f"residual unit, {form}, directional, warm: {1e3 * statistics.median(times):.1f} ms")


def network() -> None:
    mg.manual_seed(0)
    model = models.build("resnet20")
    x = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    mg.gradcheck(model, x, mode="whole+blame")
    begin = time.perf_counter()
    report = mg.gradcheck(model, x, mode="whole+blame")
    seconds = time.perf_counter() - begin
    print(f"ResNet-20, batch 4, whole + blame: {seconds:.1f} s, {len(report.verdicts)} verdicts")
    memory(model.double(), x.astype(np.float64))


def memory(model: nn.Module, x: np.ndarray) -> None:
    """Peak of the process in a check, beside that of one training step and one full Jacobian."""

    def step() -> int:
        y = model(mg.Tensor(x))
        y.backward(np.ones(y.shape))
        return y.size

    outputs = step()
    inputs = x.size + sum(p.size for p in model.parameters())
    print(f"memory, forward and backward: {peak(step):.0f} MB at most")
    for mode in ("directional", "whole+blame"):
        most = peak(lambda mode=mode: mg.gradcheck(model, x, mode=mode))
        print(
            f"memory, {mode}: {most:.0f} MB at most; one Jacobian {8e-6 * inputs * outputs:.0f} MB"
        )


def peak(function: Callable[[], object]) -> float:
    """By how many MB the process grows at most (Linux); tracemalloc does not see every array."""
    mg.release_memory()  # arrays kept from before would be used again
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    function()
    return (resident("VmHWM") - before) / 1e3


def resident(key: str) -> int:
    """One of the process's sizes in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


if __name__ == "__main__":
    one_in_a_million(20)
    residual_unit()
    network()
