"""Teacher: a network trained on labels alone, at its own resolution."""

from __future__ import annotations

from collections.abc import Generator, Mapping

from trainables.spec import TeacherSpec
from trainables.stages.base import Context, Progress, Result
from trainables.store.artifacts import Artifact
from trainables.training.assembly import train


def run(spec: TeacherSpec, parents: Mapping[str, Artifact], context: Context) -> Generator[Progress, None, Result]:
    """Cross-entropy on the training split; reads no parent."""
    return (yield from train(spec, context))
