"""Estimates and intervals fit for 2 to 10 seeds. Plain numbers in and out: no frames, no drawing.

The unit of replication is the seed. A mean's interval is the t-interval: at 3 seeds a percentile bootstrap,
seaborn's
default bar, covers 75 % instead of 95 %.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import special

LEVEL = 0.95
ALPHA = 0.05
POWER = 0.8
LEAST_PAIRS = 3  # With fewer nothing is judged: two equal signs are a coin thrown twice, whatever t says.

# Spread below this share of the largest value is rounding. Two shares of the same test set differ by 1 / items or not at
# all, and nobody tests on ten million.
NO_SPREAD = 1e-7
RATE = (0.0, 1.0)  # Where a score lies,
DIFFERENCE = (-1.0, 1.0)  # and a difference of two.


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What n numbers say about their mean; `low` and `high` are None below two numbers and where all are equal."""

    n: int
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    n_expected: int = 0
    n_failed: int = 0


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


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One main effect (one factor) or interaction (two) of an on/off design, per seed and over seeds."""

    factors: tuple[str, ...]
    n: int
    mean: float
    low: float | None
    high: float | None
    p: float | None  # None below three seeds or without any spread.
    by_seed: dict[int, float]
    p_holm: float | None = None  # Over the main effects, or over the interactions.

    @property
    def passes(self) -> bool:
        """Whether the effect differs from 0 at 5 % after adjustment."""
        return self.p_holm is not None and self.p_holm < ALPHA


@dataclass(frozen=True, kw_only=True)
class FactorialEffects:
    """The effects and how they were got; `missing` lists (cell, seed) pairs without a value."""

    effects: tuple[Effect, ...]
    method: str
    seeds: tuple[int, ...]
    missing: tuple[tuple[frozenset[str], int], ...]
    note: str = ""


def t_quantile(probability: float, degrees: int) -> float:
    """Student's t at `probability` for `degrees` >= 1 degrees of freedom."""
    return float(special.stdtrit(degrees, probability))


def summarise(
    values: Iterable[float | None],
    *,
    n_expected: int | None = None,
    n_failed: int = 0,
    bounds: tuple[float, float] | None = None,
) -> Summary:
    """Mean, standard deviation (n - 1) and 95 % t-interval of the finite `values`: mean +- t sd / sqrt(n).

    Values that are None, NaN or infinite do not enter; `n` against `n_expected` shows that they are lacking. Equal
    values have no interval: that none of them differed says nothing of how much the next one may.

    Args:
        bounds: Where a mean can lie at all (`RATE`, `DIFFERENCE`): the interval ends there. Of no effect when some value
            lies outside, as then it is no such number.
    """
    given = list(values)
    x = np.array([value for value in given if value is not None and math.isfinite(value)], dtype=float)
    n = len(x)
    expected = len(given) if n_expected is None else n_expected
    if n == 0:
        return Summary(n=0, n_expected=expected, n_failed=n_failed)
    mean = math.fsum(x) / n
    if n == 1:
        return Summary(n=1, mean=mean, minimum=mean, maximum=mean, n_expected=expected, n_failed=n_failed)
    sd = _sd(x)
    low, high = _within(mean, t_quantile((1 + LEVEL) / 2, n - 1) * sd / math.sqrt(n), x, bounds)
    return Summary(
        n=n,
        mean=mean,
        sd=sd,
        low=low if sd > 0 else None,
        high=high if sd > 0 else None,
        minimum=float(x.min()),
        maximum=float(x.max()),
        n_expected=expected,
        n_failed=n_failed,
    )


def _within(mean: float, half: float, x: np.ndarray, bounds: tuple[float, float] | None) -> tuple[float, float]:
    """mean - half and mean + half, not beyond `bounds` where all of `x` lie inside them."""
    if bounds is None or x.min() < bounds[0] or x.max() > bounds[1]:
        return mean - half, mean + half
    return max(mean - half, bounds[0]), min(mean + half, bounds[1])


def _sd(x: np.ndarray) -> float:
    # Equal accuracies differ by rounding after a subtraction; that is no spread, and a p-value from it no
    # evidence.
    sd = float(np.std(x, ddof=1))
    return sd if sd > NO_SPREAD * max(1.0, float(np.max(np.abs(x)))) else 0.0


def direction(s: Summary, at: float = 0.0) -> int:
    """1 where the whole 95 % interval lies above `at`, -1 where below, else 0; 0 without spread or below three numbers."""
    if s.n < LEAST_PAIRS or s.low is None or s.high is None:
        return 0
    return 1 if s.low > at else -1 if s.high < at else 0


def mean_p(s: Summary, at: float = 0.0) -> float | None:
    """Two-sided p of a t-test of the mean against `at`; None without spread or below three numbers."""
    if s.n < LEAST_PAIRS or s.mean is None or not s.sd:
        return None
    return t_test_p(s.mean - at, s.sd, s.n)


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


