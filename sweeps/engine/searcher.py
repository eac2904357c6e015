"""What Ray Tune calls: a searcher that gives out stages and a scheduler that prunes scouts.

Hooks are idempotent and never raise; the logic is the engine's queue. Both objects pickle as empty shells, because
Tune pickles them for a restore that never happens here.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, Protocol

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from sweeps.engine.order import StageOrder


class Queue(Protocol):
    """The engine's side of the conversation."""

    def suggest(self, trial_id: str) -> StageOrder | str | None: ...

    def result(self, trial_id: str, result: dict[str, Any]) -> bool: ...

    def complete(self, trial_id: str, result: dict[str, Any] | None, error: bool) -> None: ...

    def cause(self, trial_id: str, text: str) -> None: ...

    def broke(self, error: Exception) -> None: ...


def take_memory_kills_as_losses() -> None:
    """Let Tune answer a process that Ray's memory monitor ended like any other lost one.

    Ray 2.60 raises `OutOfMemoryError` for it, which Tune's actor manager does not know: it ends the whole experiment with
    "Caught unexpected exception". We hand it the error it does know, with the same words.
    """
    known = RayActorManager._actor_task_failed
    if getattr(known, "takes_memory_kills", False):
        return

    def failed(self: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=str(exception))
        known(self, tracked_actor_task, exception)

    failed.takes_memory_kills = True  # type: ignore[attr-defined]
    RayActorManager._actor_task_failed = failed  # type: ignore[method-assign]


class GraphSearcher(Searcher):
    """Gives Tune a stage as soon as its parents' artifacts exist."""

    def __init__(self, queue: Queue | None = None) -> None:
        super().__init__(metric=None, mode=None)
        self._queue = queue

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def suggest(self, trial_id: str) -> Any:
        """An order, None for "not yet", FINISHED at the end."""
        assert self._queue is not None
        try:
            answer = self._queue.suggest(trial_id)
        except Exception as error:
            self._queue.broke(error)
            return Searcher.FINISHED
        if isinstance(answer, dict):
            return {"order": json.dumps(answer)}
        return Searcher.FINISHED if answer else None

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """A trial ended, one way or another."""
        assert self._queue is not None
        try:
            self._queue.complete(trial_id, result, error)
        except Exception as problem:
            self._queue.broke(problem)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the disk is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a fresh Tune run is started instead."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: see save."""


class PruningScheduler(FIFOScheduler):
    """Stops a scout when Optuna's pruner says so, at the stage's own epochs."""

    def __init__(self, queue: Queue | None = None) -> None:
        super().__init__()
        self._queue = queue

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Hand on what Ray said of a lost process; Tune tells the searcher of its end right after."""
        assert self._queue is not None
        with contextlib.suppress(Exception):
            # Tune has just written it there; where `get_error` looks it comes with the next snapshot only.
            self._queue.cause(trial.trial_id, Path(trial.error_file).read_text(errors="replace"))
        super().on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict) -> str:
        """STOP for a pruned scout, CONTINUE for everything else."""
        assert self._queue is not None
        try:
            prune = self._queue.result(trial.trial_id, result)
        except Exception as problem:
            self._queue.broke(problem)
            return TrialScheduler.STOP
        return TrialScheduler.STOP if prune else TrialScheduler.CONTINUE
