"""The suite ``models``: whole networks.

``train:MODEL,SHAPE`` is a training step: forward, cross-entropy, backward, SGD with momentum;
``grad:MODEL,SHAPE`` is the same without the update; ``infer:MODEL,SHAPE`` is the forward in
evaluation mode, without a graph, ours with the batch norms folded into the convolutions.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import kernels, models
from minigrad.bench.against import CHANNELS_LAST, COMPILED, DEFAULT, Torch
from minigrad.bench.case import Case, Draw, Work, normal
from minigrad.bench.inputs import drawn
from minigrad.bench.mirror import mirror
from minigrad.bench.shapes import parse_shape
from minigrad.core.errors import ArgumentError
from minigrad.core.mode import no_grad
from minigrad.core.rng import manual_seed
from minigrad.core.tensor import Tensor
from minigrad.nn.folding import fold_batch_norm
from minigrad.nn.module import Module
from minigrad.nn.norm import BatchNorm2d
from minigrad.ops import cross_entropy
from minigrad.optim import sgd

__all__ = ["KINDS", "model_case", "model_cases"]

KINDS = ("train", "grad", "infer")
_TABLE = (
    ("train", "resnet20,128x3x32x32"),
    ("grad", "resnet18,16x3x224x224"),
    ("grad", "resnet50,8x3x224x224"),
    ("infer", "resnet18,16x3x224x224"),
    ("infer", "resnet50,8x3x224x224"),
)

# Four images of 64 x 64 leave enough pixels at the end of every network for its batch norms.
_SMALL = (4, 3, 64, 64)
_MOMENTUM, _WEIGHT_DECAY = 0.9, 1e-4


def model_cases(rival: Torch | None = None) -> list[Case]:
    """All cases of the suite."""
    return [model_case(kind, text, rival) for kind, text in _TABLE]


def model_case(kind: str, text: str, rival: Torch | None = None) -> Case:
    """Make the case of a kind, a network and the shape of its images: ``resnet20,128x3x32x32``."""
    name, _, shape_text = text.partition(",")
    entry = models.find(name)
    shape = parse_shape(shape_text) if shape_text else (0,)
    if len(shape) != 4:
        raise ArgumentError(
            f"bench: {name} takes a shape NxCxHxW, got {shape_text!r}. Write it like "
            f"{kind}:{name},16x{'x'.join(map(str, entry.input_shape))}."
        )

    def work_of(shape: tuple[int, ...]) -> Callable[[Draw], Work]:
        return lambda draw: _work(kind, name, shape, draw, rival)

    small = (_SMALL[0], shape[1], *_SMALL[2:])

    def alone(contender: str) -> Callable[[], Any]:
        _makers(kind, name, *_batch(small, normal), rival)[contender]()()  # loads what it calls
        return _makers(kind, name, *_batch(shape, normal), rival)[contender]()

    return Case(
        "models",
        f"{kind}:{text}",
        work_of(shape),
        group=kind,
        images=shape[0],
        small=work_of(small),
        alone=None if kind == "infer" else alone,
        deep=True,
        profiled=True,
    )


def _build(name: str, C: int, **options: Any) -> Module:
    """The network, with running statistics that tell whether somebody forgets them."""
    manual_seed(0)
    model = models.build(name, in_channels=C, **options)
    rng = np.random.default_rng(1)
    for layer in model.modules():
        if isinstance(layer, BatchNorm2d):
            statistics: Any = layer.running_mean, layer.running_var
            statistics[0][:] = 0.1 * rng.standard_normal(layer.num_features)
            statistics[1][:] = rng.uniform(0.5, 2, layer.num_features)
    return model


def _work(kind: str, name: str, shape: tuple[int, ...], draw: Draw, rival: Torch | None) -> Work:
    x, y = _batch(shape, draw)
    makers = _makers(kind, name, x, y, rival)

    def expected() -> list[np.ndarray]:
        with kernels.use("reference"):
            return _our_step(kind, _build(name, shape[1]).double(), x.astype(np.float64), y)()

    return Work({contender: make() for contender, make in makers.items()}, expected)


def _batch(shape: tuple[int, ...], draw: Draw) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return drawn(draw, rng, shape), rng.integers(0, 10, shape[0])


def _makers(
    kind: str, name: str, x: np.ndarray, y: np.ndarray, rival: Torch | None
) -> dict[str, Callable[[], Callable[[], Any]]]:
    """The contenders by name, each to be made when it is wanted, for it takes time and memory."""

    def ours(**options: Any) -> Callable[[], Any]:
        return _our_step(kind, _build(name, x.shape[1], **options), x, y)

    makers: dict[str, Callable[[], Callable[[], Any]]] = {"minigrad": ours}
    if kind == "infer":
        makers["minigrad"] = lambda: _our_step(
            kind, fold_batch_norm(_build(name, x.shape[1])), x, y
        )
        makers["minigrad unfolded"] = ours
    if kind == "train" and not name.startswith("plain"):
        makers["minigrad composed"] = lambda: ours(fused=False)
    if rival is not None:
        makers |= _torch_makers(kind, name, x, y, rival)
    return makers


def _our_step(kind: str, model: Module, x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """A step that returns the logits, or the loss and the gradient furthest from it."""
    if kind == "infer":
        model.eval()

        def infer() -> list[np.ndarray]:
            with no_grad():
                return [model(Tensor(x)).data]

        return infer
    parameters = list(model.parameters())
    optimizer = sgd.SGD(parameters, 0.01, momentum=_MOMENTUM, weight_decay=_WEIGHT_DECAY)

    def step() -> list[np.ndarray]:
        optimizer.zero_grad()
        loss = cross_entropy(model(Tensor(x)), y)
        loss.backward()
        if kind == "train":
            optimizer.step()
        return [loss.data, np.asarray(parameters[0].grad)]

    return step


def _torch_makers(
    kind: str, name: str, x: np.ndarray, y: np.ndarray, rival: Torch
) -> dict[str, Callable[[], Callable[[], Any]]]:
    torch = rival.torch

    def make(layout: str, compiled: bool) -> Callable[[], Any]:
        model = mirror(_build(name, x.shape[1]))
        if layout == CHANNELS_LAST:
            model = model.to(memory_format=torch.channels_last)
        (images,) = rival.tensors(x)[layout]
        # A compiled network shares its parameters with the one it is made of.
        called = torch.compile(model) if compiled else model
        return _torch_step(kind, rival, model, called, images, torch.tensor(y))

    makers = {CHANNELS_LAST: lambda: make(CHANNELS_LAST, False)}
    if kind == "train":  # of large images the slower layout would take a tenth of a whole run
        makers[DEFAULT] = lambda: make(DEFAULT, False)
    if rival.compiled:
        makers[COMPILED] = lambda: make(CHANNELS_LAST, True)
    return makers


def _torch_step(
    kind: str, rival: Torch, model: Any, called: Any, x: Any, y: Any
) -> Callable[[], Any]:
    torch = rival.torch
    if kind == "infer":
        model.eval()
        return torch.no_grad()(lambda: [called(x)])
    parameters = list(model.parameters())
    # Only where it is used, for torch loads its compiler, some seconds, with the first optimiser.
    optimizer = _torch_optimizer(torch, parameters) if kind == "train" else None

    def step() -> list[Any]:
        model.zero_grad()
        loss = torch.nn.functional.cross_entropy(called(x), y)
        loss.backward()
        if optimizer is not None:
            optimizer.step()
        return [loss, parameters[0].grad]

    return step


def _torch_optimizer(torch: Any, parameters: list[Any]) -> Any:
    return torch.optim.SGD(parameters, 0.01, momentum=_MOMENTUM, weight_decay=_WEIGHT_DECAY)
