"""Evaluation: the one reading of the test images, by a finished network, after the protocol of its task."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables import metrics
from trainables.data.batches import load, remembered_statistics
from trainables.data.draws import draw_pairs, split_gallery
from trainables.data.packed import Packed, item_names, open_packed
from trainables.data.protocols import Cut, whole
from trainables.errors import NonFiniteError, UsageError
from trainables.metrics import verification
from trainables.metrics.identification import identify
from trainables.metrics.retrieval import recall_at
from trainables.metrics.similarity import nearest, pair_similarity
from trainables.models.network import Outputs
from trainables.spec import EvaluationSpec, TrainingSpec
from trainables.stages.base import Context, Progress, Result
from trainables.store.artifacts import Artifact
from trainables.training.inputs import InputTransform
from trainables.training.networks import load_network
from trainables.training.numerics import prepare

RECALLS = (1, 2, 4, 8)  # Of CUB and Cars.
RECALLS_OF_MANY = (10, 100, 1000)  # Of Stanford Online Products; on few images they say nothing.
MANY = 10_000
FALSE_RATES = (0.1, 0.01, 0.001)


@dataclass(frozen=True)
class Reading:
    """What a protocol measured."""

    measured: dict[str, Any]
    columns: dict[str, Any]  # Of outputs.arrow: one row per tested image or pair.
    split: dict[str, Any] = field(default_factory=dict)  # Of split.json, where a protocol draws one.


@dataclass(frozen=True)
class Reader:
    """A finished network and the images it reads."""

    network: nn.Module
    transform: InputTransform
    packed: Packed
    device: torch.device
    batch_size: int

    def outputs(self, items: np.ndarray, *, mirrored: bool = False) -> Iterator[tuple[Outputs, np.ndarray]]:
        """(outputs, items [b]) in evaluation mode, in order; images leave the map batch by batch."""
        self.network.eval()
        with torch.no_grad():
            for start in range(0, len(items), self.batch_size):
                batch = items[start : start + self.batch_size]
                images = load(self.packed, batch)[0].to(self.device)
                yield self.network(self.transform(images.flip(-1) if mirrored else images)), batch

    def embeddings(self, items: np.ndarray, *, flip: bool = False) -> Tensor:
        """Embeddings [n, D] float32; with `flip` those of the mirrored images are added.

        Raises:
            NonFiniteError: If one is not finite.
        """
        found: Tensor | None = None
        for mirrored in (False, True) if flip else (False,):
            start = 0
            for outputs, batch in self.outputs(items, mirrored=mirrored):
                rows = outputs.embedding.float()
                # Written into their place: joined at the end, raw pixels would be held twice.
                if found is None:
                    found = rows.new_empty(len(items), rows.shape[1])
                stretch = slice(start, start + len(batch))
                found[stretch] = found[stretch] + rows if mirrored else rows
                start += len(batch)
        if found is None:
            raise ValueError("`items` must name an image at least, but got none.")
        if not all(metrics.finite(part) for part in found.split(self.batch_size)):
            raise NonFiniteError("Embeddings must be finite, but some are not. Train with a lower learning_rate.")
        return found


def run(spec: EvaluationSpec, parents: Mapping[str, Artifact], context: Context) -> Generator[Progress, None, Result]:
    """Scores on what the network's own training kept for the test, and `outputs.arrow` with a row for each unit.

    Every protocol gives `metric`, the name of its main number, `score`, its value, `chance`, what guessing would get,
    `items`, the images or pairs tested, and `correct`, how many of them were right. No number here selects anything.

    Raises:
        UsageError: If the network was trained for another task, whose split does not keep the test apart.
        NonFiniteError: If the embeddings are not finite.
    """
    device = prepare(spec, context)
    learned = parents["network"].manifest["spec"].get("data", spec.data)
    own = open_packed(context.packed_folder / f"{learned}.arrow")
    network, trained, cut = load_network(parents["network"], own)
    if spec.protocol != trained.task:
        raise UsageError(
            f"`protocol` must be the task that the network was trained for, {trained.task}, but got {spec.protocol}: "
            "another task's test may hold what it was trained on. Train it with that task."
        )
    # Pixels are normalised as in training.
    mean, std = remembered_statistics(own, cut.train)
    packed, more = own, {}
    if spec.data != trained.data:
        packed = open_packed(context.packed_folder / f"{spec.data}.arrow")
        validated = {own.info.classes[index] for index in np.unique(own.labels[cut.validation])}
        known, cut = set(cut.classes) | validated, elsewhere(packed, own, trained)
        # Two data sets may show one person under one name; how often is told, not hidden.
        more = {"classes_also_trained_on": len(known & set(cut.tested))}
    if len(cut.test) == 0:
        raise UsageError(
            "Nothing is kept for the test: the network was trained with held_out=0. Evaluate it on other data."
        )
    transform = InputTransform(spec, own.info, mean.float().to(device), std.float().to(device), network)
    reader = Reader(network.to(device), transform, packed, device, spec.batch_size)
    reading = PROTOCOLS[spec.protocol](spec, trained, cut, reader)
    reading.measured.update(more)

    def write(folder: Path) -> None:
        table = pa.table(reading.columns)
        with pa.OSFile(str(folder / "outputs.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        if reading.split:
            text = json.dumps(reading.split, indent=1, ensure_ascii=False, sort_keys=True)
            (folder / "split.json").write_text(text + "\n", encoding="utf-8")

    yield Progress(1, 1)
    return Result(metrics=reading.measured, write=write)


def elsewhere(packed: Packed, own: Packed, trained: TrainingSpec) -> Cut:
    """What a network trained on `own` is tested on in another data set.

    Raises:
        UsageError: If the images have another number of channels, or the task cannot be tested there.
    """
    if packed.info.channels != own.info.channels:
        raise UsageError(
            f"Test images must have the {own.info.channels} channels of the training images, but {packed.info.name} has "
            f"{packed.info.channels}. Choose data of the same kind: grey or colour."
        )
    return whole(
        packed, task=trained.task, split_seed=trained.split_seed, folds=trained.folds, subjects=trained.subjects
    )


def classification(spec: EvaluationSpec, trained: TrainingSpec, cut: Cut, reader: Reader) -> Reading:
    """Top-1, top-5 and cross-entropy of the logits; by nearest training image top-1 alone."""
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
    measured = _summary("top1", float(right.mean()), right, chance=1 / len(cut.classes)) | more
    return Reading(measured, {"label": truth, "prediction": predicted, "correct": pa.array(right)})


def verify(spec: EvaluationSpec, trained: TrainingSpec, cut: Cut, reader: Reader) -> Reading:
    """Accuracy over folds, each at the threshold that is best on the others; a single one at validation's."""
    pairs = cut.pairs
    assert pairs is not None
    fold, same = pairs[:, 0], pairs[:, 3] == 1
    first, second = (np.searchsorted(cut.test, pairs[:, column]) for column in (1, 2))
    similarity = pair_similarity(reader.embeddings(cut.test, flip=spec.flip), first, second, spec.similarity)
    threshold = _validation_threshold(spec, trained, cut, reader) if len(np.unique(fold)) == 1 else None
    found = verification.over_folds(similarity, same, fold, threshold=threshold)
    low, high = found.interval()
    least, most = verification.wilson(int(found.correct.sum()), len(same))
    measured = _summary(
        "verification_accuracy", found.accuracy, found.correct, chance=max(float(same.mean()), 1 - float(same.mean()))
    )
    measured |= {
        "accuracy_std": found.std,
        "accuracy_se": found.standard_error,
        "accuracy_low": low,
        "accuracy_high": high,
        "wilson_low": least,
        "wilson_high": most,
        "folds": len(found.folds),
        "different_pairs": int((~same).sum()),  # A false accept rate below one over these cannot be seen.
        "threshold": float(found.thresholds.mean()),
        "best_threshold_accuracy": verification.best_threshold(similarity, same)[1],
        "eer": verification.equal_error_rate(similarity, same),
        "auc": verification.area_under_curve(similarity, same),
    }
    for rate in FALSE_RATES:
        measured[f"tpr_at_fpr_{rate:g}"] = verification.tpr_at_fpr(similarity, same, rate)
    columns = {
        "fold": fold.astype(np.int32),
        "first": pairs[:, 1].astype(np.int32),
        "second": pairs[:, 2].astype(np.int32),
        "same": pa.array(same),
        "similarity": similarity,
        "correct": pa.array(found.correct),
    }
    return Reading(measured, columns)


