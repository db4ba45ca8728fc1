"""Writes golden/steps.json with torch: ``python tests/optim/make_golden.py``.

Each case is an optimiser with its settings, making a few steps on two parameters with gradients
drawn beforehand. The learning rate changes from step to step, and the second parameter has no
gradient at the second step, so that its count of steps falls behind.
"""

import json
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parent / "golden" / "steps.json"
STEPS = 5
SHAPES = [(2, 3), (4,)]

CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": [0.8, 0.95], "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01, "amsgrad": True}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "betas": [0.8, 0.95], "weight_decay": 0.5, "amsgrad": True}),
    ("RMSprop", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.01, "momentum": 0.9}),
    ("RMSprop", {"lr": 0.01, "centered": True, "momentum": 0.5, "weight_decay": 0.1}),
]


def drawn(dtype):
    """Parameters, and gradients of a few orders of magnitude, as lists of lists."""
    rng = np.random.default_rng(0)
    params = [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]
    grads = [
        [(rng.standard_normal(s) * 10 ** rng.uniform(-3, 1, s)).astype(dtype) for s in SHAPES]
        for _ in range(STEPS)
    ]
    grads[1][1] = None
    return params, grads


def steps(name, settings, params, grads):
    """The parameters after each step."""
    leaves = [torch.nn.Parameter(torch.tensor(param)) for param in params]
    optimizer = getattr(torch.optim, name)(leaves, foreach=False, **settings)
    result = []
    for k, pair in enumerate(grads):
        optimizer.param_groups[0]["lr"] = settings["lr"] * 0.9**k
        for leaf, grad in zip(leaves, pair, strict=True):
            leaf.grad = None if grad is None else torch.tensor(grad)
        optimizer.step()
        result.append([leaf.detach().numpy().tolist() for leaf in leaves])
    return result


def main():
    golden = {"torch": torch.__version__}
    for dtype in ("float32", "float64"):
        params, grads = drawn(dtype)
        golden[dtype] = {
            "params": [param.tolist() for param in params],
            "grads": [[None if g is None else g.tolist() for g in pair] for pair in grads],
            "cases": [
                {"optimizer": name, "settings": s, "steps": steps(name, s, params, grads)}
                for name, s in CASES
            ],
        }
    rows = [json.dumps(golden[dtype]["cases"]) for dtype in ("float32", "float64")]
    assert all("NaN" not in row for row in rows)
    GOLDEN.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
