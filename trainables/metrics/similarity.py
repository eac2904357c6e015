"""How alike embeddings are: of given pairs, or of all queries with all items, in blocks that bound the memory.

Everything is computed in float64, one image pair as exactly as another, and rounded before it is compared: products of
matrices add up in an order that depends on the place in the matrix, and equal embeddings must stay equally alike.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIMILARITIES = ("cosine", "euclidean")
CELLS = 1 << 22  # Similarities held at once: 32 MiB.
QUANTUM = 2.0**-32  # Of the largest squared length; errors of float64 are a millionth of that.


def pair_similarity(
    embeddings: Tensor, first: np.ndarray, second: np.ndarray, similarity: str = "cosine", *, block: int = 4096
) -> np.ndarray:
    """Cosine, or minus the squared Euclidean distance, of pairs of rows: [P] float32.

    Args:
        embeddings: Float [N, D]. An embedding of zeros has cosine 0 with everything.
        first: Positions [P].
        second: Positions [P].
        similarity: cosine or euclidean.
        block: Pairs computed at once.
    """
    _check(embeddings, similarity)
    found = [torch.empty(0, dtype=torch.float64)]
    for start in range(0, len(first), block):
        # Copied, because torch objects to positions in a read-only map.
        one, two = (
            embeddings[
                torch.from_numpy(np.array(where[start : start + block], np.int64)).to(embeddings.device)
            ].double()
            for where in (first, second)
        )
        if similarity == "cosine":
            value = (_unit(one) * _unit(two)).sum(1)
        else:
            value = -(one - two).square().sum(1)
        found.append(value.cpu())
    return torch.cat(found).float().numpy()


def blocks(
    queries: Tensor, items: Tensor, similarity: str = "cosine", *, chunk: int = 0
) -> Iterator[tuple[int, Tensor]]:
    """(first query, scores [c, M] float64) of successive queries: larger is more alike, comparable within a row only.

    Args:
        queries: Float [N, D].
        items: Float [M, D]; besides a block of scores, a float64 copy of both is held.
        similarity: cosine or euclidean.
        chunk: Queries per block; 0 takes what fills 32 MiB.
    """
    _check(queries, similarity)
    queries, items = queries.double(), items.double()
    if similarity == "cosine":
        queries, items, lengths, scale = _unit(queries), _unit(items), None, 1.0
    else:
        # Squared distances without the query's own length, which ranks nothing. Far from the origin they would vanish
        # beside the lengths, so the origin moves to the middle of the items.
        middle = items.mean(0)
        queries, items = queries - middle, items - middle
        lengths = items.square().sum(1)
        scale = float(torch.cat([lengths, queries.square().sum(1)]).max()) or 1.0
    chunk = chunk or max(1, CELLS // max(1, len(items)))
    for start in range(0, len(queries), chunk):
        scores = queries[start : start + chunk] @ items.T
        if lengths is not None:
            scores = 2 * scores - lengths
        yield start, (scores / (scale * QUANTUM)).round_()


def nearest(queries: Tensor, items: Tensor, similarity: str = "cosine", *, chunk: int = 0) -> Tensor:
    """Position [N] int64 of the item most like each query; of equals the first."""
    found = [scores.argmax(1) for _, scores in blocks(queries, items, similarity, chunk=chunk)]
    return torch.cat(found) if found else torch.empty(0, dtype=torch.int64)


def _unit(rows: Tensor) -> Tensor:
    return F.normalize(rows, dim=1, eps=torch.finfo(rows.dtype).tiny)


def _check(embeddings: Tensor, similarity: str) -> None:
    if similarity not in SIMILARITIES:
        raise ValueError(f"`similarity` must be one of {', '.join(SIMILARITIES)}, but got {similarity!r}.")
    if embeddings.ndim != 2:
        raise ValueError(f"`embeddings` must be [N, D], but got {tuple(embeddings.shape)}.")
