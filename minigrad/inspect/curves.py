"""The curves of a training run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minigrad.core.errors import MissingExtra

__all__ = ["draw"]


def draw(history: Sequence[Mapping[str, Any]], path: str | Path, title: str = "") -> None:
    """Draw loss and error against the epoch, training and test side by side.

    Parameters
    ----------
    history : sequence of mapping
        One record an epoch, with ``epoch``, ``train_loss``, ``test_loss``, ``train_accuracy`` and
        ``test_accuracy`` (fractions), as :func:`minigrad.train.train` leaves them.
    path : str or Path
        PNG to write.
    title : str
        Above the picture.

    Raises
    ------
    MissingExtra
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator, PercentFormatter
    except ImportError:
        raise MissingExtra(
            "curves.draw: drawing needs matplotlib, which is not installed. "
            'Install it with: pip install "minigrad[demos]".'
        ) from None
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    loss, error = figure.subplots(1, 2)
    epochs = [record["epoch"] for record in history]
    for split, style in (("train", "o--"), ("test", "o-")):
        loss.plot(epochs, [r[f"{split}_loss"] for r in history], style, ms=3, label=split)
        error.plot(epochs, [1 - r[f"{split}_accuracy"] for r in history], style, ms=3, label=split)
    loss.set_ylabel("cross-entropy")
    error.set_ylabel("error")
    error.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in (loss, error):
        axes.set_yscale("log") if axes is loss else axes.set_ylim(bottom=0)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=130)
