"""Many cells against one reference, paired by seed: p-values that hold for all of them together (Dunnett's question).

Dunnett's own test (1955; `scipy.stats.dunnett`) pools one variance over all groups and takes them as independent. Here
every cell runs under the reference's seeds, and a reference trained without distillation may vary more than the others:
pooled so, 30 % of null studies of 15 cells found something when it varied three times as much. So the statistic is made
of paired differences, t = mean * sqrt(n) / s, with s the larger of the cell's own standard deviation and that pooled over
the cells: the first guards against a wild cell, the second against one that is calm by luck. That a wild cell does not hide
all others, no variance counts for more than WILD times the median in the pool. Its p is the share of null
studies, drawn with the very seeds that are there, whose largest |t| is as large. All differences share the reference's
errors, and so do the drawn ones. They are drawn twice, with a reference that varies as much as the cells and one that
varies three times as much; the larger p counts, and none is below the paired t-test's own. Where the cells vary so
differently that equal ones rarely would, none is below Holm's either, which asks nothing of their variances.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from analysis.statistics import means, multiple, paired
from analysis.statistics.means import ALPHA, LEAST_PAIRS
from analysis.statistics.paired import POWER

DRAWS = 20_000  # A p of 0.05 is exact to 0.003 (two standard errors); the draws are the same every time.
SPREADS = (1.0, 3.0)  # Of the reference's errors, relative to the cells'.
WILD = 6.0
UNEVEN = 0.95  # Cells whose largest variance is this rarely so far above the median get Holm's p at least.
_NUMBERS = 2_000_000  # Drawn at once.

Pattern = tuple[tuple[bool, ...], ...]  # Cell by seed: whether the pair is there.


def adjusted(differences: Sequence[Mapping[int, float]]) -> list[float | None]:
    """Two-sided p-values of the cells' mean differences to one reference, adjusted for all of them.

    Args:
        differences: Per cell its difference to the reference by seed.

    Returns:
        One p per cell; None for cells with fewer than three pairs or without any spread, which are no part of the family.
    """
    finite = [{s: x for s, x in by_seed.items() if math.isfinite(x)} for by_seed in differences]
    summaries = [means.summarise(by_seed.values()) for by_seed in finite]
    tested = [i for i, s in enumerate(summaries) if s.n >= LEAST_PAIRS and s.sd]
    found: list[float | None] = [None] * len(finite)
    if not tested:
        return found
    seeds = sorted(set().union(*(finite[i] for i in tested)))
    null, ratios = _null(tuple(tuple(seed in finite[i] for seed in seeds) for i in tested))
    spreads = [(summaries[i].sd or 0.0, summaries[i].n) for i in tested]
    variances = np.array([[sd * sd for sd, _ in spreads]])
    pooled = float(_pooled(variances, np.array([n - 1 for _, n in spreads]))[0, 0])
    for i, (sd, n) in zip(tested, spreads, strict=True):
        mean = summaries[i].mean or 0.0
        own = means.t_test_p(mean, sd, n)
        # A single cell is compared by the paired t-test alone, exactly.
        joint = 0.0 if len(tested) == 1 else _exceeded(null, abs(mean) * math.sqrt(n) / max(sd, pooled))
        found[i] = max(own, joint)
    if len(tested) > 1 and _unevenness(variances)[0] > np.quantile(ratios, UNEVEN):
        owns = [means.t_test_p(summaries[i].mean or 0.0, sd, n) for i, (sd, n) in zip(tested, spreads, strict=True)]
        for i, holm in zip(tested, multiple.holm(owns), strict=True):
            found[i] = max(found[i] or 0.0, holm or 0.0)
    return found


def _exceeded(null: Sequence[np.ndarray], value: float) -> float:
    """Share of the null studies with a statistic of at least `value`, by the less favourable reference."""
    over = max(len(column) - int(np.searchsorted(column, value, side="left")) for column in null)
    return (over + 1) / (DRAWS + 1)


def _pooled(variances: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Standard deviation [N, 1] pooled over the K cells of `variances` [N, K], wild ones cut to WILD times the median."""
    squares = np.minimum(variances, WILD * _median(variances)) * degrees
    return np.asarray(np.sqrt(squares.sum(1, keepdims=True) / degrees.sum()))


