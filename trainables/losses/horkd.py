"""Hybrid order relational knowledge distillation (HORKD, Ge et al., AAAI 2020, Sec. 3.2).

One function per term: `point_loss` (Eq. 2), `pair_loss` (Eq. 3), `angle_loss` (Eq. 4-5), `center_loss`
(Eq. 6-7); `horkd_loss.HorkdLoss` weighs them (Eq. 8). Cross-entropy is not here: the training adds it.

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

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.errors import UsageError
from trainables.losses import checks, geometry
from trainables.losses.angle import AngleSum
from trainables.losses.geometry import Rows
from trainables.spec.losses import HorkdSpec

REDUCTIONS = checks.options(HorkdSpec, "reduction")
POINT_DISTANCES = checks.options(HorkdSpec, "point_distance")
RELATION_DISTANCES = checks.options(HorkdSpec, "pair_distance")
FEATURE_NORMS = checks.options(HorkdSpec, "feature_norm")

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
        ours, theirs = (rows.distances for rows in both or rows_of(student, teacher))
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
        ours, theirs = both or rows_of(student, teacher)
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
        mine, yours = both or rows_of(student, teacher)
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


def _differences(ours: Tensor, theirs: Tensor, distance: str) -> Tensor:
    return (ours - theirs).square() if distance == "square" else F.huber_loss(ours, theirs, reduction="none")


def rows_of(student: Tensor, teacher: Tensor) -> Both:
    """Both sides' embeddings with what several terms need of them, computed once."""
    return Rows(student), Rows(teacher.detach())
