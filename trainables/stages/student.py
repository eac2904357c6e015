"""Student: the low-resolution network, guided by the assistant on the same views (HORKD, Eq. 8)."""

from __future__ import annotations

from collections.abc import Generator, Mapping

from trainables.artifacts import Artifact
from trainables.spec import StudentSpec
from trainables.stages.base import Context, Progress, Result
from trainables.training import train


def run(spec: StudentSpec, parents: Mapping[str, Artifact], context: Context) -> Generator[Progress, None, Result]:
    """Cross-entropy and the relations to `parents["assistant"]`, which reads the same view at its own resolution."""
    return (yield from train(spec, context, parents["assistant"], start_from_guide=spec.init_from_assistant))
