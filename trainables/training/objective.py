"""What a training minimises: a sum of objectives, each with unweighted terms and their weights. The loop names none.

An objective says what it reads before it is asked, is told what is computed ahead of a batch (class centres), draws
from generators it asks for by purpose, and may train modules of its own along with the network.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.errors import UsageError
from trainables.losses.distiller import Distiller
from trainables.losses.ranking import triplet_loss
from trainables.models.network import Outputs
from trainables.spec import TrainingSpec, TripletSpec, distils
from trainables.training.frozen import FrozenTeacher
from trainables.training.numerics import drawn_from

Draw = Callable[[str], torch.Generator]  # Purpose -> the epoch's generator for it, on the CPU.


class Batch(NamedTuple):
    """What an objective may read of a batch."""

    outputs: Outputs  # Of the network in training; gradients flow here.
    teacher: Outputs | None  # Of the frozen teacher, constant; None where no objective reads one.
    labels: Tensor  # int64 [B].
    rows: Tensor  # Positions int64 [B] in the training split.


@dataclass(frozen=True)
class Reads:
    """What an objective reads, beside embeddings and positions, which are always there."""

    labels: bool = False
    logits: bool = False  # Of the network in training.
    maps: bool = False  # Of the network, and of the teacher if that is read.
    teacher: bool = False
    teacher_logits: bool = False  # Then the teacher must know the training's classes.
    teacher_centers: bool = False  # The teacher's exact class sums, once.
    epoch_centers: bool = False  # The network's own, before each epoch.

    def __or__(self, other: Reads) -> Reads:
        return Reads(**{name: getattr(self, name) or getattr(other, name) for name in self.__dataclass_fields__})


class Objective(Protocol):
    """One summand of what is minimised."""

    name: str  # Of its states in a checkpoint; "" keeps the names they have in its module.

    @property
    def reads(self) -> Reads:
        """What it reads."""

    @property
    def module(self) -> nn.Module | None:
        """What it trains along and keeps between batches; None where there is nothing."""

    @property
    def plain(self) -> Sequence[str]:
        """Terms of which a history holds the value alone, without the weighted one beside it."""

    def weights(self, progress: float) -> Mapping[str, float]:
        """What multiplies each of its terms at a share `progress` of training, in [0, 1]."""

    def __call__(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted total [] and the unweighted terms [] by name."""

    def begin_epoch(self, draw: Draw) -> None:
        """Called before each epoch."""

    def set_teacher_centers(self, total: Tensor, count: Tensor) -> None:
        """Class sums [C, D] and numbers [C] of the teacher; called once if `reads` asks for them."""

    def set_epoch_centers(self, total: Tensor, count: Tensor) -> None:
        """The same of the network in training; called before each epoch if `reads` asks for them."""


class Part:
    """An objective with nothing to train along, nothing drawn and no centres: what most are."""

    name = "part"
    reads = Reads()
    module: nn.Module | None = None
    plain: Sequence[str] = ()

    def begin_epoch(self, draw: Draw) -> None:
        """Nothing."""

    def set_teacher_centers(self, total: Tensor, count: Tensor) -> None:
        raise UsageError(f"Centres were set for the objective '{self.name}', which reads none.")

    set_epoch_centers = set_teacher_centers


