"""Identification: who it is, among people never trained on of whom some images are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from trainables.data.draws import seeded_random, split_gallery
from trainables.data.packed import Packed, item_names
from trainables.data.protocols import Cut, SplitAsked, classes_apart, counts_of, split_by_class, tested_and_rest
from trainables.errors import UsageError
from trainables.spec.training import TrainingSpec
from trainables.tasks.base import RECALL_AT_1, TOP1, TOP5, Number, Task, task_entry

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.training.reading import Reader, Reading

RANK = 2
LEAST_OF_A_DRAW = 5  # Images of a subject that may be drawn, where their number is given.


class Identification(Task):
    """Which of the known people an image shows."""

    name: ClassVar[str] = "identification"
    metric: ClassVar[str] = "top1"
    validation_metric: ClassVar[str] = "recall_at_1"
    unit: ClassVar[str] = "probe images"
    # The literature prints errors; Recall@1 is what validates.
    numbers: ClassVar[tuple[Number, ...]] = (
        TOP1,
        TOP5,
        Number(name="top1_error", words="top-1 error", heading="top-1 error %", error_of="top1"),
        Number(name="top5_error", words="top-5 error", heading="top-5 error %", error_of="top5"),
        RECALL_AT_1,
    )
    beside: ClassVar[str] = "top1_error"
    split_fields: ClassVar[tuple[str, ...]] = ("held_out", "min_images", "subjects")
    score_fields: ClassVar[tuple[str, ...]] = ("gallery", "head")

    def reads_similarity(self, evaluation: Any) -> bool:
        """Not with a new softmax layer."""
        return evaluation.head != "softmax"

    def split(self, packed: Packed, asked: SplitAsked) -> Cut:
        """All held-out classes of two images and more are tested, or `subjects` drawn among those of five and more.

        Whoever is not drawn is trained on, unless the data itself says that the class is for test.
        """
        tested, rest = tested_and_rest(packed, asked.held_out)
        if asked.held_out > 0.0:
            drawn = _subjects(packed, tested, asked.subjects, asked.split_seed)
            if not split_by_class(packed):
                rest = np.union1d(rest, np.setdiff1d(tested, drawn))
            tested = drawn
        return classes_apart(packed, asked, tested, rest, np.flatnonzero(np.isin(packed.labels, tested)))

    def tested_classes(self, packed: Packed, *, split_seed: int, subjects: int) -> np.ndarray:
        """All people of two images and more, or `subjects` drawn among those of five and more."""
        present = super().tested_classes(packed, split_seed=split_seed, subjects=subjects)
        return _subjects(packed, present, subjects, split_seed)

    def score(self, spec: Any, trained: TrainingSpec, cut: Cut, reader: Reader) -> Reading:
        """Top-1 and top-5 among people never trained on, some of whose images are known; the split is kept by name."""
        import pyarrow as pa
        import torch

        from trainables.metrics.identification import identify
        from trainables.training.reading import Reading, summary

        _, subjects = np.unique(reader.packed.labels[cut.test], return_inverse=True)
        known, probes = split_gallery(subjects, gallery=spec.gallery, seed=trained.split_seed)
        embeddings, numbers = reader.embeddings(cut.test), torch.from_numpy(subjects.astype(np.int64))
        found = identify(
            embeddings[known],
            numbers[known],
            embeddings[probes],
            numbers[probes],
            head=spec.head,
            similarity=spec.similarity,
        )
        right = found.predicted == subjects[probes]
        measured = summary("top1", float(right.mean()), right, chance=1 / len(cut.tested))
        measured |= {"top5": found.top(5), "subjects": len(cut.tested), "gallery_images": len(known)}
        # Classes are numbered as in the data, so rows of several evaluations can be joined.
        numbered = np.unique(reader.packed.labels[cut.test]).astype(np.int32)
        columns = {
            "item": cut.test[probes].astype(np.int32),
            "label": numbered[subjects[probes]],
            "prediction": numbered[found.predicted],
            "correct": pa.array(right),
        }
        names = item_names(reader.packed.info.path)
        lists = {
            part: [names[item] for item in cut.test[where]] for part, where in (("gallery", known), ("probes", probes))
        }
        return Reading(measured, columns, lists | {"subjects": list(cut.tested)})

    def validation_score(self, embeddings: Tensor, labels: Tensor, seed: int) -> float:
        """Recall@1 among the validation images, by cosine."""
        from trainables.metrics.retrieval import recall_at

        return recall_at(embeddings, labels, ks=(1,)).recalls[1]


def _subjects(packed: Packed, held: np.ndarray, subjects: int, seed: int) -> np.ndarray:
    if subjects == 1:
        raise UsageError("`subjects` must be 0 (all) or at least 2, but got 1: a single one is never mistaken.")
    least = LEAST_OF_A_DRAW if subjects else 2
    known = held[counts_of(packed)[held] >= least]
    if len(known) < max(2, subjects):
        raise UsageError(
            f"Identification must find {max(2, subjects)} subjects of {least} images among the held-out classes, but "
            f"{packed.info.name} has {len(known)}. Lower `subjects`, or raise `held_out`."
        )
    if subjects == 0:
        return known
    return np.sort(seeded_random(f"subjects/{seed}").permutation(known)[:subjects])


ENTRY = task_entry(Identification())
