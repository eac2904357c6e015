"""Protocols: which items and classes a task trains on, validates on and tests, and nothing of how it scores. No torch.

Classification tests other images of the classes it learned. Verification, identification and retrieval test classes,
or people, that training and validation never met. Everything is drawn from `split_seed`, so all networks of a study,
whatever their own seeds, face the same items, pairs and galleries.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.data.draws import draw_pairs, seeded_random
from trainables.data.packed import TEST, TRAIN, Packed, split_indices
from trainables.errors import DataError, UsageError, did_you_mean
from trainables.spec import TASKS, OutputsSpec, TrainingSpec

LEAST_OF_A_DRAW = 5  # Images of a subject that may be drawn, where their number is given.


@dataclass(frozen=True, eq=False)
class Cut:
    """What a task makes of a data set. Items are positions in the packed file, sorted, int64."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    classes: tuple[str, ...]  # What is trained on, in the order of the logits.
    label_of: np.ndarray  # [all classes] int64: the logit of a class of the data, or -1.
    tested: tuple[str, ...]
    pairs: np.ndarray | None = None  # Verification: [P, 4] int64 rows of fold, first item, second item, 1 if the same.


def cut_for(packed: Packed, spec: TrainingSpec | OutputsSpec) -> Cut:
    """The cut that a training asks for; see `cut`."""
    return cut(
        packed,
        task=spec.task,
        validation_fraction=spec.validation_fraction,
        split_seed=spec.split_seed,
        train_images=spec.train_images,
        held_out=spec.held_out,
        folds=spec.folds,
        min_images=spec.min_images,
        subjects=spec.subjects,
    )


def cut(
    packed: Packed,
    *,
    task: str,
    validation_fraction: float,
    split_seed: int,
    train_images: int,
    held_out: float = 0.5,
    folds: Sequence[int] = (),
    min_images: int = 0,
    subjects: int = 0,
) -> Cut:
    """Items of training, validation and test for a task; nothing tested is trained on.

    * classification: the splits of the data, which must share their classes; see `split_indices`.
    * retrieval: the last `held_out` of the classes are tested, all their images. Where the data keeps the classes of
      its two splits apart, those of its test split are tested instead.
    * verification: pairs that come with the data are tested, those of `folds` or all; nobody named in them is trained
      on. Data without pairs holds classes out as retrieval does, and pairs are drawn among them.
    * identification: all held-out classes of two images and more are tested, or `subjects` drawn among those of five
      and more. Whoever is not drawn is trained on, unless the data itself says that the class is for test.

    Where tested classes are not trained on, neither are classes with fewer than `min_images` images, or fewer than two.
    `held_out` 0 tests nothing here, not even pairs that come with the data: for networks that `whole` tests on other
    data.
    The last of the remaining ones validate, a share of `validation_fraction` but two at least; if that left fewer than
    two to train on, nothing validates. Two classes, which is what few people leave, are a weak judge: a guess is right
    every other time, and networks that differ among many people may look alike there, so hardly anything can be chosen
    by them. A larger `validation_fraction` helps. `train_images` limits what is left, stratified; 0 takes all.

    Raises:
        UsageError: If the task is unknown, a number is out of range, or too few classes, images or pairs remain.
        DataError: If two classes that must be kept apart have one name.
    """
    if task not in TASKS:
        raise UsageError(f"`task` must be one of {', '.join(TASKS)}, but got {task!r}.{did_you_mean(task, TASKS)}")
    if not 0.0 <= validation_fraction < 1.0:
        raise UsageError(f"`0 <= validation_fraction < 1` must hold, but got {validation_fraction}.")
    if task == "classification":
        return _classification(packed, validation_fraction, split_seed, train_images)
    labels, counts = packed.labels, _counts(packed)
    pairs: np.ndarray | None = None
    if held_out == 0.0:
        tested, rest = np.zeros(0, dtype=np.int64), np.flatnonzero(counts)
    elif task == "verification" and packed.pairs is not None:
        pairs = _of_folds(packed.pairs.astype(np.int64), folds)
        tested = np.unique(labels[pairs[:, 1:3]])
        rest = np.setdiff1d(np.flatnonzero(counts), tested)
    else:
        tested, rest = _held_out_classes(packed, counts, held_out)
    if task == "identification" and held_out > 0.0:
        drawn = _subjects(packed, counts, tested, subjects, split_seed)
        if not _split_by_class(packed):
            rest = np.union1d(rest, np.setdiff1d(tested, drawn))
        tested = drawn
    test = np.flatnonzero(np.isin(labels, tested))
    if task == "verification" and held_out > 0.0:
        if pairs is None:
            drawn = draw_pairs(labels[test], seed=split_seed)
            drawn[:, 1:3] = test[drawn[:, 1:3]]
            pairs = _of_folds(drawn, folds)
        test = np.unique(pairs[:, 1:3])
    least = max(2, min_images)
    classes = rest[counts[rest] >= least]
    if len(classes) < 2:
        raise UsageError(
            f"Training must have at least 2 classes of {least} images that are not tested, but {packed.info.name} "
            f"leaves {len(classes)} when {len(tested)} classes are tested. Lower `held_out` or `min_images`, or test "
            "fewer `folds`."
        )
    validating = _validation_classes(classes, validation_fraction)
    classes = np.setdiff1d(classes, validating)
    train = np.flatnonzero(np.isin(labels, classes))
    names, label_of = packed.info.classes, np.full(len(counts), -1, dtype=np.int64)
    label_of[classes] = np.arange(len(classes))
    made = Cut(
        train=_limited(packed, train, train_images, split_seed),
        validation=np.flatnonzero(np.isin(labels, validating)),
        test=test,
        classes=tuple(names[index] for index in classes),
        label_of=label_of,
        tested=tuple(names[index] for index in tested),
        pairs=pairs,
    )
    if pairs is not None and len(np.unique(pairs[:, 0])) == 1 and len(validating) == 0:
        raise UsageError(
            "Verification on a single fold takes its threshold from validation pairs, but nothing validates. "
            "Raise `validation_fraction`, or test at least 2 `folds`."
        )
    require_apart(packed, made, task)
    return made


