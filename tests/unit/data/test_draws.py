"""Pairs and galleries that are drawn: as many as promised, none twice, the same for everyone who asks."""

from __future__ import annotations

import collections
import itertools

import numpy as np
import pytest

from trainables.data.draws import draw_pairs, split_gallery
from trainables.errors import UsageError


def labels_of(*sizes: int) -> np.ndarray:
    made = np.repeat(np.arange(len(sizes)), sizes)
    return made[np.random.RandomState(0).permutation(len(made))]


SIZES = {
    "equal classes": (12, 12, 12, 12),
    "one large class": (60, 3, 2, 2, 1, 1),
    "pairs of two": (2,) * 40,
    "two small classes": (3, 4),
    "an odd and an even class": (7, 8),
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("folds", [1, 3])
def test_pairs_are_what_they_say_and_none_comes_twice(sizes: tuple[int, ...], folds: int) -> None:
    labels = labels_of(*sizes)
    pairs = draw_pairs(labels, seed=4, folds=folds, per_fold=9)
    seen = set()
    for _, first, second, same in pairs.tolist():
        assert first != second
        assert (labels[first] == labels[second]) == bool(same)
        assert frozenset((first, second)) not in seen
        seen.add(frozenset((first, second)))
    every = list(itertools.combinations(range(len(labels)), 2))
    equal = sum(labels[a] == labels[b] for a, b in every)
    each = min(9, equal // folds, (len(every) - equal) // folds)
    expected = [fold for fold in range(1, folds + 1) for _ in range(2 * each)]
    assert pairs[:, 0].tolist() == expected
    assert pairs[:, 3].tolist() == ([1] * each + [0] * each) * folds
    assert pairs.dtype == np.int64


def test_all_pairs_of_a_kind_can_be_drawn() -> None:
    for sizes in ((5, 5), (6, 1), (1, 1, 2), (4, 4, 1)):
        labels = labels_of(*sizes)
        pairs = draw_pairs(labels, seed=0, folds=1, per_fold=10_000)
        every = list(itertools.combinations(range(len(labels)), 2))
        equal = sum(labels[a] == labels[b] for a, b in every)
        assert len(pairs) == 2 * min(equal, len(every) - equal)


def test_a_large_class_does_not_fill_the_equal_pairs() -> None:
    labels = labels_of(500, *([10] * 20))
    pairs = draw_pairs(labels, seed=0)
    drawn = collections.Counter(labels[pairs[pairs[:, 3] == 1, 1]].tolist())
    # The small classes offer 45 pairs each and give all of them; in proportion they would give 21.
    assert len(pairs) == 6000
    assert {drawn[c] for c in range(1, 21)} == {45}


def test_images_of_a_class_are_used_about_equally_often() -> None:
    labels = labels_of(*([30] * 5))
    pairs = draw_pairs(labels, seed=1, folds=2, per_fold=75)
    equal, different = (np.bincount(pairs[pairs[:, 3] == kind, 1:3].ravel(), minlength=150) for kind in (1, 0))
    assert set(equal.tolist()) == {2}
    assert different.max() <= 4


def test_draws_depend_on_the_seed_and_nothing_else() -> None:
    labels = labels_of(20, 20, 20)
    np.random.seed(1)
    first = draw_pairs(labels, seed=7)
    np.random.seed(2)
    np.testing.assert_array_equal(draw_pairs(labels + 5, seed=7), first)
    assert not np.array_equal(draw_pairs(labels, seed=8), first)


def test_drawn_pairs_stay_what_they_are() -> None:
    pairs = draw_pairs(np.repeat(np.arange(6), 6), seed=0, folds=2, per_fold=2)
    assert pairs.tolist() == PINNED_PAIRS


@pytest.mark.parametrize("sizes", [(1, 1, 1), (9,), (2, 1), (3, 3)])
def test_folds_without_a_pair_of_each_kind_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(
        UsageError, match="at least 10 pairs of images of one class and 10 of two.*Hold out more classes"
    ):
        draw_pairs(labels_of(*sizes), seed=0)


@pytest.mark.parametrize(("gallery", "known"), [(1, (1, 1, 1)), (3, (3, 3, 1)), (0, (8, 4, 1)), (99, (9, 4, 1))])
def test_every_subject_has_known_images_and_probes(gallery: int, known: tuple[int, ...]) -> None:
    labels = labels_of(10, 5, 2)
    inside, probes = split_gallery(labels, gallery=gallery, seed=0)
    assert sorted([*inside, *probes]) == list(range(17))
    assert np.bincount(labels[inside]).tolist() == list(known)
    assert inside.tolist() == sorted(inside) and probes.tolist() == sorted(probes)


def test_a_gallery_is_drawn_from_its_seed() -> None:
    labels = labels_of(10, 10)
    first = split_gallery(labels, gallery=2, seed=0)[0]
    assert first.tolist() == split_gallery(labels, gallery=2, seed=0)[0].tolist()
    assert first.tolist() != split_gallery(labels, gallery=2, seed=1)[0].tolist()
    # A larger gallery holds the smaller one, so that arms with more images see more of the same.
    assert set(first) < set(split_gallery(labels, gallery=5, seed=0)[0])


def test_a_subject_with_one_image_cannot_be_identified() -> None:
    with pytest.raises(UsageError, match="2 images of every subject"):
        split_gallery(labels_of(3, 1), gallery=1, seed=0)


PINNED_PAIRS = [
    [1, 10, 6, 1],
    [1, 17, 12, 1],
    [1, 10, 29, 0],
    [1, 6, 1, 0],
    [2, 33, 30, 1],
    [2, 1, 2, 1],
    [2, 2, 25, 0],
    [2, 29, 6, 0],
]