class LabelObjective(Part):
    """A loss of outputs and labels: cross-entropy, a margin loss.

    Args:
        loss: (outputs, labels) to a scalar []; a module's parameters are trained along.
        term: Its name in the history.
        weight: What multiplies it.
        reads: What it reads beside embeddings.
    """

    name = "labels"

    def __init__(
        self,
        loss: Callable[[Outputs, Tensor], Tensor],
        term: str,
        weight: float = 1.0,
        reads: Reads = Reads(labels=True, logits=True),
    ) -> None:
        self.loss, self.term, self.weight, self.reads = loss, term, weight, reads
        self.module = loss if isinstance(loss, nn.Module) else None
        self.plain = (term,)

    def weights(self, progress: float) -> dict[str, float]:
        return {self.term: self.weight}

    def __call__(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        value = self.loss(batch.outputs, batch.labels)
        return self.weight * value, {self.term: value}


def cross_entropy(outputs: Outputs, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of the logits in float32, the mean over the batch."""
    return F.cross_entropy(outputs.logits.float(), labels, label_smoothing=label_smoothing)


class TripletObjective(Part):
    """The triplet loss of the embeddings."""

    name = "triplet"
    reads = Reads(labels=True)

    def __init__(self, spec: TripletSpec) -> None:
        self.spec = spec

    def weights(self, progress: float) -> dict[str, float]:
        return {"triplet": self.spec.weight}

    def __call__(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        value = triplet_loss(batch.outputs.embedding, batch.labels, margin=self.spec.margin, mining=self.spec.mining)
        return self.spec.weight * value, {"triplet": value}


class DistillationObjective(Part):
    """The losses of a spec's `method`, between the network and a frozen teacher."""

    name = ""  # Checkpoints hold the distiller's states under its own names.

    def __init__(self, distiller: Distiller) -> None:
        self.distiller = self.module = distiller
        self.reads = Reads(
            labels=True,
            maps=distiller.needs_maps,
            teacher=True,
            teacher_logits=distiller.needs_logits,
            teacher_centers=distiller.uses_teacher_centers,
            epoch_centers=distiller.uses_epoch_centers,
        )

    def weights(self, progress: float) -> dict[str, float]:
        return self.distiller.weights(progress)

    def __call__(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        assert batch.teacher is not None
        total, terms = self.distiller(batch.outputs, batch.teacher, batch.labels, batch.rows, progress=progress)
        return total, terms

    def begin_epoch(self, draw: Draw) -> None:
        self.distiller.begin_epoch(draw("negatives"))

    def set_teacher_centers(self, total: Tensor, count: Tensor) -> None:
        self.distiller.set_teacher_centers(total, count)

    def set_epoch_centers(self, total: Tensor, count: Tensor) -> None:
        self.distiller.set_student_centers(total, count)


Kind = TypeVar("Kind")


class Objectives:
    """A sum of objectives, added in the order given: with floating point the order is part of the result."""

    def __init__(self, parts: Iterable[Objective]) -> None:
        self.parts = tuple(parts)
        self.reads = functools.reduce(Reads.__or__, (part.reads for part in self.parts), Reads())
        names = [part.name for part in self.parts if part.module is not None]
        if not self.parts or len(set(names)) < len(names):
            raise UsageError(f"A training needs objectives of different names, but got {names or 'none'}.")

    def of(self, kind: type[Kind]) -> Kind | None:
        """The first part of a class, or None."""
        return next((part for part in self.parts if isinstance(part, kind)), None)

    @property
    def plain(self) -> tuple[str, ...]:
        """Terms reported without a weighted value."""
        return tuple(name for part in self.parts for name in part.plain)

    def __call__(self, batch: Batch, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted total [] and all unweighted terms."""
        total, terms = self.parts[0](batch, progress)
        for part in self.parts[1:]:
            more, of_part = part(batch, progress)
            total, terms = total + more, terms | of_part
        return total, terms

    def weights(self, progress: float) -> dict[str, float]:
        """What multiplies each term."""
        return {name: weight for part in self.parts for name, weight in part.weights(progress).items()}

    def begin_epoch(self, draw: Draw) -> None:
        for part in self.parts:
            part.begin_epoch(draw)

    def set_teacher_centers(self, total: Tensor, count: Tensor) -> None:
        for part in self.parts:
            if part.reads.teacher_centers:
                part.set_teacher_centers(total, count)

    def set_epoch_centers(self, total: Tensor, count: Tensor) -> None:
        for part in self.parts:
            if part.reads.epoch_centers:
                part.set_epoch_centers(total, count)

    def train(self) -> None:
        """Training mode for what is trained along."""
        for _, module in self._modules():
            module.train()

    def parameters(self) -> list[nn.Parameter]:
        """Of all that is trained along."""
        return [value for _, module in self._modules() for value in module.parameters()]

    def state_dict(self) -> dict[str, Any]:
        """States of all parts, for a checkpoint."""
        return {f"{before}{name}": v for before, module in self._modules() for name, v in module.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """What `state_dict` gave."""
        for before, module in self._modules():
            module.load_state_dict({name: state[f"{before}{name}"] for name in module.state_dict()})

    def _modules(self) -> Iterator[tuple[str, nn.Module]]:
        for part in self.parts:
            if part.module is not None:
                yield f"{part.name}." if part.name else "", part.module


def objective_of(
    spec: TrainingSpec, network: Any, teacher: FrozenTeacher | None, classes: tuple[str, ...], labels: Tensor
) -> Objectives:
    """What a spec asks to be minimised: labels, then its methods if there is a teacher, then triplets.

    Args:
        spec: Weights and choices.
        network: In training; its widths are read.
        teacher: What is distilled, if anything is.
        classes: C, of the labels.
        labels: [N] of the training split, on the device.

    Raises:
        UsageError: If a loss compares logits, but the teacher's are of other classes.
    """
    loss = functools.partial(cross_entropy, label_smoothing=spec.label_smoothing)
    parts: list[Objective] = [LabelObjective(loss, "cross_entropy", spec.label_weight)]
    if distils(spec) and teacher is not None:
        distiller = Distiller(
            spec,
            student_width=network.embedding_width,
            teacher_width=teacher.width,
            student_maps=network.map_widths,
            teacher_maps=teacher.map_widths,
            classes=len(classes),
            item_labels=labels,
            seed_module=functools.partial(drawn_from, spec.seed),
        ).to(labels.device)
        part = DistillationObjective(distiller)
        if part.reads.teacher_logits and teacher.classes != classes:
            raise UsageError(
                f"method={spec.method} needs a guide with the student's classes, but it has {len(teacher.classes)} "
                f"and the student {len(classes)}. Give both the same task, folds, held_out and min_images."
            )
        parts.append(part)
    if spec.triplet.weight > 0:
        parts.append(TripletObjective(spec.triplet))
    return Objectives(parts)
