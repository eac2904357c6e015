"""Closed-set identification: who of the known subjects is on an image, read off frozen embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.metrics.similarity import blocks

HEADS = ("softmax", "nearest")
STEPS = 200  # Of L-BFGS; the loss is convex and usually still after fewer.


@dataclass(frozen=True, eq=False)
class Identification:
    """What was said of the probes."""

    predicted: np.ndarray  # [Q] int64: a subject.
    ranks: np.ndarray  # [Q] int64: how many subjects were thought likelier than the true one.

    def top(self, k: int) -> float:
        """Share of the probes whose subject is among the `k` likeliest."""
        return float((self.ranks < k).mean())


def identify(
    gallery: Tensor,
    gallery_subjects: Tensor,
    probes: Tensor,
    probe_subjects: Tensor,
    *,
    head: str = "softmax",
    similarity: str = "cosine",
) -> Identification:
    """Name the subject of every probe; of equally likely ones the first.

    Args:
        gallery: Embeddings [G, D] of known images.
        gallery_subjects: Whole numbers [G] from 0 to S - 1, each at least once.
        probes: Embeddings [Q, D].
        probe_subjects: Whole numbers [Q].
        head: softmax trains a new linear layer on the gallery; nearest takes the subject of the most alike image.
        similarity: cosine or euclidean, for nearest.

    Raises:
        ValueError: If the head is another one.
    """
    if head == "softmax":
        scores = softmax_scores(gallery, gallery_subjects, probes)
    elif head == "nearest":
        scores = _nearest_scores(gallery, gallery_subjects, probes, similarity)
    else:
        raise ValueError(f"`head` must be one of {', '.join(HEADS)}, but got {head!r}.")
    truth = probe_subjects.to(scores.device)[:, None]
    own = scores.gather(1, truth)
    order = torch.arange(scores.shape[1], device=scores.device)
    before = (scores > own) | ((scores == own) & (order < truth))
    return Identification(scores.argmax(1).cpu().numpy(), before.sum(1).cpu().numpy())


def softmax_scores(gallery: Tensor, subjects: Tensor, probes: Tensor) -> Tensor:
    """Logits [Q, S] float64 of a linear layer trained on frozen embeddings (HORKD, Sec. 4.2: a new softmax layer).

    Embeddings are standardised by the gallery. The loss, cross-entropy plus ||W||^2 / 2G, has one minimum; L-BFGS from
    zeros finds it, so nothing is drawn. The penalty is that of scikit-learn's logistic regression at its default. The
    paper names neither optimiser nor penalty.
    """
    known, asked = gallery.double(), probes.double()
    middle, spread = known.mean(0), known.std(0, correction=0)
    # A dimension that never varies says nothing of the gallery, and must not explode on a probe.
    spread = torch.where(spread > 1e-12 * spread.max(), spread, torch.inf)
    known, asked = (known - middle) / spread, (asked - middle) / spread
    subjects = subjects.to(known.device)
    with torch.enable_grad():
        weight = torch.zeros(int(subjects.max()) + 1, known.shape[1], dtype=torch.float64, device=known.device)
        bias = torch.zeros(len(weight), dtype=torch.float64, device=known.device)
        layer = [nn.Parameter(weight), nn.Parameter(bias)]
        optimizer = torch.optim.LBFGS(
            layer,
            max_iter=STEPS,
            tolerance_grad=1e-7,
            tolerance_change=1e-12,
            history_size=10,
            line_search_fn="strong_wolfe",
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = F.cross_entropy(F.linear(known, *layer), subjects) + layer[0].square().sum() / (2 * len(known))
            value.backward()
            return value

        optimizer.step(loss)
    return F.linear(asked, *layer).detach()


def _nearest_scores(gallery: Tensor, subjects: Tensor, probes: Tensor, similarity: str) -> Tensor:
    """[Q, S]: how alike the subject's most alike image is."""
    subjects = subjects.to(gallery.device)
    count = int(subjects.max()) + 1
    found = []
    for _, scores in blocks(probes, gallery, similarity):
        best = scores.new_full((len(scores), count), -torch.inf)
        found.append(best.scatter_reduce_(1, subjects.expand(len(scores), -1), scores, "amax"))
    return torch.cat(found)
