"""A claim with its verdict: when an interval judges, what is shown of it, and what is left when many are told together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from analysis import statistics
from analysis.printed import p_value, points
from analysis.statistics import Summary

SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE = "supported", "not supported", "inconclusive"
NOT_CHECKED, NOT_TESTED = "not checked", "not tested yet"
OPEN = (NOT_CHECKED, NOT_TESTED)  # Nothing was asked of the data, so no data are named.


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim with its verdict; `on` is '' or tells that the data are not the paper's."""

    name: str
    claim: str
    test: str
    estimate: str
    verdict: str
    n: int
    source: str
    on: str = ""
    value: float | None = None  # The estimate as a fraction, unrounded.
    low: float | None = None
    high: float | None = None
    p: float | None = None  # Two-sided, of the verdict; None where nothing was tested.
    p_holm: float | None = None  # Over the claims checked together.
    kind: str = ""  # Of its test.

    @property
    def sentence(self) -> str:
        """The verdict as printed: 'supported on digits, not the paper's data'."""
        return self.verdict if self.verdict in OPEN else f"{self.verdict} {self.on}".strip()

    def as_dict(self) -> dict[str, Any]:
        told = asdict(self)
        del told["kind"]
        return {**told, "sentence": self.sentence}


def settled(rows: Sequence[Claim]) -> list[Claim]:
    """The claims with their p adjusted by Holm for all that were tested together; what no longer passes is inconclusive.

    A study that checks three true nulls at 5 % each finds something in one report of seven. The estimate ends with the p that
    the verdict was made with, the only one in it.
    """
    adjusted = statistics.holm([row.p for row in rows])
    tests = sum(p is not None for p in adjusted)
    found = []
    for row, p in zip(rows, adjusted, strict=True):
        if p is None or row.p is None:
            found.append(row)
            continue
        words = f"p {p_value(p)}" + (f" after Holm over {tests} claims" if tests > 1 else "")
        passes = p < statistics.ALPHA
        verdict = row.verdict if passes else INCONCLUSIVE
        found.append(replace(row, verdict=verdict, p_holm=p, estimate=f"{row.estimate}; {words}"))
    return found


def judged(s: Summary, at: float = 0.0) -> str:
    """The verdict of a 95 % interval: above `at`, below, or neither; never below three seeds or without spread."""
    return {1: SUPPORTED, -1: NOT_SUPPORTED}.get(statistics.direction(s, at), INCONCLUSIVE)


def spread_words(s: Summary, unit: str = "points") -> str:
    """'+0.78 [-0.02, +1.59] points', and what keeps it from being judged."""
    assert s.mean is not None
    if s.low is None or s.high is None:
        why = "n=1: no interval" if s.n == 1 else f"n={s.n}, all equal: no interval and no test"
        return f"{points(s.mean)} {unit} ({why})"
    few = f" (n={s.n}: too few to judge)" if s.n < statistics.LEAST_PAIRS else ""
    return f"{points(s.mean)} [{points(s.low)}, {points(s.high)}] {unit}{few}"