def _median(variances: np.ndarray) -> np.ndarray:
    """The median [N, 1] of the K variances, of an even number the lower one."""
    middle = (variances.shape[1] - 1) // 2
    return np.asarray(np.partition(variances, middle, axis=1)[:, middle : middle + 1])


def _unevenness(variances: np.ndarray) -> np.ndarray:
    """How many times [N] the largest of the K variances is the median."""
    median = _median(variances)[:, 0]
    return np.asarray(variances.max(1) / np.maximum(median, np.finfo(float).tiny))


@functools.lru_cache(maxsize=64)
def _null(pattern: Pattern) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Of each drawn null study the largest |t|, ascending, for each of SPREADS, and its unevenness under the first."""
    found, ratios = [np.empty(DRAWS) for _ in SPREADS], np.empty(DRAWS)
    for start, mean, sd, pooled in _studies(pattern):
        ratios[start : start + len(sd[0])] = _unevenness(sd[0] ** 2)
        for column, m, s, p in zip(found, mean, sd, pooled, strict=True):
            count = np.array(pattern).sum(1)
            column[start : start + len(m)] = (np.abs(m) * np.sqrt(count) / np.maximum(s, p)).max(1)
    return tuple(np.sort(column) for column in found), ratios


def _studies(pattern: Pattern) -> Iterator[tuple[int, Any, Any, Any]]:
    """Drawn null studies in blocks: where the block starts; per spread means, deviations [N, K] and pooled ones [N, 1]."""
    there = np.array(pattern)
    cells, seeds = there.shape
    count = there.sum(1)
    generator = np.random.default_rng(1955)
    block = max(1, min(DRAWS, _NUMBERS // (cells * seeds)))
    part = max(1, block // 16)  # Worked on at once; the draws, and so the p, rest on the block alone.
    for start in range(0, DRAWS, block):
        size = min(block, DRAWS - start)
        errors = generator.standard_normal((size, cells, seeds))
        reference = generator.standard_normal((size, 1, seeds))
        for at in range(0, size, part):
            piece = slice(at, at + part)
            told = [_told(errors[piece] - spread * reference[piece], there, count) for spread in SPREADS]
            means, deviations, pooled_ones = zip(*told, strict=True)
            yield start + at, means, deviations, pooled_ones


def _told(differences: np.ndarray, there: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means and deviations [N, K] and pooled deviations [N, 1] of drawn differences [N, K, seeds]."""
    d = np.where(there, differences, 0.0)
    mean = d.sum(2) / count
    variances = np.where(there, (d - mean[:, :, None]) ** 2, 0.0).sum(2) / (count - 1)
    return mean, np.sqrt(variances), _pooled(variances, count - 1)


@functools.lru_cache(maxsize=64)
def _detectable(cells: int, pairs: int) -> float:
    """As `detectable`, in units of the standard deviation of the differences."""
    pattern = ((True,) * pairs,) * cells
    needed = max(float(np.quantile(column, 1 - ALPHA)) for column in _null(pattern)[0])
    alone = means.t_quantile(1 - ALPHA / 2, pairs - 1)
    blocks = [(mean[0][:, 0], sd[0][:, 0], pooled[0][:, 0]) for _, mean, sd, pooled in _studies(pattern)]
    mean, sd, pooled = (np.concatenate(column) for column in zip(*blocks, strict=True))
    # The mean must lie this far from 0 to be found.
    far = np.maximum(needed * np.maximum(sd, pooled), alone * sd) / math.sqrt(pairs)
    low, high = 0.0, 1.0
    while np.mean(np.abs(mean + high) >= far) < POWER:
        high *= 2
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if np.mean(np.abs(mean + middle) >= far) < POWER else (low, middle)
    return high / math.sqrt(2)  # A drawn difference has the variance of two.


def detectable(sd: float, cells: int, pairs: int) -> float:
    """Smallest gain of one of `cells` that `adjusted` finds at 5 % with 80 % power, the others being like the reference.

    Args:
        sd: Standard deviation of the paired differences.
        cells: How many are compared with the reference, at least one.
        pairs: Seeds of each, at least three.

    Raises:
        ValueError: For fewer.
    """
    if cells < 1 or pairs < LEAST_PAIRS:
        raise ValueError(f"cells >= 1 and pairs >= {LEAST_PAIRS} must hold, but got cells={cells} and pairs={pairs}.")
    return paired.detectable(sd, pairs) if cells == 1 else _detectable(cells, pairs) * sd
