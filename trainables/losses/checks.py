"""What the losses refuse, and how they say it. No numbers are made here."""

from __future__ import annotations

from torch import Tensor

from trainables.errors import UsageError, did_you_mean
from trainables.spec.fields import Fields
from trainables.spec.values import leaves, options_of


def options(group: type[Fields], name: str) -> tuple[str, ...]:
    """What an option of a loss may be, as its group says."""
    # mypy takes a class for unhashable.
    return next(options_of(more) for field, _, _, more in leaves(group) if field == name)  # type: ignore[arg-type]


def one_of(what: str, got: str, known: tuple[str, ...]) -> None:
    """Refuses a choice that is none of `known`."""
    if got not in known:
        raise UsageError(f"`{what}` must be one of {', '.join(known)}, but got '{got}'.{did_you_mean(got, known)}")


def embeddings(student: Tensor, teacher: Tensor) -> None:
    """Refuses what are not embeddings [B, Ds] and [B, Dt]; the widths may differ."""
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
        raise UsageError(
            "`student` and `teacher` must be embeddings [B, D] of the same B images, but got shapes "
            f"{tuple(student.shape)} and {tuple(teacher.shape)}.\nPool or flatten feature maps first."
        )


def logits(student: Tensor, teacher: Tensor) -> None:
    """Refuses what are not logits [B, C] of one shape."""
    if student.ndim != 2 or student.shape != teacher.shape:
        raise UsageError(
            "`student` and `teacher` must be logits [B, C] of the same B images and C classes, but got shapes "
            f"{tuple(student.shape)} and {tuple(teacher.shape)}.\nTrain the teacher on the student's classes."
        )


def maps(student: Tensor, teacher: Tensor, *, same_channels: bool = False) -> None:
    """Refuses what are not feature maps [B, F, h, w] of the same images, or of equal F where that is needed."""
    if student.ndim != 4 or teacher.ndim != 4 or len(student) != len(teacher):
        raise UsageError(
            "`student` and `teacher` must be feature maps [B, F, h, w] of the same B images, but got shapes "
            f"{tuple(student.shape)} and {tuple(teacher.shape)}.\nAsk the network for its maps."
        )
    if same_channels and student.shape[1] != teacher.shape[1]:
        raise UsageError(
            "`student` and `teacher` must be feature maps [B, F, h, w] of the same F, but got "
            f"{student.shape[1]} and {teacher.shape[1]} channels.\nPut a 1x1 convolution on the student's; "
            "`Distiller` does."
        )


def one_per_row(what: str, got: Tensor, rows: Tensor) -> None:
    """Refuses labels or positions that are not one [B] for each of the B rows."""
    if got.shape != rows.shape[:1]:
        raise UsageError(
            f"`{what}` [B] and the embeddings [B, D] must have the same B, but got shapes "
            f"{tuple(got.shape)} and {tuple(rows.shape)}.\nPass the {what} of these very rows."
        )
