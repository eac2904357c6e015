"""How numbers read in print: shares, points, intervals, p-values, times and counts. Tables, figures and sentences share them."""

from __future__ import annotations


def percent(value: float) -> str:
    """A fraction as percent with two decimals."""
    return f"{100 * value:.2f}"


def points(value: float) -> str:
    """A difference of fractions in points, always signed; a rounded zero has no minus."""
    text = f"{100 * value:+.2f}"
    return "+0.00" if text == "-0.00" else text


def interval(low: float | None, high: float | None, n: int) -> str:
    """'[84.20, 85.60]' of fractions; without an interval 'n=1' or 'n=3, all equal'."""
    if low is None or high is None:
        return f"n={n}" if n < 2 else f"n={n}, all equal"
    return f"[{percent(low)}, {percent(high)}]"


def gain_interval(low: float | None, high: float | None, pairs: int | None) -> str | None:
    """'[-0.20, +1.60]' of fractions; None without a pair; without an interval 'n=1' or 'n=3, all equal'."""
    if low is None or high is None:
        return None if not pairs else "n=1" if pairs == 1 else f"n={pairs}, all equal"
    return f"[{points(low)}, {points(high)}]"


def p_value(value: float) -> str:
    """A p-value with three decimals, never shown as zero."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def duration(seconds: float) -> str:
    """12.0 s, 1.5 min or 2.3 h."""
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def big(value: float) -> str:
    """1234567 as 1.23 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"