def whole(packed: Packed, *, task: str, split_seed: int, folds: Sequence[int] = (), subjects: int = 0) -> Cut:
    """All of a data set as the test of networks that were trained on another one.

    Verification tests the pairs that come with the data, of `folds` or all, else drawn ones; identification all people
    of two images and more, or `subjects` drawn among those of five and more; retrieval the classes of the data's own
    test split where it keeps them apart, else all.

    Raises:
        UsageError: For classification, whose classes are those trained on, or if too little is there.
    """
    if task == "classification":
        raise UsageError("Classification tests the classes it was trained on, so it cannot be tested on other data.")
    counts = _counts(packed)
    present = np.flatnonzero(counts)
    if _split_by_class(packed):
        present = np.unique(packed.labels[packed.split == TEST]).astype(np.int64)
    pairs: np.ndarray | None = None
    if task == "identification":
        present = _subjects(packed, counts, present, subjects, split_seed)
    test = np.flatnonzero(np.isin(packed.labels, present))
    if task == "verification":
        pairs = None if packed.pairs is None else packed.pairs.astype(np.int64)
        if pairs is None:
            pairs = draw_pairs(packed.labels[test], seed=split_seed)
            pairs[:, 1:3] = test[pairs[:, 1:3]]
        pairs = _of_folds(pairs, folds)
        if len(np.unique(pairs[:, 0])) < 2:
            raise UsageError("Verification on other data takes each fold's threshold from the others: test 2 `folds`.")
        test = np.unique(pairs[:, 1:3])
        present = np.unique(packed.labels[test])
    nothing = np.zeros(0, dtype=np.int64)
    return Cut(
        train=nothing,
        validation=nothing,
        test=test,
        classes=(),
        label_of=np.full(len(counts), -1, dtype=np.int64),
        tested=tuple(packed.info.classes[index] for index in present),
        pairs=pairs,
    )


def require_apart(packed: Packed, made: Cut, task: str) -> None:
    """Refuse a cut that trains, validates or selects on what it tests; names of classes are compared, too.

    Raises:
        DataError: If items, classes or names of classes are shared by two parts that must not share them.
    """
    parts: dict[str, Any] = {"Training": made.train, "Validation": made.validation, "Test": made.test}
    if made.pairs is not None:
        # A pair reaches its items by itself, so they count whether `test` names them or not.
        parts["Test"] = np.union1d(made.test, made.pairs[:, 1:3])
    for (one, first), (other, second) in itertools.combinations(parts.items(), 2):
        if shared := np.intersect1d(first, second).tolist():
            raise DataError(
                f"{one} and {other.lower()} must not share images, but both hold item {shared[0]} of {packed.info.name}"
                f"{f', and {len(shared) - 1} more' if len(shared) > 1 else ''}."
            )
    if task == "classification":
        return
    names = packed.info.classes
    people = {part: {names[index] for index in np.unique(packed.labels[items])} for part, items in parts.items()}
    people["Training"] |= set(made.classes)
    people["Test"] |= set(made.tested)
    for (one, first), (other, second) in itertools.combinations(people.items(), 2):
        if shared := sorted(first & second):
            raise DataError(
                f"{one} and {other.lower()} must not share a class, but '{shared[0]}' is in both"
                f"{f', and {len(shared) - 1} more' if len(shared) > 1 else ''}. Names count: two classes of "
                f"{packed.info.name} may have the same one."
            )


