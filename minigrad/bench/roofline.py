"""The roofline: each kernel by how much it computes a byte and how fast, below what is possible.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", 2009. A point
above its roof means that the counting is wrong, or that an algorithm multiplies less than the
definition asks for, as Winograd's does.
"""

from pathlib import Path
from typing import Any

import numpy as np

from minigrad.core.errors import MissingExtra

__all__ = ["draw", "load_matplotlib"]

_DIRECTIONS = {
    "conv2d_forward": ("forward", "o"),
    "conv2d_grad_input": ("input gradient", "s"),
    "conv2d_grad_weight": ("weight gradient", "^"),
}
# Told apart without colour vision too; torch behind, ours in front.
_WINOGRAD = "minigrad, Winograd"
_COLOURS = {
    "torch channels_last": "#e08214",
    "minigrad": "#2166ac",
    _WINOGRAD: "#c51b7d",
}


def load_matplotlib() -> tuple[Any, Any]:
    """Import what draws into a file, or say how to get it."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra(
            "bench: drawing the roofline needs matplotlib, which is not installed. "
            'Install it with: pip install "minigrad[demos]".'
        ) from None
    return Figure, FigureCanvasAgg


def draw(record: dict[str, Any], path: Path) -> None:
    """Draw the convolutions of a run as PNG.

    Raises
    ------
    MissingExtra
        If matplotlib is not installed.
    """
    Figure, FigureCanvasAgg = load_matplotlib()
    figure = Figure(figsize=(11, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    points = _points(record)
    _draw_roofs(axes, record["roofs"], [x for x, *_ in points])
    for contender, colour in _COLOURS.items():
        for direction, (label, marker) in _DIRECTIONS.items():
            mine = [(x, y) for x, y, who, what in points if (who, what) == (contender, direction)]
            if mine:
                axes.plot(
                    *zip(*mine, strict=True), marker, color=colour, label=f"{contender}, {label}",
                    markersize=6, alpha=0.85, markeredgecolor="white", markeredgewidth=0.5,
                )  # fmt: skip
    environment = record["environment"]
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="arithmetic intensity, FLOP a byte (each array moved once)",
        ylabel="GFLOP/s",
        title=f"Convolutions, {environment['cpu']}, {record['settings']['threads']} threads\n"
        "(Winograd multiplies less than the definition, whose products are counted)",
    )
    axes.grid(which="both", linewidth=0.3, alpha=0.5)
    figure.legend(fontsize=8, loc="outside right upper")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _points(record: dict[str, Any]) -> list[tuple[float, float, str, str]]:
    """Intensity, GFLOP/s, contender and kind of each product of a convolution."""
    return [
        (row["flops"] / row["bytes"], figures["flops_per_second"] / 1e9, _who(row, name), kind)
        for row in record["rows"]
        for kind in [row["name"].partition(":")[0]]
        if kind in _DIRECTIONS
        for name, figures in row["contenders"].items()
    ]


def _who(row: dict[str, Any], name: str) -> str:
    return _WINOGRAD if name == "minigrad" and row["algorithm"] == "winograd" else name


def _draw_roofs(axes: Any, roofs: dict[str, Any], intensities: list[float]) -> None:
    peak = roofs["flops"] / 1e9
    copy = {int(size): rate / 1e9 for size, rate in roofs["copy"].items()}
    x = np.geomspace(min([1.0, *intensities]) / 1.5, max([200.0, *intensities]) * 1.5, 200)
    kinds = ((max(copy.values()), "cache", "-"), (copy[max(copy)], "memory", "--"))
    for rate, where, style in kinds:
        axes.plot(
            x, np.minimum(peak, rate * x), style, color="black", linewidth=1,
            label=f"roof: {peak:.0f} GFLOP/s, copy in {where} {rate:.0f} GB/s",
        )  # fmt: skip
    if roofs.get("fed"):
        fed = roofs["fed"] / 1e9
        axes.plot(
            x, np.where(max(copy.values()) * x >= fed, fed, np.nan), ":", color="black",
            linewidth=1, label=f"factors from the first cache: {fed:.0f} GFLOP/s",
        )  # fmt: skip
