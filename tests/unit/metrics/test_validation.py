"""The validation score of tasks whose validation classes were never trained on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trainables.data.draws import draw_pairs
from trainables.errors import UsageError
from trainables.metrics.retrieval import recall_at
from trainables.metrics.similarity import pair_similarity
from trainables.metrics.verification import best_threshold
from trainables.spec import task_of

TASKS = ("verification", "identification", "retrieval")


def validation_score(task: str, embeddings: Tensor, labels: Tensor, seed: int) -> tuple[str, float]:
    """Name and value of a task's score on images that validate."""
    return task_of(task).validation_metric, task_of(task).validation_score(embeddings, labels, seed)


def drawn(noise: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 4 + 11  # Numbered as in the data, not from 0.
    return torch.eye(20)[labels] + noise * torch.randn(40, 20, generator=generator), labels


@pytest.mark.parametrize("task", TASKS)
def test_perfect_embeddings_score_one_and_worse_ones_less(task: str) -> None:
    assert validation_score(task, *drawn(0.0), seed=0)[1] == 1.0
    assert 0.4 < validation_score(task, *drawn(0.6), seed=0)[1] < 1.0


@pytest.mark.parametrize("task", TASKS)
def test_collapsed_embeddings_are_worth_a_guess(task: str) -> None:
    name, value = validation_score(task, torch.ones(40, 3), drawn(0.0)[1], seed=0)
    assert value == pytest.approx({"verification_accuracy": 0.5, "recall_at_1": 10 / 40}[name], abs=0.03)


def test_retrieval_and_identification_are_judged_by_the_nearest_image() -> None:
    embeddings, labels = drawn(0.6)
    expected = ("recall_at_1", recall_at(embeddings, labels).recalls[1])
    assert validation_score("retrieval", embeddings, labels, 0) == expected
    assert validation_score("identification", embeddings, labels, 0) == expected


def test_verification_is_judged_at_the_best_threshold_of_drawn_pairs() -> None:
    embeddings, labels = drawn(0.6)
    pairs = draw_pairs(labels.numpy(), seed=3, folds=1, per_fold=3000)
    similarity = pair_similarity(embeddings, pairs[:, 1], pairs[:, 2])
    expected = best_threshold(similarity, pairs[:, 3] == 1)[1]
    assert validation_score("verification", embeddings, labels, 3) == ("verification_accuracy", expected)


def test_classification_has_its_own_validation() -> None:
    with pytest.raises(ValueError, match="by a network's logits"):
        validation_score("classification", *drawn(0.0), seed=0)


def test_verification_of_one_class_cannot_be_judged() -> None:
    with pytest.raises(UsageError, match="pairs of images of one class"):
        validation_score("verification", torch.ones(4, 2), torch.zeros(4, dtype=torch.int64), seed=0)