def t_test_p(mean: float, sd: float, n: int) -> float:
    """Two-sided p of a one-sample t-test against 0."""
    return float(2 * special.stdtr(n - 1, -abs(mean) / (sd / math.sqrt(n))))


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
    p = max(float(special.stdtr(s.n - 1, -(margin - side * s.mean) / error)) for side in (1, -1))
    return Equivalence(n=s.n, mean=s.mean, low=low, high=high, p=p, within=p < ALPHA)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment: p'_(i) = max over j <= i of min(1, (m - j + 1) p_(j)).

    The family is the defined p-values; a None stays None and is not counted in m.
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        adjusted[index] = highest
    return adjusted


def factorial_effects(cells: Mapping[frozenset[str], Mapping[int, float]], factors: Sequence[str]) -> FactorialEffects:
    """Main effects and pairwise interactions of a 2^k design per seed, with a t-interval over seeds.

    For a seed with all 2^k cells, E_T = 2^-(k-1) sum_c x_c prod_{t in T} (+1 if t in c else -1). A main
    effect is the
    mean change when the factor is switched on; a pairwise term is half the difference of two such changes.
    For a seed
    with missing cells the same model (mean, main, pairwise) is fitted by least squares; a seed whose cells
    cannot
    tell the terms apart is left out, and when that leaves none, main effects alone are fitted.

    Args:
        cells: Scores by seed of each cell, a cell being the set of its switched-on factors.
        factors: Names of the k >= 1 factors.
    """
    grid = [frozenset(c) for size in range(len(factors) + 1) for c in itertools.combinations(factors, size)]
    finite = {
        cell: {s: x for s, x in by_seed.items() if x is not None and math.isfinite(x)}
        for cell, by_seed in cells.items()
        if cell in grid
    }
    seeds = sorted({seed for by_seed in finite.values() for seed in by_seed})
    missing = tuple((cell, seed) for cell in grid for seed in seeds if seed not in finite.get(cell, {}))
    singles: list[tuple[str, ...]] = [(factor,) for factor in factors]
    pairs: list[tuple[str, ...]] = list(itertools.combinations(factors, 2))
    notes: list[str] = []
    estimates: dict[int, np.ndarray] = {}
    terms: list[tuple[str, ...]] = []
    for terms in ([*singles, *pairs], singles):
        estimates = {}
        for seed in seeds:
            present = [cell for cell in grid if seed in finite.get(cell, {})]
            design = np.array([[1.0, *(_sign(term, cell) for term in terms)] for cell in present])
            if len(present) <= len(terms) and len(present) < len(grid):
                continue
            if np.linalg.matrix_rank(design) < len(terms) + 1:
                continue
            y = np.array([finite[cell][seed] for cell in present])
            # Twice the coefficient of a +-1 column is the contrast; for a complete grid the two are equal.
            estimates[seed] = 2 * np.linalg.lstsq(design, y, rcond=None)[0][1:]
        if estimates:
            break
    if not estimates:
        return FactorialEffects(
            effects=(),
            method="none",
            seeds=(),
            missing=missing,
            note="too few cells to tell the effects apart",
        )
    if terms == singles and pairs:
        notes.append("too few cells for interactions: main effects only")
    if left_out := [seed for seed in seeds if seed not in estimates]:
        notes.append(f"seeds left out for too few cells: {', '.join(map(str, left_out))}")
    effects = []
    for index, term in enumerate(terms):
        by_seed = {seed: float(values[index]) for seed, values in estimates.items()}
        s = summarise(by_seed.values())
        assert s.mean is not None
        effects.append(Effect(factors=term, n=s.n, mean=s.mean, low=s.low, high=s.high, p=mean_p(s), by_seed=by_seed))
    # Two questions, two families: which factors help, and which overlap.
    for size in (1, 2):
        own = [index for index, effect in enumerate(effects) if len(effect.factors) == size]
        for index, p in zip(own, holm([effects[index].p for index in own]), strict=True):
            effects[index] = replace(effects[index], p_holm=p)
    used = [pair for pair in missing if pair[1] in estimates]
    method = "least squares" if used else "contrasts"
    return FactorialEffects(
        effects=tuple(effects), method=method, seeds=tuple(estimates), missing=missing, note="; ".join(notes)
    )


def _sign(term: tuple[str, ...], cell: frozenset[str]) -> float:
    return float(math.prod(1 if factor in cell else -1 for factor in term))


def slope(points: Sequence[tuple[float, float]], groups: Sequence[float] | None = None) -> float | None:
    """Least-squares slope of y on x over (x, y) `points`; with `groups`, within groups of equal value only.

    None when x does not vary (inside any group).
    """
    keys = list(groups) if groups is not None else [0.0] * len(points)
    top = bottom = 0.0
    for key in sorted(set(keys)):
        inside = [point for point, own in zip(points, keys, strict=True) if own == key]
        x_mean = math.fsum(x for x, _ in inside) / len(inside)
        y_mean = math.fsum(y for _, y in inside) / len(inside)
        top += math.fsum((x - x_mean) * (y - y_mean) for x, y in inside)
        bottom += math.fsum((x - x_mean) ** 2 for x, _ in inside)
    return top / bottom if bottom > 0 else None


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
