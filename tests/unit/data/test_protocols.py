"""What each task trains on, selects on and tests; that no test is trained on is in contracts/test_protocols.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.data.packed import TEST, TRAIN, Packed, PackedInfo
from trainables.data.protocols import Cut, cut, cut_for, require_apart, require_unseen
from trainables.data.splits import split_indices
from trainables.errors import DataError, UsageError
from trainables.spec import TeacherSpec

USUAL: dict[str, Any] = {"validation_fraction": 0.0, "split_seed": 0, "train_images": 0}


def made(
    sizes: Sequence[int],
    *,
    split: Sequence[int] | None = None,
    pairs: Sequence[tuple[int, int, int, int]] | None = None,
    names: Sequence[str] | None = None,
) -> Packed:
    """A data set of labels alone: class after class, named a, b, ...; splits alternate unless they are given."""
    labels = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    parts = np.arange(len(labels)) % 2 if split is None else np.asarray(split)
    info = PackedInfo(
        name="made",
        fingerprint="0" * 16,
        path=Path("made.arrow"),
        classes=tuple(names or [chr(ord("a") + index) for index in range(len(sizes))]),
        channels=1,
        height=1,
        width=1,
        train_images=int((parts == TRAIN).sum()),
        test_images=int((parts == TEST).sum()),
        bytes=0,
    )
    images = np.zeros((len(labels), 1, 1, 1), dtype=np.uint8)
    rows = None if pairs is None else np.array(pairs, dtype=np.int32)
    return Packed(images, labels, parts.astype(np.uint8), info, rows)


def names_of(packed: Packed, items: np.ndarray) -> str:
    """Names of the classes of some items, each once."""
    return "".join(packed.info.classes[index] for index in np.unique(packed.labels[items]))


# Classification.


def test_classification_takes_the_splits_of_the_data_as_they_are() -> None:
    packed = made([20, 30, 10])
    asked: dict[str, Any] = {"validation_fraction": 0.2, "split_seed": 3, "train_images": 12}
    found = cut(packed, task="classification", **asked)
    np.testing.assert_array_equal(found.train, split_indices(packed, "train", **asked))
    np.testing.assert_array_equal(found.validation, split_indices(packed, "validation", **asked))
    np.testing.assert_array_equal(found.test, split_indices(packed, "test", **asked))
    assert found.classes == found.tested == ("a", "b", "c")
    assert found.label_of.tolist() == [0, 1, 2]
    assert found.pairs is None


def test_classification_leaves_the_fields_of_other_tasks_alone() -> None:
    packed = made([20, 30, 10])
    plain = cut(packed, task="classification", **USUAL)
    other = cut(packed, task="classification", **USUAL, held_out=0.9, folds=(1,), min_images=15, subjects=7)
    np.testing.assert_array_equal(plain.train, other.train)
    np.testing.assert_array_equal(plain.test, other.test)


def test_classification_without_test_images_is_refused() -> None:
    with pytest.raises(UsageError, match="made has no test images.*3 images of every class"):
        cut(made([4, 4], split=[TRAIN] * 8), task="classification", **USUAL)


def test_classes_never_learned_cannot_be_classified() -> None:
    with pytest.raises(UsageError, match="has test images of 'b' and none for training. Choose retrieval"):
        cut(made([4, 4], split=[TRAIN] * 4 + [TEST] * 4), task="classification", **USUAL)


# Retrieval.


@pytest.mark.parametrize(
    ("held_out", "trained", "tested"),
    [(0.5, "abc", "def"), (0.25, "abcd", "ef"), (0.41, "abcd", "ef"), (0.42, "abc", "def"), (0.6, "ab", "cdef")],
)
def test_retrieval_tests_the_last_classes_with_all_their_images(held_out: float, trained: str, tested: str) -> None:
    packed = made([4, 5, 6, 4, 5, 3])
    found = cut(packed, task="retrieval", **USUAL, held_out=held_out)
    assert "".join(found.classes) == trained == names_of(packed, found.train)
    assert "".join(found.tested) == tested == names_of(packed, found.test)
    assert len(found.train) + len(found.test) == 27
    assert found.train.dtype == found.validation.dtype == found.test.dtype == found.label_of.dtype == np.int64


def test_classes_that_the_data_keeps_apart_stay_apart() -> None:
    # Classes b and d are the data's test split, whatever share is held out.
    split = [TRAIN] * 4 + [TEST] * 4 + [TRAIN] * 4 + [TEST] * 4 + [TRAIN] * 4
    packed = made([4] * 5, split=split)
    for task in ("retrieval", "verification", "identification"):
        found = cut(packed, task=task, **USUAL, held_out=0.9)
        assert found.tested == ("b", "d")
        assert found.classes == ("a", "c", "e")


def test_one_split_alone_keeps_no_classes_apart() -> None:
    found = cut(made([4] * 4, split=[TRAIN] * 16), task="retrieval", **USUAL)
    assert (found.classes, found.tested) == (("a", "b"), ("c", "d"))


def test_logits_are_numbered_without_gaps() -> None:
    # Class b has one image and class d none: neither can be trained on.
    found = cut(made([4, 1, 4, 0, 4, 4, 4, 4, 4]), task="retrieval", **USUAL)
    assert found.classes == ("a", "c", "e")
    assert found.tested == ("f", "g", "h", "i")
    assert found.label_of.tolist() == [0, -1, 1, -1, 2, -1, -1, -1, -1]


def test_classes_of_few_images_are_not_trained_on_but_may_be_tested() -> None:
    found = cut(made([9, 3, 9, 5, 9, 1, 9, 3]), task="retrieval", **USUAL, min_images=4)
    assert found.classes == ("a", "c", "d")
    assert found.tested == ("e", "f", "g", "h")


# Validation and training images.


def test_validation_takes_the_last_of_the_training_classes_whole() -> None:
    packed = made([4] * 40)
    found = cut(packed, task="retrieval", **USUAL | {"validation_fraction": 0.25})
    assert "".join(found.classes) == "abcdefghijklmno"
    assert names_of(packed, found.validation) == "pqrst"
    assert len(found.validation) == 20


def test_at_least_two_classes_validate_and_two_are_left() -> None:
    few = {"validation_fraction": 0.01}
    packed = made([4] * 8)
    found = cut(packed, task="retrieval", **USUAL | few)
    assert (found.classes, names_of(packed, found.validation)) == (("a", "b"), "cd")
    found = cut(made([4] * 6), task="retrieval", **USUAL | few)
    assert (found.classes, len(found.validation)) == (("a", "b", "c"), 0)


def test_no_share_validates_nothing() -> None:
    assert len(cut(made([4] * 20), task="retrieval", **USUAL).validation) == 0


def test_fewer_training_images_are_stratified_and_part_of_more() -> None:
    packed = made([8] * 8)
    whole: set[int] = set()
    for count in (3, 6, 12, 23):
        found = cut(packed, task="retrieval", **USUAL | {"train_images": count}, held_out=0.6)
        assert len(found.train) == count
        per_class = np.bincount(packed.labels[found.train], minlength=3)
        assert max(per_class) - min(per_class) <= 1
        assert whole < set(found.train.tolist())
        whole = set(found.train.tolist())


@pytest.mark.parametrize("count", [2, 25])
def test_training_images_that_are_not_there_are_refused(count: int) -> None:
    with pytest.raises(UsageError, match=f"from 3 \\(one per class\\) to 24, but got {count}"):
        cut(made([8] * 8), task="retrieval", **USUAL | {"train_images": count}, held_out=0.6)


# Verification.

# Two folds: fold 1 names a and b, fold 2 names c and d. Classes of 3 images, items in order.
PAIRS = [(1, 0, 1, 1), (1, 0, 3, 0), (2, 6, 8, 1), (2, 7, 10, 0)]


def test_people_named_in_a_tested_pair_are_not_trained_on() -> None:
    packed = made([3] * 8, pairs=PAIRS)
    found = cut(packed, task="verification", **USUAL)
    assert found.tested == ("a", "b", "c", "d")
    assert found.classes == ("e", "f", "g", "h")
    assert found.test.tolist() == [0, 1, 3, 6, 7, 8, 10]
    assert found.pairs is not None
    assert found.pairs.tolist() == [list(row) for row in PAIRS]


def test_people_of_other_folds_are_trained_on() -> None:
    packed = made([3] * 8, pairs=PAIRS)
    found = cut(packed, task="verification", **USUAL | {"validation_fraction": 0.1}, folds=(2,))
    assert found.tested == ("c", "d")
    assert found.classes == ("a", "b", "e", "f")
    assert names_of(packed, found.validation) == "gh"
    assert found.pairs is not None
    assert found.pairs.tolist() == [[2, 6, 8, 1], [2, 7, 10, 0]]


def test_pairs_of_the_data_are_tested_whatever_share_is_held_out() -> None:
    packed = made([3] * 8, pairs=PAIRS)
    one, other = (cut(packed, task="verification", **USUAL, held_out=share) for share in (0.1, 0.9))
    np.testing.assert_array_equal(one.test, other.test)
    np.testing.assert_array_equal(one.train, other.train)


def test_only_people_with_enough_images_are_trained_on() -> None:
    packed = made([3, 3, 3, 3, 1, 2, 5, 9], pairs=PAIRS)
    assert cut(packed, task="verification", **USUAL).classes == ("f", "g", "h")
    assert cut(packed, task="verification", **USUAL, min_images=5).classes == ("g", "h")


def test_pairs_are_drawn_where_the_data_has_none() -> None:
    packed = made([12] * 6)
    found = cut(packed, task="verification", **USUAL)
    assert found.tested == ("d", "e", "f")
    assert found.pairs is not None
    assert np.unique(found.pairs[:, 0]).tolist() == list(range(1, 11))
    first, second = packed.labels[found.pairs[:, 1]], packed.labels[found.pairs[:, 2]]
    assert ((first == second) == (found.pairs[:, 3] == 1)).all()
    assert names_of(packed, found.pairs[:, 1:3].ravel()) == "def"
    np.testing.assert_array_equal(found.test, np.unique(found.pairs[:, 1:3]))
    again = cut(packed, task="verification", **USUAL).pairs
    other = cut(packed, task="verification", **USUAL | {"split_seed": 1}).pairs
    np.testing.assert_array_equal(found.pairs, again)
    assert not np.array_equal(found.pairs, other)


def test_drawn_folds_can_be_chosen_too() -> None:
    packed = made([12] * 6)
    every = cut(packed, task="verification", **USUAL).pairs
    found = cut(packed, task="verification", **USUAL, folds=(2, 5)).pairs
    assert every is not None and found is not None
    assert found.tolist() == [row for row in every.tolist() if row[0] in (2, 5)]


def test_folds_that_are_not_there_are_refused() -> None:
    with pytest.raises(UsageError, match="`folds` must be among 1, 2, but got 3"):
        cut(made([3] * 8, pairs=PAIRS), task="verification", **USUAL, folds=(1, 3))


def test_a_single_fold_needs_validation_for_its_threshold() -> None:
    packed = made([3] * 8, pairs=PAIRS)
    with pytest.raises(UsageError, match="single fold.*Raise `validation_fraction`, or test at least 2 `folds`"):
        cut(packed, task="verification", **USUAL, folds=(1,))


# Identification.


def test_all_people_held_out_are_identified() -> None:
    found = cut(made([4, 4, 4, 2, 1, 4]), task="identification", **USUAL)
    assert found.tested == ("d", "f")  # One image cannot be known and asked for at once.
    assert found.classes == ("a", "b", "c")
    assert len(found.test) == 6


def test_subjects_are_drawn_among_those_of_five_images_and_the_rest_train() -> None:
    packed = made([6] * 10 + [4] * 2 + [6] * 8)
    drawn = [cut(packed, task="identification", **USUAL | {"split_seed": s}, subjects=4) for s in range(6)]
    for found in drawn:
        assert len(found.tested) == 4
        assert set(found.tested) <= set("mnopqrst")
        assert len(found.classes) == 16
    assert len({found.tested for found in drawn}) > 1
    again = cut(packed, task="identification", **USUAL, subjects=4)
    assert again.tested == drawn[0].tested
    everyone = cut(packed, task="identification", **USUAL, subjects=8)
    assert everyone.tested == tuple("mnopqrst")


def test_people_that_the_data_keeps_for_test_are_not_trained_on_when_not_drawn() -> None:
    packed = made([6] * 8, split=[TRAIN] * 24 + [TEST] * 24)
    found = cut(packed, task="identification", **USUAL, subjects=2)
    assert found.classes == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("subjects", "message"),
    [(9, "find 9 subjects of 5 images.*made has 8"), (1, "0 \\(all\\) or at least 2, but got 1")],
)
def test_subjects_that_cannot_be_had_are_refused(subjects: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cut(made([6] * 16), task="identification", **USUAL, subjects=subjects)


# What is refused, and the guarantee.


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"task": "retreival"}, "Did you mean 'retrieval'"),
        ({"task": "retrieval", "validation_fraction": 1.0}, "`0 <= validation_fraction < 1`"),
        ({"task": "retrieval", "held_out": 0.1}, "At least 2 classes must be tested.*gives 0. Raise it"),
        ({"task": "retrieval", "held_out": 0.9}, "at least 2 classes of 2 images.*leaves 0 when 4"),
        ({"task": "retrieval", "min_images": 5}, "at least 2 classes of 5 images.*Lower `held_out` or `min_images`"),
    ],
)
def test_what_cannot_be_cut_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cut(made([4] * 4), **USUAL | asked)


def test_two_classes_of_one_name_are_not_kept_apart_and_refused() -> None:
    packed = made([4] * 6, names=["ann", "bob", "cid", "dan", "bob", "eve"])
    with pytest.raises(
        DataError,
        match="Training and test must not share a class, but 'bob' is in both. Names count: two classes of made may",
    ):
        cut(packed, task="retrieval", **USUAL)


@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.parametrize("task", ["classification", "retrieval"])
def test_a_cut_that_leaks_an_item_is_found(part: str, task: str) -> None:
    packed = made([8] * 12)
    good = cut(packed, task=task, **USUAL | {"validation_fraction": 0.3})
    require_apart(packed, good, task)
    leaked = np.union1d(getattr(good, part), good.test[:1])
    bad = Cut(**{**good.__dict__, part: leaked})
    with pytest.raises(DataError, match=f"must not share images, but both hold item {good.test[0]} of made"):
        require_apart(packed, bad, task)


def test_a_cut_that_leaks_a_person_is_found() -> None:
    packed = made([8] * 12)
    good = cut(packed, task="retrieval", **USUAL)
    bad = Cut(**{**good.__dict__, "test": good.test[1:], "train": np.union1d(good.train, good.test[:1])})
    with pytest.raises(DataError, match="must not share a class, but 'g' is in both"):
        require_apart(packed, bad, "retrieval")


def test_a_pair_that_reaches_a_training_image_is_found() -> None:
    packed = made([3] * 8, pairs=PAIRS)
    good = cut(packed, task="verification", **USUAL)
    bad = Cut(**{**good.__dict__, "pairs": np.array([[1, 0, int(good.train[0]), 0]])})
    with pytest.raises(DataError, match="Training and test must not share images"):
        require_apart(packed, bad, "verification")


def test_a_guide_that_has_seen_the_tested_people_is_refused() -> None:
    packed = made([12] * 8, pairs=[(1, 0, 1, 1), (1, 0, 13, 0), (2, 24, 25, 1), (2, 24, 36, 0)])
    own = cut(packed, task="verification", **USUAL)
    require_unseen(packed, own, own, "verification")
    # Its few training images are none of the tested ones, but show the same people.
    guide = cut(packed, task="verification", **USUAL | {"train_images": 7, "validation_fraction": 0.1}, folds=(2,))
    assert not np.isin(guide.train, own.test).any()
    with pytest.raises(UsageError, match="must not have seen .* 'a' is in both.*Give all stages the same task, folds"):
        require_unseen(packed, guide, own, "verification")
    everything = cut(packed, task="classification", **USUAL)
    with pytest.raises(UsageError, match="must not have seen .* must not share images"):
        require_unseen(packed, everything, own, "verification")


def test_a_guide_that_validated_on_the_test_is_refused() -> None:
    packed = made([6] * 12)
    own = cut(packed, task="retrieval", **USUAL)
    guide = cut(packed, task="retrieval", **USUAL | {"validation_fraction": 0.3}, held_out=0.25)
    with pytest.raises(UsageError, match="Validation and test must not share"):
        require_unseen(packed, Cut(**{**guide.__dict__, "train": own.train, "classes": own.classes}), own, "retrieval")


def test_a_training_is_cut_by_its_own_fields() -> None:
    packed = made([6] * 12, split=[TRAIN] * 72)
    spec = TeacherSpec(
        task="identification",
        held_out=0.75,
        subjects=3,
        min_images=2,
        validation_fraction=0.2,
        split_seed=5,
        train_images=14,
    )
    one = cut_for(packed, spec)
    other = cut(
        packed,
        task="identification",
        held_out=0.75,
        subjects=3,
        min_images=2,
        validation_fraction=0.2,
        split_seed=5,
        train_images=14,
    )
    for name in ("train", "validation", "test", "label_of"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.classes, one.tested) == (other.classes, other.tested)
    assert len(one.train) == 14
    folds = TeacherSpec(task="verification", folds=(2,), validation_fraction=0.1)
    assert cut_for(made([3] * 8, pairs=PAIRS), folds).tested == ("c", "d")
