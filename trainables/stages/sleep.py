"""A stage that only sleeps and counts: what the engine's tests and its benchmark run."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from trainables.spec.stages import StageSpec, stage_entry
from trainables.spec.values import bounded
from trainables.spec.work import Sizes, Work
from trainables.stages.base import Context, Progress, Result
from trainables.store.artifacts import Artifact

RANK = 7


@dataclass(frozen=True, kw_only=True)
class SleepSpec(StageSpec):
    """A stage that only sleeps: for tests of the engine and for its benchmark."""

    kind: ClassVar[str] = "sleep"
    computes: ClassVar[bool] = False
    seed: int = bounded(0, 0)
    label: str = ""
    epochs: int = bounded(3, 1)
    seconds: float = bounded(0.1, 0.0)  # Of one epoch.
    fail_at: int = bounded(0, 0)  # Epoch that raises; 0 means none.
    value: float = 0.5  # What it claims as validation accuracy.

    def work(self, sizes: Sizes, guide: StageSpec | None) -> Work:
        """As long as it is told to sleep."""
        return Work(seconds=self.epochs * self.seconds, bytes=super().work(sizes, guide).bytes)


def run(spec: SleepSpec, parents: Mapping[str, Artifact], context: Context) -> Generator[Progress, None, Result]:
    """Sleep `seconds` for each of `epochs`, with a checkpoint after each, like a training would."""
    history: list[dict[str, float]] = []
    saved = context.saved()
    if saved is not None:
        history = json.loads(saved[1])
    for epoch in range(len(history) + 1, spec.epochs + 1):
        time.sleep(spec.seconds)
        if epoch == spec.fail_at:
            raise RuntimeError(f"told to fail at epoch {epoch}")
        history.append({"epoch": epoch, "validation/top1": spec.value * epoch / spec.epochs})
        context.log(f"epoch {epoch}/{spec.epochs}")
        context.save(epoch, json.dumps(history).encode())
        yield Progress(epoch, spec.epochs, history[-1]["validation/top1"])
    return Result(metrics={"validation_top1": spec.value, "top1": spec.value, "seed": spec.seed}, history=history)


ENTRY = stage_entry(SleepSpec, run)
