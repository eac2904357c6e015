"""The other side of the comparisons: the same computations, as papers write them and public code does them.

Losses are written from the formulas, with their differences [B, B, D] and [B, C, D]. How images are augmented one by one
is in `direct_images.py`, which needs Pillow. Nothing here is used by the product; the tests of the benchmarks hold both
sides to the same values.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.convolution import Conv2d


def kd_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL divergence of softened probabilities times T^2 (Hinton et al. 2015, Sec. 2); logits [B, C]."""
    ours = F.log_softmax(student / temperature, dim=1)
    theirs = F.softmax(teacher / temperature, dim=1)
    return F.kl_div(ours, theirs, reduction="batchmean") * temperature**2


def point_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of embeddings standardised over the batch (HORKD, Eq. 2); both [B, D]."""
    return F.mse_loss(
        F.batch_norm(student, None, None, training=True), F.batch_norm(teacher, None, None, training=True)
    )


def pair_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of pairwise distances, each over its mean (HORKD, Eq. 3), from differences [B, B, D]."""
    pairs = len(student) * (len(student) - 1)
    ours = (student[:, None, :] - student[None, :, :]).norm(dim=2)
    with torch.no_grad():
        theirs = (teacher[:, None, :] - teacher[None, :, :]).norm(dim=2)
        theirs = theirs / (theirs.sum() / pairs)
    ours = ours / (ours.sum() / pairs)
    return (ours - theirs).square().sum() / pairs


def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber difference of the cosines of all triplets (HORKD, Eq. 4-5), [B, B, D] to [B, B, B]."""
    batch = len(student)
    ours = _cosines(student)
    with torch.no_grad():
        theirs = _cosines(teacher)
    return F.huber_loss(ours, theirs, reduction="sum") / (batch * (batch - 1) * (batch - 2))


def _cosines(x: Tensor) -> Tensor:
    edges = F.normalize(x[:, None, :] - x[None, :, :], dim=2)
    return torch.bmm(edges, edges.transpose(1, 2))


def center_loss(student: Tensor, teacher: Tensor, student_centers: Tensor, teacher_centers: Tensor) -> Tensor:
    """Squared difference of distances to the centres [C, D], each over its mean (HORKD, Eq. 7), from [B, C, D]."""
    ours = (student[:, None, :] - student_centers[None, :, :]).norm(dim=2)
    with torch.no_grad():
        theirs = (teacher[:, None, :] - teacher_centers[None, :, :]).norm(dim=2)
        theirs = theirs / theirs.mean()
    return (ours / ours.mean() - theirs).square().mean()


class Losses(nn.Module):
    """Labels aside, the terms of HORKD's Eq. 8 under weights, centres as running averages moved class by class."""

    student_centers: Tensor
    teacher_centers: Tensor

    def __init__(
        self,
        weights: dict[str, float],
        student_centers: Tensor,
        teacher_centers: Tensor,
        *,
        temperature: float = 4.0,
        momentum: float = 0.9,
        projector: nn.Linear | None = None,
    ) -> None:
        super().__init__()
        self.weights, self.temperature, self.momentum = weights, temperature, momentum
        self.register_buffer("student_centers", student_centers.clone())
        self.register_buffer("teacher_centers", teacher_centers.clone())
        self.projector = projector

    def forward(
        self, student: Tensor, student_logits: Tensor, teacher: Tensor, teacher_logits: Tensor, labels: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted total [] and the terms that have a weight."""
        terms: dict[str, Tensor] = {}
        if "kd" in self.weights:
            terms["kd"] = kd_loss(student_logits, teacher_logits, self.temperature)
        if "point" in self.weights:
            projected = student if self.projector is None else self.projector(student)
            terms["point"] = point_loss(projected, teacher)
        terms["pair"] = pair_loss(student, teacher)
        terms["angle"] = angle_loss(student, teacher)
        terms["center"] = center_loss(student, teacher, self.student_centers, self.teacher_centers)
        total = torch.stack([self.weights[name] * value for name, value in terms.items()]).sum()
        # Not in place: the backward pass still needs the centres that were used.
        moved = self.student_centers.clone()
        for label in labels.unique():
            mean = student.detach()[labels == label].mean(0)
            moved[label] = self.momentum * moved[label] + (1 - self.momentum) * mean
        self.student_centers = moved
        return total, terms


def usual_convolutions(network: nn.Module) -> nn.Module:
    """The network itself, whose convolutions are torch's own from now on."""
    for layer in network.modules():
        if isinstance(layer, Conv2d):
            layer.__class__ = nn.Conv2d  # type: ignore[assignment]
    return network
