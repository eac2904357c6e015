"""Verification: whether two images show the same person, by a threshold on how alike they are. NumPy alone.

Pairs are called the same when their similarity is *above* the threshold. Scores are read at a threshold that was chosen
elsewhere; only `best_threshold` and the curve look at the pairs they report on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Verification:
    """Accuracy over folds, each at a threshold chosen without it."""

    accuracy: float  # Mean over folds.
    std: float  # Of the folds' accuracies, with F - 1 degrees of freedom; 0 for one fold.
    folds: np.ndarray  # [F] float64: accuracy of each fold.
    thresholds: np.ndarray  # [F] float64.
    correct: np.ndarray  # [P] bool.

    @property
    def standard_error(self) -> float:
        """Standard error of the mean over folds."""
        return self.std / math.sqrt(len(self.folds))

    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy: t over folds where there are several, else over pairs after Wilson.

        Folds of one training are no replication: this says nothing of what another seed would give.
        """
        if len(self.folds) < 2:
            return wilson(int(self.correct.sum()), len(self.correct))
        half = t_quantile(0.975, len(self.folds) - 1) * self.standard_error
        return max(0.0, self.accuracy - half), min(1.0, self.accuracy + half)


def over_folds(
    similarity: np.ndarray, same: np.ndarray, fold: np.ndarray, *, threshold: float | None = None
) -> Verification:
    """Accuracy of each fold at the threshold that is best on the other folds (the protocol of LFW's second view).

    Every cut between two similarities is tried; public face code tries 400 squared distances, so it may find less.

    Args:
        similarity: [P].
        same: [P] bool.
        fold: [P] whole numbers.
        threshold: Takes the place of the choice, and is needed where there is a single fold; from validation pairs.

    Raises:
        ValueError: If there is one fold and no threshold, or the arrays do not fit.
    """
    similarity, same = _checked(similarity, same)
    numbers = np.unique(fold)
    if len(numbers) < 2 and threshold is None:
        raise ValueError("A single fold leaves no others to choose a threshold on: pass `threshold`.")
    right = np.empty(len(same), dtype=bool)
    chosen = np.empty(len(numbers))
    for index, number in enumerate(numbers):
        held = fold == number
        chosen[index] = best_threshold(similarity[~held], same[~held])[0] if threshold is None else threshold
        right[held] = (similarity[held] > chosen[index]) == same[held]
    scores = np.array([right[fold == number].mean() for number in numbers])
    std = float(scores.std(ddof=1)) if len(scores) > 1 else 0.0
    return Verification(float(scores.mean()), std, scores, chosen, right)


def best_threshold(similarity: np.ndarray, same: np.ndarray) -> tuple[float, float]:
    """(threshold, accuracy) with the most pairs right; exact.

    Where several cuts are equally good, the middle of the widest stretch of them; below all similarities or above all
    of them, the threshold stays at the outermost one.
    """
    similarity, same = _checked(similarity, same)
    values, equal, different = _steps(similarity, same)
    # Right when the k lowest values are called different, k = 0 ... number of values.
    right = np.concatenate([[0], np.cumsum(different - equal)]) + equal.sum()
    best = np.flatnonzero(right == right.max())
    stretches = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
    # A cut of k lies from the k-th lowest value (included) to the next (not included).
    bounds = [(values[max(0, run[0] - 1)], values[min(run[-1], len(values) - 1)]) for run in stretches]
    widest = int(np.argmax([high - low for low, high in bounds]))
    low, high = bounds[widest]
    middle = float(low + (high - low) / 2)
    if stretches[widest][-1] == 0:
        middle = float(np.nextafter(values[0], -np.inf))  # All are called the same.
    elif middle >= high:
        middle = float(low)  # The two are neighbours in float64.
    return middle, float(right.max() / len(same))


def roc(similarity: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(false accept rates, true accept rates, thresholds), [U + 1] each, from nothing accepted to everything.

    At entry u the u most alike values are accepted: those from `thresholds[u]` on, the first threshold being infinite.
    """
    similarity, same = _checked(similarity, same)
    if same.all() or not same.any():
        raise ValueError("A curve needs pairs of both kinds, but all are of one.")
    values, equal, different = (column[::-1] for column in _steps(similarity, same))
    accepted, wrongly = (np.concatenate([[0], np.cumsum(column)]) for column in (equal, different))
    return wrongly / wrongly[-1], accepted / accepted[-1], np.concatenate([[np.inf], values])


def tpr_at_fpr(similarity: np.ndarray, same: np.ndarray, rate: float) -> float:
    """The largest true accept rate whose false accept rate is at most `rate`; no interpolation.

    With n different pairs a rate below 1/n can only be met by accepting none of them.
    """
    false, true, _ = roc(similarity, same)
    return float(true[false <= rate].max())


def equal_error_rate(similarity: np.ndarray, same: np.ndarray) -> float:
    """Where as many are accepted falsely as are rejected falsely, on straight lines between the curve's points."""
    false, true, _ = roc(similarity, same)
    missed = 1 - true
    after = int(np.argmax(false >= missed))
    before = after - 1  # At entry 0 all are missed and none accepted, so `after` is at least 1.
    gap = missed[before] - false[before]
    share = gap / (gap + false[after] - missed[after])
    return float(false[before] + share * (false[after] - false[before]))


def area_under_curve(similarity: np.ndarray, same: np.ndarray) -> float:
    """Chance that a pair of the same person is more alike than one of two; ties count half."""
    false, true, _ = roc(similarity, same)
    return float(np.trapezoid(true, false))


def wilson(right: int, count: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """95 % score interval of a share (Wilson 1927); pairs count as independent, which those of one image are not."""
    share, square = right / count, z * z / count
    middle = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def t_quantile(share: float, freedom: int) -> float:
    """Quantile of Student's t for whole degrees of freedom, by halving on the finite series of its distribution.

    The series are 26.7.3 and 26.7.4 of Abramowitz and Stegun.
    """
    low, high = 0.0, 1.0
    while _t_inside(high, freedom) < 2 * share - 1:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_inside(middle, freedom) < 2 * share - 1 else (low, middle)
    return high


def _t_inside(t: float, freedom: int) -> float:
    """Probability of -t to t."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, total, term = math.cos(angle), 0.0, 1.0
    if freedom % 2:
        term = cosine
        for k in range(1, freedom - 1, 2):
            total += term
            term *= cosine * cosine * (k + 1) / (k + 2)
        return 2 / math.pi * (angle + math.sin(angle) * total)
    for k in range(0, freedom - 1, 2):
        total += term
        term *= cosine * cosine * (k + 1) / (k + 2)
    return math.sin(angle) * total


def _steps(similarity: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct similarities, ascending, and how many pairs of each kind have them."""
    values, where = np.unique(similarity, return_inverse=True)
    counts = [np.bincount(where, weights=kind, minlength=len(values)).astype(np.int64) for kind in (same, ~same)]
    return values, counts[0], counts[1]


def _checked(similarity: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    similarity, same = np.asarray(similarity, dtype=np.float64), np.asarray(same, dtype=bool)
    if similarity.ndim != 1 or similarity.shape != same.shape or len(same) == 0:
        raise ValueError(f"`similarity` and `same` must be [P], P > 0, but got {similarity.shape} and {same.shape}.")
    if not np.isfinite(similarity).all():
        raise ValueError("`similarity` must be finite.")
    return similarity, same
