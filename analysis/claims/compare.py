"""Tests of a claim that one thing is better than another, than several, or than all; and that means come in an order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from analysis import statistics
from analysis.claims.evidence import SAME_COMPUTE, THE_TEACHER, ArmEvidence, Evidence, Part, paired
from analysis.claims.verdict import (
    INCONCLUSIVE,
    NOT_SUPPORTED,
    NOT_TESTED,
    SUPPORTED,
    Claim,
    judged,
    spread_words,
)
from analysis.frames.methods import Setting
from analysis.printed import duration, p_value, points
from analysis.statistics import Gain, Summary, many_to_one

Row = Callable[..., Claim]  # Makes the claim from what was found.
Declared = Mapping[str, Any]
PAIRED = "paired difference by seed; t-interval"


def better(evidence: Evidence, declared: Declared, row: Row) -> Claim:
    """One against another by the t-interval of the paired difference; or in any setting, Holm over these."""
    if declared.get("in_any_setting"):
        return _in_any_setting(evidence, declared, row)
    row = _tested(row, PAIRED)
    if lacking := evidence.lacking(declared["arm"], declared["than"]):
        return row(estimate=lacking, verdict=NOT_TESTED, n=0)
    left = evidence.resolve(declared["arm"])
    right = evidence.resolve(declared["than"], left)
    assert left is not None and right is not None  # Nothing is lacking.
    by_seed, parts = evidence.differences(left, right)
    s = statistics.summarise(by_seed.values())
    if s.mean is None:
        estimate = f"no pair under the same seed yet: {evidence.seeds_words(left, right)}"
        return row(estimate=estimate, verdict=NOT_TESTED, n=0)
    estimate = f"{evidence.title(left)} − {evidence.title(right)}: {spread_words(s)}{_over(parts)}"
    if declared["than"] == SAME_COMPUTE:
        estimate += f"; equal multiply-adds{_times(parts, left, right)}"
    p = statistics.mean_p(s)
    return row(estimate=estimate, verdict=judged(s), n=s.n, value=s.mean, low=s.low, high=s.high, p=p)


def _tested(row: Row, words: str) -> Row:
    return lambda **found: row(test=words, **found)


def _over(parts: Sequence[Part]) -> str:
    titles = [part.title for part in parts if part.title]
    return f", mean over {len(parts)} settings" if len(parts) > 1 else (f", {titles[0]}" if titles else "")


def _times(parts: Sequence[Part], ours: str, theirs: str) -> str:
    """', mean training 12.0 s against 14.0 s': what was measured, over the settings that the records tell it of."""
    rows = [(part.row(ours), part.row(theirs)) for part in parts if isinstance(part, Setting)]
    pairs = [(a["train_seconds"], b["train_seconds"]) for a, b in rows if a is not None and b is not None]
    clock = next((f" ({a['train_clock']} time)" for a, _ in rows if a is not None and a["train_clock"]), "")
    known = [pair for pair in pairs if None not in pair]
    if not known:
        return ""
    left, right = (math.fsum(column) / len(known) for column in zip(*known, strict=True))
    return f", mean training {duration(left)} against {duration(right)}{clock}"


def _in_any_setting(evidence: Evidence, declared: Declared, row: Row) -> Claim:
    teacher = declared["than"] == THE_TEACHER
    whom = "the teacher" if teacher else evidence.title(evidence.resolve(declared["than"]) or declared["than"])
    row = _tested(row, f"paired difference to {whom} by seed in each setting; Holm over the settings")
    if lacking := evidence.lacking(declared["arm"], declared["than"]):
        return row(estimate=lacking, verdict=NOT_TESTED, n=0)
    left = evidence.resolve(declared["arm"])
    right = evidence.resolve(declared["than"], left)
    assert left is not None and right is not None  # Nothing is lacking.
    summaries = [statistics.summarise(paired(part, left, right).values()) for part in evidence.parts]
    adjusted = statistics.holm([statistics.mean_p(s) for s in summaries])
    both = "student − teacher" if teacher else f"{evidence.title(left)} − {evidence.title(right)}"
    titles = [part.title or both for part in evidence.parts]
    return _many(row, list(zip(titles, summaries, adjusted, strict=True)), "{}: {}", "Holm", all_needed=False)


def all_better(evidence: Evidence, declared: Declared, row: Row) -> Claim:
    """One against each of several, all of which it must beat."""
    row = _tested(row, "paired difference to each baseline by seed; Dunnett-type over the baselines")
    name = evidence.resolve(declared["arm"])
    rivals = [] if name is None or evidence.lacking(name) else evidence.rivals(declared["than"], name)
    if name is None or not rivals:
        return row(estimate="the study has no baseline beside ours", verdict=NOT_TESTED, n=0)
    pairs = {other: evidence.differences(name, other)[0] for other in rivals}
    adjusted = many_to_one.adjusted(list(pairs.values()))
    rated = [
        (evidence.title(other), statistics.summarise(by_seed.values()), p)
        for (other, by_seed), p in zip(pairs.items(), adjusted, strict=True)
    ]
    return _many(row, rated, "− {}: {}", "Dunnett", all_needed=True)


def order_of_means(evidence: Evidence, declared: Declared, row: Row) -> Claim:
    """Each against the next of a list, the best first; all must be better, Holm over the pairs."""
    row = _tested(row, "paired difference of each to the next by seed; Holm over these")
    known = [evidence.resolve(name) for name in declared["arms"]]
    names = [name for name in known if name is not None and not evidence.lacking(name)]
    if len(names) < 2:
        return row(estimate="fewer than two of these are in the study", verdict=NOT_TESTED, n=0)
    pairs = list(itertools.pairwise(names))
    summaries = [statistics.summarise(evidence.differences(left, right)[0].values()) for left, right in pairs]
    adjusted = statistics.holm([statistics.mean_p(s) for s in summaries])
    titles = [f"{evidence.title(left)} − {evidence.title(right)}" for left, right in pairs]
    return _many(row, list(zip(titles, summaries, adjusted, strict=True)), "{}: {}", "Holm", all_needed=True)


def _many(
    row: Row, rated: Sequence[tuple[str, Summary, float | None]], shape: str, by: str, *, all_needed: bool
) -> Claim:
    """Several differences: each with its interval, and with its own p, adjusted `by` a method, where they give no p together.

    Supported when all are proven positive (or, unless all are needed, some are and none is negative); not supported
    when one is proven negative and, unless all are needed, none positive.
    """
    means = [s for _, s, _ in rated if s.mean is not None]
    if not means:
        return row(estimate=_told(rated, shape, by), verdict=NOT_TESTED, n=0)
    up = [p for _, s, p in rated if p is not None and s.mean is not None and s.mean > 0]
    down = [p for _, s, p in rated if p is not None and s.mean is not None and s.mean < 0]
    for_it, against = min(up, default=1.0), min(down, default=1.0)
    if all_needed:
        for_it = max(up) if up and len(up) == len(rated) else 1.0
    verdict, mixed = INCONCLUSIVE, ""
    told = min(for_it, against) if up or down else None
    if all_needed and against >= statistics.ALPHA and any(p is None for *_, p in rated):
        # All are needed and some are still to come; one proven worse would settle it.
        told = None
        if any(s.mean is None for _, s, _ in rated):
            verdict = NOT_TESTED
    elif max(for_it, against) < statistics.ALPHA:
        # Not one finding, so no p of it.
        told, mixed = None, "; better in some, worse in others"
    elif told is not None and told < statistics.ALPHA:
        verdict = SUPPORTED if for_it < against else NOT_SUPPORTED
    least = min(means, key=lambda s: s.mean or 0.0)
    n = max(s.n for s in means)
    estimate = _told(rated, shape, "" if told is not None else by) + mixed
    return row(estimate=estimate, verdict=verdict, n=n, value=least.mean, low=least.low, high=least.high, p=told)


def _told(rated: Sequence[tuple[str, Summary, float | None]], shape: str, by: str) -> str:
    """The differences with their intervals; with `by` also with their p."""
    words = []
    for name, s, p in rated:
        shown = "no pair yet" if s.mean is None else spread_words(s)
        words.append(shape.format(name, shown + (f", {by} p {p_value(p)}" if by and p is not None else "")))
    return "; ".join(words)


def best_is_not(evidence: Evidence, declared: Declared, row: Row) -> Claim:
    """Something else is better than the one named: by the surest of them; it is the best only if all are worse."""
    name = evidence.resolve(declared["arm"])
    subject = evidence.title(name) if name is not None else ""
    arms = isinstance(evidence, ArmEvidence)
    others, one = ("other method", subject) if arms else ("smaller set", "the full one")
    row = _tested(row, f"paired gain of every {others} over {one}; Dunnett-type over these tests")
    if name is None or not any(part.scores(name) for part in evidence.parts):
        return row(estimate=f"{subject or 'what is asked about'} has no result", verdict=NOT_TESTED, n=0)
    rivals = evidence.others(name)
    gains = [_gain(evidence, other, name) for other in rivals]
    adjusted = many_to_one.adjusted([gain.differences for gain in gains])
    rated = [(g.mean, g, p, c) for g, p, c in zip(gains, adjusted, rivals, strict=True) if g.mean is not None]
    if not rated:
        return row(estimate=f"no {others} to compare", verdict=NOT_TESTED, n=0)
    top, gain, p, other = max(rated, key=lambda item: item[0])
    ahead = [(p, mean, g, c) for mean, g, p, c in rated if p is not None and mean > 0]
    # Better by the surest one; worse only if every one of them is.
    told = min((p for p, *_ in ahead), default=None)
    verdict = INCONCLUSIVE
    if told is not None and told < statistics.ALPHA:
        verdict = SUPPORTED
        # The one that shows it, which need not be the one with the largest gain.
        p, top, gain, other = max((item for item in ahead if item[0] < statistics.ALPHA), key=lambda item: item[1])
    elif all(p is not None and mean < 0 for mean, _, p, _ in rated):
        told = max(p for *_, p, _ in rated if p is not None)
        verdict = NOT_SUPPORTED if told < statistics.ALPHA else INCONCLUSIVE
    elif told is None and any(p is not None for *_, p, _ in rated):
        told = 1.0
    why = f" ({_untested(gain)})" if p is None else ""
    estimate = f"{evidence.title(other)} over {subject}: {points(top)} points{why}"
    return row(estimate=estimate, verdict=verdict, n=gain.pairs, value=top, low=gain.low, high=gain.high, p=told)


def _gain(evidence: Evidence, left: str, right: str) -> Gain:
    by_seed, _ = evidence.differences(left, right)
    return statistics.paired_gain(by_seed, dict.fromkeys(by_seed, 0.0))


def _untested(gain: Gain) -> str:
    """Why a gain has no p."""
    return f"n={gain.pairs}: too few to judge" if gain.pairs < statistics.LEAST_PAIRS else "all equal: no test"
