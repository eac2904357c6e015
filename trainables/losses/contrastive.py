"""Contrastive representation distillation (CRD, Tian et al., ICLR 2020), with memory banks of the training set.

Teacher and student see an image as neighbours, and the other images apart: each embedding is compared with the
other network's remembered embedding of the same image (Eq. 10 to 18) and with those of images drawn at random.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.errors import UsageError
from trainables.losses import checks, geometry
from trainables.losses.processes import joined
from trainables.losses.terms import Batch, Known, Term
from trainables.spec.losses import CrdSpec

# A bank up to so many times the negatives is multiplied as a whole; of a larger one rows are copied.
WHOLE_BANK = 16


class CrdLoss(nn.Module):
    """Binary cross-entropy of telling the image at hand from drawn ones, in both directions, with linear heads.

    With s the inner product of two embeddings of length 1, K negatives and N images, a pair has the logit
    s / temperature - log Z - log(K / N); the loss is the sum over one positive and K negatives, the mean over B,
    and the sum of both directions. It is not zero when student and teacher agree.

    What is kept and saved:
        `student_bank`, `teacher_bank`: [N, width], rows of length 1: drawn at random, then a moving average of
            each image's embeddings, updated after each use in training mode.
        `log_z`: Log of Z for the student's and the teacher's embeddings: N times the mean of
            exp(s / temperature) in the first batch, constant afterwards.

    Negatives are drawn with replacement, never the image itself, by a hash of the epoch's seed, the image and the
    place: order of the batch, device and number of processes do not change them.

    Memory: 2 N width for the banks, and B N or B K width for the pairs, whichever is chosen (`WHOLE_BANK`).
    """

    student_bank: Tensor  # [N, width]
    teacher_bank: Tensor  # [N, width]
    log_z: Tensor  # [2]
    has_z: Tensor  # []
    order: Tensor  # [N], images sorted so that those an image must not draw are neighbours.
    first: Tensor  # [N], where in `order` the images that this one must not draw begin,
    count: Tensor  # [N], and how many they are.

    def __init__(
        self,
        spec: CrdSpec,
        *,
        student_width: int,
        teacher_width: int,
        items: int,
        classes_of_items: Tensor,
        gather: bool = False,
    ) -> None:
        """Makes heads and banks, drawn from torch's global generator.

        Args:
            spec: The choices.
            student_width: Ds of the embeddings.
            teacher_width: Dt of the embeddings.
            items: N, the number of training images.
            classes_of_items: Their classes [N], integers.
            gather: Compare the rows of all processes: each gets the loss, and keeps the banks, that a single
                process has with the joined batch. They need batches of equal size, and one seed of the negatives.

        Raises:
            UsageError: If there are fewer than two images, or not one class for each.
        """
        super().__init__()
        if items < 2 or classes_of_items.shape != (items,):
            raise UsageError(
                "`classes_of_items` must be the classes [N] of N >= 2 training images, but got shape "
                f"{tuple(classes_of_items.shape)} for {items} images."
            )
        checks.one_of("negatives_from", spec.negatives_from, checks.options(CrdSpec, "negatives_from"))
        self.spec, self.items, self.gather = spec, items, gather
        self.negatives = min(spec.negatives, items - 1)
        self.student_head = nn.Linear(student_width, spec.width)
        self.teacher_head = nn.Linear(teacher_width, spec.width)
        for name in ("student_bank", "teacher_bank"):
            self.register_buffer(name, geometry.unit(torch.randn(items, spec.width)))
        self.register_buffer("log_z", torch.zeros(2))
        self.register_buffer("has_z", torch.zeros((), dtype=torch.bool))
        groups = classes_of_items if spec.negatives_from == "other_classes" else torch.arange(items)
        sorted_groups, order = groups.sort(dim=0, stable=True)
        first, last = (torch.searchsorted(sorted_groups, groups.contiguous(), right=end) for end in (False, True))
        for name, value in {"order": order, "first": first, "count": last - first}.items():
            self.register_buffer(name, value, persistent=False)
        self._seed: int | None = None

    def begin_epoch(self, generator: torch.Generator) -> None:
        """Draws the epoch's seed of the negatives from a generator of the CPU."""
        self._seed = int(torch.randint(2**62, (), generator=generator))

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        """The loss [] of a batch; in training mode the banks then remember its embeddings.

        Args:
            student: Embeddings [B, Ds].
            teacher: Embeddings [B, Dt], constant; the teacher's head is trained.
            labels: Classes [B]; the images' own (`classes_of_items`) are what negatives are drawn by.
            indices: Positions [B] of the images among the N.

        Raises:
            UsageError: If the batches differ, or `begin_epoch` was not called.
        """
        checks.embeddings(student, teacher)
        checks.one_per_row("labels", labels, student)
        checks.one_per_row("indices", indices, student)
        if self._seed is None:
            raise UsageError("Negatives need the epoch's seed, but none was drawn.\nCall `begin_epoch` first.")
        if len(student) == 0:
            return geometry.nothing(student)
        with geometry.full_precision(student):
            student, teacher = geometry.at_least_float32(student), geometry.at_least_float32(teacher.detach())
            if self.gather:
                student, teacher, indices = joined(student), joined(teacher), joined(indices)
            ours = _embedded(self.student_head, student)
            theirs = _embedded(self.teacher_head, teacher)
            negatives, valid = self._draw(indices, self._seed)
            compared = torch.cat([indices[:, None], negatives], 1)
            valid = torch.cat([torch.ones_like(valid[:, :1]), valid], 1)
            pairs = ((ours, self.teacher_bank), (theirs, self.student_bank))
            logits = torch.stack([_products(anchors, bank, compared) for anchors, bank in pairs])
            logits = logits / self.spec.temperature
            logits = logits - self._log_z(logits.detach(), valid)[:, None, None]
            logits = logits - math.log(self.negatives / self.items)
            # -log h of the positive and -log(1 - h) of the negatives, without a logarithm of zero.
            signs = torch.ones_like(logits[0, 0])
            signs[0] = -1
            total = torch.where(valid, F.softplus(signs * logits), 0.0).sum() / len(indices)
            if self.training:
                self._remember(indices, ours.detach(), theirs.detach())
            return geometry.narrow(total, student)

    def _draw(self, indices: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Negatives [B, K] of the images `indices` [B], and whether there was any to draw."""
        first, count = self.first[indices][:, None], self.count[indices][:, None]
        allowed = self.items - count
        places = torch.arange(self.negatives, device=indices.device)
        bits = _random_bits(indices[:, None] * self.negatives + places, seed)
        drawn = (bits * allowed) >> 31
        drawn = drawn + torch.where(drawn >= first, count, 0)  # Leaps over what must not be drawn.
        return self.order[drawn.clamp(max=self.items - 1)], (allowed > 0).expand_as(drawn)

    @torch.no_grad()
    def _log_z(self, exponents: Tensor, valid: Tensor) -> Tensor:
        """Log of the constants Z [2], made of the first batch's s / temperature [2, B, 1 + K]."""
        sums = torch.where(valid, exponents, -torch.inf).logsumexp((1, 2))
        fresh = sums - valid.sum().to(sums.dtype).log() + math.log(self.items)
        log_z = torch.where(self.has_z, self.log_z, fresh)
        if self.training:
            self.log_z.copy_(log_z)
            self.has_z.fill_(True)
        return log_z

    @torch.no_grad()
    def _remember(self, indices: Tensor, ours: Tensor, theirs: Tensor) -> None:
        for bank, rows in ((self.student_bank, ours), (self.teacher_bank, theirs)):
            moved = self.spec.momentum * bank[indices] + (1 - self.spec.momentum) * rows
            bank.index_copy_(0, indices, geometry.unit(moved).to(bank.dtype))


class CrdTerm(Term):
    """The heads and banks of `CrdLoss`, and its value."""

    def build(self, known: Known) -> None:
        self.loss = CrdLoss(
            self.options,
            student_width=known.student_width,
            teacher_width=known.teacher_width,
            items=len(known.item_labels),
            classes_of_items=known.item_labels,
        )
        self.modules = {"crd": self.loss}

    def begin_epoch(self, generator: torch.Generator) -> None:
        self.loss.begin_epoch(generator)

    def value(self, name: str, batch: Batch) -> Tensor:
        value: Tensor = self.loss(batch.student.embedding, batch.teacher.embedding, batch.labels, batch.indices)
        return value


def _embedded(head: nn.Linear, x: Tensor) -> Tensor:
    return geometry.unit(head(x.to(head.weight.dtype)))


def _products(anchors: Tensor, bank: Tensor, chosen: Tensor) -> Tensor:
    """Inner products [B, n] of `anchors` [B, d] with the rows `chosen` [B, n] of `bank` [N, d], which is constant."""
    if len(bank) <= WHOLE_BANK * chosen.shape[1]:
        # A copy, because the bank moves before the backward pass.
        return (anchors @ bank.clone().T).gather(1, chosen)
    return (bank[chosen] @ anchors[:, :, None]).squeeze(2)


def _random_bits(counter: Tensor, seed: int) -> Tensor:
    """31 random bits for each number in `counter`: SplitMix64 (Steele et al. 2014), in wrapping 64-bit integers."""
    x = counter * _signed(0x9E3779B97F4A7C15) + seed
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return _shifted(x ^ _shifted(x, 31), 33)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Shift to the right that fills with zeros; torch's own copies the sign."""
    return (x >> bits) & (2 ** (64 - bits) - 1)


def _signed(constant: int) -> int:
    return constant - 2**64
