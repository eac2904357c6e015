"""Which gains a plan can show."""

from __future__ import annotations


def detectable_gain(pairs: int, sd: float, tests: int = 1) -> float | None:
    """Smallest paired gain found with 80 % power at 5 % (Bonferroni over `tests`); None below 3 pairs, which show nothing."""
    from analysis import statistics  # scipy takes half a second to import.

    return statistics.detectable(sd, pairs, tests=tests) if pairs >= statistics.LEAST_PAIRS else None


def detectable_of_many(pairs: int, sd: float, cells: int) -> float | None:
    """The same for one of `cells` compared with one reference, as the report adjusts for all of them; None below 3 pairs."""
    from analysis import statistics
    from analysis.statistics import many_to_one

    return many_to_one.detectable(sd, cells, pairs) if pairs >= statistics.LEAST_PAIRS else None
