"""Estimates in words, to the digits that they have: two, where a factor of three is uncertain anyway."""

from __future__ import annotations

import math

FACTOR = "within a factor of 3"
DIGITS = 2


def rounded(value: float) -> float:
    """A number to two significant digits."""
    if value == 0 or not math.isfinite(value):
        return value
    return round(value, DIGITS - 1 - math.floor(math.log10(abs(value))))


def number(value: float) -> str:
    """`43,000`, `2.7`, `0.25`: two digits, and no zeros behind them."""
    near = rounded(value)
    return f"{near:,.0f}" if abs(near) >= 10 or near == 0 else f"{near:.10f}".rstrip("0").rstrip(".")


def counted(value: float) -> str:
    """`310`, `3,200`, `310,000`, `1.2 million`, `4.5 billion`."""
    for unit, size in (("billion", 1e9), ("million", 1e6)):
        if rounded(value) >= size:
            return f"{number(value / size)} {unit}"
    return f"{rounded(value):,.0f}"


def size(number_of_bytes: float) -> str:
    """`2.7 GB`, `55 GB`, `310 MB`; below a megabyte `1 MB`."""
    for unit, one in (("TB", 1e12), ("GB", 1e9)):
        if rounded(number_of_bytes) >= one:
            return f"{number(number_of_bytes / one)} {unit}"
    return f"{number(max(1.0, round(number_of_bytes / 1e6)))} MB"


def hours(seconds: float, what: str) -> str:
    """`43,000 core hours`, `12 core minutes`, `50 core seconds`, for `what` core or GPU."""
    for unit, one in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * one:
            return f"{number(seconds / one)} {what} {unit}"
    near = max(1.0, round(seconds))
    return f"{number(near)} {what} second{'s' if near != 1 else ''}"


def lasting(seconds: float) -> str:
    """`8 minutes`, `3.2 hours`, `890 days`; below a minute `a minute`."""
    for unit, one in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * one:
            return f"{number(seconds / one)} {unit}"
    return "a minute"
