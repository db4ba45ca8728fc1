"""Why a target was missed: what the roofs allow, and where the rest of the time goes.

The roof of a call is the time its multiplications take at the measured peak, or the bytes it moves
at the speed of a copy between arrays as large, whichever is longer. Winograd multiplies less than
the definition asks for, so its calls may be faster than that; then they count as they are.

No loop reaches the peak on matrices that come from memory. Where a network multiplies matrices,
what the best of other libraries takes for the same ones is the roof that counts beside it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from minigrad.bench.beside import BARE, COPY
from minigrad.bench.limits import Roofs
from minigrad.bench.text import seconds_text

__all__ = ["bandwidth_reasons", "least_seconds", "rates_text", "ratio_reasons"]

Row = dict[str, Any]

_TOLD = 3  # rows of a target
_PARTS = 5  # parts of a network's time


def ratio_reasons(rows: Sequence[Row], rival: str, wanted: float, roofs: Roofs) -> Iterator[str]:
    """Tell of the rows furthest below a ratio what they take, what is wanted, and what could be."""
    short = [row for row in rows if row["ratios"][rival]["value"] < wanted]
    short.sort(key=lambda row: row["ratios"][rival]["value"])
    for row in short[:_TOLD]:
        yield _row_reason(row, rival, wanted, roofs)
        if row["profile"]:
            yield f"    {_gaps_text(row['profile'], roofs)}"
    if len(short) > _TOLD:
        yield f"  and {len(short) - _TOLD} more below {wanted:g}"


def bandwidth_reasons(rows: Sequence[Row], wanted: float) -> Iterator[str]:
    """Tell of the rows that move their bytes too slowly at what part of a copy they do."""
    for row in rows:
        figures = row["contenders"]["minigrad"]
        if figures["of_copy"] < wanted:
            rate, part = figures["bytes_per_second"] / 1e9, figures["of_copy"]
            told = f"  {row['name']}: {rate:.1f} GB/s, {part:.0%} of a copy"
            if row.get("beside"):
                told += f"; {rates_text(row)}"
                if row["beside"][COPY] < wanted * row["beside"][BARE]:
                    told += ", which is less than is wanted"
            yield told


def rates_text(row: Row) -> str:
    """Say how fast memory moved as many bytes beside a row."""
    copy, bare = (row["moved"] / row["beside"][name] / 1e9 for name in (COPY, BARE))
    return (
        f"a copy of as many bytes {copy:.1f} GB/s, bare reading and writing {bare:.1f} GB/s, "
        f"{bare / copy:.0%} of it"
    )


def _row_reason(row: Row, rival: str, wanted: float, roofs: Roofs) -> str:
    ours, theirs = row["contenders"]["minigrad"], row["contenders"][rival]
    goal = theirs["median"] / wanted
    told = (
        f"  {row['ratios'][rival]['value']:.2f} {row['name']}: "
        f"{_time(ours['median'])}, {_time(goal)} wanted"
    )
    if "of_peak" in ours:
        told += f"; {ours['of_peak']:.0%} of peak, {rival} {theirs['of_peak']:.0%}"
    elif "of_copy" in ours:
        told += f"; {ours['of_copy']:.0%} of a copy, {rival} {theirs['of_copy']:.0%}"
    least = least_seconds(row, roofs)
    if 0 < least < ours["median"]:
        told += f"; {_time(least)} with all that is slower at its roof"
        if least > goal:
            told += ", so the rest has to come from what is above the roof already"
        reached = least_seconds(row, roofs, by_libraries=True)
        if reached > least:
            told += (
                f"; {_time(reached)} if products of matrices are no faster than the fastest "
                "library makes them"
            )
            if reached > goal:
                told += ", which is more than is wanted"
    return told


def least_seconds(row: Row, roofs: Roofs, by_libraries: bool = False) -> float:
    """What a row would take if all in it that is slower than its roof reached it; 0 without one.

    ``by_libraries`` says whether a product of matrices has what libraries take for a roof too.
    """
    seconds: float = row["contenders"]["minigrad"]["median"]
    if row["profile"]:
        gaps = sum(gap for gap, _ in _gaps(row["profile"], roofs, by_libraries))
        # Watched calls take a little longer than others: what counts is their part of the time.
        return seconds * (1 - gaps / row["profile"]["seconds"])
    return min(seconds, _roof(row, roofs))


def _roof(work: dict[str, Any], roofs: Roofs, by_libraries: bool = False) -> float:
    """The least seconds of one call: of a row, or of a kernel in a network."""
    least = max(work["flops"] / roofs.flops, work["moved"] / roofs.bandwidth(work["bytes"]))
    if by_libraries and work["alone"]:
        # In parts of what this library took beside them, for the network ran at another time.
        ours, *others = work["alone"].values()
        seconds = work["seconds"] / work["calls"]
        return max(least, seconds * min(others) / ours)
    return least


def _gaps(
    profile: dict[str, Any], roofs: Roofs, by_libraries: bool = False
) -> list[tuple[float, str]]:
    """How many seconds each kernel takes beyond its roof, and its name; the most first."""
    found = [(profile["outside"], "outside kernels")]
    for name, mine in profile["kernels"].items():
        gaps = [
            max(0.0, work["seconds"] - work["calls"] * _roof(work, roofs, by_libraries))
            for work in mine["works"]
        ]
        found.append((sum(gaps), name))
    return sorted(found, reverse=True)


def _gaps_text(profile: dict[str, Any], roofs: Roofs) -> str:
    parts = [f"{name} {_time(gap)}" for gap, name in _gaps(profile, roofs)[:_PARTS] if gap > 0]
    return f"slower than the roofs by {', '.join(parts)}"


def _time(seconds: float) -> str:
    return seconds_text(seconds).strip()
