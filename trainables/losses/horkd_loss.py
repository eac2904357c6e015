"""The loss of HORKD as a whole (Ge et al., AAAI 2020, Eq. 8): its terms, their weights, and the class centres it keeps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trainables.errors import UsageError
from trainables.losses import checks, geometry
from trainables.losses.horkd import (
    FEATURE_NORMS,
    POINT_DISTANCES,
    REDUCTIONS,
    RELATION_DISTANCES,
    Both,
    angle_loss,
    center_loss,
    class_centers,
    pair_loss,
    point_loss,
    rows_of,
)
from trainables.losses.processes import joined
from trainables.losses.terms import Batch, Known, Term
from trainables.spec.losses import ORDER_TERMS, ORDERS, HorkdSpec
from trainables.spec.registry import Entry

CENTERS = checks.options(HorkdSpec, "centers")


class HorkdTerm(Term):
    """`HorkdLoss` as one of the losses of `method`: it reports every order that is on, whatever its weight."""

    purpose = "projector"

    @classmethod
    def names_of(cls, entry: Entry, options: Any) -> tuple[str, ...]:
        return tuple(options.parts())

    def build(self, known: Known) -> None:
        self.loss = HorkdLoss(
            self.options,
            student_width=known.student_width,
            teacher_width=known.teacher_width,
            classes=known.classes,
        )
        self.modules = {"horkd": self.loss}
        self.uses_teacher_centers = self.loss.uses_teacher_centers
        self.uses_epoch_centers = self.loss.uses_epoch_centers

    def weights(self, progress: float) -> dict[str, float]:
        return self.loss.weights(progress)

    def set_teacher_centers(self, total: Tensor, count: Tensor) -> None:
        self.loss.set_teacher_centers(total, count)

    def set_student_centers(self, total: Tensor, count: Tensor) -> None:
        self.loss.set_student_centers(total, count)

    def values(self, batch: Batch) -> dict[str, Tensor]:
        return self.loss.values(batch.student.embedding, batch.teacher.embedding, batch.labels)


class HorkdLoss(nn.Module):
    """Weighted sum of the terms that `spec.orders` switches on (HORKD, Eq. 8).

    The point term uses embeddings normalised as `spec.feature_norm` says, the relations raw ones. If the
    widths differ, a linear map without bias takes the student to the teacher's width for the point term
    (`projector`): it is trained along through this module's parameters and is no part of the student.

    Centres (`spec.centers`):
        "running": The teacher's are exact and set once (`set_teacher_centers`). The student's are a moving
            average of batch means, held constant in the gradient and updated after each use in training mode;
            a class counts from the batch after its first. Under a weight of 12.5 they diverge without the
            warm-up of `center_warmup`.
        "batch": Both from the batch at hand, with gradient. A class with a single row is no centre for that
            row.
        "epoch": The teacher's as for "running". The student's are exact as of the epoch's start, when the
            training computes them anew (`set_student_centers`), and constant until the next.

    Without `gather` each of several processes relates, and averages centres over, its own batch alone.
    """

    teacher_centers: Tensor  # [C, Dt]
    teacher_seen: Tensor  # [C]
    student_centers: Tensor  # [C, Ds]
    student_seen: Tensor  # [C]

    def __init__(
        self, spec: HorkdSpec, *, student_width: int, teacher_width: int, classes: int, gather: bool = False
    ) -> None:
        """Makes the projector, drawn from torch's global generator, and the buffers of centres.

        Args:
            spec: The weights and choices.
            student_width: Ds of the embeddings.
            teacher_width: Dt of the embeddings.
            classes: C.
            gather: Relate the rows of all processes: each gets the loss, and keeps the centres, that a single
                process has with the joined batch. They need batches of equal size; pairs and triplets grow with
                the number of processes.

        Raises:
            UsageError: If the spec names an unknown order or choice.
        """
        super().__init__()
        orders = [] if spec.orders == "none" else spec.orders.split("+")
        for order in orders:
            checks.one_of("orders", order, ORDERS)
        checks.one_of("reduction", spec.reduction, REDUCTIONS)
        checks.one_of("point_distance", spec.point_distance, POINT_DISTANCES)
        checks.one_of("pair_distance", spec.pair_distance, RELATION_DISTANCES)
        checks.one_of("feature_norm", spec.feature_norm, FEATURE_NORMS)
        checks.one_of("centers", spec.centers, CENTERS)
        self.spec = spec
        self.terms = tuple(name for order, name in ORDER_TERMS.items() if order in orders)
        self.classes = classes
        self.gather = gather
        self.projector: nn.Linear | None = None
        if "point" in self.terms and student_width != teacher_width:
            self.projector = nn.Linear(student_width, teacher_width, bias=False)
        self._teacher_centers_set = self._student_centers_set = False
        if self.uses_teacher_centers:
            self.register_buffer("teacher_centers", torch.zeros(classes, teacher_width))
            self.register_buffer("teacher_seen", torch.zeros(classes, dtype=torch.bool))
            self.register_buffer("student_centers", torch.zeros(classes, student_width))
            self.register_buffer("student_seen", torch.zeros(classes, dtype=torch.bool))
            self.register_load_state_dict_post_hook(_remember_centers)

    @property
    def uses_teacher_centers(self) -> bool:
        """Whether `set_teacher_centers` must be called before the first batch."""
        return "center" in self.terms and self.spec.centers != "batch"

    @property
    def uses_epoch_centers(self) -> bool:
        """Whether `set_student_centers` must be called before each epoch."""
        return "center" in self.terms and self.spec.centers == "epoch"

    def set_teacher_centers(self, total: Tensor, count: Tensor) -> None:
        """Sets the teacher's centres from the sum [C, Dt] and number [C] of its embeddings per class.

        Raises:
            UsageError: If the loss keeps no centres, or the shapes do not fit.
        """
        if not self.uses_teacher_centers:
            raise UsageError(
                "Teacher centres are used by orders with C and centers='running' or 'epoch' only, but got orders "
                f"'{self.spec.orders}' and centers '{self.spec.centers}'.\nAsk `uses_teacher_centers` first."
            )
        _set_centers(self.teacher_centers, self.teacher_seen, total, count, "teacher")
        self._teacher_centers_set = True

    def set_student_centers(self, total: Tensor, count: Tensor) -> None:
        """Sets the student's centres from the sum [C, Ds] and number [C] of its embeddings per class.

        Raises:
            UsageError: If the loss has no centres of an epoch, or the shapes do not fit.
        """
        if not self.uses_epoch_centers:
            raise UsageError(
                "Student centres are set from outside by orders with C and centers='epoch' only, but got orders "
                f"'{self.spec.orders}' and centers '{self.spec.centers}'.\nAsk `uses_epoch_centers` first."
            )
        _set_centers(self.student_centers, self.student_seen, total, count, "student")
        self._student_centers_set = True

    def weights(self, progress: float) -> dict[str, float]:
        """Weight of each term that is on at a share `progress` of training; gamma rises linearly from 0."""
        warmup = self.spec.center_warmup
        risen = 1.0 if warmup <= 0 else min(1.0, max(0.0, progress / warmup))
        weights = {
            "point": self.spec.w_1st,
            "pair": self.spec.alpha,
            "angle": self.spec.beta,
            "center": self.spec.gamma * risen,
        }
        return {name: weights[name] for name in self.terms}

    def forward(
        self, student: Tensor, teacher: Tensor, labels: Tensor, *, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted total [] and the unweighted terms [] by name, which share one graph.

        Args:
            student: Embeddings [B, Ds].
            teacher: Embeddings [B, Dt], constant.
            labels: Classes [B], integers below C; the centre term alone reads them.
            progress: Share of the training that is done, in [0, 1].

        Raises:
            UsageError: If centres are needed that were not set.
        """
        terms = self.values(student, teacher, labels)
        total = geometry.nothing(student)
        for name, weight in self.weights(progress).items():
            total = total + weight * terms[name]
        return total, terms

    def values(self, student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The unweighted terms [] by name, as of `forward`."""
        teacher = teacher.detach()
        if self.gather:
            student, teacher, labels = joined(student), joined(teacher), joined(labels)
        both = rows_of(student, teacher)
        return {name: getattr(self, f"_{name}")(student, teacher, labels, both) for name in self.terms}

    def _point(self, student: Tensor, teacher: Tensor, labels: Tensor, both: Both) -> Tensor:
        if self.projector is not None:
            with geometry.full_precision(student):
                student = self.projector(student.to(self.projector.weight.dtype))
        return point_loss(
            student,
            teacher,
            distance=self.spec.point_distance,
            feature_norm=self.spec.feature_norm,
            reduction=self.spec.reduction,
        )

    def _pair(self, student: Tensor, teacher: Tensor, labels: Tensor, both: Both) -> Tensor:
        return pair_loss(student, teacher, reduction=self.spec.reduction, distance=self.spec.pair_distance, both=both)

    def _angle(self, student: Tensor, teacher: Tensor, labels: Tensor, both: Both) -> Tensor:
        return angle_loss(student, teacher, reduction=self.spec.reduction, both=both)

    def _center(self, student: Tensor, teacher: Tensor, labels: Tensor, both: Both) -> Tensor:
        if self.spec.centers == "batch":
            student_centers, counts = class_centers(student, labels, self.classes)
            teacher_centers, _ = class_centers(teacher, labels, self.classes)
            valid = (counts > 0).expand(len(labels), self.classes)
            if self.spec.reduction != "reference":
                # The only row of a class is its own centre: that distance of zero says nothing.
                own = labels[:, None] == torch.arange(self.classes, device=labels.device)
                valid = valid & ~(own & (counts == 1))
        else:
            self._check_centers()
            # A copy, because the update below would change what the backward pass still needs.
            student_centers, teacher_centers = self.student_centers.clone(), self.teacher_centers
            valid = self.student_seen & self.teacher_seen
        loss = center_loss(
            student,
            teacher,
            student_centers,
            teacher_centers,
            valid,
            reduction=self.spec.reduction,
            distance=self.spec.pair_distance,
            both=both,
        )
        if self.training and self.spec.centers == "running":
            self._update_student_centers(student.detach(), labels)
        return loss

    def _check_centers(self) -> None:
        if not self._teacher_centers_set:
            raise UsageError(
                "Centres need the teacher's before the first batch, but none were set.\n"
                "Sum the teacher's embeddings per class over the training split and call `set_teacher_centers`."
            )
        if self.uses_epoch_centers and not self._student_centers_set:
            raise UsageError(
                "Centres of an epoch need the student's before its first batch, but none were set.\n"
                "Sum the student's embeddings per class over the training split and call `set_student_centers`."
            )

    @torch.no_grad()
    def _update_student_centers(self, student: Tensor, labels: Tensor) -> None:
        means, counts = class_centers(student, labels, self.classes)
        present = counts > 0
        momentum = torch.where(self.student_seen, self.spec.center_momentum, 0.0)[:, None]
        moved = momentum * self.student_centers + (1 - momentum) * means
        self.student_centers.copy_(torch.where(present[:, None], moved, self.student_centers))
        self.student_seen.logical_or_(present)


def _remember_centers(module: HorkdLoss, incompatible_keys: object) -> None:
    module._teacher_centers_set = bool(module.teacher_seen.any())
    module._student_centers_set = bool(module.student_seen.any())


@torch.no_grad()
def _set_centers(centers: Tensor, seen: Tensor, total: Tensor, count: Tensor, whose: str) -> None:
    if total.shape != centers.shape or count.shape != seen.shape:
        raise UsageError(
            f"`total` and `count` must have the shapes {tuple(centers.shape)} and {tuple(seen.shape)}, but got "
            f"{tuple(total.shape)} and {tuple(count.shape)}.\n"
            f"Sum the {whose}'s embeddings per class over the training split."
        )
    centers.copy_(total / count.clamp(min=1)[:, None])
    seen.copy_(count > 0)
