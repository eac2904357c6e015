"""Thresholds against trying every cut, curves against counting, intervals against scipy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from trainables.metrics.verification import (
    area_under_curve,
    best_threshold,
    equal_error_rate,
    over_folds,
    roc,
    t_quantile,
    tpr_at_fpr,
    wilson,
)


def drawn(count: int, seed: int, *, gap: float = 0.3, levels: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of `count` pairs, half the same and `gap` more alike; `levels` makes ties."""
    random = np.random.RandomState(seed)
    same = np.arange(count) % 2 == 0
    similarity = np.clip(random.randn(count) * 0.2 + gap * same, -1, 1)
    if levels:
        similarity = np.round(similarity * levels) / levels
    return similarity.astype(np.float32).astype(np.float64), same


def accuracy(similarity: np.ndarray, same: np.ndarray, threshold: float) -> float:
    return sum((s > threshold) == t for s, t in zip(similarity.tolist(), same.tolist(), strict=True)) / len(same)


def best_by_trying(similarity: np.ndarray, same: np.ndarray) -> float:
    """The best accuracy of all cuts, one by one."""
    values = sorted(set(similarity.tolist()))
    cuts = [values[0] - 1, *((a + b) / 2 for a, b in itertools.pairwise(values)), values[-1] + 1]
    return max(accuracy(similarity, same, at) for at in cuts)


# Thresholds.


@pytest.mark.parametrize("levels", [0, 4, 20])
@pytest.mark.parametrize("seed", range(8))
def test_no_cut_is_better_than_the_best_threshold(seed: int, levels: int) -> None:
    similarity, same = drawn(61, seed, levels=levels)
    threshold, claimed = best_threshold(similarity, same)
    assert claimed == best_by_trying(similarity, same)
    assert accuracy(similarity, same, threshold) == claimed
    for fixed in np.linspace(-1, 1, 41):
        assert claimed >= accuracy(similarity, same, fixed)


@pytest.mark.parametrize(
    ("similarity", "same", "threshold", "score"),
    [
        ([0.0, 0.2, 0.6, 1.0], [0, 0, 1, 1], 0.4, 1.0),  # The middle of the gap.
        ([0.0, 0.25, 0.5, 0.75], [0, 1, 0, 1], 0.125, 0.75),  # Two stretches, equally wide: the lower one.
        ([0.0, 0.1, 0.1, 1.0], [0, 0, 1, 1], 0.5, 0.75),  # A value of both kinds joins the stretches beside it.
        ([0.0, 0.1, 0.5, 1.0], [0, 1, 0, 1], 0.75, 0.75),  # Two stretches: the wider one.
        ([0.5, 0.5, 0.5, 0.5], [1, 0, 1, 0], 0.5, 0.5),  # Nothing to tell apart.
        ([0.3, 0.4], [0, 0], 0.4, 1.0),  # All are different: none is above.
    ],
)
def test_of_equally_good_cuts_the_middle_of_the_widest_stretch_is_taken(
    similarity: list[float], same: list[int], threshold: float, score: float
) -> None:
    found = best_threshold(np.array(similarity), np.array(same, dtype=bool))
    assert found == pytest.approx((threshold, score))


def test_a_threshold_below_all_accepts_all() -> None:
    similarity, same = np.array([0.3, 0.4]), np.array([True, True])
    threshold, score = best_threshold(similarity, same)
    assert threshold < 0.3
    assert score == accuracy(similarity, same, threshold) == 1.0


def test_neighbours_in_float64_can_be_told_apart() -> None:
    low = 0.1
    similarity, same = np.array([low, np.nextafter(low, 1)]), np.array([False, True])
    threshold, score = best_threshold(similarity, same)
    assert accuracy(similarity, same, threshold) == score == 1.0


# Folds.


