"""Recall@K and similarities against loops that compare one image with another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trainables.metrics.retrieval import recall_at
from trainables.metrics.similarity import blocks, nearest, pair_similarity


def drawn(count: int = 40, width: int = 5, classes: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator), torch.randint(classes, (count,), generator=generator)


def likeness(one: Tensor, two: Tensor, similarity: str) -> float:
    one, two = one.double(), two.double()
    if similarity == "euclidean":
        return round(-float((one - two).square().sum()), 9)
    lengths = float(one.norm() * two.norm())
    return round(float(one.dot(two)) / lengths, 9) if lengths else 0.0


def loop(
    embeddings: Tensor, labels: Tensor, ks: tuple[int, ...], similarity: str
) -> tuple[dict[int, float], list[int]]:
    """Sort all others by likeness, then by position; look at the first K."""
    hits = dict.fromkeys(ks, 0)
    first = []
    count = len(labels)
    for query in range(count):
        others = [other for other in range(count) if other != query]
        others.sort(key=lambda other: (-likeness(embeddings[query], embeddings[other], similarity), other))
        first.append(others[0])
        for k in ks:
            hits[k] += any(labels[other] == labels[query] for other in others[:k])
    return {k: hits[k] / count for k in ks}, first


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
@pytest.mark.parametrize("seed", range(3))
def test_recall_is_what_sorting_all_others_gives(seed: int, similarity: str) -> None:
    embeddings, labels = drawn(seed=seed)
    ks = (1, 2, 4, 8, 39, 100)
    expected, first = loop(embeddings, labels, ks, similarity)
    found = recall_at(embeddings, labels, ks, similarity=similarity)
    assert found.recalls == expected
    assert found.neighbours.tolist() == first
    assert found.hits.tolist() == (labels[found.neighbours] == labels).tolist()
    assert found.hits.mean() == found.recalls[1]


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
@pytest.mark.parametrize("far", [0.0, 1000.0])
def test_duplicates_are_found_by_each_other_and_ties_go_to_the_first(similarity: str, far: float) -> None:
    # Each image five times, among them copies under other labels.
    few, _ = drawn(6)
    embeddings = (few + far).repeat(5, 1)
    _, labels = drawn(30, classes=3, seed=1)
    ks = (1, 2, 4, 8)
    found = recall_at(embeddings, labels, ks, similarity=similarity)
    # Only copies count up to the fourth answer, in the order of their positions.
    hits = dict.fromkeys(ks[:3], 0)
    for query in range(30):
        copies = [other for other in range(query % 6, 30, 6) if other != query]
        assert found.neighbours[query] == copies[0]
        for k in hits:
            hits[k] += any(labels[other] == labels[query] for other in copies[:k])
    assert {k: found.recalls[k] for k in hits} == {k: hits[k] / 30 for k in hits}


@pytest.mark.parametrize("chunk", [1, 7, 40, 1000])
def test_chunks_change_nothing(chunk: int) -> None:
    embeddings, labels = drawn()
    whole, parts = recall_at(embeddings, labels), recall_at(embeddings, labels, chunk=chunk)
    assert parts.recalls == whole.recalls
    np.testing.assert_array_equal(parts.neighbours, whole.neighbours)


def test_a_block_holds_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainables.metrics.similarity.CELLS", 120)
    embeddings, _ = drawn()
    shapes = [tuple(scores.shape) for _, scores in blocks(embeddings, embeddings)]
    assert shapes == [(3, 40)] * 13 + [(1, 40)]


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest float64 tensor held that was made meanwhile."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.dtype == torch.float64:
            self.numbers = max(self.numbers, made.numel())
        return made


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
@pytest.mark.parametrize("held", [1, 60, 75, 199])
def test_embeddings_are_widened_a_part_at_a_time_and_answer_the_same(
    held: int, similarity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    embeddings, labels = drawn()
    queries, _ = drawn(33, seed=4)
    pairs = (np.arange(30), np.arange(30)[::-1].copy())

    def answers() -> list[Any]:
        found = recall_at(embeddings, labels, similarity=similarity)
        alike = pair_similarity(embeddings, *pairs, similarity)
        scores = [row.tolist() for _, scores in blocks(queries, embeddings, similarity) for row in scores]
        near = nearest(queries, embeddings, similarity)
        return [found.recalls, scores, *(x.tolist() for x in (found.hits, found.neighbours, alike, near))]

    before = embeddings.clone()
    whole = answers()
    monkeypatch.setattr("trainables.metrics.similarity.HELD", held)
    monkeypatch.setattr("trainables.metrics.similarity.CELLS", 60)
    with Largest() as largest:
        assert answers() == whole
    # 40 embeddings of 5 numbers would be 200; one alone, and a row of scores, must fit.
    assert largest.numbers <= max(held, 60)
    assert torch.equal(embeddings, before)


def test_queries_that_are_the_items_share_one_copy() -> None:
    embeddings, _ = drawn(1000, 50)
    copies = []
    for items in (embeddings, embeddings.clone()):
        with Copies() as counted:
            list(blocks(embeddings, items))
        copies.append(counted.rows)
    assert copies == [1000, 2000]


class Copies(TorchDispatchMode):
    """Counts rows of float32 that were copied to float64."""

    rows = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and made.dtype == torch.float64:
            self.rows += len(made)
        return made


def test_lone_queries_are_misses_and_counted() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    found = recall_at(embeddings, torch.tensor([0, 0, 1, 2]), (1, 2, 4, 100))
    assert found.lone == 2
    assert found.recalls == {1: 0.5, 2: 0.5, 4: 0.5, 100: 0.5}
    assert found.hits.tolist() == [True, True, False, False]


def test_a_query_is_no_answer_to_itself() -> None:
    # Nearest to itself, then to the other class: without the mask all would be hits.
    embeddings = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    found = recall_at(embeddings, torch.tensor([0, 1, 0, 1]), (1, 2, 3))
    assert found.recalls == {1: 0.0, 2: 0.5, 3: 1.0}


def test_perfect_embeddings_find_all_and_equal_ones_are_worth_a_guess() -> None:
    labels = torch.arange(60) % 6
    assert recall_at(torch.eye(6)[labels], labels).recalls[1] == 1.0
    found = recall_at(torch.ones(60, 3), labels)
    assert set(found.neighbours.tolist()) == {0, 1}  # All alike: the first, and for the first the second.
    assert found.chance == pytest.approx(9 / 59)
    shuffled = labels[torch.randperm(60, generator=torch.Generator().manual_seed(0))]
    guessed = [recall_at(drawn(60, seed=seed)[0], shuffled).recalls[1] for seed in range(40)]
    assert np.mean(guessed) == pytest.approx(found.chance, abs=0.03)


def test_chance_is_the_mean_share_of_others_of_the_same_class() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    assert recall_at(torch.randn(6, 2), labels).chance == pytest.approx(np.mean([2 / 5] * 3 + [1 / 5] * 2 + [0]))


def test_zeros_and_huge_embeddings_are_compared_without_trouble() -> None:
    embeddings = torch.tensor([[0.0, 0.0], [1e-30, 0.0], [2e-30, 0.0], [0.0, 1e30], [0.0, 2e30], [0.0, 0.0]])
    found = recall_at(embeddings, torch.tensor([2, 0, 0, 1, 1, 2]), (1,))
    assert found.neighbours[1:5].tolist() == [2, 1, 4, 3]


@pytest.mark.parametrize(
    ("shape", "labels", "similarity", "message"),
    [
        ((1, 3), (1,), "cosine", "2 embeddings or more"),
        ((4, 3), (3,), "cosine", "label of each"),
        ((4,), (4,), "cosine", r"must be \[N, D\]"),
        ((4, 3), (4,), "dot", "cosine, euclidean, but got 'dot'"),
    ],
)
def test_what_does_not_fit_is_refused(
    shape: tuple[int, ...], labels: tuple[int, ...], similarity: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        recall_at(torch.zeros(shape), torch.zeros(labels, dtype=torch.int64), similarity=similarity)


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
def test_the_nearest_item_is_the_first_of_the_most_alike(similarity: str) -> None:
    queries, _ = drawn(9, seed=2)
    items, _ = drawn(15, seed=3)
    items = torch.cat([items, items])
    expected = []
    for query in queries:
        values = [likeness(query, item, similarity) for item in items]
        expected.append(values.index(max(values)))
    assert nearest(queries, items, similarity).tolist() == expected
    assert nearest(queries[:0], items, similarity).tolist() == []


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
@pytest.mark.parametrize("block", [1, 4, 100])
def test_pairs_are_as_alike_as_the_loop_says(similarity: str, block: int) -> None:
    embeddings, _ = drawn()
    embeddings[3] = 0
    first, second = np.array([0, 3, 7, 9, 9], np.int32), np.array([1, 5, 7, 2, 9])
    first.setflags(write=False)  # As in a map.
    found = pair_similarity(embeddings, first, second, similarity, block=block)
    assert found.dtype == np.float32
    expected = [likeness(embeddings[a], embeddings[b], similarity) for a, b in zip(first, second, strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-7)
    np.testing.assert_array_equal(found, pair_similarity(embeddings, second, first, similarity))


def test_equal_embeddings_are_equally_alike_wherever_they_stand() -> None:
    one, _ = drawn(1, width=67)
    found = pair_similarity(one.repeat(1000, 1), np.arange(999), np.arange(1, 1000))
    assert len(set(found.tolist())) == 1
