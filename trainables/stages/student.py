"""Student: the low-resolution network, guided by the assistant or the teacher on the same views, or by labels alone."""

from __future__ import annotations

from collections.abc import Generator, Mapping

from trainables.spec import StudentSpec
from trainables.stages.base import Context, Progress, Result
from trainables.stages.outputs import cached_outputs
from trainables.store.artifacts import Artifact
from trainables.training.assembly import train


def run(spec: StudentSpec, parents: Mapping[str, Artifact], context: Context) -> Generator[Progress, None, Result]:
    """Label losses, and those of `spec.method` to `parents["guide"]`, which reads the same view at its own resolution.

    Without a guide it is trained on labels alone.
    """
    start = spec.init_from_assistant
    return (
        yield from train(
            spec, context, parents.get("guide"), start_from_guide=start, cached=cached_outputs(parents, context)
        )
    )
