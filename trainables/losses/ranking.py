"""Losses of metric learning: the order of neighbours, raw distances, and triplets of labels.

One function per term, without its weight. As in `classic`, gradients flow into the student alone, work is done in
float32 or wider, and zero, equal or single rows give finite values and gradients.
"""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor, nn

from trainables.losses import checks, geometry
from trainables.losses.horkd import normalise_features, point_loss
from trainables.losses.terms import Batch, Known, Term
from trainables.spec.losses import DarkrankSpec, MkdSpec, TripletSpec

DARKRANK_KINDS = checks.options(DarkrankSpec, "kind")
FORMS = checks.options(MkdSpec, "form")
MININGS = checks.options(TripletSpec, "mining")


def darkrank_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    kind: str = "hard",
    scale: float = 3.0,
    power: float = 3.0,
    length: int = 4,
) -> Tensor:
    """How unlikely the student finds the teacher's order of each row's neighbours (DarkRank, Chen et al. 2018).

    A neighbour scores -scale * distance^power; an order has the probability of drawing the neighbours one by one,
    each by the softmax of the scores still there. The list of a row holds the teacher's nearest, never the row
    itself.

    Args:
        student: Embeddings [B, Ds].
        teacher: Embeddings [B, Dt], constant.
        kind: "hard" is -log of the probability of the teacher's order (list-wise likelihood); it is not zero when
            both agree. "soft" is KL(teacher || student) over all orders of the list.
        scale: alpha of the paper; 3 in RKD's public code.
        power: beta of the paper; 3 there.
        length: Neighbours in a list, at most B - 1; "soft" costs B * length! * length.

    Returns:
        Scalar [], the mean over B; zero with the graph if no row has a neighbour. Distances count as they are: the
        published scale and power are made for rows of length 1, which `DarkrankTerm` passes.

    Raises:
        UsageError: If the batches differ or the kind is unknown.
    """
    checks.one_of("kind", kind, DARKRANK_KINDS)
    checks.embeddings(student, teacher)
    batch = len(student)
    if batch < 2:
        return geometry.nothing(student)
    length = min(length, batch - 1)
    with geometry.full_precision(student):
        theirs = -scale * geometry.pairwise_distances(teacher.detach()) ** power
        ours = -scale * geometry.pairwise_distances(student) ** power
        # A row is not its own neighbour. It need not come first, either: a duplicate is as near.
        apart = torch.where(geometry.off_diagonal(batch, theirs.device), theirs, -torch.inf)
        nearest = apart.sort(dim=1, descending=True, stable=True).indices[:, :length]
        ours, theirs = ours.gather(1, nearest), theirs.gather(1, nearest)
        if kind == "hard":
            return geometry.narrow(-_log_probability(ours).mean(), student)
        orders = torch.tensor(list(permutations(range(length))), device=ours.device)
        ours, theirs = _log_probability(ours[:, orders]), _log_probability(theirs[:, orders])
        return geometry.narrow((theirs.exp() * (theirs - ours)).sum(1).mean(), student)


def _log_probability(scores: Tensor) -> Tensor:
    """Log of the probability [...] of drawing items in the order of their scores [..., L]."""
    rest = [scores[..., place:].logsumexp(-1) for place in range(scores.shape[-1])]
    return (scores - torch.stack(rest, -1)).sum(-1)


class DarkrankTerm(Term):
    """The teacher's order of neighbours."""

    def value(self, name: str, batch: Batch) -> Tensor:
        chosen = self.options
        # The published scale and power are those of normalised embeddings; raw ones give losses in the thousands.
        ours, theirs = (normalise_features(x.embedding, "l2") for x in (batch.student, batch.teacher))
        return darkrank_loss(
            ours, theirs, kind=chosen.kind, scale=chosen.scale, power=chosen.power, length=chosen.length
        )


