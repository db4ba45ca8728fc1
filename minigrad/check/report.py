"""What a check found: verdicts, a report of them, and the error that carries the report."""

import html
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from minigrad.core.errors import MinigradError

__all__ = ["GradcheckError", "Report", "Verdict"]

RIGHT, WRONG, INCONCLUSIVE = "right", "wrong", "inconclusive"


@dataclass(frozen=True)
class Verdict:
    """What one comparison found.

    Attributes
    ----------
    kind : str
        ``"right"``, ``"wrong"`` or ``"inconclusive"``.
    check : str
        What was compared: ``"backward"`` (against differences with held branches), ``"kink"`` (the
        slope lies between the one-sided ones), ``"branches"`` (recomputed, they are the same),
        ``"complex step"``, ``"float32"``, ``"fan-out"``, or the name of a law.
    where : str
        The operation or function, with its module path.
    error, bound : float
        Difference of the two slopes, and how large it may be without a bug.
    analytic, numeric : float
        The slopes by backward and by the witness.
    tensor, index, ratio, guess : str, tuple of int, float, str
        Where it is wrong: the input, the entry of its gradient, analytic / numeric there, and the
        likely kind of bug. Empty where it is right.
    note : str
        One sentence more.
    """

    kind: str
    check: str
    where: str
    error: float = 0.0
    bound: float = 0.0
    analytic: float = math.nan
    numeric: float = math.nan
    tensor: str = ""
    index: tuple[int, ...] | None = None
    ratio: float = math.nan
    guess: str = ""
    note: str = ""

    @property
    def bounds(self) -> float:
        """error / bound: 0.04 is right, 2e5 is wrong."""
        if math.isnan(self.error):
            return math.inf
        return self.error / self.bound if self.bound else math.inf if self.error else 0.0

    def lines(self) -> list[str]:
        """The verdict in words."""
        if self.kind == RIGHT:
            return [f"{self.where}: {self.check} is right, {self.bounds:.2g} of the bound"]
        if self.kind == INCONCLUSIVE:
            return [f"{self.where}: {self.check} is inconclusive: {self.note or 'noise floor'}"]
        told = [f"{self.where}: {self.check} is wrong"]
        if not math.isnan(self.analytic):
            told.append(
                f"  slope {self.analytic:.9g} by backward, {self.numeric:.9g} by the witness: "
                f"{self.bounds:.2g} times the bound"
            )
        if self.tensor:
            entry = "" if self.index is None else f", entry {self.index}"
            ratio = "" if math.isnan(self.ratio) else f", analytic / numeric = {self.ratio:.6g}"
            told.append(f"  gradient of {self.tensor}{entry}{ratio}")
        if self.guess:
            told.append(f"  probably: {self.guess}")
        if self.note:
            told.append(f"  {self.note}")
        return told


@dataclass
class Report:
    """All verdicts of one check.

    Attributes
    ----------
    target : str
        What was checked.
    verdicts : list of Verdict
    forwards : int
        How often the function was run.
    crossed : list of str
        Operations at whose kinks a step of plain differences took another branch.
    """

    target: str
    verdicts: list[Verdict] = field(default_factory=list)
    forwards: int = 0
    crossed: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every verdict is ``"right"``: an inconclusive check has shown nothing."""
        return all(v.kind == RIGHT for v in self.verdicts)

    @property
    def wrong(self) -> bool:
        """Whether some verdict is ``"wrong"``."""
        return any(v.kind == WRONG for v in self.verdicts)

    @property
    def ranked(self) -> list[Verdict]:
        """Wrong ones first, then inconclusive, then right; the largest error / bound first.

        A wrong whole comes after the operations that make it wrong, and what could not be traced
        to an entry after what could.
        """
        order = {WRONG: 0, INCONCLUSIVE: 1, RIGHT: 2}

        def rank(v: Verdict) -> tuple[int, bool, bool, float]:
            return order[v.kind], v.where == self.target, v.index is None, -v.bounds

        return sorted(self.verdicts, key=rank)

    @property
    def worst(self) -> Verdict:
        """The first of them."""
        return self.ranked[0]

    def message(self) -> str:
        """At most twelve lines: the worst verdict in full, the others counted."""
        kinds = [v.kind for v in self.verdicts]
        head = (
            f"gradcheck of {self.target}: {kinds.count(RIGHT)} right, {kinds.count(WRONG)} wrong, "
            f"{kinds.count(INCONCLUSIVE)} inconclusive, {self.forwards} forward passes"
        )
        if self.ok:
            return head
        lines = [head, *self.worst.lines()]
        others = [v for v in self.ranked[1:] if v.kind == WRONG][:4]
        lines += [f"also wrong: {v.where}, {v.check}, {v.bounds:.2g} bounds" for v in others]
        return "\n".join(lines[:12])

    __str__ = message

    def table(self) -> str:
        """One line for each verdict, worst first, as aligned plain text."""
        rows = [("verdict", "check", "where", "error/bound", "gradient of")]
        rows += [(v.kind, v.check, v.where, f"{v.bounds:.2g}", _place(v)) for v in self.ranked]
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        return "\n".join(
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain types; numbers that are not finite become None."""
        return {
            "target": self.target,
            "ok": self.ok,
            "forwards": self.forwards,
            "crossed": self.crossed,
            "verdicts": [
                {k: _plain(x) for k, x in {**asdict(v), "bounds": v.bounds}.items()}
                for v in self.ranked
            ],
        }

    def to_json(self) -> str:
        """:meth:`to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def to_html(self) -> str:
        """A page of its own that needs no other file."""
        return html_page([self])


def _place(v: Verdict) -> str:
    return f"{v.tensor} {v.index}" if v.index is not None else v.tensor


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return list(value) if isinstance(value, tuple) else value


_STYLE = """
:root { color-scheme: light dark } summary { font-size: 1.2em; padding: .3em 0 }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em }
table { border-collapse: collapse; width: 100% } td, th { padding: .3em .8em; text-align: left }
tr { border-bottom: 1px solid #8884 } .wrong { color: #c22; font-weight: 600 }
.inconclusive { color: #a70 } .right { color: #182 } pre { overflow-x: auto }
"""


def html_page(reports: Sequence[Report]) -> str:
    """One page for several reports."""
    body = "".join(_section(report) for report in reports)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>gradcheck</title>'
        f'<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style><h1>Gradient checks</h1>{body}</html>\n"
    )


def _section(report: Report) -> str:
    rows = "".join(
        f'<tr><td class="{v.kind}">{v.kind}</td><td>{html.escape(v.check)}</td>'
        f"<td>{html.escape(v.where)}</td><td>{v.bounds:.2g}</td>"
        f"<td>{html.escape(_place(v))}</td><td>{html.escape(v.guess or v.note)}</td></tr>"
        for v in report.ranked
    )
    told = "" if report.ok else f"<pre>{html.escape(report.message())}</pre>"
    kind = RIGHT if report.ok else WRONG if report.wrong else INCONCLUSIVE
    return (
        f"<details{'' if report.ok else ' open'}><summary>{html.escape(report.target)}: "
        f'<span class="{kind}">{kind}</span>, {len(report.verdicts)} verdicts</summary>{told}'
        f"<table><tr><th>verdict</th><th>check</th><th>where</th><th>error / bound</th>"
        f"<th>gradient of</th><th>cause</th></tr>{rows}</table></details>"
    )


class GradcheckError(MinigradError, AssertionError):
    """A gradient is wrong, or could not be shown to be right.

    Attributes
    ----------
    report : Report
    """

    def __init__(self, report: Report) -> None:
        super().__init__(report.message())
        self.report = report
