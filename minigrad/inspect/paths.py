"""The two paths of a gradient at each residual unit, and how much each carries.

At the input of a unit y = act(F(x) + S(x)) the gradient is a sum of two shares: what came back
through the convolution path F, and what came back along the identity path S. Units announce both
(:mod:`minigrad.core.events`); here they are collected, measured and drawn.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.core import events
from minigrad.core.errors import MissingExtra

__all__ = ["Share", "draw", "shares", "table"]

_LABELS = ("conv", "identity")


@dataclass(frozen=True)
class Share:
    """The two shares of the gradient at the input of one unit, during one backward pass.

    Attributes
    ----------
    path : str
        Dotted path of the unit (``layer1.0``).
    conv, identity, total : float
        Euclidean norms of grad_conv, grad_identity and their sum.
    cosine : float
        Of the angle between the two shares; NaN where one of them is zero.
    """

    path: str
    conv: float
    identity: float
    total: float
    cosine: float

    @property
    def fraction(self) -> float:
        """conv / (conv + identity): 0 where all flows along the identity path; NaN if none does."""
        both = self.conv + self.identity
        return self.conv / both if both else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return asdict(self)


@contextmanager
def shares() -> Iterator[list[Share]]:
    """Collect the shares of every backward pass within the block.

    Listening changes no bit of any gradient.

    Yields
    ------
    list of Share
        Filled while backward runs, from the last unit of the network to the first.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> from minigrad.inspect.paths import shares
    >>> x = mg.tensor(np.array([3.0, 4.0]), requires_grad=True)
    >>> conv, identity = mg.fork(x)
    >>> with shares() as found:
    ...     (0.5 * conv + identity).backward(np.ones(2))
    >>> [(round(s.conv, 4), round(s.identity, 4)) for s in found]
    [(0.7071, 1.4142)]
    """
    found: list[Share] = []

    def collect(event: events.Fanout) -> None:
        if event.labels == _LABELS:
            found.append(_measure(event.path, *event.parts))

    with events.listen(collect):
        yield found


def _measure(path: str, grad_conv: np.ndarray, grad_identity: np.ndarray) -> Share:
    # In float64: the squares of small float32 gradients would underflow.
    a, b = grad_conv.astype(np.float64), grad_identity.astype(np.float64)
    conv, identity = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    product = conv * identity
    cosine = float(np.sum(a * b)) / product if product else float("nan")
    return Share(path, conv, identity, float(np.linalg.norm(a + b)), cosine)


def table(found: Sequence[Share]) -> str:
    """The shares as lines of text, first unit of the network on top.

    Examples
    --------
    >>> print(table([Share("layer1.0", 1.0, 3.0, 3.5, 0.4)]))
    unit            conv    identity       total   cosine   conv share
    layer1.0   1.000e+00   3.000e+00   3.500e+00     0.40         25 %
    """
    width = max([len("unit"), *(len(s.path) for s in found)])
    lines = [
        f"{'unit':{width}}  {'conv':>10}  {'identity':>10}  {'total':>10}   cosine   conv share"
    ]
    for s in reversed(found):
        lines.append(
            f"{s.path:{width}}  {s.conv:10.3e}  {s.identity:10.3e}  {s.total:10.3e}  "
            f"{s.cosine:7.2f}  {100 * s.fraction:9.0f} %"
        )
    return "\n".join(lines)


def draw(records: Sequence[tuple[str, Sequence[Share]]], path: str | Path) -> None:
    """Draw the norms of the two shares against depth, one pair of lines for each record.

    Parameters
    ----------
    records : sequence of (label, shares)
        For example the first and the last epoch.
    path : str or Path
        PNG to write.

    Raises
    ------
    MissingExtra
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra(
            "paths.draw: drawing needs matplotlib, which is not installed. "
            'Install it with: pip install "minigrad[demos]".'
        ) from None
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for i, (label, found) in enumerate(records):
        ordered = list(reversed(found))
        depth = range(1, len(ordered) + 1)
        strength = (i + 1) / len(records)  # older records are paler
        axes.semilogy(
            depth, [s.conv for s in ordered], "o-", color="tab:blue", alpha=strength,
            label=f"convolution path, {label}",
        )  # fmt: skip
        axes.semilogy(
            depth, [s.identity for s in ordered], "s--", color="tab:orange", alpha=strength,
            label=f"identity path, {label}",
        )  # fmt: skip
        axes.set_xticks(list(depth), [s.path for s in ordered], rotation=60, ha="right", fontsize=8)
    axes.set_xlabel("residual unit, first to last")
    axes.set_ylabel("norm of the gradient's share")
    axes.set_title("Gradient at the input of each unit, by path")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)
