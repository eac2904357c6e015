"""Retrieval: images of the same class among images of classes never trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from trainables.data.packed import Packed
from trainables.data.protocols import Cut, SplitAsked, classes_apart, tested_and_rest
from trainables.spec.training import TrainingSpec
from trainables.tasks.base import RECALL_AT_1, Number, Task, task_entry

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.training.reading import Reader, Reading

RANK = 3
RECALLS = (1, 2, 4, 8)  # Of CUB and Cars.
RECALLS_OF_MANY = (10, 100, 1000)  # Of Stanford Online Products; on few images they say nothing.
MANY = 10_000


class Retrieval(Task):
    """Which other images show the same."""

    name: ClassVar[str] = "retrieval"
    metric: ClassVar[str] = "recall_at_1"
    validation_metric: ClassVar[str] = "recall_at_1"
    unit: ClassVar[str] = "queries"
    numbers: ClassVar[tuple[Number, ...]] = (
        RECALL_AT_1,
        *(Number(name=f"recall_at_{k}", words=f"Recall@{k}", heading=f"Recall@{k} %") for k in RECALLS[1:]),
    )

    def split(self, packed: Packed, asked: SplitAsked) -> Cut:
        """The last `held_out` of the classes are tested, or those of the data's own test split where it keeps them apart."""
        tested, rest = tested_and_rest(packed, asked.held_out)
        return classes_apart(packed, asked, tested, rest, np.flatnonzero(np.isin(packed.labels, tested)))

    def score(self, spec: Any, trained: TrainingSpec, cut: Cut, reader: Reader) -> Reading:
        """Recall@K of every test image among all others."""
        import pyarrow as pa
        import torch

        from trainables.metrics.retrieval import recall_at
        from trainables.training.reading import Reading, summary

        labels = reader.packed.labels[cut.test].astype(np.int64)
        ks = RECALLS + (RECALLS_OF_MANY if len(labels) > MANY else ())
        found = recall_at(reader.embeddings(cut.test), torch.from_numpy(labels), ks, similarity=spec.similarity)
        measured = summary("recall_at_1", found.recalls[1], found.hits, chance=found.chance)
        measured |= {f"recall_at_{k}": value for k, value in found.recalls.items()}
        measured |= {"lone": found.lone, "tested_classes": len(cut.tested)}
        columns = {
            "item": cut.test.astype(np.int32),
            "label": labels.astype(np.int32),
            "neighbour": cut.test[found.neighbours].astype(np.int32),
            "correct": pa.array(found.hits),
        }
        return Reading(measured, columns)

    def validation_score(self, embeddings: Tensor, labels: Tensor, seed: int) -> float:
        """Recall@1 among the validation images, by cosine."""
        from trainables.metrics.retrieval import recall_at

        return recall_at(embeddings, labels, ks=(1,)).recalls[1]


ENTRY = task_entry(Retrieval())
