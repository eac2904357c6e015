"""Runs that nobody hurt: made once for all rounds, copied into place for each."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import harness
from commands import Place

GRID = [
    "horkd_order_ablation",
    *("--preset", "tiny", "--seeds", "2", "--set", "orders=none,1", "--set", "epochs=6"),
    *("--set", "train_images=320", "--set", "batch_size=16", "--set", "assistant.teacher_outputs=cached"),
]
SAMPLED = ["horkd_loss_weights", "--preset", "tiny", "--trials", "3", "--seeds", "1"]
STUDIES = {"grid": GRID, "sampled": SAMPLED}


@dataclass
class Unhurt:
    """Finished and interrupted runs, and what a finished one says."""

    place: Place  # All runs are made in this one place, because a run knows where its store is.
    shelf: Path  # Where copies are kept.
    digests: dict[str, dict[str, str]] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)

    def put(self, study: str, state: str) -> None:
        """Bring a run into the place: `finished`, `stopped` half-way by SIGKILL, or only its `packed` data."""
        copy = self.shelf / f"{study}-{state}"
        if not copy.exists():
            if state != "packed" and study not in self.answers:
                self.put(study, "packed")
                self._finish(study)
            self.clear()
            if state == "packed":
                self.place.must("data", "pack", "digits")
                shutil.copytree(self.place.out, copy)
            elif state == "stopped":
                self._stop(study)
                shutil.copytree(self.place.out, copy)
        self.clear()
        shutil.copytree(copy, self.place.out)

    def clear(self) -> None:
        """Leave nothing in the place."""
        shutil.rmtree(self.place.out, ignore_errors=True)

    def _finish(self, study: str) -> None:
        self.place.must("run", *STUDIES[study])
        self.digests[study] = harness.digests(self.place.out)
        self.answers[study] = answer(self.place)
        shutil.copytree(self.place.out, self.shelf / f"{study}-finished")

    def _stop(self, study: str) -> None:
        """Killed in the middle, with a failure that counts for nothing yet: there is one file of every kind."""
        from trainables.store.artifacts import Store

        self.put(study, "packed")
        run = self.place.begin("run", *STUDIES[study])
        try:
            run.until(lambda view: bool(list(self.place.out.glob("store/.work/*/checkpoint-*"))) and _half(view))
            harness.kill(run.process.pid)  # Alone: its reaper ends the others.
            run.finish(60)
            self.place.wait_until_gone()
        finally:
            run.end()
        store = Store(self.place.out / "store")
        busy = next(path.name for path in sorted(store.work.iterdir()) if list(path.glob("checkpoint-*")))
        store.write_failure(busy, {"type": "ProcessLost", "message": "made for the rounds", "epoch": 1, "time": 1.0})


def _half(view: dict[str, Any]) -> bool:
    done = sum(row["done"] for row in view["stages"].values())
    return done >= 2 and any((row["epoch"] or 0) >= 1 for row in view["running"])


def answer(place: Place) -> Any:
    """What the report says, without what depends on place and time."""
    return scores(json.loads(place.must("report", "--json").stdout))


def scores(value: Any) -> Any:
    """Numbers and names of a report's answer; paths, dates and durations are left out."""
    if isinstance(value, dict):
        left_out = ("path", "index", "seconds", "folder", "files", "report", "written", "run")
        return {name: scores(item) for name, item in value.items() if name not in left_out}
    return [scores(item) for item in value] if isinstance(value, list) else value