def test_the_threshold_of_each_fold_is_chosen_on_the_others() -> None:
    similarity, same = drawn(200, 0)
    fold = np.arange(200) // 20 + 1
    found = over_folds(similarity, same, fold)
    scores = []
    for number in range(1, 11):
        others = fold != number
        threshold, _ = best_threshold(similarity[others], same[others])
        scores.append(accuracy(similarity[~others], same[~others], threshold))
    assert found.folds.tolist() == scores
    assert found.accuracy == pytest.approx(np.mean(scores))
    assert found.std == pytest.approx(np.std(scores, ddof=1))
    assert found.standard_error == pytest.approx(np.std(scores, ddof=1) / math.sqrt(10))
    assert found.correct.mean() == pytest.approx(found.accuracy)
    low, high = found.interval()
    expected = scipy.stats.t.interval(0.95, 9, loc=np.mean(scores), scale=scipy.stats.sem(scores))
    assert (low, high) == pytest.approx(expected)


def test_a_fold_does_not_choose_its_own_threshold() -> None:
    # Fold 2 alone would choose 0.85 and be right throughout; fold 1 makes it 0.5.
    similarity = np.array([0.4, 0.6, 0.8, 0.9])
    same = np.array([False, True, False, True])
    found = over_folds(similarity, same, np.array([1, 1, 2, 2]))
    assert found.thresholds.tolist() == pytest.approx([0.85, 0.5])
    assert found.folds.tolist() == [0.5, 0.5]
    assert found.correct.tolist() == [True, False, False, True]


def test_folds_count_alike_whatever_their_size() -> None:
    similarity, same = np.array([0.0, 1.0, 0.0, 1.0, 1.0, 0.0]), np.array([0, 1, 0, 1, 0, 1], dtype=bool)
    found = over_folds(similarity, same, np.array([1, 1, 1, 1, 2, 2]), threshold=0.5)
    assert found.accuracy == 0.5
    assert found.correct.mean() == pytest.approx(4 / 6)


