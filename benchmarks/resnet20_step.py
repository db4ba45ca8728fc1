"""Time of one training step of ResNet-20 on CIFAR-sized images: forward, backward, update.

python benchmarks/resnet20_step.py                 # minigrad, and torch where it is installed
python benchmarks/resnet20_step.py --batch-size 32 --threads 1 --profile
"""

import argparse
import cProfile
import importlib.util
import pstats
import statistics
import time
from collections.abc import Callable

import numpy as np


def minigrad_step(batch_size: int, threads: int, fused: bool) -> Callable[[], float]:
    import minigrad as mg
    from minigrad import models
    from minigrad.optim import SGD

    mg.set_num_threads(threads)
    model = models.build("resnet20", fused=fused)
    optimizer = SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    x, y = images(batch_size)

    def step() -> float:
        optimizer.zero_grad()
        loss = mg.cross_entropy(model(mg.Tensor(x)), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def torch_step(batch_size: int, threads: int, channels_last: bool) -> Callable[[], float]:
    """The same network in torch, option A written as its users write it."""
    import torch
    from torch import nn
    from torch.nn import functional as F  # noqa: N812 (the name everybody gives it)

    torch.set_num_threads(threads)

    class Block(nn.Module):
        def __init__(self, C: int, planes: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(C, planes, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(planes)
            self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(planes)
            self.grows, self.pad = planes != C, (planes - C) // 2

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
            if self.grows:
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
            return torch.relu(y + x)

    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    C = 16
    for planes in (16, 32, 64):
        for i in range(3):
            layers.append(Block(C, planes, 2 if i == 0 and planes > 16 else 1))
            C = planes
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    arrays = images(batch_size)
    x, y = torch.tensor(np.ascontiguousarray(arrays[0])), torch.tensor(arrays[1])
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)

    def step() -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def images(batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch_size, 32, 32, 3), np.float32).transpose(0, 3, 1, 2)
    return x, rng.integers(0, 10, batch_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=15, help="rounds; contenders take turns")
    parser.add_argument(
        "--profile", action="store_true", help="show where minigrad spends the time"
    )
    options = parser.parse_args()
    size, threads = options.batch_size, options.threads
    steps = {
        "minigrad, composed": minigrad_step(size, threads, fused=False),
        "minigrad, fused": minigrad_step(size, threads, fused=True),
    }
    if importlib.util.find_spec("torch"):
        steps["torch, default layout"] = torch_step(size, threads, channels_last=False)
        steps["torch, channels_last"] = torch_step(size, threads, channels_last=True)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for name, step in steps.items():
        start = time.perf_counter()
        step()
        print(f"first step, {name}: {time.perf_counter() - start:.2f} s")
    for round_ in range(options.repeat + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if round_ >= 2:  # the first two warm up
                times[name].append(1e3 * (time.perf_counter() - start))
    print(f"training step of ResNet-20, batch {size}, {threads} threads, ms")
    for name, values in times.items():
        q1, median, q3 = statistics.quantiles(values, n=4)
        print(f"  {name:22s} median {median:6.1f}  min {min(values):6.1f}  IQR {q1:.1f}-{q3:.1f}")
    if options.profile:
        profile = cProfile.Profile()
        profile.runcall(steps["minigrad, composed"])
        pstats.Stats(profile).sort_stats("tottime").print_stats(18)


if __name__ == "__main__":
    main()
