"""What every task says of itself. No torch at import."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from trainables.data.packed import TEST, Packed
from trainables.data.protocols import Cut, SplitAsked, counts_of, split_by_class
from trainables.spec import registry
from trainables.spec.training import TrainingSpec

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.training.reading import Reader, Reading


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number of an evaluation, and what reports call it."""

    name: str  # In its metrics.
    words: str  # In a sentence: 'top-1 accuracy'.
    heading: str  # Of a column: 'top-1 %'.
    percent: bool = True
    false_rate: float | None = None  # Of a true accept rate: the false accept rate at which it is read.
    short: str = ""  # A heading where there is little room.
    error_of: str = ""  # Of an error that evaluations leave out: the accuracy that it is one minus.

    def plain(self) -> dict[str, Any]:
        """What differs from the defaults."""
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name)) != each.default}


class Task:
    """What a network is for: what it trains on and is tested on, how it is scored, and the words for it.

    A file of this folder makes one and declares it: `ENTRY = task_entry(MyTask())`.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1  # Raise when the same spec would now be split or scored otherwise.
    metric: ClassVar[str]  # The main number of its evaluation.
    validation_metric: ClassVar[str]  # What selects, as histories name it behind `validation/`.
    unit: ClassVar[str]  # What is tested, plural, for people.
    known_classes: ClassVar[bool] = False  # Whether it tests other images of the classes it was trained on.
    numbers: ClassVar[tuple[Number, ...]] = ()  # In the order of tables; one that is not here is called by its name.
    beside: ClassVar[str] = ""  # That of them which stands beside the score where there is room for one.
    # Which fields count besides those that count for every task: of a training, and of an evaluation.
    split_fields: ClassVar[tuple[str, ...]] = ("held_out", "min_images")
    score_fields: ClassVar[tuple[str, ...]] = ("similarity",)

    def reads_logits(self, evaluation: Any) -> bool:
        """Whether the score rests on a network's own logits."""
        return False

    def reads_similarity(self, evaluation: Any) -> bool:
        """Whether the score compares embeddings by the evaluation's `similarity`."""
        return True

    def split(self, packed: Packed, asked: SplitAsked) -> Cut:
        """Items of training, validation and test.

        Raises:
            UsageError: If too few classes, images or pairs remain.
        """
        raise NotImplementedError

    def whole(self, packed: Packed, *, split_seed: int, folds: tuple[int, ...], subjects: int) -> Cut:
        """All of a data set as the test of networks that were trained on another one.

        Raises:
            UsageError: If the task cannot be tested so, or too little is there.
        """
        present = self.tested_classes(packed, split_seed=split_seed, subjects=subjects)
        return only_tested(packed, present, np.flatnonzero(np.isin(packed.labels, present)))

    def tested_classes(self, packed: Packed, *, split_seed: int, subjects: int) -> np.ndarray:
        """Classes of a data set that is tested as a whole: of its own test split where it keeps them apart, else all."""
        if split_by_class(packed):
            return np.unique(packed.labels[packed.split == TEST]).astype(np.int64)
        return np.flatnonzero(counts_of(packed))

    def score(self, spec: Any, trained: TrainingSpec, cut: Cut, reader: Reader) -> Reading:
        """What an evaluation measures: see `trainables.stages.evaluation`."""
        raise NotImplementedError

    def validation_score(self, embeddings: Tensor, labels: Tensor, seed: int) -> float:
        """The one number of validation images of classes never trained on; it selects, and is never reported.

        Args:
            embeddings: Float [N, D].
            labels: Whole numbers [N]; any numbering will do.
            seed: Of what is drawn; with it equal, networks meet the same.

        Raises:
            ValueError: If the task validates on the classes that are trained on, by the network's logits.
        """
        raise ValueError(f"{self.name} validates on the classes that it trains on, by a network's logits.")


TOP1 = Number(name="top1", words="top-1 accuracy", heading="top-1 %")
TOP5 = Number(name="top5", words="top-5 accuracy", heading="top-5 %")
RECALL_AT_1 = Number(name="recall_at_1", words="Recall@1", heading="Recall@1 %")


def only_tested(packed: Packed, classes: np.ndarray, test: np.ndarray, pairs: np.ndarray | None = None) -> Cut:
    """A cut that trains and validates on nothing."""
    nothing = np.zeros(0, dtype=np.int64)
    return Cut(
        train=nothing,
        validation=nothing,
        test=test,
        classes=(),
        label_of=np.full(len(packed.info.classes), -1, dtype=np.int64),
        tested=tuple(packed.info.classes[index] for index in classes),
        pairs=pairs,
    )


def task_entry(task: Task) -> registry.Entry:
    """The declaration of a task, which its file calls ENTRY."""
    return registry.Entry(group="task", name=task.name, implementation=task, version=task.version, title=task.unit)
