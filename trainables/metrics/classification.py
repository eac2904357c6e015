"""Scores of logits, and health of embeddings, computed on the device and read once."""

from __future__ import annotations

import torch
from torch import Tensor


def correct(logits: Tensor, labels: Tensor, k: int = 1) -> Tensor:
    """Whether the label is among the `k` largest logits, [B] bool; logits [B, C], labels [B]."""
    if k == 1:
        return logits.argmax(1) == labels
    return (logits.topk(min(k, logits.shape[1]), dim=1).indices == labels[:, None]).any(1)


def spread(embeddings: Tensor) -> Tensor:
    """Mean standard deviation of the embedding's dimensions over a batch [B, D], []: 0 means collapsed."""
    if len(embeddings) < 2:
        return embeddings.new_zeros(())
    return embeddings.float().std(0).mean()


def finite(value: Tensor) -> bool:
    """Whether all entries are finite numbers; waits for the device."""
    return bool(torch.isfinite(value).all())
