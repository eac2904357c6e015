"""A stage that only sleeps and counts: what the engine's tests and its benchmark run."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping

from trainables.spec import SleepSpec
from trainables.stages.base import Context, Progress, Result
from trainables.store.artifacts import Artifact


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
