"""What training calls: every loss that a spec's `method` switches on, weighed and reported by term.

Each loss is a `Term` in its own file, found by the registry; nothing here knows any of them. The label term is not here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainables.errors import UsageError
from trainables.losses import geometry
from trainables.losses.terms import Batch, Known, Outputs, Term
from trainables.spec.registry import Entry

if TYPE_CHECKING:
    from trainables.spec import DistillationSpec


class Distiller(nn.Module):
    """Weighted sum of the terms of all methods in `spec.method`, times `spec.distillation`.

    A term whose weight is 0 is not computed and not reported, unless its loss says otherwise (HORKD does, because its weights
    change while it trains). What is trained along is in this module's parameters, and no part of the student.
    """

    def __init__(
        self,
        spec: DistillationSpec,
        *,
        student_width: int,
        teacher_width: int,
        student_maps: Sequence[int],
        teacher_maps: Sequence[int],
        classes: int,
        item_labels: Tensor,
        seed_module: Callable[[str], AbstractContextManager[object]],
    ) -> None:
        """Makes what the losses train along and keep.

        Args:
            spec: Methods, weights and choices.
            student_width: Ds of the embeddings.
            teacher_width: Dt of the embeddings.
            student_maps: Channels of each of the student's maps, shallow to deep.
            teacher_maps: The same of the teacher's.
            classes: C.
            item_labels: Classes [N] of the training images, by the positions that `forward` is given.
            seed_module: Gives a context in which torch's global generator is seeded for a purpose, so that one
                loss's weights do not depend on which others are on.

        Raises:
            UsageError: If a choice is unknown, or the networks do not give what a loss reads.
        """
        super().__init__()
        self.spec = spec
        known = Known(student_width, teacher_width, tuple(student_maps), tuple(teacher_maps), classes, item_labels)
        on = [(entry, options, entry.load()) for entry, options in spec.losses_on()]
        on = [row for row in on if row[2].names_of(row[0], row[1])]
        _check([(entry, term.names_of(entry, options)) for entry, options, term in on], known)
        self.terms: list[
            Term
        ] = []  # No modules themselves: what they keep is registered under names that checkpoints have.
        for entry, options, term in on:
            draws = term.build is not Term.build
            with seed_module(term.purpose or f"loss {entry.name}") if draws else nullcontext():
                self.terms.append(term(entry, options, known))
            for name, module in self.terms[-1].modules.items():
                _register(self, name, module)

    @property
    def needs_maps(self) -> bool:
        """Whether both networks must give their feature maps."""
        return any(term.entry.facts["maps"] for term in self.terms)

    @property
    def needs_logits(self) -> bool:
        """Whether the teacher's logits are read, so that it must know the student's classes."""
        return any(term.entry.facts["logits"] for term in self.terms)

    @property
    def uses_teacher_centers(self) -> bool:
        """Whether `set_teacher_centers` must be called before the first batch."""
        return any(term.uses_teacher_centers for term in self.terms)

    @property
    def uses_epoch_centers(self) -> bool:
        """Whether `set_student_centers` must be called before each epoch."""
        return any(term.uses_epoch_centers for term in self.terms)

    def set_teacher_centers(self, total: Tensor, count: Tensor) -> None:
        """Sets the teacher's centres from the sum [C, Dt] and number [C] of its embeddings per class."""
        for term in self._that_use("teacher", [term for term in self.terms if term.uses_teacher_centers]):
            term.set_teacher_centers(total, count)

    def set_student_centers(self, total: Tensor, count: Tensor) -> None:
        """Sets the student's centres from the sum [C, Ds] and number [C] of its embeddings per class."""
        for term in self._that_use("student", [term for term in self.terms if term.uses_epoch_centers]):
            term.set_student_centers(total, count)

    def _that_use(self, whose: str, terms: list[Term]) -> list[Term]:
        if not terms:
            raise UsageError(
                f"No loss of the method '{self.spec.method}' takes class centres of the {whose} with these options.\n"
                "Ask `uses_teacher_centers` and `uses_epoch_centers` first."
            )
        return terms

    def begin_epoch(self, generator: torch.Generator) -> None:
        """Seeds what is drawn in the coming epoch, from a generator of the CPU; call it before each epoch."""
        for term in self.terms:
            term.begin_epoch(generator)

    def weights(self, progress: float) -> dict[str, float]:
        """What multiplies each reported term at a share `progress` of training, `spec.distillation` included."""
        weights = {name: weight for term in self.terms for name, weight in term.weights(progress).items()}
        return {name: self.spec.distillation * weight for name, weight in weights.items()}

    def forward(
        self, student: Outputs, teacher: Outputs, labels: Tensor, indices: Tensor, *, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted total [] and the unweighted terms [] by name.

        Args:
            student: Outputs for B low-resolution images; gradients flow here.
            teacher: Outputs for the same images as the teacher sees them, constant.
            labels: Classes [B], integers below C.
            indices: Positions [B] of the images among the N of the training split.
            progress: Share of the training that is done, in [0, 1].

        Raises:
            UsageError: If shapes do not fit, or something was not set: centres, the epoch's seed.
        """
        batch = Batch(student, teacher, labels, indices)
        total = geometry.nothing(student.embedding)
        values: dict[str, Tensor] = {}
        for term in self.terms:
            found = term.values(batch)
            for name, weight in term.weights(progress).items():
                total = total + weight * found[name]
            values |= found
        return self.spec.distillation * total, values


def _check(losses: Sequence[tuple[Entry, tuple[str, ...]]], known: Known) -> None:
    """Refuse networks that do not give what losses, with the names of their terms, read."""
    on_maps = [term for entry, terms in losses if entry.facts["maps"] for term in terms]
    if on_maps and not (known.student_maps and known.teacher_maps):
        raise UsageError(
            f"Losses on feature maps ({', '.join(on_maps)}) need both networks "
            f"to have some, but the student has {len(known.student_maps)} and the teacher {len(known.teacher_maps)}.\n"
            "Choose another method or architecture."
        )
    for entry, _ in losses:
        if entry.facts["same_width"] and known.student_width != known.teacher_width:
            raise UsageError(
                f"{entry.told} needs embeddings of one width, but the student's has "
                f"{known.student_width} and the teacher's {known.teacher_width}.\nSet `embedding` of one to the other's, or choose "
                "networks of equal widths."
            )


def _register(module: nn.Module, path: str, child: nn.Module) -> None:
    """Make `child` a part of `module` under a dotted name."""
    *folders, name = path.split(".")
    for folder in folders:
        if folder not in dict(module.named_children()):
            module.add_module(folder, nn.Module())
        module = module.get_submodule(folder)
    module.add_module(name, child)
