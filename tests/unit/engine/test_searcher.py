"""What we hand to Ray Tune: how it takes a process that Ray's memory monitor ended."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError, TaskCancelledError

from sweeps.engine.searcher import PruningScheduler, take_memory_kills_as_losses


class Told:
    """A queue that remembers the causes it was told."""

    def __init__(self) -> None:
        self.causes: list[tuple[str, str]] = []

    def cause(self, trial_id: str, text: str) -> None:
        self.causes.append((trial_id, text))


def test_the_queue_is_told_what_ray_said_before_the_end_of_a_trial(tmp_path: Path) -> None:
    told = Told()
    scheduler = PruningScheduler(told)  # type: ignore[arg-type]
    (tmp_path / "error.txt").write_text("Failure # 1\nthe node running low on memory\n")
    scheduler.on_trial_error(None, SimpleNamespace(trial_id="a", error_file=str(tmp_path / "error.txt")))
    assert told.causes == [("a", "Failure # 1\nthe node running low on memory\n")]
    for unreadable in (None, str(tmp_path / "none")):
        scheduler.on_trial_error(None, SimpleNamespace(trial_id="b", error_file=unreadable))
    assert len(told.causes) == 1


@pytest.fixture
def manager() -> RayActorManager:
    take_memory_kills_as_losses()
    take_memory_kills_as_losses()  # Twice does no harm.
    return RayActorManager.__new__(RayActorManager)


def answer(manager: RayActorManager, error: Exception) -> list[tuple[str, Exception]]:
    """Which callbacks Tune's actor manager calls when a task of an actor ends so."""
    heard: list[tuple[str, Exception]] = []
    manager._failed_actor_ids = set()
    manager._cleanup_actor = lambda tracked_actor: None  # type: ignore[method-assign]
    actor = SimpleNamespace(actor_id=1, _on_error=lambda tracked, found: heard.append(("actor", found)))
    task: Any = SimpleNamespace(_tracked_actor=actor, _on_error=lambda tracked, found: heard.append(("task", found)))
    manager._actor_task_failed(task, error)
    return heard


def test_a_memory_kill_is_a_lost_actor_to_tune(manager: RayActorManager) -> None:
    heard = answer(manager, OutOfMemoryError("the node running low on memory"))
    assert [who for who, _ in heard] == ["actor", "task"]
    assert all(isinstance(found, RayActorError) and "low on memory" in str(found) for _, found in heard)
    assert manager._failed_actor_ids == {1}


def test_other_errors_are_left_to_tune(manager: RayActorManager) -> None:
    died = RayActorError(error_msg="died")
    assert answer(manager, died) == [("actor", died), ("task", died)]
    with pytest.raises(RuntimeError, match="unexpected exception"):
        answer(manager, TaskCancelledError())
