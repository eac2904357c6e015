"""Test of a claim that two things differ by less than a margin, or that little is lost down to some resolution.

Both one-sided tests are made at 2.5 %, which is the 95 % interval inside the margin, so that a difference of exactly the
margin is called little or not little in 5 % of the studies together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from analysis import statistics
from analysis.claims.compare import Declared, Row
from analysis.claims.evidence import Evidence
from analysis.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, NOT_TESTED, SUPPORTED, Claim, spread_words
from analysis.statistics import Summary


def equivalent_within(evidence: Evidence, declared: Declared, row: Row) -> Claim:
    """Within a margin of another; without one, of itself at the largest resolution."""
    margin = float(declared["margin"])
    points = f"{100 * margin:g} point{'' if margin == 0.01 else 's'}"
    tests = f"two one-sided paired t-tests (margin {points}, each at 2.5%)"
    if not declared.get("to"):
        return _down_to(evidence, declared, row, margin, tests)
    test = f"{tests} of the two"
    if lacking := evidence.lacking(declared["arm"], declared["to"]):
        return row(test=test, estimate=lacking, verdict=NOT_TESTED, n=0)
    left = evidence.resolve(declared["arm"])
    right = evidence.resolve(declared["to"], left)
    assert left is not None and right is not None  # Nothing is lacking.
    by_seed, _ = evidence.differences(left, right)
    title = f"{evidence.title(left)} against {evidence.title(right)}"
    return _judge(row, test, title, [("", list(by_seed.values()))], margin, either=True)


def _down_to(evidence: Evidence, declared: Declared, row: Row, margin: float, tests: str) -> Claim:
    share = float(declared.get("down_to") or 0.0)
    words = {0.25: "a quarter", 0.5: "half"}.get(share, f"{100 * share:g} % of it")
    test = f"{tests} of the largest side with each one down to {words}"
    name = evidence.resolve(declared["arm"])
    by_side = {} if name is None else evidence.by_side(name)
    if len(by_side) < 2 or name is None:
        return row(test=test, estimate="ours has no result at two resolutions", verdict=NOT_TESTED, n=0)
    full = max(by_side)
    least = (evidence.native or full) * share
    low = [side for side in sorted(by_side, reverse=True) if least <= side < full]
    if not low:
        estimate = f"no side from {least:g} to below {full} was run"
        return row(test=test, estimate=estimate, verdict=NOT_TESTED, n=0)
    losses = [(f"{side}×{side} ", _mean_difference(by_side[side], by_side[full])) for side in low]
    return _judge(row, test, f"{evidence.title(name)} against {full}×{full}", losses, margin)


def _judge(
    row: Row,
    test: str,
    title: str,
    losses: Sequence[tuple[str, Sequence[float]]],
    margin: float,
    *,
    either: bool = False,
) -> Claim:
    results = [(name, statistics.summarise(own)) for name, own in losses]
    little, much = margin_p([own for _, own in losses], margin, either=either)
    verdict = INCONCLUSIVE
    if little is not None and little < statistics.ALPHA:
        verdict = SUPPORTED
    elif much is not None and much < statistics.ALPHA:
        verdict = NOT_SUPPORTED
    known = [p for p in (little, much) if p is not None]
    words = [f"{name}{'no pair yet' if s.mean is None else spread_words(s)}" for name, s in results]
    worst = min((s for _, s in results if s.mean is not None), key=lambda s: s.mean or 0.0, default=Summary(n=0))
    estimate = f"{title}: {'; '.join(words)}"
    if not any(s.n for _, s in results):
        return row(test=test, estimate=estimate, verdict=NOT_TESTED, n=0)
    n, p = min(s.n for _, s in results), min(known, default=None)
    return row(
        test=test, estimate=estimate, verdict=verdict, n=n, value=worst.mean, low=worst.low, high=worst.high, p=p
    )


def margin_p(
    losses: Sequence[Sequence[float]], margin: float, *, either: bool = False
) -> tuple[float | None, float | None]:
    """Two p-values: of 'within the margin everywhere', and of 'more than it lost somewhere'; None if unknown.

    Each is twice a one-sided p, so that 5 % is 2.5 % on its side. The first is the largest, as all are needed; the
    second is Holm's smallest. With `either`, more than the margin gained counts as much as lost.
    """
    within = [statistics.equivalence(own, margin).p for own in losses]
    beyond: list[float | None] = []
    for s in map(statistics.summarise, losses):
        edge = margin if either and s.mean is not None and s.mean > 0 else -margin
        p = statistics.mean_p(s, edge)
        outside = s.mean is None or (s.mean > edge if edge > 0 else s.mean < edge)
        beyond.append(1.0 if p is not None and not outside else p)
    known = [p for p in within if p is not None]
    little = min(1.0, 2 * max(known)) if known and len(known) == len(within) else None
    return little, min((p for p in statistics.holm(beyond) if p is not None), default=None)


def _mean_difference(left: Sequence[Mapping[int, float]], right: Sequence[Mapping[int, float]]) -> list[float]:
    """Difference by seed; of several networks at a side the mean over those that have the seed at both."""
    seeds = sorted(set.intersection(*(set(scores) for scores in (*left, *right))))
    return [math.fsum(x[s] for x in left) / len(left) - math.fsum(x[s] for x in right) / len(right) for s in seeds]
