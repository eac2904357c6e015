"""Reading the test images with a finished network: what every task's score is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables import metrics
from trainables.data.batches import load
from trainables.data.packed import Packed
from trainables.errors import NonFiniteError
from trainables.models.network import Outputs
from trainables.training.inputs import InputTransform


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


def summary(metric: str, score: float, right: np.ndarray, *, chance: float) -> dict[str, Any]:
    """What the evaluation of every task says: its main number, what guessing would get, and how many were right."""
    counts = {"correct": int(right.sum()), "items": len(right)}
    return {"metric": metric, "score": score, metric: score, "chance": chance} | counts
