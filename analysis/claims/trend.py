"""Tests of a claim that scores fall or rise along an axis."""

from __future__ import annotations

from analysis import statistics
from analysis.claims.compare import Declared, Row
from analysis.claims.evidence import Evidence
from analysis.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, NOT_TESTED, SUPPORTED, Claim, judged, spread_words

OPPOSITE = {SUPPORTED: NOT_SUPPORTED, NOT_SUPPORTED: SUPPORTED, INCONCLUSIVE: INCONCLUSIVE}


def rises(evidence: Evidence, declared: Declared, row: Row) -> Claim:
    """The slope per seed is above 0, by the t-interval over seeds."""
    return _slope(evidence, declared, row, up=True)


def falls(evidence: Evidence, declared: Declared, row: Row) -> Claim:
    """The slope per seed is below 0."""
    return _slope(evidence, declared, row, up=False)


def _slope(evidence: Evidence, declared: Declared, row: Row, *, up: bool) -> Claim:
    named = declared.get("arm")
    arm = evidence.resolve(named) if named else None
    found = evidence.trend(declared["along"], arm, declared.get("within") or "")
    if named and (lacking := evidence.lacking(named)):
        return row(test=found.test, estimate=lacking, verdict=NOT_TESTED, n=0)
    seeds = sorted(set.intersection(*(set(scores) for *_, scores in found.points))) if found.points else []
    groups = [group for _, group, _ in found.points]
    slopes = [statistics.slope([(x, scores[seed]) for x, _, scores in found.points], groups) for seed in seeds]
    s = statistics.summarise(slope for slope in slopes if slope is not None)
    if s.mean is None:
        return row(test=found.test, estimate=found.none + found.lacking, verdict=NOT_TESTED, n=s.n)
    verdict = judged(s) if up else OPPOSITE[judged(s)]
    count = f", {found.count}" if s.low is not None else ""
    estimate = spread_words(s, found.unit) + count + found.lacking
    p = statistics.mean_p(s)
    return row(test=found.test, estimate=estimate, verdict=verdict, n=s.n, value=s.mean, low=s.low, high=s.high, p=p)
