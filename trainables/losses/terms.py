"""What a distillation loss is to training: a `Term`, made once, asked for its values batch by batch.

One term may report several values: RKD's distances and angles, HORKD's orders. Each loss has its own in the file of its
paper; its declaration in `trainables/spec/losses.py` names it, and `distiller.Distiller` sums them.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from trainables.errors import UsageError
from trainables.spec.fields import Fields
from trainables.spec.methods import weights_of
from trainables.spec.registry import Entry


class Outputs(Protocol):
    """What a network says about a batch, whatever network it is."""

    @property
    def embedding(self) -> Tensor:
        """[B, D]."""

    @property
    def logits(self) -> Tensor:
        """[B, C]."""

    @property
    def maps(self) -> tuple[Tensor, ...]:
        """One [B, F, h, w] per stage, shallow to deep; read where `needs_maps`."""


class Batch(NamedTuple):
    """What a term may read."""

    student: Outputs
    teacher: Outputs
    labels: Tensor  # [B]
    indices: Tensor  # [B], positions among the training images.


class Known(NamedTuple):
    """What a term may know when it is made: of both networks, and of the training images."""

    student_width: int  # Of the embedding.
    teacher_width: int
    student_maps: tuple[int, ...]  # Channels of each map, shallow to deep.
    teacher_maps: tuple[int, ...]
    classes: int
    item_labels: Tensor  # Classes [N] of the training images, by position.


class Term:
    """A distillation loss with what is set of it, and what it trains along or keeps between batches.

    The defaults are those of a loss that is a function of a batch: it says `value`.
    """

    purpose: ClassVar[str] = ""  # What seeds the weights that it trains along; without it, "loss" and its name.
    uses_teacher_centers: bool = False  # Whether `set_teacher_centers` must be called before the first batch.
    uses_epoch_centers: bool = False  # Whether `set_student_centers` must be called before each epoch.

    def __init__(self, entry: Entry, options: Any, known: Known) -> None:
        """Args: its declaration; what is set of it; what is known of the networks and the data."""
        self.entry, self.options = entry, options
        self.names = self.names_of(entry, options)
        self._weights = weights_of(entry, options)
        self.modules: dict[str, nn.Module] = {}  # What it trains along and keeps, by the dotted name in checkpoints.
        self.build(known)

    @classmethod
    def names_of(cls, entry: Entry, options: Fields) -> tuple[str, ...]:
        """The values that it reports: those with a weight. Without any, it is not made."""
        return tuple(weights_of(entry, options))

    def build(self, known: Known) -> None:
        """Fill `modules`, drawn from torch's global generator, which is seeded for losses that say this."""

    def weights(self, progress: float) -> dict[str, float]:
        """What multiplies each value at a share `progress` of training."""
        return self._weights

    def begin_epoch(self, generator: torch.Generator) -> None:
        """Seeds what is drawn in the coming epoch, from a generator of the CPU."""

    def set_teacher_centers(self, total: Tensor, count: Tensor) -> None:
        """Takes the sum [C, Dt] and number [C] of the teacher's embeddings per class."""

    def set_student_centers(self, total: Tensor, count: Tensor) -> None:
        """Takes the sum [C, Ds] and number [C] of the student's embeddings per class, as of the epoch's start."""

    def values(self, batch: Batch) -> dict[str, Tensor]:
        """The unweighted values [] of a batch, in the order of `names`."""
        return {name: self.value(name, batch) for name in self.names}

    def value(self, name: str, batch: Batch) -> Tensor:
        """One of them."""
        raise NotImplementedError


def check_maps(batch: Batch) -> None:
    """Raises UsageError where a network gave no feature maps."""
    if not batch.student.maps or not batch.teacher.maps:
        raise UsageError(
            f"Losses on feature maps need those of both networks, but got {len(batch.student.maps)} of the student "
            f"and {len(batch.teacher.maps)} of the teacher.\nAsk `needs_maps` and call the networks with maps=True."
        )
