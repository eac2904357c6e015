"""Hybrid order relational knowledge distillation (HORKD, Ge et al., AAAI 2020, Sec. 3.2).

One function per term: `point_loss` (Eq. 2), `pair_loss` (Eq. 3), `angle_loss` (Eq. 4-5), `center_loss`
(Eq. 6-7), and `HorkdLoss`, which weighs them (Eq. 8). Cross-entropy is not here: the training adds it.

What holds for every term:
    - `student` [B, Ds] and `teacher` [B, Dt] are embeddings of the same B images. Gradients flow into the
      student alone.
    - Work is done in float32 or wider whatever autocast says; the value is a scalar of the student's type,
      but never narrower than float32.
    - `reduction` says how relations are joined:
      "mean" over the valid tuples, whose members all differ; it hardly changes with the batch size.
      "sum_over_anchors_mean" sums over ordered tuples and divides by B, so it grows like B (pairs), B^2
      (angles) and C (centres). The published weights of Eq. 8 have a visible effect only with this one.
      "reference" divides by B^2, B^3 and B*C, empty tuples included, as public code of relational
      distillation does; of the angles that code also counts a pair with itself (`classic.rkd_angle_loss`).
    - Without a valid tuple the value is `0 * student.sum()`: a zero that keeps the graph.
    - Identical embeddings relate with zero and receive no gradient from each other. All three relations
      ignore scale and rotation, so they do not see a student that collapses evenly: watch its spread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.errors import UsageError
from trainables.losses import checks, geometry
from trainables.losses.angle import AngleSum
from trainables.losses.geometry import Rows
from trainables.losses.processes import joined

if TYPE_CHECKING:
    from trainables.spec import HorkdSpec

TERMS = {"1": "point", "2": "pair", "3": "angle", "C": "center"}
REDUCTIONS = ("mean", "sum_over_anchors_mean", "reference")
POINT_DISTANCES = ("mse", "squared_l2", "l2", "cosine", "smooth_l1")
RELATION_DISTANCES = ("square", "huber")
FEATURE_NORMS = ("none", "l2", "bn")
CENTERS = ("running", "batch", "epoch")

Both = tuple[Rows, Rows]  # The student's and the teacher's.


def point_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    distance: str = "mse",
    feature_norm: str = "none",
    reduction: str = "mean",
) -> Tensor:
    """Mean distance between paired embeddings (HORKD, Eq. 2, the 1-order term).

    Args:
        student: Embeddings [B, D].
        teacher: Embeddings [B, D], constant.
        distance: "mse" and "smooth_l1" (mean over B and D), "squared_l2" (sum over D, so it grows with D),
            "l2", "cosine" (1 - cosine).
        feature_norm: Applied to both first: "bn" standardises each dimension over the batch, without learned
            or running values, and makes every loss of a single row zero; "l2" scales each row to length 1.
        reduction: Accepted for symmetry; with tuples of one member all three are the mean over B.

    Raises:
        UsageError: If the shapes differ or a name is unknown.

    Departs from the paper: its distance is not named there; we take the mean square.
    """
    checks.one_of("reduction", reduction, REDUCTIONS)
    checks.embeddings(student, teacher)
    checks.one_of("distance", distance, POINT_DISTANCES)
    if student.shape != teacher.shape:
        raise UsageError(
            f"`student` and `teacher` must have the same shape, but got {tuple(student.shape)} and "
            f"{tuple(teacher.shape)}.\nProject the student to the teacher's width first; `HorkdLoss` does."
        )
    if len(student) == 0:
        return geometry.nothing(student)
    with geometry.full_precision(student):
        student = normalise_features(student, feature_norm)
        teacher = normalise_features(teacher.detach(), feature_norm).to(student.dtype)
        if distance == "smooth_l1":
            return F.smooth_l1_loss(student, teacher)
        if distance == "cosine":
            return (1 - (geometry.unit(student) * geometry.unit(teacher)).sum(1)).mean()
        squared = (student - teacher).square()
        if distance == "mse":
            return squared.mean()
        squared = squared.sum(1)
        if distance == "l2":
            squared = geometry.safe_sqrt(squared, squared.new_zeros(()))
        return squared.mean()


def normalise_features(x: Tensor, feature_norm: str) -> Tensor:
    """`x` [B, D], at least float32, after "none", "l2" (unit rows) or "bn" (columns standardised over B)."""
    checks.one_of("feature_norm", feature_norm, FEATURE_NORMS)
    x = geometry.at_least_float32(x)
    if feature_norm == "l2":
        return geometry.unit(x)
    if feature_norm == "bn":
        centered = x - x.mean(0)
        return centered * torch.rsqrt(centered.square().mean(0) + 1e-5)  # The epsilon of BatchNorm1d.
    return x


def pair_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    reduction: str = "mean",
    distance: str = "square",
    both: Both | None = None,
) -> Tensor:
    """Difference of pairwise distances, each divided by its batch's mean (HORKD, Eq. 3, the 2-order term).

    Args:
        student: Embeddings [B, Ds].
        teacher: Embeddings [B, Dt], constant; the widths may differ.
        reduction: See the module.
        distance: "square" (the paper) or "huber", which with `reduction="reference"` is the distance-wise
            loss of RKD.
        both: `Rows` of the two, where other terms have asked them already.

    Raises:
        UsageError: If the batches differ or a name is unknown.
    """
    checks.one_of("reduction", reduction, REDUCTIONS)
    checks.embeddings(student, teacher)
    checks.one_of("distance", distance, RELATION_DISTANCES)
    batch = len(student)
    if batch < 2:
        return geometry.nothing(student)
    pairs = batch * (batch - 1)
    with geometry.full_precision(student):
        ours, theirs = (rows.distances for rows in both or _rows(student, teacher))
        # The student's mean is not held constant: the gradient knows that distances are relative.
        ours = geometry.safe_divide(ours, ours.sum() / pairs)
        theirs = geometry.safe_divide(theirs, theirs.sum() / pairs)
        total = _differences(ours, theirs, distance).sum()
        return geometry.narrow(
            total / {"mean": pairs, "sum_over_anchors_mean": batch, "reference": batch**2}[reduction], student
        )


def angle_loss(student: Tensor, teacher: Tensor, *, reduction: str = "mean", both: Both | None = None) -> Tensor:
    """Huber difference of the cosines of all triplets' angles (HORKD, Eq. 4-5, the 3-order term; RKD's angle
    loss).

    Needs B^2 memory beside a fixed buffer, and time B^3 + B^2 D; the embeddings' width is not in the cubic
    part. The gradient is made together with the value, so a second derivative is not available.

    Args:
        student: Embeddings [B, Ds].
        teacher: Embeddings [B, Dt], constant; the widths may differ.
        reduction: See the module.
        both: `Rows` of the two, where other terms have asked them already.

    Raises:
        UsageError: If the batches differ or the reduction is unknown.
    """
    checks.one_of("reduction", reduction, REDUCTIONS)
    checks.embeddings(student, teacher)
    batch = len(student)
    if batch < 3:
        return geometry.nothing(student)
    triplets = batch * (batch - 1) * (batch - 2)
    with geometry.full_precision(student):
        ours, theirs = both or _rows(student, teacher)
        identical = torch.stack([ours.identical.detach(), theirs.identical])
        dtype = geometry.at_least_float32(student).dtype
        total: Tensor = AngleSum.apply(ours.squared, theirs.squared, identical, dtype)
        return total / {"mean": triplets, "sum_over_anchors_mean": batch, "reference": batch**3}[reduction]


def class_centers(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Mean embedding [C, D] and number of rows [C] of each class (HORKD, Eq. 6); zeros where there are none.

    Raises:
        UsageError: If there is not one label [B] for each row of `features` [B, D].
    """
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise UsageError(
            "`features` [B, D] and `labels` [B] must have the same B, but got shapes "
            f"{tuple(features.shape)} and {tuple(labels.shape)}.\nPass the labels of these very rows."
        )
    with geometry.full_precision(features):
        wide = geometry.widen(features)
        # A product rather than a scattered sum: it gives the same bits on every run of a GPU.
        member = (labels[:, None] == torch.arange(classes, device=labels.device)).to(wide.dtype)
        counts = member.sum(0)
        return geometry.narrow(member.T @ wide / counts.clamp(min=1)[:, None], features), counts


