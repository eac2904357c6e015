"""The door to Ray Tune: a class trainable whose trials are attempts at stages.

The module and `setup` import no torch; `step` does, through the stage it runs, so that an actor is up in about a
second. One step runs epochs for about a second, or a single epoch where pruning watches.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from ray import tune

from trainables.attempts.attempt import begin, tidy

STEP_SECONDS = 1.0
NODE_ROOM = "SWEEPS_NODE_ROOM"  # On a cluster: where a worker node says that it must go, and we that we are busy.


class StageTrainable(tune.Trainable):
    """Runs the stage its configuration names; reports outcomes, never raises for a stage's own failure."""

    _attempt: Generator[dict[str, Any], None, None] | None = None
    _leaving = False

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """The resources the stage's spec asks for."""
        return tune.PlacementGroupFactory([dict(json.loads(config["order"])["resources"])])

    def setup(self, config: dict[str, Any]) -> None:
        """Remember what to run; the work begins with the first step."""
        self._order = json.loads(config["order"])
        self._attempt = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Close the old stage wholly and take the next one."""
        self._close()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Run for about a second; the result says how far the stage is and, at its end, what became of it."""
        _mark("step", True)
        try:
            return self._step()
        finally:
            _mark("step", False)

    def _step(self) -> dict[str, Any]:
        order = self._order
        if self._leaving:
            # The stage is saved and the engine knows. Another must not find this actor free: it sits on a node that goes.
            os._exit(0)
        if self._attempt is None:
            self._attempt = begin(order)
            _mark("busy", True)
        values: list[list[float]] = []
        latest: dict[str, Any] = {}
        until = time.monotonic() + STEP_SECONDS
        for latest in self._attempt:
            if latest.get("value") is not None:
                values.append([latest["epoch"], latest["value"]])
            if "outcome" in latest:
                break
            if time.monotonic() >= until or (order.get("every_epoch") and "epoch" in latest):
                break
        outcome = latest.get("outcome", "running")
        if outcome == "stopped" and _must_leave():
            outcome, self._leaving = "moved", True
        finished = outcome not in ("running", "moved")
        if finished or self._leaving:
            self._close()
        return {
            "key": order["key"],
            "epoch_of_stage": latest.get("epoch", 0),
            "epochs_of_stage": latest.get("epochs", 0),
            "waiting": bool(latest.get("waiting")),
            "values": values,
            "outcome": outcome,
            "message": str(latest.get("message", ""))[:500],
            "unreleased": latest.get("unreleased", 0),
            # As text: Tune flattens what is nested.
            "unwritten": json.dumps(latest["unwritten"]) if latest.get("unwritten") else "",
            "stage_metrics": latest.get("metrics", {}),
            "done": finished,
        }

    def cleanup(self) -> None:
        """Leave nothing open when the actor ends."""
        self._close()

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any] | None:
        """Checkpoints are the stage's own and do not go through Tune."""
        return None

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing to load: a stage finds its own checkpoint in the store."""

    def _close(self) -> None:
        if self._attempt is not None:
            self._attempt.close()
            self._attempt = None
            _mark("busy", False)
        tidy()


def _mark(name: str, on: bool) -> None:
    """Tell our node that a stage is open here (`busy`), or that we are inside a step of one (`step`)."""
    room = os.environ.get(NODE_ROOM)
    if room:
        mark = Path(room, f"{name}-{os.getpid()}")
        with contextlib.suppress(OSError):
            mark.touch() if on else mark.unlink(missing_ok=True)


def _must_leave() -> bool:
    """Whether this node is about to go."""
    room = os.environ.get(NODE_ROOM)
    return bool(room) and Path(str(room), "leave").exists()
