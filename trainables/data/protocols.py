"""Cuts: which items and classes a task trains on, validates on and tests; what the tasks' own splits are made of. No torch.

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

from trainables.data.packed import TEST, TRAIN, Packed
from trainables.data.splits import split_indices
from trainables.errors import DataError, UsageError, did_you_mean
from trainables.spec import registry
from trainables.spec.training import ReadsTraining, task_of


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


@dataclass(frozen=True, kw_only=True)
class SplitAsked:
    """What a training says of its split; see the fields of `TrainingSpec`."""

    validation_fraction: float
    split_seed: int
    train_images: int
    held_out: float
    folds: tuple[int, ...]
    min_images: int
    subjects: int


def cut_for(packed: Packed, spec: ReadsTraining) -> Cut:
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
    """Items of training, validation and test for a task; nothing tested is trained on. Each task says how: see its `split`.

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
    tasks = registry.names("task")
    if task not in tasks:
        raise UsageError(f"`task` must be one of {', '.join(tasks)}, but got {task!r}.{did_you_mean(task, tasks)}")
    if not 0.0 <= validation_fraction < 1.0:
        raise UsageError(f"`0 <= validation_fraction < 1` must hold, but got {validation_fraction}.")
    asked = SplitAsked(
        validation_fraction=validation_fraction,
        split_seed=split_seed,
        train_images=train_images,
        held_out=held_out,
        folds=tuple(folds),
        min_images=min_images,
        subjects=subjects,
    )
    made = task_of(task).split(packed, asked)
    require_apart(packed, made, task)
    return made


def classes_apart(
    packed: Packed,
    asked: SplitAsked,
    tested: np.ndarray,
    rest: np.ndarray,
    test: np.ndarray,
    pairs: np.ndarray | None = None,
) -> Cut:
    """The cut of a task that tests classes it is not trained on.

    Args:
        packed: The data.
        asked: What a training asks for.
        tested: Classes.
        rest: Those that may be trained on.
        test: Items.
        pairs: Of them, where pairs are tested.

    Raises:
        UsageError: If too few classes or images remain to train on.
    """
    labels, counts = packed.labels, counts_of(packed)
    least = max(2, asked.min_images)
    classes = rest[counts[rest] >= least]
    if len(classes) < 2:
        raise UsageError(
            f"Training must have at least 2 classes of {least} images that are not tested, but {packed.info.name} "
            f"leaves {len(classes)} when {len(tested)} classes are tested. Lower `held_out` or `min_images`, or test "
            "fewer `folds`."
        )
    validating = _validation_classes(classes, asked.validation_fraction)
    classes = np.setdiff1d(classes, validating)
    train = np.flatnonzero(np.isin(labels, classes))
    names, label_of = packed.info.classes, np.full(len(counts), -1, dtype=np.int64)
    label_of[classes] = np.arange(len(classes))
    return Cut(
        train=_limited(packed, train, asked.train_images, asked.split_seed),
        validation=np.flatnonzero(np.isin(labels, validating)),
        test=test,
        classes=tuple(names[index] for index in classes),
        label_of=label_of,
        tested=tuple(names[index] for index in tested),
        pairs=pairs,
    )


def whole(packed: Packed, *, task: str, split_seed: int, folds: Sequence[int] = (), subjects: int = 0) -> Cut:
    """All of a data set as the test of networks that were trained on another one; see the task's `whole`.

    Raises:
        UsageError: For classification, whose classes are those trained on, or if too little is there.
    """
    made: Cut = task_of(task).whole(packed, split_seed=split_seed, folds=tuple(folds), subjects=subjects)
    return made


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
    if task_of(task).known_classes:
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


def counts_of(packed: Packed) -> np.ndarray:
    """Number of images of each class."""
    return np.bincount(packed.labels, minlength=len(packed.info.classes))


def split_by_class(packed: Packed) -> bool:
    """Whether the data's own splits hold different classes."""
    train, test = (np.unique(packed.labels[packed.split == part]) for part in (TRAIN, TEST))
    return len(train) > 0 and len(test) > 0 and len(np.intersect1d(train, test)) == 0


def tested_and_rest(packed: Packed, held_out: float) -> tuple[np.ndarray, np.ndarray]:
    """(tested classes, rest), sorted: the last `held_out` of them, or what the data itself keeps apart for test.

    Raises:
        UsageError: If fewer than two are to be tested, but none is meant by 0.
    """
    present = np.flatnonzero(counts_of(packed))
    if held_out == 0.0:
        return np.zeros(0, dtype=np.int64), present
    if split_by_class(packed):
        tested = np.unique(packed.labels[packed.split == TEST]).astype(np.int64)
    else:
        tested = present[len(present) - int(held_out * len(present) + 0.5) :]
    if len(tested) < 2:
        raise UsageError(
            f"At least 2 classes must be tested, but `held_out` {held_out:g} of the {len(present)} classes of "
            f"{packed.info.name} gives {len(tested)}. Raise it."
        )
    return tested, np.setdiff1d(present, tested)


def of_folds(pairs: np.ndarray, folds: Sequence[int]) -> np.ndarray:
    """The pairs of some folds; of all where none is named."""
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
