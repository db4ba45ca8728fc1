"""Training: one plain loop, which can be stopped after any step and continued bit for bit.

Read :func:`train` first, then :func:`train_step`; the rest is bookkeeping.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.core.mode import no_grad
from minigrad.core.rng import generator
from minigrad.core.tensor import Tensor
from minigrad.data.loader import DataLoader
from minigrad.inspect.paths import Share, shares
from minigrad.io.checkpoint import load_checkpoint, save_checkpoint
from minigrad.io.state import generator_state, restore_generator
from minigrad.nn.module import Module
from minigrad.ops import cross_entropy
from minigrad.optim.clip import clip_grad_norm
from minigrad.optim.optimizer import Optimizer

__all__ = ["Run", "Watch", "evaluate", "resume", "save", "train", "train_step"]


@dataclass
class Run:
    """All that a run consists of, and where it stands.

    Attributes
    ----------
    model : Module
        From images (N, C, H, W) to logits (N, classes).
    optimizer : Optimizer
        Over the model's parameters.
    schedule : callable
        From the number of steps done to the learning rate of the next.
    train_loader, test_loader : DataLoader
        Batches to learn from; batches held out.
    clip_norm : float or None
        Largest norm of the whole gradient; None for no clipping.
    step : int
        Optimiser steps done.
    history : list of dict
        One record for each finished epoch.
    loss_sum, correct, images : float, int, int
        Of the epoch that is running, up to now.
    paths : list of dict
        Gradient shares of the two paths at each unit, from the first batch of each epoch.
    """

    model: Module
    optimizer: Optimizer
    schedule: Callable[[int], float]
    train_loader: DataLoader
    test_loader: DataLoader
    clip_norm: float | None = None
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    loss_sum: float = 0.0
    correct: int = 0
    images: int = 0
    paths: list[dict[str, Any]] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return len(self.history)


class Watch:
    """What happens beside the loop: progress, checkpoints, stopping. This one does nothing."""

    def after_step(self, run: Run) -> None:
        """Called when a step is done, and only there: a state between steps is never seen."""

    def after_epoch(self, run: Run) -> None:
        """Called when an epoch is evaluated and recorded."""

    def wants_stop(self) -> bool:
        """Whether to leave the loop after this step."""
        return False


def train(run: Run, epochs: int, watch: Watch | None = None) -> None:
    """Train until ``epochs`` epochs are done, or ``watch`` wants to stop.

    Parameters
    ----------
    run : Run
        Changed in place; a run that stands in mid-epoch goes on from there.
    epochs : int
        In total, those already done included.
    watch : Watch, optional
        Is told of each step and each epoch.
    """
    watch = watch or Watch()
    while run.epoch < epochs:
        start = time.perf_counter()
        run.model.train()
        for x, y in run.train_loader:
            train_step(run, x, y)
            watch.after_step(run)
            if watch.wants_stop():
                return
        seconds = time.perf_counter() - start
        test_loss, test_accuracy = evaluate(run.model, run.test_loader)
        run.history.append(
            {
                "epoch": run.epoch + 1,
                "step": run.step,
                "lr": run.optimizer.lr,
                "train_loss": run.loss_sum / run.images,
                "train_accuracy": run.correct / run.images,
                "test_loss": test_loss,
                "test_accuracy": test_accuracy,
                "seconds": round(seconds, 3),
            }
        )
        run.loss_sum, run.correct, run.images = 0.0, 0, 0
        watch.after_epoch(run)


def train_step(run: Run, x: np.ndarray, y: np.ndarray) -> None:
    """Forward, backward, clip, update: one step on images ``x`` with labels ``y``."""
    run.optimizer.lr = run.schedule(run.step)
    run.optimizer.zero_grad()
    logits = run.model(Tensor(x))
    loss = cross_entropy(logits, y)
    if run.images:
        loss.backward()
    else:
        # The first batch of an epoch: look at the two paths. Listening changes no bit.
        with shares() as found:
            loss.backward()
        run.paths.append({"epoch": run.epoch, "units": [share.to_dict() for share in found]})
    if run.clip_norm is not None:
        clip_grad_norm(run.model.parameters(), run.clip_norm)
    run.optimizer.step()

    run.step += 1
    run.loss_sum += loss.item() * len(y)
    run.correct += int((logits.data.argmax(axis=1) == y).sum())
    run.images += len(y)


@no_grad()
def evaluate(model: Module, loader: DataLoader) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of ``model`` over one pass of ``loader``.

    Runs in evaluation mode, and leaves the model in the mode it was in.

    Returns
    -------
    loss, accuracy : float
        Accuracy as a fraction.
    """
    was_training = model.training
    model.eval()
    loss_sum, correct, images = 0.0, 0, 0
    for x, y in loader:
        logits = model(Tensor(x))
        loss_sum += cross_entropy(logits, y).item() * len(y)
        correct += int((logits.data.argmax(axis=1) == y).sum())
        images += len(y)
    model.train(was_training)
    return loss_sum / images, correct / images


def save(run: Run, directory: str | Path, settings: dict[str, Any] | None = None) -> None:
    """Write a checkpoint of the whole run into ``directory``, in the place of the last one.

    Parameters
    ----------
    run : Run
    directory : str or Path
    settings : dict, optional
        Whatever made the run (command line arguments), kept in the state as ``"settings"``.
    """
    state = {
        "settings": settings or {},
        "optimizer": run.optimizer.state_dict(),
        "generator": generator_state(generator()),
        "loader": run.train_loader.state_dict(),
        "step": run.step,
        "history": run.history,
        "loss_sum": run.loss_sum,
        "correct": run.correct,
        "images": run.images,
        "paths": run.paths,
    }
    save_checkpoint(directory, run.model.state_dict(), state)


def resume(run: Run, directory: str | Path) -> None:
    """Put ``run`` where the checkpoint in ``directory`` was taken.

    The model, optimiser, schedule and loaders must be made as they were for that run. What follows
    is then the same, bit for bit, as if the run had never been interrupted.

    Raises
    ------
    StateError
        If there is no whole checkpoint, or it belongs to another model, optimiser or data set.
    """
    weights, state = load_checkpoint(directory)
    run.model.load_state_dict(weights)
    run.optimizer.load_state_dict(state["optimizer"])
    run.train_loader.load_state_dict(state["loader"])
    restore_generator(generator(), state["generator"])
    run.step = state["step"]
    run.history = state["history"]
    run.loss_sum, run.correct, run.images = state["loss_sum"], state["correct"], state["images"]
    run.paths = state["paths"]


def last_shares(run: Run) -> list[tuple[str, list[Share]]]:
    """The shares recorded in the first and the last epoch, as ``inspect.paths.draw`` takes them."""
    found = [(f"epoch {r['epoch'] + 1}", [Share(**unit) for unit in r["units"]]) for r in run.paths]
    return found if len(found) < 2 else [found[0], found[-1]]
