"""Distillation losses on logits and embeddings: probabilities, relations, similarities.

One function per term, without its weight, and each loss's `Term`; those on feature maps are in `feature_maps`, the ones that
rank neighbours in `ranking`, the one with a memory bank in `contrastive`. What holds for every term:
    - Gradients flow into the student alone. Work is done in float32 or wider whatever autocast says, and the
      value [] is never narrower than float32.
    - Zero rows, equal rows and single rows give finite values and gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.errors import UsageError
from trainables.losses import checks, geometry
from trainables.losses.horkd import angle_loss, pair_loss
from trainables.losses.terms import Batch, Term
from trainables.spec.losses import RkdSpec

FORMS = checks.options(RkdSpec, "form")
PKT_EPSILON = 1e-7  # In the authors' code, added to lengths and to probabilities.


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 4.0) -> Tensor:
    """T^2 KL(teacher || student) of the softened class probabilities (Hinton et al. 2015, Sec. 2).

    Args:
        student_logits: [B, C].
        teacher_logits: [B, C], constant.
        temperature: T, which divides both logits; T^2 keeps the gradient's size. 4 in RepDistiller.

    Returns:
        Scalar [], the mean over B.

    Raises:
        UsageError: If the shapes differ or the temperature is not positive.
    """
    checks.logits(student_logits, teacher_logits)
    if not temperature > 0:
        raise UsageError(f"`temperature` must be positive, but got {temperature:g}.\nThe usual one is 4.")
    if len(student_logits) == 0:
        return geometry.nothing(student_logits)
    with geometry.full_precision(student_logits):
        student = geometry.at_least_float32(student_logits)
        teacher = teacher_logits.detach().to(student.dtype)
        ours, theirs = (F.log_softmax(logits / temperature, 1) for logits in (student, teacher))
        return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * temperature**2


class KdTerm(Term):
    """Softened class probabilities."""

    def value(self, name: str, batch: Batch) -> Tensor:
        return kd_loss(batch.student.logits, batch.teacher.logits, temperature=self.options.temperature)


def rkd_distance_loss(student: Tensor, teacher: Tensor, *, form: str = "mean") -> Tensor:
    """Huber difference of relative pairwise distances (RKD-D, Park et al. 2019, Eq. 5 to 7).

    Args:
        student: Embeddings [B, Ds].
        teacher: Embeddings [B, Dt], constant.
        form: "mean" over the pairs of two different rows, or "reference", the public code's mean over B^2.
    """
    checks.one_of("form", form, FORMS)
    return pair_loss(student, teacher, reduction=form, distance="huber")


def rkd_angle_loss(student: Tensor, teacher: Tensor, *, form: str = "mean") -> Tensor:
    """Huber difference of the angles of triplets (RKD-A, Park et al. 2019, Eq. 8 and 9); as `rkd_distance_loss`.

    Here "reference" is the mean over B^3.

    Departs from the public code under "reference" where two rows coincide for one side alone (a collapsed student, one
    image twice under different views): that code also takes the angle of a pair with itself, whose cosine is 1 for the
    side that tells the rows apart and 0 for the other, and so adds 0.5 for each such ordered pair before it divides by
    B^3 (2 to 4 % of the value at B=8 with one such pair). Here a triplet has three different rows. Without such rows,
    and where both sides have the same duplicates, the two are equal.
    """
    checks.one_of("form", form, FORMS)
    return angle_loss(student, teacher, reduction=form)


class RkdTerm(Term):
    """Distances of pairs and angles of triplets."""

    def value(self, name: str, batch: Batch) -> Tensor:
        loss = {"rkd_distance": rkd_distance_loss, "rkd_angle": rkd_angle_loss}[name]
        return loss(batch.student.embedding, batch.teacher.embedding, form=self.options.form)


def pkt_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Divergence of the rows' conditional similarities (PKT, Passalis and Tefas 2018, Eq. 3 to 7, cosine kernel).

    A row of probabilities is (cosine + 1) / 2 to every row of the batch, itself included, divided by its sum.

    Args:
        student: Embeddings [B, Ds].
        teacher: Embeddings [B, Dt], constant.

    Returns:
        Scalar [], the mean over B^2 as in public code: it falls like 1 / B, hence the published weight of 30,000.

    Raises:
        UsageError: If the batches differ.
    """
    checks.embeddings(student, teacher)
    if len(student) == 0:
        return geometry.nothing(student)
    with geometry.full_precision(student):
        ours, theirs = (_conditional_similarities(x) for x in (student, teacher.detach()))
        terms = theirs * torch.log((theirs + PKT_EPSILON) / (ours + PKT_EPSILON))
        return geometry.narrow(terms.mean(), student)


def _conditional_similarities(x: Tensor) -> Tensor:
    # In float64: the divergence of nearly equal rows is a small difference of large terms.
    x = geometry.widen(x)
    length = geometry.safe_sqrt(x.square().sum(1, keepdim=True), x.new_zeros(()))
    x = geometry.safe_divide(x, torch.where(length > 0, length + PKT_EPSILON, 0.0))
    similarity = (geometry.gram(x) + 1) / 2
    return similarity / similarity.sum(1, keepdim=True)


class PktTerm(Term):
    """Conditional similarities of a batch."""

    def value(self, name: str, batch: Batch) -> Tensor:
        return pkt_loss(batch.student.embedding, batch.teacher.embedding)
