"""What every loss must do."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainables.contracts import broken
from trainables.losses.terms import Batch, Known, Term
from trainables.models.network import Outputs
from trainables.spec import registry

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # Of student [B, D], teacher [B, D] and labels [B].


def draw(batch: int = 7, width: int = 6, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Student and teacher [B, D], and labels of three classes; always the same."""
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, batch, width, generator=generator, dtype=torch.float64).to(dtype)
    return student.requires_grad_(), teacher, torch.arange(batch) % 3


# Batches that training meets sooner or later, made of an ordinary one.
DEGENERATE: dict[str, Callable[[Tensor], Tensor]] = {
    "one_row": lambda s: s[:1],
    "two_rows": lambda s: s[:2],
    "three_rows": lambda s: s[:3],
    "duplicates": lambda s: s[[0, 0, 1, 1, 1, 2, 3]],
    "near_duplicates": lambda s: torch.cat([s, s + 1e-7]),
    "all_equal": lambda s: s[:1].expand(5, -1),
    "all_equal_far_away": lambda s: 1000 + s[:1].expand(5, -1),
    "zeros": lambda s: 0 * s,
    "half_zeros": lambda s: torch.cat([s[:3], 0 * s[3:]]),
    "tiny": lambda s: 1e-15 * s,
}


def close(got: Tensor, expected: Tensor, what: str) -> None:
    """Equal within the usual tolerance of their type."""
    if not torch.allclose(got, expected.to(got.dtype), rtol=_RTOL[got.dtype], atol=_ATOL[got.dtype], equal_nan=False):
        broken(f"{what}: {_shown(got)} and {_shown(expected)}")


_RTOL = {torch.float32: 1.3e-6, torch.float64: 1e-7}  # As torch.testing has them.
_ATOL = {torch.float32: 1e-5, torch.float64: 1e-7}


def _shown(x: Tensor) -> str:
    return f"{x.item():.6g}" if x.ndim == 0 else f"a tensor of shape {tuple(x.shape)}"


def agreement_is_zero(loss: Loss) -> None:
    """0 where student and teacher are the same."""
    _, teacher, labels = draw()
    value = loss(teacher, teacher, labels).item()
    if not abs(value) <= 1e-14:
        broken(f"student and teacher agree, and it is {value:.6g}")


def order_does_not_matter(loss: Loss) -> None:
    """The rows of a batch may come in any order."""
    student, teacher, labels = draw()
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    there, back = (loss(student[o], teacher[o], labels[o]) for o in (order, torch.arange(7)))
    close(there, back, "the same rows in another order give another value")


def gradient_is_slope(loss: Loss) -> None:
    """Its gradient is that of its value, by finite differences in float64."""
    student, teacher, labels = draw(batch=5, width=3)
    try:
        torch.autograd.gradcheck(lambda s: loss(s, teacher, labels), student)
    except RuntimeError as error:  # What gradcheck raises, and what backward raises without a graph.
        broken(f"{str(error).strip().splitlines()[0]}")


def student_alone_learns(loss: Loss) -> None:
    """Gradients reach the student, and never the teacher."""
    student, teacher, labels = draw()
    teacher.requires_grad_()
    loss(student, teacher, labels).backward()
    if teacher.grad is not None:
        broken("a gradient reaches the teacher")
    if student.grad is None:
        broken("no gradient reaches the student")


def stays_finite(loss: Loss) -> None:
    """Value and gradient are finite on degenerate batches, in float32 and float64."""
    for dtype in (torch.float32, torch.float64):
        for name, change in DEGENERATE.items():
            student, teacher, _ = draw(dtype=dtype)
            made = change(student)
            teacher = teacher.repeat(2, 1)[: len(made)]
            for labels in (torch.arange(len(made)) % 3, torch.zeros(len(made), dtype=torch.int64)):
                student.grad = None
                value = loss(made, teacher, labels)
                value.backward(retain_graph=True)
                where = f"on the batch '{name}' in {str(dtype).removeprefix('torch.')}"
                if not torch.isfinite(value):
                    broken(f"{where} it is {value.item()}")
                if student.grad is None or not torch.isfinite(student.grad).all():
                    broken(f"{where} its gradient is not finite")


def huge_is_finite(loss: Loss) -> None:
    """Embeddings of the size 1e15 do not make it infinite."""
    student, teacher, labels = draw(dtype=torch.float32)
    value = loss(1e15 * student, teacher, labels)
    value.backward()
    if not torch.isfinite(value):
        broken(f"embeddings of the size 1e15 make it {value.item()}")
    if student.grad is None or not torch.isfinite(student.grad).all():
        broken("embeddings of the size 1e15 make its gradient infinite")


