"""The figures of the gradient checker, each beside how it is measured.

python benchmarks/gradcheck_figures.py
"""

import statistics
import time
import tracemalloc

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
    tracemalloc.start()
    loss = model.double()(mg.Tensor(x.astype(np.float64)))
    graph = tracemalloc.get_traced_memory()[0]
    del loss
    tracemalloc.reset_peak()
    mg.gradcheck(model, x, mode="whole+blame")
    peak = tracemalloc.get_traced_memory()[1]
    print(f"memory: {peak / 1e6:.0f} MB at most, the graph alone {graph / 1e6:.0f} MB")


if __name__ == "__main__":
    one_in_a_million(20)
    residual_unit()
    network()