def mkd_absolute_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean distance of paired embeddings (Yu et al. 2019, absolute teacher), not squared.

    Args:
        student: Embeddings [B, D].
        teacher: Embeddings [B, D], constant.

    Raises:
        UsageError: If the shapes differ.
    """
    return point_loss(student, teacher, distance="l2")


def mkd_relative_loss(student: Tensor, teacher: Tensor, *, form: str = "mean") -> Tensor:
    """Difference of raw pairwise distances (Yu et al. 2019, relative teacher).

    Args:
        student: Embeddings [B, Ds].
        teacher: Embeddings [B, Dt], constant.
        form: "mean" of the absolute differences over the pairs of two different rows (the paper), or "reference",
            the public code's root of the sum of squares, which grows like B.

    Raises:
        UsageError: If the batches differ or the form is unknown.
    """
    checks.one_of("form", form, FORMS)
    checks.embeddings(student, teacher)
    batch = len(student)
    if batch < 2:
        return geometry.nothing(student)
    with geometry.full_precision(student):
        gaps = geometry.pairwise_distances(student) - geometry.pairwise_distances(teacher.detach())
        if form == "reference":
            return geometry.narrow(geometry.safe_sqrt(gaps.square().sum(), gaps.new_zeros(())), student)
        return geometry.narrow(gaps.abs().sum() / (batch * (batch - 1)), student)


class MkdTerm(Term):
    """Embeddings, by a linear map where their widths differ, and distances."""

    def build(self, known: Known) -> None:
        self.projector: nn.Linear | None = None
        if "mkd_absolute" in self.names and known.student_width != known.teacher_width:
            self.projector = nn.Linear(known.student_width, known.teacher_width, bias=False)
            self.modules = {"mkd_projector": self.projector}

    def value(self, name: str, batch: Batch) -> Tensor:
        ours, theirs = batch.student.embedding, batch.teacher.embedding
        if name == "mkd_relative":
            return mkd_relative_loss(ours, theirs, form=self.options.form)
        if self.projector is not None:
            with geometry.full_precision(ours):
                ours = self.projector(ours.to(self.projector.weight.dtype))
        return mkd_absolute_loss(ours, theirs)


def triplet_loss(embedding: Tensor, labels: Tensor, *, margin: float = 0.2, mining: str = "hard") -> Tensor:
    """Hinge on (distance to the same class - distance to another class + margin), of rows scaled to length 1.

    No distillation: labels alone. Distances are Euclidean, from 0 to 2 (Schroff et al. 2015 square them).

    Args:
        embedding: [B, D].
        labels: Classes [B].
        margin: By how much another class should be farther away.
        mining: "hard" takes each row's farthest of its class and nearest of another (Hermans et al. 2017);
            "all" takes every triplet and needs B^3 memory.

    Returns:
        Scalar [], the mean over rows that have both (hard) or over all triplets, satisfied ones included; zero with
        the graph if there is none. Where all embeddings are equal it is the margin, without gradient.

    Raises:
        UsageError: If there is not one label for each row, or the mining is unknown.
    """
    checks.one_of("mining", mining, MININGS)
    checks.one_per_row("labels", labels, embedding)
    batch = len(embedding)
    if batch < 3:
        return geometry.nothing(embedding)
    with geometry.full_precision(embedding):
        distance = geometry.pairwise_distances(geometry.unit(geometry.at_least_float32(embedding)))
        same = labels[:, None] == labels[None, :]
        positive, negative = same & geometry.off_diagonal(batch, same.device), ~same
        if mining == "hard":
            farthest = torch.where(positive, distance, 0.0).amax(1)
            nearest = torch.where(negative, distance, torch.finfo(distance.dtype).max).amin(1)
            valid = positive.any(1) & negative.any(1)
            hinges = (farthest - nearest + margin).relu()
        else:
            valid = positive[:, :, None] & negative[:, None, :]
            hinges = (distance[:, :, None] - distance[:, None, :] + margin).relu()
        total = torch.where(valid, hinges, 0.0).sum()
        return geometry.narrow(total / valid.sum().clamp(min=1), embedding)