def test_perfect_similarities_are_always_right() -> None:
    same = np.arange(60) % 2 == 0
    similarity = np.where(same, 0.9, 0.1)
    found = over_folds(similarity, same, np.arange(60) // 6)
    assert (found.accuracy, found.std, found.interval()) == (1.0, 0.0, (1.0, 1.0))
    assert best_threshold(similarity, same) == (pytest.approx(0.5), 1.0)
    assert equal_error_rate(similarity, same) == 0.0
    assert area_under_curve(similarity, same) == 1.0
    assert tpr_at_fpr(similarity, same, 0.001) == 1.0


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
def test_equal_similarities_are_worth_a_guess(value: float) -> None:
    same = np.arange(60) % 2 == 0
    similarity = np.full(60, value)
    found = over_folds(similarity, same, np.arange(60) // 6)
    assert found.accuracy == 0.5
    assert best_threshold(similarity, same)[1] == 0.5
    assert equal_error_rate(similarity, same) == 0.5
    assert area_under_curve(similarity, same) == 0.5
    assert tpr_at_fpr(similarity, same, 0.1) == 0.0


def test_shuffled_labels_are_worth_a_guess() -> None:
    similarity, same = drawn(6000, 0)
    scores = []
    for seed in range(5):
        random = np.random.RandomState(seed)
        # Each fold keeps its halves: one short of a kind would meet a threshold that expects more of it.
        shuffled = np.concatenate([random.permutation(part) for part in np.split(same, 10)])
        scores.append(over_folds(similarity, shuffled, np.arange(6000) // 600).accuracy)
    assert np.mean(scores) == pytest.approx(0.5, abs=0.01)


def test_a_single_fold_takes_the_threshold_it_is_given() -> None:
    similarity, same = drawn(40, 3)
    fold = np.ones(40)
    with pytest.raises(ValueError, match="single fold.*pass `threshold`"):
        over_folds(similarity, same, fold)
    found = over_folds(similarity, same, fold, threshold=0.15)
    assert found.accuracy == accuracy(similarity, same, 0.15)
    assert (found.thresholds.tolist(), found.std) == ([0.15], 0.0)
    assert found.interval() == wilson(int(found.correct.sum()), 40)


# The curve.


@pytest.mark.parametrize("levels", [0, 6])
def test_the_curve_is_what_counting_gives(levels: int) -> None:
    similarity, same = drawn(50, 1, levels=levels)
    false, true, thresholds = roc(similarity, same)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    for x, y, threshold in zip(false, true, thresholds, strict=True):
        assert x == (similarity[~same] >= threshold).mean()
        assert y == (similarity[same] >= threshold).mean()
    wins = [float(a > b) + 0.5 * (a == b) for a in similarity[same] for b in similarity[~same]]
    assert area_under_curve(similarity, same) == pytest.approx(np.mean(wins))


@pytest.mark.parametrize("levels", [0, 3, 6])
@pytest.mark.parametrize("seed", range(5))
def test_curve_and_area_are_those_of_scikit_learn_to_the_last_bit(levels: int, seed: int) -> None:
    similarity, same = drawn(301, seed, levels=levels)
    false, true, thresholds = sklearn.metrics.roc_curve(same, similarity, drop_intermediate=False)
    for ours, theirs in zip(roc(similarity, same), (false, true, thresholds), strict=True):
        assert np.array_equal(ours, theirs)
    assert area_under_curve(similarity, same) == sklearn.metrics.auc(false, true)


def test_the_rate_is_met_and_never_interpolated() -> None:
    # 10 different pairs: a rate of 0.1 admits exactly one of them, 0.099 none.
    similarity = np.concatenate([np.linspace(0, 0.9, 10), [0.95, 0.85, 0.75, 0.05]])
    same = np.arange(14) >= 10
    assert tpr_at_fpr(similarity, same, 0.1) == 0.5
    assert tpr_at_fpr(similarity, same, 0.099) == 0.25
    assert tpr_at_fpr(similarity, same, 0.2) == 0.75
    assert tpr_at_fpr(similarity, same, 1.0) == 1.0


def test_three_of_three_thousand_are_a_thousandth() -> None:
    different = np.linspace(0, 1, 3000)
    similarity = np.concatenate([different, [different[-3] - 1e-9, different[-4] - 1e-9]])
    same = np.arange(3002) >= 3000
    assert tpr_at_fpr(similarity, same, 0.001) == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_the_equal_error_rate_lies_between_the_points_around_it(seed: int) -> None:
    similarity, same = drawn(80, seed)
    found = equal_error_rate(similarity, same)
    at = [(similarity[~same] >= t).mean() for t in np.unique(similarity)]
    missed = [(similarity[same] < t).mean() for t in np.unique(similarity)]
    assert min(map(max, zip(at, missed, strict=True))) >= found >= max(map(min, zip(at, missed, strict=True)))


def test_equal_errors_of_a_case_by_hand() -> None:
    similarity = np.array([0.9, 0.7, 0.5, 0.3, 0.8, 0.4, 0.2, 0.1])
    same = np.array([1, 1, 1, 1, 0, 0, 0, 0], dtype=bool)
    # Accepting from 0.5 on: one of four accepted falsely, one of four missed.
    assert equal_error_rate(similarity, same) == pytest.approx(0.25)


def test_a_curve_of_one_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="both kinds"):
        roc(np.array([0.1, 0.2]), np.array([True, True]))


@pytest.mark.parametrize(
    ("similarity", "same", "message"),
    [([0.1], [True, False], r"\(1,\) and \(2,\)"), ([], [], "P > 0"), ([float("nan")], [True], "finite")],
)
def test_arrays_that_do_not_fit_are_refused(similarity: list[float], same: list[bool], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        best_threshold(np.array(similarity), np.array(same, dtype=bool))


# Intervals.


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 30])
@pytest.mark.parametrize("share", [0.9, 0.975, 0.995])
def test_quantiles_of_t_are_those_of_scipy(share: float, freedom: int) -> None:
    assert t_quantile(share, freedom) == pytest.approx(scipy.stats.t.ppf(share, freedom), rel=1e-9)


@pytest.mark.parametrize(("right", "count"), [(0, 10), (10, 10), (45, 60), (5400, 6000)])
def test_intervals_of_shares_are_those_of_scipy(right: int, count: int) -> None:
    expected = scipy.stats.binomtest(right, count).proportion_ci(0.95, method="wilson")
    assert wilson(right, count) == pytest.approx((expected.low, expected.high), abs=1e-12)