def require_unseen(packed: Packed, guide: Cut, made: Cut, task: str) -> None:
    """Refuse a guide that trained or validated on what `made` tests: it would hand it on.

    Raises:
        UsageError: If items are shared, or, but for classification, classes.
    """
    try:
        require_apart(packed, dataclasses.replace(guide, test=made.test, tested=made.tested, pairs=made.pairs), task)
    except DataError as error:
        raise UsageError(
            f"A guide must not have seen what its student is tested on. {error} "
            "Give all stages the same task, folds, held_out, subjects and split_seed."
        ) from error


def _classification(packed: Packed, validation_fraction: float, split_seed: int, train_images: int) -> Cut:
    parts = {
        part: split_indices(
            packed,
            part,
            validation_fraction=validation_fraction,
            split_seed=split_seed,
            train_images=train_images,
        )
        for part in ("train", "validation", "test")
    }
    if len(parts["test"]) == 0:
        raise UsageError(
            f"Classification tests other images of the classes it learned, but {packed.info.name} has no test images. "
            "It needs 3 images of every class; verification, identification and retrieval do not."
        )
    learned = np.unique(packed.labels[packed.split == TRAIN])
    if len(strange := np.setdiff1d(packed.labels[parts["test"]], learned)):
        raise UsageError(
            f"Classification tests other images of the classes it learned, but {packed.info.name} has test images of "
            f"'{packed.info.classes[strange[0]]}' and none for training. Choose retrieval or another task."
        )
    names = packed.info.classes
    made = Cut(
        **parts,
        classes=names,
        label_of=np.arange(len(names)),
        tested=tuple(names[index] for index in np.unique(packed.labels[parts["test"]])),
    )
    require_apart(packed, made, "classification")
    return made


def _counts(packed: Packed) -> np.ndarray:
    return np.bincount(packed.labels, minlength=len(packed.info.classes))


def _split_by_class(packed: Packed) -> bool:
    """Whether the data's own splits hold different classes."""
    train, test = (np.unique(packed.labels[packed.split == part]) for part in (TRAIN, TEST))
    return len(train) > 0 and len(test) > 0 and len(np.intersect1d(train, test)) == 0


def _held_out_classes(packed: Packed, counts: np.ndarray, held_out: float) -> tuple[np.ndarray, np.ndarray]:
    """(tested, rest), sorted."""
    present = np.flatnonzero(counts)
    if _split_by_class(packed):
        tested = np.unique(packed.labels[packed.split == TEST]).astype(np.int64)
    else:
        tested = present[len(present) - int(held_out * len(present) + 0.5) :]
    if len(tested) < 2:
        raise UsageError(
            f"At least 2 classes must be tested, but `held_out` {held_out:g} of the {len(present)} classes of "
            f"{packed.info.name} gives {len(tested)}. Raise it."
        )
    return tested, np.setdiff1d(present, tested)


def _subjects(packed: Packed, counts: np.ndarray, held: np.ndarray, subjects: int, seed: int) -> np.ndarray:
    if subjects == 1:
        raise UsageError("`subjects` must be 0 (all) or at least 2, but got 1: a single one is never mistaken.")
    least = LEAST_OF_A_DRAW if subjects else 2
    known = held[counts[held] >= least]
    if len(known) < max(2, subjects):
        raise UsageError(
            f"Identification must find {max(2, subjects)} subjects of {least} images among the held-out classes, but "
            f"{packed.info.name} has {len(known)}. Lower `subjects`, or raise `held_out`."
        )
    if subjects == 0:
        return known
    return np.sort(seeded_random(f"subjects/{seed}").permutation(known)[:subjects])


def _of_folds(pairs: np.ndarray, folds: Sequence[int]) -> np.ndarray:
    if not folds:
        return pairs
    there = np.unique(pairs[:, 0]).tolist()
    if missing := sorted(set(folds) - set(there)):
        raise UsageError(f"`folds` must be among {', '.join(map(str, there))}, but got {missing[0]}.")
    return pairs[np.isin(pairs[:, 0], list(folds))]


def _validation_classes(classes: np.ndarray, fraction: float) -> np.ndarray:
    wanted = max(2, int(fraction * len(classes) + 0.5)) if fraction > 0 else 0
    return classes[len(classes) - wanted :] if len(classes) - wanted >= 2 else classes[:0]


def _limited(packed: Packed, items: np.ndarray, wanted: int, seed: int) -> np.ndarray:
    if wanted == 0:
        return items
    present = len(np.unique(packed.labels[items]))
    if not present <= wanted <= len(items):
        raise UsageError(
            f"`train_images` must be 0 (all) or from {present} (one per class) to {len(items)}, but got {wanted}: "
            f"that many images of {packed.info.name} are left to train on after test and validation classes."
        )
    # As if the data had nothing else to train on, so the rule that keeps prefixes stratified has one home.
    split = np.full(len(packed.labels), TEST, dtype=np.uint8)
    split[items] = TRAIN
    alone = dataclasses.replace(packed, split=split)
    return split_indices(alone, "train", validation_fraction=0.0, split_seed=seed, train_images=wanted)