def center_loss(
    student: Tensor,
    teacher: Tensor,
    student_centers: Tensor,
    teacher_centers: Tensor,
    valid: Tensor | None = None,
    *,
    reduction: str = "mean",
    distance: str = "square",
    normalise: bool = True,
    both: Both | None = None,
) -> Tensor:
    """Difference of the distances to the class centres (HORKD, Eq. 7, the C-order term).

    Args:
        student: Embeddings [B, Ds].
        teacher: Embeddings [B, Dt], constant.
        student_centers: [C, Ds]; detach them to hold them constant.
        teacher_centers: [C, Dt], constant.
        valid: Mask [C] or [B, C] of the (row, centre) relations that count; default all.
        reduction: See the module.
        distance: "square" or "huber".
        normalise: Divide the distances by their mean over the valid relations, separately for student and
            teacher.
        both: `Rows` of the two, where other terms have asked them already.

    Returns:
        Scalar []; `0 * student.sum()` if fewer than two centres are valid.

    Raises:
        UsageError: If the batches differ or a name is unknown.
    """
    checks.one_of("reduction", reduction, REDUCTIONS)
    checks.embeddings(student, teacher)
    checks.one_of("distance", distance, RELATION_DISTANCES)
    batch, classes = len(student), len(student_centers)
    if batch == 0 or classes < 2:
        return geometry.nothing(student)
    if valid is None:
        valid = torch.ones(classes, dtype=torch.bool, device=student.device)
    valid = valid.expand(batch, classes)
    with geometry.full_precision(student):
        mine, yours = both or _rows(student, teacher)
        ours = torch.where(valid, mine.distances_to(student_centers), 0.0)
        theirs = torch.where(valid, yours.distances_to(teacher_centers.detach()), 0.0)
        count = valid.sum().clamp(min=1)
        if normalise:
            ours = geometry.safe_divide(ours, ours.sum() / count)
            theirs = geometry.safe_divide(theirs, theirs.sum() / count)
        total = _differences(ours, theirs, distance).sum()
        total = torch.where(valid.any(0).sum() >= 2, total, 0.0)
        if reduction == "mean":
            return geometry.narrow(total / count, student)
        return geometry.narrow(total / (batch if reduction == "sum_over_anchors_mean" else batch * classes), student)


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
            checks.one_of("orders", order, tuple(TERMS))
        checks.one_of("reduction", spec.reduction, REDUCTIONS)
        checks.one_of("point_distance", spec.point_distance, POINT_DISTANCES)
        checks.one_of("pair_distance", spec.pair_distance, RELATION_DISTANCES)
        checks.one_of("feature_norm", spec.feature_norm, FEATURE_NORMS)
        checks.one_of("centers", spec.centers, CENTERS)
        self.spec = spec
        self.terms = tuple(name for order, name in TERMS.items() if order in orders)
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
        teacher = teacher.detach()
        if self.gather:
            student, teacher, labels = joined(student), joined(teacher), joined(labels)
        both = _rows(student, teacher)
        terms = {name: getattr(self, f"_{name}")(student, teacher, labels, both) for name in self.terms}
        total = geometry.nothing(student)
        for name, weight in self.weights(progress).items():
            total = total + weight * terms[name]
        return total, terms

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


def _differences(ours: Tensor, theirs: Tensor, distance: str) -> Tensor:
    return (ours - theirs).square() if distance == "square" else F.huber_loss(ours, theirs, reduction="none")


def _rows(student: Tensor, teacher: Tensor) -> Both:
    return Rows(student), Rows(teacher.detach())
