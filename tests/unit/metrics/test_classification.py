"""Scores of logits and health of embeddings."""

from __future__ import annotations

import pytest
import torch

from trainables import metrics


def test_the_label_is_looked_for_among_the_k_largest() -> None:
    logits = torch.tensor([[0.1, 0.9, 0.5], [0.7, 0.2, 0.1], [0.3, 0.1, 0.2]])
    labels = torch.tensor([1, 2, 2])
    assert metrics.correct(logits, labels).tolist() == [True, False, False]
    assert metrics.correct(logits, labels, 2).tolist() == [True, False, True]
    assert metrics.correct(logits, labels, 5).tolist() == [True, True, True]


def test_spread_is_the_mean_deviation_and_zero_for_collapsed_or_single_embeddings() -> None:
    embeddings = torch.tensor([[0.0, 1.0], [2.0, 1.0]])
    assert float(metrics.spread(embeddings)) == pytest.approx(2**0.5 / 2)
    assert float(metrics.spread(torch.ones(5, 3))) == 0.0
    assert float(metrics.spread(torch.ones(1, 3))) == 0.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_entry_that_is_no_number_is_noticed(value: float) -> None:
    numbers = torch.ones(4)
    assert metrics.finite(numbers)
    numbers[2] = value
    assert not metrics.finite(numbers)
