"""Assistant: the high-resolution network in the student's structure, guided by the teacher (HORKD, Eq. 8)."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from trainables.spec.stages import stage_entry
from trainables.spec.training import DistillationSpec
from trainables.stages.base import Context, Progress, Result
from trainables.store.artifacts import Artifact

RANK = 1


@dataclass(frozen=True, kw_only=True)
class AssistantSpec(DistillationSpec):
    """The high-resolution network between teacher and student (HORKD, cross-structure distillation)."""

    kind: ClassVar[str] = "assistant"


def run(spec: AssistantSpec, parents: Mapping[str, Artifact], context: Context) -> Generator[Progress, None, Result]:
    """Cross-entropy and the relations to `parents["teacher"]`; with orders none the teacher is never run."""
    from trainables.training.assembly import train
    from trainables.training.filling import cached_outputs

    return (yield from train(spec, context, parents["teacher"], cached=cached_outputs(parents, context)))


ENTRY = stage_entry(AssistantSpec, run)
