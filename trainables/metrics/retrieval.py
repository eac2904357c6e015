"""Retrieval: each image asks for others of its class, among all the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainables.metrics.similarity import blocks


@dataclass(frozen=True, eq=False)
class Retrieval:
    """What a set of queries found."""

    recalls: dict[int, float]  # K -> share of the queries with one of their class among the K most alike.
    hits: np.ndarray  # [N] bool: whether the most alike is of the class.
    neighbours: np.ndarray  # [N] int64: position of the most alike.
    lone: int  # Queries whose class has no other image; they count as misses.
    chance: float  # Recall@1 expected of neighbours drawn at random.


def recall_at(
    embeddings: Tensor,
    labels: Tensor,
    ks: Sequence[int] = (1, 2, 4, 8),
    *,
    similarity: str = "cosine",
    chunk: int = 0,
) -> Retrieval:
    """Recall@K of every image against all others (Jegou et al. 2011; lists of Song et al. 2016).

    A query is left out of its own answers by its position, not by its similarity, so duplicates may be found. Of
    equally alike items the first comes first. Queries whose class has no other image stay in the denominator, as in the papers;
    libraries that drop them report more.

    Args:
        embeddings: Float [N, D], N at least 2.
        labels: Whole numbers [N].
        ks: Numbers of answers.
        similarity: cosine or euclidean.
        chunk: Queries at once, which bounds the memory; 0 takes what fills 32 MiB.

    Raises:
        ValueError: If there are fewer than 2 embeddings, or another number of labels.
    """
    count = len(embeddings)
    if count < 2 or labels.shape != (count,):
        raise ValueError(f"Need 2 embeddings or more, and a label of each, but got {count} and {tuple(labels.shape)}.")
    labels = labels.to(embeddings.device)
    _, numbered, sizes = torch.unique(labels, return_inverse=True, return_counts=True)
    others = sizes[numbered] - 1
    positions = torch.arange(count, device=embeddings.device)
    neighbours = torch.empty(count, dtype=torch.int64, device=embeddings.device)
    ranks = torch.empty_like(neighbours)
    for start, scores in blocks(embeddings, embeddings, similarity, chunk=chunk):
        rows = positions[start : start + len(scores)]
        scores[rows - start, rows] = -torch.inf
        neighbours[rows] = scores.argmax(1)
        relevant = numbered[rows, None] == numbered
        relevant[rows - start, rows] = False
        wanted = scores.masked_fill(~relevant, -torch.inf)
        first = wanted.argmax(1)  # Of equals the first, which max() does not promise.
        best = wanted.gather(1, first[:, None])
        before = (scores > best) | ((scores == best) & (positions < first[:, None]))
        ranks[rows] = before.sum(1)
    ranks[others == 0] = torch.iinfo(ranks.dtype).max  # Beyond any K.
    return Retrieval(
        recalls={k: float((ranks < k).double().mean()) for k in ks},
        hits=(ranks < 1).cpu().numpy(),
        neighbours=neighbours.cpu().numpy(),
        lone=int((others == 0).sum()),
        chance=float(others.double().mean()) / (count - 1),
    )
