"""How alike embeddings are: of given pairs, or of all queries with all items, in blocks that bound the memory.

Everything is computed in float64, one image pair as exactly as another, and rounded before it is compared: products of
matrices add up in an order that depends on the place in the matrix, and equal embeddings must stay equally alike.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

SIMILARITIES = ("cosine", "euclidean")
CELLS = 1 << 22  # Similarities held at once: 32 MiB.
HELD = 1 << 25  # Numbers of embeddings held in float64 at once: 256 MiB.
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
        block: Pairs computed at once, at most; fewer where their embeddings would fill more than 256 MiB.
    """
    _check(embeddings, similarity)
    block = min(block, _most(embeddings))
    found = [torch.empty(0, dtype=torch.float64)]
    for start in range(0, len(first), block):
        # Copied, because torch objects to positions in a read-only map.
        one, two = (
            embeddings[
                torch.from_numpy(np.array(where[start : start + block], np.int64)).to(embeddings.device)
            ].double()
            for where in (first, second)
        )
        value = (_unit_(one) * _unit_(two)).sum(1) if similarity == "cosine" else -(one - two).square().sum(1)
        found.append(value.cpu())
    return torch.cat(found).float().numpy()


def blocks(
    queries: Tensor, items: Tensor, similarity: str = "cosine", *, chunk: int = 0
) -> Iterator[tuple[int, Tensor]]:
    """(first query, scores [c, M] float64) of successive queries: larger is more alike, comparable within a row only.

    Whatever N, M and D, it holds less than 1 GiB besides what it is given: 32 MiB of scores in up to three stages, and
    256 MiB each of queries and items in float64 and, for a moment, of squares; only a single row may be larger.
    Measured on 700 images of 196,608 numbers: 0.6 GiB. Where queries and items are one tensor that fits, there is one
    copy. Items that do not fit are copied again for each block of queries, a third of the time with those images.

    Args:
        queries: Float [N, D].
        items: Float [M, D].
        similarity: cosine or euclidean.
        chunk: Queries per block, at most; 0 takes what fills 32 MiB with scores.
    """
    _check(queries, similarity)
    most = _most(items)
    chunk = min(most, chunk or max(1, CELLS // max(1, len(items))))
    parts = [slice(start, start + most) for start in range(0, len(items), most)]
    lengths, scale = None, 1.0
    place = _unit_
    if similarity == "euclidean":
        # Squared distances without the query's own length, which ranks nothing. Far from the origin they would vanish
        # beside the lengths, so the origin moves to the middle of the items.
        middle = torch.zeros(items.shape[1], dtype=torch.float64, device=items.device)
        for part in parts:
            middle += items[part].double().sum(0)
        middle /= len(items)
        place = functools.partial(torch.Tensor.sub_, other=middle)
    known = _placed(items, place, most)
    asked = known if queries is items else _placed(queries, place, most)
    if similarity == "euclidean":
        lengths = torch.cat([known(part).square().sum(1) for part in parts])
        scale = float(lengths.max())
        if queries is not items:
            for start in range(0, len(queries), most):
                scale = max(scale, float(asked(slice(start, start + most)).square().sum(1).max()))
        scale = scale or 1.0
    for start in range(0, len(queries), chunk):
        rows = asked(slice(start, start + chunk))
        scores = rows.new_empty(len(rows), len(items))
        for part in parts:
            torch.matmul(rows, known(part).T, out=scores[:, part])
        if lengths is not None:
            scores = 2 * scores - lengths
        yield start, (scores / (scale * QUANTUM)).round_()


def nearest(queries: Tensor, items: Tensor, similarity: str = "cosine", *, chunk: int = 0) -> Tensor:
    """Position [N] int64 of the item most like each query; of equals the first."""
    found = [scores.argmax(1) for _, scores in blocks(queries, items, similarity, chunk=chunk)]
    return torch.cat(found) if found else torch.empty(0, dtype=torch.int64)


def _most(embeddings: Tensor) -> int:
    """Embeddings that may be held in float64 at once."""
    return max(1, HELD // max(1, embeddings.shape[1]))


def _placed(rows: Tensor, place: Callable[[Tensor], Tensor], most: int) -> Callable[[slice], Tensor]:
    """Stretches of `rows` in float64, changed by `place`, which writes into its copy; all made once if they fit."""
    if len(rows) > most:
        return lambda part: place(rows[part].to(torch.float64, copy=True))
    kept = place(rows.to(torch.float64, copy=True))
    return lambda part: kept[part]


def _unit_(rows: Tensor) -> Tensor:
    """Rows of length 1, written over `rows`."""
    return rows.div_(rows.norm(dim=1, keepdim=True).clamp_min_(torch.finfo(rows.dtype).tiny))


def _check(embeddings: Tensor, similarity: str) -> None:
    if similarity not in SIMILARITIES:
        raise ValueError(f"`similarity` must be one of {', '.join(SIMILARITIES)}, but got {similarity!r}.")
    if embeddings.ndim != 2:
        raise ValueError(f"`embeddings` must be [N, D], but got {tuple(embeddings.shape)}.")
