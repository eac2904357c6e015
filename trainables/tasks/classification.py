"""Classification: other images of the classes that were trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from trainables.data.packed import TRAIN, Packed
from trainables.data.protocols import Cut, SplitAsked
from trainables.data.splits import split_indices
from trainables.errors import UsageError
from trainables.spec.training import TrainingSpec
from trainables.tasks.base import TOP1, TOP5, Number, Task, task_entry

if TYPE_CHECKING:
    from trainables.training.reading import Reader, Reading

RANK = 0


class Classification(Task):
    """Which of the known classes an image is of."""

    name: ClassVar[str] = "classification"
    metric: ClassVar[str] = "top1"
    validation_metric: ClassVar[str] = "top1"
    unit: ClassVar[str] = "test images"
    known_classes: ClassVar[bool] = True
    numbers: ClassVar[tuple[Number, ...]] = (TOP1, TOP5)
    split_fields: ClassVar[tuple[str, ...]] = ()
    score_fields: ClassVar[tuple[str, ...]] = ("reader",)

    def reads_logits(self, evaluation: Any) -> bool:
        """But by nearest neighbour."""
        return evaluation.reader == "logits"

    def reads_similarity(self, evaluation: Any) -> bool:
        """By nearest neighbour."""
        return evaluation.reader == "nearest"

    def split(self, packed: Packed, asked: SplitAsked) -> Cut:
        """The splits of the data, which must share their classes; see `split_indices`."""
        parts = {
            part: split_indices(
                packed,
                part,
                validation_fraction=asked.validation_fraction,
                split_seed=asked.split_seed,
                train_images=asked.train_images,
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
        return Cut(
            **parts,
            classes=names,
            label_of=np.arange(len(names)),
            tested=tuple(names[index] for index in np.unique(packed.labels[parts["test"]])),
        )

    def whole(self, packed: Packed, *, split_seed: int, folds: tuple[int, ...], subjects: int) -> Cut:
        """Never: its classes are those trained on."""
        raise UsageError("Classification tests the classes it was trained on, so it cannot be tested on other data.")

    def score(self, spec: Any, trained: TrainingSpec, cut: Cut, reader: Reader) -> Reading:
        """Top-1, top-5 and cross-entropy of the logits; by nearest training image top-1 alone."""
        import pyarrow as pa
        import torch
        import torch.nn.functional as F

        from trainables import metrics
        from trainables.metrics.similarity import nearest
        from trainables.training.reading import Reading, summary

        items = len(cut.test)
        truth = reader.packed.labels[cut.test].astype(np.int32)
        more: dict[str, Any] = {}
        if spec.reader == "nearest":
            found = nearest(reader.embeddings(cut.test), reader.embeddings(cut.train), spec.similarity).cpu().numpy()
            predicted = reader.packed.labels[cut.train][found].astype(np.int32)
        else:
            predictions, top5, loss = [], 0, 0.0
            for outputs, batch in reader.outputs(cut.test):
                labels = torch.from_numpy(reader.packed.labels[batch].astype(np.int64)).to(reader.device)
                predictions.append(outputs.logits.argmax(1).cpu())
                top5 += int(metrics.correct(outputs.logits, labels, 5).sum())
                loss += float(F.cross_entropy(outputs.logits.double(), labels, reduction="sum"))
            predicted = torch.cat(predictions).numpy().astype(np.int32)
            more = {"top5": top5 / items, "loss": loss / items}
        right = predicted == truth
        measured = summary("top1", float(right.mean()), right, chance=1 / len(cut.classes)) | more
        return Reading(measured, {"label": truth, "prediction": predicted, "correct": pa.array(right)})


ENTRY = task_entry(Classification())
