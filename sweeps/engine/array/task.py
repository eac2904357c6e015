"""One task of a job array: a loop over the plan's ready stages and the store's leases. No Ray, no port, no torch.

Tasks do not talk to each other. Each plans the same graph, takes what is free and looks after what others hold: a lease
says who trains a stage, the store says what is done.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from slurm.temp import private_temp
from sweeps.engine.array.bench import Bench, Child, TaskMachine
from sweeps.engine.array.signals import STOPPED, WARNED, Heard
from sweeps.engine.machines import ROOT
from sweeps.engine.queue import StageQueue
from sweeps.engine.resources import Resources
from sweeps.engine.state import EngineState
from sweeps.planning.graph import OPEN, StageGraph, StageNode
from sweeps.runs.folder import RunFolder, Say
from sweeps.runs.record_writer import RecordWriter
from system.liveness import process_is_gone
from trainables.attempts.failures import verdict
from trainables.errors import ArtifactError
from trainables.store.artifacts import Store
from trainables.store.files import read_json
from trainables.store.leases import Lease

LOOK_SECONDS = 0.3
REST_SECONDS = 30.0
STILLBORN_ALLOWED = 3


class TaskState(EngineState):
    """The engine's state, with room for what can start at once and no more."""

    bench: Bench

    def has_room(self, node: StageNode) -> bool:
        """Whether a stage can start here now."""
        return self.bench.place(self.resources.of(node)) is not None


class TaskQueue(StageQueue):
    """The engine's logic among tasks that see only each other's files."""

    def settled(self, key: str) -> dict[str, Any] | None:
        """What is known of a stage that was just handed out, so that no process needs to look; None when it is free."""
        if self.store.has(key):
            return {"outcome": "done"}
        if verdict(self.failures.of(key)) is not None:
            return {"outcome": "failed"}  # In other tasks.
        ours = Lease.numbers(self.store.work_folder(key))[-1:] == [self._dead.get(key)]
        # A lease that this task could not give back is held by nobody, though its process may live.
        if not ours and self.store.held_elsewhere(key, self.observer):
            return {"outcome": "elsewhere"}
        return None

    def release(self, key: str) -> None:
        """Say that the lease of a dead process of this node is free, for those who cannot see that it is dead."""
        folder = self.store.work_folder(key)
        numbers = Lease.numbers(folder)
        content = (read_json(folder / f"lease.{numbers[-1]}") or {}) if numbers else {"released": True}
        if not content.get("released") and process_is_gone(content):
            Lease(folder, numbers[-1], {"counter": 0} | content).update(released=True)


class Records:
    """Listener that writes the record of each stage that this task ran."""

    def __init__(self, records: RecordWriter) -> None:
        self.records = records
        self.mine: set[str] = set()

    def stage_done(self, node: StageNode) -> None:
        """Write its record if it is ours."""
        if node.key in self.mine:
            with contextlib.suppress(ArtifactError):  # A damaged one: whoever concludes the run says so.
                self.records.write(node)

    stage_failed = stage_done

    def stage_value(self, node: StageNode, epoch: int, value: float) -> bool:
        """Grids are never pruned."""
        return False

    def more(self) -> bool:
        """A grid has all its stages from the beginning."""
        return False

    def exhausted(self) -> bool:
        """It has."""
        return True


class Task:
    """The loop."""

    def __init__(
        self,
        run: RunFolder,
        graph: StageGraph,
        store: Store,
        records: RecordWriter,
        machine: TaskMachine,
        resources: Resources,
        revision: str,
        heard: Heard,
        say: Say,
    ) -> None:
        self.run_folder, self.graph, self.store, self.machine, self.say = run, graph, store, machine, say
        self.heard = heard
        self.records = Records(records)
        self.state = TaskState(graph, machine, resources)
        self.queue = TaskQueue(self.state, store, run, self.records, revision=revision)
        self.trained = 0
        self._trials = 0
        self._stillborn = 0
        self._rested = -REST_SECONDS

    def run(self) -> int | None:
        """Run what is free until all stages are through; None then, otherwise the exit code."""
        with private_temp() as temp:
            paths = [str(ROOT), *[p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]]
            env = os.environ | {"SWEEPS_NODE_ROOM": str(temp), "PYTHONPATH": os.pathsep.join(paths)}
            bench = self.state.bench = Bench(self.machine, env)
            try:
                while True:
                    if self._must_end_now():
                        return STOPPED
                    self._look_at_signals(temp / "leave")
                    self._hand_out()
                    if not bench.busy:
                        code = self._idle()
                        if code is not None or self.graph.finished:
                            return code
                    for child, trial, said in bench.reports(LOOK_SECONDS):
                        self._over(child, trial, said)
            finally:
                held = list(self.state.running.values())
                bench.close()
                for key in held:
                    self.queue.release(key)

    def _must_end_now(self) -> bool:
        return self.run_folder.stop_file.exists() and bool((read_json(self.run_folder.stop_file) or {}).get("now"))

    def _look_at_signals(self, leave: Path) -> None:
        state = self.state
        if not state.draining and not state.halted:
            state.warned = self.heard.warned
            state.draining = state.warned or self.heard.stop or self.run_folder.stop_file.exists()
            if state.draining:
                why = "Warned" if state.warned else "Stop asked"
                self.say(f"{why}: {len(state.bench.busy)} running stages finish their epoch and save.")
        if state.ended_early and not leave.exists():
            leave.touch()

    def _hand_out(self) -> None:
        while not self.state.ended_early:
            self._trials += 1
            trial = f"t{self._trials}"
            order = self.queue.suggest(trial)
            if not isinstance(order, dict):
                return
            key = order["key"]
            try:
                known = self.queue.settled(key)
                if known is not None:
                    self.queue.complete(trial, known, False)
                    continue
                self.records.mine.add(key)
                self.state.bench.give(trial, order)
            except Exception as error:
                self.queue.broke(error)

    def _over(self, child: Child, trial: str, said: dict[str, Any] | None) -> None:
        if said is None and not child.ready:
            # Not the stage's fault: it never began.
            self._stillborn += 1
            if self._stillborn >= STILLBORN_ALLOWED:
                self.state.halted = (
                    f"Processes for stages must start on this node, but {self._stillborn} ended at once; "
                    "the job's log says why."
                )
            said = {"outcome": "stopped"}
        try:
            self.queue.complete(trial, said, error=said is None)
        except Exception as error:
            self.queue.broke(error)
        outcome = (said or {}).get("outcome")
        self.trained += bool((said or {}).get("trained"))
        if outcome == "failed" and child.devices:
            # An error on a GPU can spoil every later call of its process.
            self.state.bench.drop(child)

    def _idle(self) -> int | None:
        """The exit code when nothing runs here and nothing will."""
        state = self.state
        if state.halted:
            self.say(state.halted)
            return 1 if state.halted.startswith("an unexpected") else 3
        if self.graph.finished:
            return None
        if state.draining:
            self.say(f"Stopped: {self.graph.counts['done']} stages are in the store.")
            return WARNED if state.warned else STOPPED
        now = time.monotonic()
        if now - self._rested >= REST_SECONDS:
            self._rested = now
            left = self.graph.in_state(*OPEN)
            if not any(self.machine.room(state.resources.of(node)) for node in left):
                wanted = ", ".join(f"{amount:g} {name}" for name, amount in state.resources.of(left[0]).items())
                has = ", ".join(f"{amount:g} {name}" for name, amount in self.machine.has.items())
                self.say(f"None of the {len(left)} stages left fits here: the next takes {wanted}; the task has {has}.")
                return 3
        return None
