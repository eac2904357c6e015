"""A share of test items, and how uncertain it is."""

from __future__ import annotations

import math

from scipy import special

from analysis.statistics.means import LEVEL


def wilson(correct: float, items: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion.

    Raises:
        ValueError: Unless 0 <= correct <= items and items >= 1.
    """
    if items < 1 or not 0 <= correct <= items:
        raise ValueError(f"0 <= correct <= items and items >= 1 must hold, but got {correct} and {items}.")
    z = float(special.ndtri((1 + LEVEL) / 2))
    p = correct / items
    centre = (p + z * z / (2 * items)) / (1 + z * z / items)
    half = z / (1 + z * z / items) * math.sqrt(p * (1 - p) / items + z * z / (4 * items * items))
    return max(0.0, centre - half), min(1.0, centre + half)


def noise_floor(accuracy: float, items: int) -> float:
    """Half the width of Wilson's interval: how uncertain one model's score on `items` images is anyway."""
    low, high = wilson(accuracy * items, items)
    return (high - low) / 2
