"""Assistant: the high-resolution network in the student's structure, guided by the teacher (HORKD, Eq. 8)."""

from __future__ import annotations

from collections.abc import Generator, Mapping

from trainables.spec import AssistantSpec
from trainables.stages.base import Context, Progress, Result
from trainables.stages.outputs import cached_outputs
from trainables.store.artifacts import Artifact
from trainables.training.assembly import train


def run(spec: AssistantSpec, parents: Mapping[str, Artifact], context: Context) -> Generator[Progress, None, Result]:
    """Cross-entropy and the relations to `parents["teacher"]`; with orders none the teacher is never run."""
    return (yield from train(spec, context, parents["teacher"], cached=cached_outputs(parents, context)))
