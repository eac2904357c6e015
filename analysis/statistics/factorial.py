"""Designs of on/off factors: main effects, interactions, and the slope over the number of terms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.statistics.means import ALPHA, mean_p, summarise
from analysis.statistics.multiple import holm


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


def factorial_effects(cells: Mapping[frozenset[str], Mapping[int, float]], factors: Sequence[str]) -> FactorialEffects:
    """Main effects and pairwise interactions of a 2^k design per seed, with a t-interval over seeds.

    For a seed with all 2^k cells, E_T = 2^-(k-1) sum_c x_c prod_{t in T} (+1 if t in c else -1). A main effect is the
    mean change when the factor is switched on; a pairwise term is half the difference of two such changes. For a seed
    with missing cells the same model (mean, main, pairwise) is fitted by least squares; a seed whose cells cannot tell
    the terms apart is left out, and when that leaves none, main effects alone are fitted.

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
        estimates = _estimates(finite, grid, seeds, terms)
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
    used = [pair for pair in missing if pair[1] in estimates]
    method = "least squares" if used else "contrasts"
    return FactorialEffects(
        effects=_effects(terms, estimates),
        method=method,
        seeds=tuple(estimates),
        missing=missing,
        note="; ".join(notes),
    )


def _estimates(
    finite: Mapping[frozenset[str], Mapping[int, float]],
    grid: Sequence[frozenset[str]],
    seeds: Sequence[int],
    terms: Sequence[tuple[str, ...]],
) -> dict[int, np.ndarray]:
    """The terms' effects under each seed whose cells tell them apart."""
    found = {}
    for seed in seeds:
        present = [cell for cell in grid if seed in finite.get(cell, {})]
        design = np.array([[1.0, *(_sign(term, cell) for term in terms)] for cell in present])
        if len(present) <= len(terms) and len(present) < len(grid):
            continue
        if np.linalg.matrix_rank(design) < len(terms) + 1:
            continue
        y = np.array([finite[cell][seed] for cell in present])
        # Twice the coefficient of a +-1 column is the contrast; for a complete grid the two are equal.
        found[seed] = 2 * np.linalg.lstsq(design, y, rcond=None)[0][1:]
    return found


def _effects(terms: Sequence[tuple[str, ...]], estimates: Mapping[int, np.ndarray]) -> tuple[Effect, ...]:
    """Each term over seeds; two questions, two families: which factors help, and which overlap."""
    effects = []
    for index, term in enumerate(terms):
        by_seed = {seed: float(values[index]) for seed, values in estimates.items()}
        s = summarise(by_seed.values())
        assert s.mean is not None
        effects.append(Effect(factors=term, n=s.n, mean=s.mean, low=s.low, high=s.high, p=mean_p(s), by_seed=by_seed))
    for size in (1, 2):
        family = [index for index, effect in enumerate(effects) if len(effect.factors) == size]
        for index, p in zip(family, holm([effects[index].p for index in family]), strict=True):
            effects[index] = replace(effects[index], p_holm=p)
    return tuple(effects)


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