def _validation_threshold(spec: EvaluationSpec, trained: TrainingSpec, cut: Cut, reader: Reader) -> float:
    labels = reader.packed.labels[cut.validation]
    pairs = draw_pairs(labels, seed=trained.split_seed, folds=1, per_fold=metrics.VALIDATION_PAIRS)
    embeddings = reader.embeddings(cut.validation, flip=spec.flip)
    similarity = pair_similarity(embeddings, pairs[:, 1], pairs[:, 2], spec.similarity)
    return verification.best_threshold(similarity, pairs[:, 3] == 1)[0]


def retrieve(spec: EvaluationSpec, trained: TrainingSpec, cut: Cut, reader: Reader) -> Reading:
    """Recall@K of every test image among all others."""
    labels = reader.packed.labels[cut.test].astype(np.int64)
    ks = RECALLS + (RECALLS_OF_MANY if len(labels) > MANY else ())
    found = recall_at(reader.embeddings(cut.test), torch.from_numpy(labels), ks, similarity=spec.similarity)
    measured = _summary("recall_at_1", found.recalls[1], found.hits, chance=found.chance)
    measured |= {f"recall_at_{k}": value for k, value in found.recalls.items()}
    measured |= {"lone": found.lone, "tested_classes": len(cut.tested)}
    columns = {
        "item": cut.test.astype(np.int32),
        "label": labels.astype(np.int32),
        "neighbour": cut.test[found.neighbours].astype(np.int32),
        "correct": pa.array(found.hits),
    }
    return Reading(measured, columns)


def identification(spec: EvaluationSpec, trained: TrainingSpec, cut: Cut, reader: Reader) -> Reading:
    """Top-1 and top-5 among people never trained on, some of whose images are known; the split is kept by name."""
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
    measured = _summary("top1", float(right.mean()), right, chance=1 / len(cut.tested))
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


def _summary(metric: str, score: float, right: np.ndarray, *, chance: float) -> dict[str, Any]:
    counts = {"correct": int(right.sum()), "items": len(right)}
    return {"metric": metric, "score": score, metric: score, "chance": chance} | counts


PROTOCOLS: dict[str, Callable[[EvaluationSpec, TrainingSpec, Cut, Reader], Reading]] = {
    "classification": classification,
    "verification": verify,
    "identification": identification,
    "retrieval": retrieve,
}
