"""Are the gradients of a whole network right, on real images? Asked before it is trained.

The witness is the complex step through the naive twins: it differentiates the very loss that is
trained on, branches of ReLU and max-pool frozen where the images put them, exact to rounding, and
shares no line with the kernels or the backward code it judges.
"""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.core.mode import complex_step, no_grad
from minigrad.core.rng import generator
from minigrad.core.tensor import Tensor
from minigrad.nn.module import Module
from minigrad.ops import cross_entropy

__all__ = ["NetworkVerdict", "check_network"]

_STEP = 1e-20
# Rounding of a sum of products through a deep network, relative to the sum of their absolute
# values. Right gradients come out near 1e-14; one entry in a million wrong by 1 % does not.
_TOLERANCE = 1e-10
_NOISE = 1e-6  # a gradient so much shorter than the longest is judged by that length


@dataclass(frozen=True)
class NetworkVerdict:
    """What a check of a network's gradients found.

    Attributes
    ----------
    ok : bool
        Whether the formula is right: ``error <= 1e-10``.
    error : float
        Difference between the two slopes along a random direction through all parameters,
        relative to the sum of the absolute values of the terms of the slope.
    backward_slope, witness_slope : float
        By the backward pass with the fast kernels, and by the complex step through the twins.
    suspects : list of (str, float)
        If not ok: parameters whose own slope disagrees, with the error, worst first.
    rounding : list of (str, float)
        Relative distance of each float32 gradient from its float64 shadow, worst first.
    images : int
        Images in the mini-batch.
    parameters : int
        Entries of all parameters.
    """

    ok: bool
    error: float
    backward_slope: float
    witness_slope: float
    suspects: list[tuple[str, float]]
    rounding: list[tuple[str, float]]
    images: int
    parameters: int

    def __str__(self) -> str:
        worst, size = self.rounding[0]
        head = (
            f"gradients of {self.parameters:,} parameters on {self.images} images: "
            f"{'RIGHT' if self.ok else 'WRONG'}\n"
            f"  slope by backward      {self.backward_slope: .15e}\n"
            f"  slope by complex step  {self.witness_slope: .15e}   error {self.error:.1e}\n"
            f"  float32 rounding: at most {size:.1e} of the gradient's norm ({worst})"
        )
        return head + "".join(
            f"\n  suspect: {name}, error {e:.1e}" for name, e in self.suspects[:8]
        )


def check_network(model: Module, x: np.ndarray, y: np.ndarray, seed: int = 0) -> NetworkVerdict:
    """Check the gradient of the cross-entropy of ``model`` on images ``x`` with labels ``y``.

    The model is copied and stays as it is, running statistics and random generator included. Runs
    in the mode the model is in; training mode checks batch statistics too.

    Parameters
    ----------
    model : Module
        From (N, C, H, W) to logits.
    x : ndarray of shape (N, C, H, W)
        A few real images; cost grows with their number.
    y : ndarray of int, shape (N,)
    seed : int
        Of the random direction.

    Returns
    -------
    NetworkVerdict
    """
    state = generator().bit_generator.state
    try:
        return _check(model, x, y, seed, state)
    finally:
        generator().bit_generator.state = state


def _check(model: Module, x: np.ndarray, y: np.ndarray, seed: int, state: Any) -> NetworkVerdict:
    x64 = x.astype(np.float64)
    shadow = copy.deepcopy(model).double()
    single = _gradients(copy.deepcopy(model).float(), x.astype(np.float32), y, state)
    grads = _gradients(copy.deepcopy(shadow), x64, y, state)
    rng = np.random.default_rng(seed)
    # Directions as long as each gradient is short: no parameter hides behind a larger one. A bias
    # in front of a batch norm has the gradient 0, of which rounding leaves some noise.
    noise = _NOISE * max([float(np.linalg.norm(g)) for g in grads.values()])
    directions = {
        name: rng.standard_normal(g.shape) / max(float(np.linalg.norm(g)), noise)
        for name, g in grads.items()
    }

    def judge(names: list[str]) -> tuple[float, float, float]:
        terms = [grads[name] * directions[name] for name in names]
        slope = float(sum(t.sum() for t in terms))
        size = float(sum(np.abs(t).sum() for t in terms))
        size += noise * sum(float(np.linalg.norm(directions[name])) for name in names)
        chosen = {name: directions[name] for name in names}
        witness = _complex_slope(copy.deepcopy(shadow), x64, y, chosen, state)
        return slope, witness, abs(slope - witness) / size

    slope, witness, error = judge(list(grads))
    suspects: list[tuple[str, float]] = []
    if not error <= _TOLERANCE:
        each = [(name, judge([name])[2]) for name in grads]
        suspects = sorted((p for p in each if not p[1] <= _TOLERANCE), key=lambda p: -p[1])
    rounding = [
        (name, float(np.linalg.norm(single[name] - g) / (np.linalg.norm(g) or 1.0)))
        for name, g in grads.items()
    ]
    return NetworkVerdict(
        ok=error <= _TOLERANCE,
        error=error,
        backward_slope=slope,
        witness_slope=witness,
        suspects=suspects,
        rounding=sorted(rounding, key=lambda p: -p[1]),
        images=len(x),
        parameters=sum(g.size for g in grads.values()),
    )


def _gradients(model: Module, x: np.ndarray, y: np.ndarray, state: Any) -> dict[str, np.ndarray]:
    generator().bit_generator.state = state  # every pass draws the same dropout masks
    model.zero_grad()
    cross_entropy(model(Tensor(x)), y).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _complex_slope(
    model: Module, x: np.ndarray, y: np.ndarray, directions: dict[str, np.ndarray], state: Any
) -> float:
    """Derivative of the loss along ``directions`` of the parameters, through the twins."""
    generator().bit_generator.state = state
    with complex_step(), no_grad(), kernels.use("reference"):
        for name, parameter in model.named_parameters():
            if name in directions:
                parameter.data = parameter.data + 1j * _STEP * directions[name]
        return float(cross_entropy(model(Tensor(x)), y).data.imag) / _STEP
