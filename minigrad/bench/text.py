"""Figures as people read them."""

import math

__all__ = ["counted", "seconds_text", "three_digits"]


def seconds_text(seconds: float) -> str:
    """A time with three digits, in the unit that suits it."""
    for unit, size in (("s ", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size or unit == "us":
            return f"{three_digits(seconds / size)} {unit}"
    raise AssertionError("the last unit takes every time")


def counted(number: int, noun: str) -> str:
    """1 case, but 2 cases."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def three_digits(value: float) -> str:
    """12.3, not 12.3456 and not 1.23e+01."""
    before_point = math.floor(math.log10(value)) + 1 if value > 0 else 1
    return f"{value:.{max(0, 3 - max(before_point, 1))}f}"
