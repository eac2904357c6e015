"""How an epoch is judged on the validation split; the test split is never opened."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables import metrics
from trainables.models.network import Outputs
from trainables.spec import TrainingSpec, registry, task_of

Predictions = Iterator[tuple[Outputs, Tensor]]  # (outputs, labels [b]) of the split, in order.
Validation = Callable[[Predictions], dict[str, float]]


def classify(predictions: Predictions) -> dict[str, float]:
    """Top-1 and cross-entropy of the logits; read from the device once."""
    count, totals = 0, None
    for outputs, labels in predictions:
        if totals is None:
            totals = torch.zeros(2, dtype=torch.float64, device=labels.device)
        totals[0] += metrics.correct(outputs.logits, labels).sum()
        totals[1] += F.cross_entropy(outputs.logits.float(), labels, reduction="sum")
        count += len(labels)
    if totals is None:
        return {}
    right, loss = (totals / count).tolist()
    return {"validation/top1": right, "validation/loss": loss}


def compare(predictions: Predictions, *, task: Any, seed: int) -> dict[str, float]:
    """Score of a task that compares images of classes never trained on."""
    embeddings, labels = zip(*((o.embedding.float().cpu(), truth.cpu()) for o, truth in predictions), strict=True)
    value = task.validation_score(torch.cat(embeddings), torch.cat(labels), seed)
    return {f"validation/{task.validation_metric}": value}


def validation_of(spec: TrainingSpec) -> Validation:
    """What a spec's task asks of the validation split."""
    task = task_of(spec.task)
    return classify if task.known_classes else functools.partial(compare, task=task, seed=spec.split_seed)


def validation_value(row: Mapping[str, float]) -> float | None:
    """The task's score in a row of the history."""
    scores = dict.fromkeys(entry.load().validation_metric for entry in registry.entries("task"))
    return next((row[f"validation/{name}"] for name in scores if f"validation/{name}" in row), None)
