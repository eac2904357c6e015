"""What to run next and what became of it: the engine's logic, without Ray.

The disk is the truth. Failures are answered here: Tune never retries, the stage is given again.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import math
import time
from typing import Any

from sweeps.engine.failures import FailureLedger
from sweeps.engine.listener import Listener
from sweeps.engine.memory_pressure import MemoryKill, kill_in
from sweeps.engine.order import StageOrder, order_for
from sweeps.engine.state import EngineState
from sweeps.planning.graph import StageNode
from sweeps.runs import plugin_files
from sweeps.runs.folder import RunFolder
from system.writable_files import opened_to_append
from trainables.attempts.failures import LOST, verdict
from trainables.errors import is_disk_full, is_refused
from trainables.store.artifacts import Store
from trainables.store.leases import Lease, LeaseObserver

LOOK_ELSEWHERE_SECONDS = 1.0


class StageQueue:
    """Gives stages out as soon as their parents' artifacts exist, and hears what became of them."""

    def __init__(self, state: EngineState, store: Store, run: RunFolder, listener: Listener, *, revision: str) -> None:
        self.state, self.store, self.run, self.listener = state, store, run, listener
        self.revision = revision
        self.failures = FailureLedger(store)
        self.observer = LeaseObserver()
        self._looked = 0.0
        self._late: dict[str, float] = {}  # Published, a worker said, but not seen here yet -> since when.
        self._suspects: list[tuple[float, str, str, dict[str, Any]]] = []  # When, key, node, failure.
        self._traceless: set[str] = set()
        self._dead: dict[str, int] = {}  # Key -> number of the lease whose owner we saw go silent.
        self._moved: set[str] = set()  # Trials whose worker left in order.
        self._finished = False
        self._since: dict[str, float] = {}  # Trial id -> when it was handed out.
        self._causes: dict[str, str] = {}  # Trial id -> what Ray said of its end.
        self._resting: dict[str, float] = {}  # Ended for the node's memory -> not to be given again before.
        self._plugins = plugin_files.carried(run)

    def suggest(self, trial_id: str) -> StageOrder | str | None:
        """An order for a stage, "FINISHED", or None for "not yet"."""
        state = self.state
        with state.lock:
            if self._finished or state.draining or state.halted:
                self._finished = True
                return "FINISHED"
            node = self._next()
            idle = node is None and not state.graph.counts["ready"] and len(state.running) < state.slots
            if idle and self.listener.more():
                node = self._next()
            if node is None:
                self._look_elsewhere()
                node = self._next()
            if node is None:
                if state.graph.finished and self.listener.exhausted():
                    self._finished = True
                    return "FINISHED"
                return None
            state.graph.hand_out(node.key)
            state.memory.handed_out()
            state.running[trial_id] = node.key
            self._since[trial_id] = state.pace.clock()
            return self.order(node)

    def _next(self) -> StageNode | None:
        """The next stage that may be handed out, if this node has the memory for another one."""
        if self.state.memory.why_closed():
            return None
        now = time.monotonic()
        return self.state.graph.next_ready(
            lambda node: now >= self._resting.get(node.key, 0.0) and self.state.has_room(node)
        )

    def broke(self, error: Exception) -> None:
        """A hook raised: end the run rather than let Tune spin; what is published stays."""
        logging.getLogger("sweeps").exception("a hook of the searcher failed", exc_info=error)
        refused = is_disk_full(error) or is_refused(error)
        self.state.halted = str(error) if refused else f"an unexpected {type(error).__name__} in the engine: {error}"

    def order(self, node: StageNode) -> StageOrder:
        """The order for a stage."""
        return order_for(
            node,
            self.state,
            self.store,
            self.run,
            revision=self.revision,
            dead_lease=self._dead.get(node.key, 0),
            plugins=self._plugins,
        )

    def _look_elsewhere(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_ELSEWHERE_SECONDS:
            return
        self._looked = now
        self._charge_suspects(now)
        for node in self.state.graph.in_state("elsewhere"):
            if self.store.has(node.key):
                self._late.pop(node.key, None)
                self._done(node)
            elif now - self._late.get(node.key, -math.inf) < self.state.machine.patience:
                continue  # Published on another node; this one's file system does not show it yet.
            elif self._left_no_trace(node.key):
                self._late[node.key] = now
            elif (number := self.store.dead_lease(node.key, self.observer)) is not None:
                self._late.pop(node.key, None)
                self._dead[node.key] = number  # The process that will run it meets the silent lease for the first time.
                self._judge(node)

    def _left_no_trace(self, key: str) -> bool:
        """Whether a stage's work is gone for the first time: who publishes removes it, and the artifact may show later."""
        if not self.state.machine.patience or key in self._traceless or Lease.numbers(self.store.work_folder(key)):
            return False
        self._traceless.add(key)
        return True

    def _charge_suspects(self, now: float) -> None:
        """Count the loss of a process against its stage, unless its whole node was lost."""
        while self._suspects and now >= self._suspects[0][0]:
            _, key, node, failure = self._suspects.pop(0)
            if node and self.state.machine.has_node(node) and not self.store.has(key):
                self._write_failure(key, failure)

    def _write_failure(self, key: str, failure: dict[str, Any]) -> None:
        self.failures.write(key, failure)

    def cause(self, trial_id: str, text: str) -> None:
        """What Ray says of the end of a trial; `complete` is called next."""
        self._causes[trial_id] = text

    def interrupted(self, text: str) -> bool:
        """Tune itself ended with this error: true when that was for memory, so that it may be started again."""
        if kill_in(text) is None:
            return False
        running = list(self.state.running)
        for trial_id in running:
            # Of several nobody knows whose process was meant, so none is charged with its size.
            self.cause(trial_id, text if len(running) == 1 else "the node was running low on memory")
            self.complete(trial_id, None, True)
        return True

    def _ended_for_memory(self, node: StageNode, kill: MemoryKill) -> str:
        """Let a stage go again when there is room; or say why it is to blame itself."""
        pid = (self.store.lease_holder(node.key) or {}).get("pid")
        what = f"ended by Ray's memory monitor: {kill.words(pid)}"
        self._note(node, what)
        if kill.is_own_growth(pid):
            self.state.news.append(f"{node.role} {node.key} was {what}. A smaller batch or fewer --jobs takes less.")
            return what
        pause = self.state.memory.lost(kill, kill.held_by(pid))
        if not self.state.machine.is_local:
            self._resting[node.key] = time.monotonic() + pause
        self.state.news.append(
            f"{node.role} {node.key} was {what}. The stage is not to blame: it goes on from its last checkpoint when "
            "there is room."
        )
        return ""

    def _note(self, node: StageNode, line: str) -> None:
        """A line in the stage's log, which its own process can write no more."""
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
        with contextlib.suppress(OSError), opened_to_append(self.run.stage_log(node.role, node.key)) as file:
            file.write(f"{now} [engine] {line}\n".encode())

    def _lost(self, node: StageNode, error: bool, cause: str) -> None:
        """A stage's process is gone: at once its own fault on one machine, perhaps its node's on a cluster."""
        message = "the process training it was killed" if error else "the trial ended early"
        if (kill := kill_in(cause)) is not None:
            message = self._ended_for_memory(node, kill)
            if not message:
                self.state.graph.set(node.key, "ready")
                return
        else:
            self._note(node, message)
        newest = next(iter(self.store.checkpoints(node.key)), None)
        failure = {
            "type": LOST,
            "message": message,
            "epoch": newest[1] if newest else 0,
            "time": time.time(),
        }
        settle = self.state.machine.settle_seconds
        if not settle:
            self._write_failure(node.key, failure)
        else:
            holder = self.store.lease_holder(node.key) or {}
            name = "" if holder.get("released") else str(holder.get("node", ""))
            self._suspects.append((time.monotonic() + settle, node.key, name, failure))
        self._judge(node)

    def _done(self, node: StageNode) -> None:
        self.failures.finished()
        self.state.memory.relieved()
        self.state.graph.set(node.key, "done")
        self.listener.stage_done(node)

    def _judge(self, node: StageNode) -> None:
        """Give a stage out again, or end it, by what its failures say."""
        why = verdict(self.failures.of(node.key))
        self.state.halted = self.state.halted or self.failures.refusal
        if why is None:
            self.state.graph.set(node.key, "ready")
            return
        self.state.graph.set(node.key, "failed", why)
        self.listener.stage_failed(node)

    def result(self, trial_id: str, result: dict[str, Any]) -> bool:
        """A worker's report; true prunes its stage."""
        state = self.state
        with state.lock:
            key = state.running.get(trial_id)
            if key is None:
                return False
            state.started.add(trial_id)
            self._hear(trial_id, key, result)
            if result.get("outcome") == "moved":
                self._moved.add(trial_id)
            if result.get("done"):
                return False  # What has ended cannot be pruned any more.
            node = state.graph.nodes[key]
            for epoch, value in result.get("values") or ():
                if self.listener.stage_value(node, int(epoch), float(value)):
                    state.graph.set(key, "pruned")
                    return True
            return False

    def _hear(self, trial_id: str, key: str, result: dict[str, Any]) -> None:
        """Keep how far a stage is, and whether it waits for cores."""
        waiting = bool(result.get("waiting"))
        (self.state.core_waits.add if waiting else self.state.core_waits.discard)(trial_id)
        epoch, epochs = result.get("epoch_of_stage") or 0, result.get("epochs_of_stage") or 0
        self.state.pace.heard(key, int(epoch), int(epochs), waiting=waiting)

    def complete(self, trial_id: str, result: dict[str, Any] | None, error: bool) -> None:
        """A trial ended: by its outcome, by pruning or by the loss of its process."""
        state = self.state
        with state.lock:
            key = state.running.pop(trial_id, None)
            state.started.discard(trial_id)
            state.core_waits.discard(trial_id)
            cause, since = self._causes.pop(trial_id, ""), self._since.pop(trial_id, 0.0)
            if key is None:
                return
            state.pace.ended(key, done=self.store.has(key), since=since)
            node = state.graph.nodes[key]
            if node.state == "pruned":
                return
            outcome = (result or {}).get("outcome", "running")
            if number := int((result or {}).get("unreleased") or 0):
                self._dead[key] = max(number, self._dead.get(key, 0))
            if self.store.has(key):
                state.trained += 1
                self._done(node)
            elif outcome == "disk_full":
                state.halted = str((result or {}).get("message", "the disk is full"))
                state.graph.set(key, "ready")
            elif outcome == "failed":
                if unwritten := (result or {}).get("unwritten"):
                    self.failures.keep(key, json.loads(unwritten) if isinstance(unwritten, str) else unwritten)
                self._judge(node)
            elif outcome == "elsewhere":
                # A lease of ours that could not be given back is held by nobody.
                state.graph.set(key, "ready" if number else "elsewhere")
            elif outcome == "done" and state.machine.patience:
                self._late[key] = time.monotonic()
                self._traceless.add(key)
                state.graph.set(key, "elsewhere")
            elif outcome == "stopped" or trial_id in self._moved or state.draining or state.halted:
                self._moved.discard(trial_id)
                state.graph.set(key, "ready")
            else:
                self._lost(node, error, cause)
