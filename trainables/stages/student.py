"""Student: the low-resolution network, guided by the assistant or the teacher on the same views, or by labels alone."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from trainables.spec.stages import stage_entry
from trainables.spec.training import DistillationSpec
from trainables.stages.base import Context, Progress, Result
from trainables.store.artifacts import Artifact

RANK = 2


@dataclass(frozen=True, kw_only=True)
class StudentSpec(DistillationSpec):
    """The low-resolution network guided by the assistant (HORKD, cross-resolution distillation)."""

    kind: ClassVar[str] = "student"
    init_from_assistant: bool = False  # Not stated in the paper.


def run(spec: StudentSpec, parents: Mapping[str, Artifact], context: Context) -> Generator[Progress, None, Result]:
    """Label losses, and those of `spec.method` to `parents["guide"]`, which reads the same view at its own resolution.

    Without a guide it is trained on labels alone.
    """
    from trainables.training.assembly import train
    from trainables.training.filling import cached_outputs

    start = spec.init_from_assistant
    return (
        yield from train(
            spec, context, parents.get("guide"), start_from_guide=start, cached=cached_outputs(parents, context)
        )
    )


ENTRY = stage_entry(StudentSpec, run)