def autocast_changes_nothing(loss: Loss) -> None:
    """Under autocast it works in float32 and gives what it gives without."""
    for dtype in (torch.bfloat16, torch.float16):
        student, teacher, labels = draw(dtype=torch.float32)
        student, teacher = student.detach().to(dtype).requires_grad_(), teacher.to(dtype)
        expected = loss(student.float(), teacher.float(), labels)
        with torch.autocast("cpu", dtype=dtype):
            value = loss(student, teacher, labels)
        value.backward()
        if value.dtype != torch.float32:
            broken(f"under autocast it is of type {value.dtype}")
        close(value, expected, "under autocast it is another number")
        if student.grad is None or not torch.isfinite(student.grad).all():
            broken("under autocast its gradient is not finite")


def widths_may_differ(loss: Loss) -> None:
    """Where the student's embedding is wider or narrower than the teacher's it works, too."""
    for ours, theirs in ((6, 4), (4, 6)):
        student, teacher = draw(width=ours)[0], draw(width=theirs)[1]
        try:
            value = loss(student, teacher, torch.arange(7) % 3)
            value.backward()
        except RuntimeError as error:
            broken(
                f"a student's embedding of {ours} beside a teacher's of {theirs} ends in: "
                f"{str(error).strip().splitlines()[0]}. Compare what does not rest on the width, take one to the other by a "
                "layer (an nn.Module with student_width and teacher_width), or say same_width=True"
            )
        if not torch.isfinite(value):
            broken(f"a student's embedding of {ours} beside a teacher's of {theirs} makes it {value.item()}")


OF_LOSSES: dict[str, Callable[[Loss], None]] = {
    "the order of the batch does not matter": order_does_not_matter,
    "its gradient is the slope of its value": gradient_is_slope,
    "gradients reach the student and not the teacher": student_alone_learns,
    "value and gradient stay finite on degenerate batches": stays_finite,
    "huge embeddings give finite values": huge_is_finite,
    "autocast changes nothing": autocast_changes_nothing,
}
OF_LOSSES_OF_ANY_WIDTHS = {"embeddings of student and teacher may differ in width": widths_may_differ}
OF_ZERO_LOSSES = {"it is zero when student and teacher agree": agreement_is_zero}


def as_maps(x: Tensor) -> Tensor:
    """Feature maps [B, 2, 1, D] of the very numbers of `x` [B, D], shifted in the second channel."""
    return torch.stack([x, x.roll(1, 1)], 1)[:, :, None, :]


def loss_of(offer: registry.Entry) -> Loss:
    """A declared loss as training calls it: the sum of its terms, unweighted, with its options at their defaults.

    Logits and maps are made of the same numbers as the embedding.
    """

    def loss(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            widths = {"student_width": student.shape[1], "teacher_width": teacher.shape[1]}
            classes = min(widths.values())  # Logits and maps are of one shape whatever the embeddings are.
            # The images of the training set follow their rows, whatever the order of these; some are not in the batch.
            places = teacher.detach()[:, 0].argsort().argsort()
            items = torch.arange(len(labels) + 5) % 3
            items[places] = labels
            known = Known(**widths, student_maps=(2, 2), teacher_maps=(2, 2), classes=classes, item_labels=items)
            term: Term = offer.load()(offer, offer.options(), known)
            for module in term.modules.values():
                module.to(torch.promote_types(student.dtype, torch.float32))
            sums = [_of_classes(x.detach().double(), labels, classes) for x in (teacher, student)]
            if term.uses_teacher_centers:
                term.set_teacher_centers(*sums[0])
            if term.uses_epoch_centers:
                term.set_student_centers(*sums[1])
            term.begin_epoch(torch.Generator().manual_seed(0))
            ours, theirs = (
                Outputs(x, x[:, :classes], (as_maps(x[:, :classes]), as_maps(x[:, :classes].flip(1))))
                for x in (student, teacher)
            )
            batch = Batch(ours, theirs, labels, places)
            # One that its weight switches off by default is asked all the same.
            values = term.values(batch) or {name: term.value(name, batch) for name in offer.facts["terms"]}
            return torch.stack(list(values.values())).sum()

    return loss


def _of_classes(x: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Sum [C, D] and number [C] of the rows of each class."""
    member = nn.functional.one_hot(labels, classes).to(x.dtype)
    return member.T @ x, member.sum(0)
