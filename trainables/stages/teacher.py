"""Teacher: a network trained on labels alone, at its own resolution."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from trainables.spec.stages import stage_entry
from trainables.spec.training import TrainingSpec
from trainables.stages.base import Context, Progress, Result
from trainables.store.artifacts import Artifact

RANK = 0


@dataclass(frozen=True, kw_only=True)
class TeacherSpec(TrainingSpec):
    """A network trained on labels alone, at its own resolution; the source of what is distilled."""

    kind: ClassVar[str] = "teacher"
    drawn_once: ClassVar[bool] = True


def run(spec: TeacherSpec, parents: Mapping[str, Artifact], context: Context) -> Generator[Progress, None, Result]:
    """Cross-entropy on the training split; reads no parent."""
    from trainables.training.assembly import train

    return (yield from train(spec, context))


ENTRY = stage_entry(TeacherSpec, run)
