"""Differences between two cells under the same seeds: gains, equivalence, and what a design can find."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from scipy import special

from analysis.statistics.means import ALPHA, DIFFERENCE, LEAST_PAIRS, mean_p, summarise, t_below, t_quantile

POWER = 0.8


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Mean paired difference to a baseline over the seeds both have."""

    pairs: int
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None  # Two-sided paired t; None below three pairs or without any spread.
    effect_size: float | None = None  # Cohen's d_z, mean / sd.
    differences: dict[int, float] = field(default_factory=dict)
    note: str = ""


def paired_gain(
    values: Mapping[int, float],
    baseline: Mapping[int, float],
    *,
    teachers: tuple[Mapping[int, str | None], Mapping[int, str | None]] | None = None,
    allow_different_teachers: bool = False,
) -> Gain:
    """Gain of one cell over another, paired by seed, with its t-interval and paired t-test.

    Args:
        values, baseline: Score by seed; seeds only one of them has are left out (`pairs` tells).
        teachers: Teacher key by seed of both; a seed without a key (a student taught by nobody) fits any.
        allow_different_teachers: Pair them all the same; the note says so.

    Raises:
        ValueError: If a pair has two different teachers and that was not allowed.
    """
    seeds = sorted(values.keys() & baseline.keys())
    seeds = [seed for seed in seeds if math.isfinite(values[seed]) and math.isfinite(baseline[seed])]
    notes = []
    if teachers is not None:
        ours, theirs = teachers
        unlike = [s for s in seeds if ours.get(s) and theirs.get(s) and ours.get(s) != theirs.get(s)]
        if unlike and not allow_different_teachers:
            raise ValueError(
                f"Paired cells must share their teacher, but under seed {unlike[0]} they hang from "
                f"{ours[unlike[0]]} and {theirs[unlike[0]]}. Compare cells of one teacher, or allow it and "
                "say so."
            )
        if unlike:
            notes.append(f"different teachers under {len(unlike)} of {len(seeds)} seeds")
    differences = {seed: values[seed] - baseline[seed] for seed in seeds}
    s = summarise(differences.values(), bounds=DIFFERENCE)
    if s.n == 0:
        return Gain(pairs=0, note="; ".join([*notes, "no seed in common"]))
    if s.n == 1 or s.sd is None or s.mean is None:
        return Gain(pairs=1, mean=s.mean, differences=differences, note="; ".join([*notes, "n=1: no interval"]))
    effect_size = s.mean / s.sd if s.sd else None
    if s.sd == 0:
        notes.append("all differences are equal: p is undefined")
    if s.n < LEAST_PAIRS:
        notes.append(f"n={s.n}: too few for a test")
    return Gain(
        pairs=s.n,
        mean=s.mean,
        sd=s.sd,
        low=s.low,
        high=s.high,
        p=mean_p(s),
        effect_size=effect_size,
        differences=differences,
        note="; ".join(notes),
    )


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """Whether a mean difference lies within a margin, shown rather than assumed."""

    n: int
    mean: float | None = None
    low: float | None = None  # 90 % interval: equivalence at 5 % is this interval inside the margin.
    high: float | None = None
    p: float | None = None  # The larger of the two one-sided tests; None where `within` is.
    within: bool | None = None  # None where it cannot be told: below three differences, or without spread.


def equivalence(differences: Iterable[float], margin: float) -> Equivalence:
    """Two one-sided t-tests (Schuirmann 1987) of a mean difference against -margin and +margin, each at 5 %.

    Equal differences show nothing, however small: one test set of few items gives them easily.

    Raises:
        ValueError: Unless the margin is positive.
    """
    if not margin > 0:
        raise ValueError(f"The margin must be positive, but got {margin}.")
    s = summarise(differences)
    if s.mean is None or not s.sd:
        return Equivalence(n=s.n, mean=s.mean)
    error = s.sd / math.sqrt(s.n)
    half = t_quantile(1 - ALPHA, s.n - 1) * error
    low, high = s.mean - half, s.mean + half
    if s.n < LEAST_PAIRS:
        return Equivalence(n=s.n, mean=s.mean, low=low, high=high)
    p = max(t_below(-(margin - side * s.mean) / error, s.n - 1) for side in (1, -1))
    return Equivalence(n=s.n, mean=s.mean, low=low, high=high, p=p, within=p < ALPHA)


def detectable(sd: float, n: int, *, tests: int = 1, alpha: float = ALPHA, power: float = POWER) -> float:
    """Smallest gain that a two-sided paired t-test at `alpha` / `tests` finds with 80 % power, by the noncentral t.

    The t-statistic of a gain g is noncentral t with noncentrality g sqrt(n) / sd; the share of the wrong tail is left
    out, which is below 1e-3 of the power.

    Raises:
        ValueError: For fewer than two pairs or tests < 1.
    """
    if n < 2 or tests < 1:
        raise ValueError(f"n >= 2 and tests >= 1 must hold, but got n={n} and tests={tests}.")
    needed = t_quantile(1 - alpha / tests / 2, n - 1)
    low, high = 0.0, needed
    while special.nctdtr(n - 1, high, needed) > 1 - power:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if special.nctdtr(n - 1, middle, needed) > 1 - power else (low, middle)
    return high * sd / math.sqrt(n)
