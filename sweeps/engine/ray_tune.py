"""The engine: hands the stages of a graph to Ray Tune as soon as their parents' artifacts exist.

The disk is the truth. A Tune run is started afresh over what the store lacks; nothing of Ray's is ever restored.
Failures are answered here: Tune never retries, the searcher gives the stage again.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import logging
import math
import os
import resource
import signal
import stat
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from slurm.guard import Guard
from slurm.temp import private_temp
from sweeps.engine import machines
from sweeps.engine.eta import Pace
from sweeps.engine.failures import FailureLedger
from sweeps.engine.machines import LocalMachine, Machine
from sweeps.engine.memory_pressure import FIRST_PAUSE, LONGEST_PAUSE, MemoryGate, MemoryKill, kill_in
from sweeps.engine.resources import Needs
from sweeps.engine.waiting import Waiting, waits_for_cores
from sweeps.planning.graph import StageGraph, StageNode
from sweeps.runs import plugin_files
from sweeps.runs.folder import RunFolder, stop_content
from system.liveness import process_start
from system.writable_files import opened_to_append
from trainables.attempts.failures import LOST, verdict
from trainables.errors import MachineError, is_disk_full, is_refused
from trainables.spec import to_plain
from trainables.store.artifacts import Store
from trainables.store.leases import Lease, LeaseObserver

LOOK_ELSEWHERE_SECONDS = 1.0
MOST_FRUITLESS = 8  # Ends of Tune itself for memory with no stage finished between them.
IDLE_DRAINED_SECONDS = 0.6
BIRTH_SECONDS = 3.0


class Listener(Protocol):
    """What wants to know about the engine's stages: sampling, records, display."""

    def stage_done(self, node: StageNode) -> None: ...

    def stage_failed(self, node: StageNode) -> None: ...

    def stage_value(self, node: StageNode, epoch: int, value: float) -> bool:
        """Told of a validation value; true prunes the stage."""
        ...

    def more(self) -> bool:
        """Asked when a slot is free and nothing is ready: true when new stages were added."""
        ...

    def exhausted(self) -> bool:
        """Whether no further stages will be added."""
        ...


class Display(Protocol):
    """What shows a person how it goes; `terminal` is where people look while stdout belongs to the log."""

    def start(self, state: EngineState, terminal: Any) -> None: ...

    def tick(self, state: EngineState) -> None: ...

    def say(self, line: str) -> None: ...

    def stop(self) -> None: ...


@dataclass
class EngineState:
    """What display, signals and searcher share."""

    graph: StageGraph
    machine: Machine
    needs: Needs = field(default_factory=Needs)
    running: dict[str, str] = field(default_factory=dict)  # Trial id -> key.
    started: set[str] = field(default_factory=set)  # Trials that were heard of: a worker has them.
    draining: bool = False
    warned: bool = False  # The job this driver runs in is about to end; it carries on in its next life.
    halted: str = ""  # Why everything must end now, e.g. a full disk.
    lock: threading.RLock = field(default_factory=threading.RLock)
    pids: dict[str, int] = field(default_factory=dict)
    starting: bool = False  # Ray is being started: its processes are looked for, and one that vanishes ends the run.
    trained: int = 0
    guard: Guard | None = None  # Kept open when the run ended early.
    memory: MemoryGate = field(default_factory=MemoryGate)
    pace: Pace = field(default_factory=Pace)
    core_waits: set[str] = field(default_factory=set)  # Trials whose worker waits for cores that others hold.
    news: list[str] = field(default_factory=list)  # What a person should be told once; whoever displays takes it.
    waits: str = ""  # Why nothing more starts although stages are ready.

    def __post_init__(self) -> None:
        if not isinstance(self.machine, LocalMachine):
            self.memory = MemoryGate(lambda: None)  # Stages run on other nodes, whose memory is not seen from here.
        self.graph.regroup(lambda node: tuple(sorted(self.needs.of(node).items())))

    @property
    def slots(self) -> int:
        """How many usual stages run at once now."""
        usual = next(iter(self.graph.nodes.values()), None)
        return self.machine.room(self.needs.of(usual) if usual is not None else {"CPU": 1.0})

    def has_room(self, node: StageNode) -> bool:
        """Whether a stage should be handed out: one more than can start, so that it is there when a slot gets free."""
        needs = self.needs.of(node)
        used: dict[str, float] = {}
        unstarted = 0
        for trial, key in self.running.items():
            other = self.needs.of(self.graph.nodes[key])
            if trial in self.started:
                for name, amount in other.items():
                    used[name] = used.get(name, 0.0) + amount
            else:
                unstarted += other == needs
        taken = max((used.get(name, 0.0) / amount for name, amount in needs.items()), default=0.0)
        return unstarted <= max(0, self.machine.room(needs) - math.ceil(taken - 1e-9))

    @property
    def ended_early(self) -> bool:
        """Whether the run was drained or halted."""
        return self.draining or bool(self.halted)


class StageQueue:
    """The searcher's logic without Ray: what to run next and what became of it."""

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

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
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

    def order(self, node: StageNode) -> dict[str, Any]:
        """Everything a worker needs to run a stage."""
        spec = node.spec
        return {
            "key": node.key,
            "kind": spec.kind,
            "spec": to_plain(spec),
            "parents": dict(node.parents),
            "resources": self.state.needs.of(node),
            "store": str(self.store.root),
            "run": self.run.id,
            "stop_file": str(self.run.stop_file),
            "log_file": str(self.run.stage_log(node.role, node.key)),
            "every_epoch": node.scout_of is not None,
            "revision": self.revision,
            "umask": _umask(),
            "core_locks": self.state.machine.core_locks,
            "patience": self.state.machine.patience,
            "dead_lease": self._dead.get(node.key, 0),
            "plugins": plugin_files.part_for(self._plugins, self._components(node)) if self._plugins else [],
        }

    def _components(self, node: StageNode) -> set[str]:
        """Names of the components of a stage and of all that it reads, directly or not."""
        found, ahead, seen = set(node.base.components()), list(node.parents.values()), set()
        while ahead:
            key = ahead.pop()
            if key not in seen:
                seen.add(key)
                parent = self.state.graph.nodes[key]
                found |= set(parent.base.components())
                ahead += parent.parents.values()
        return found

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
        if not isinstance(self.state.machine, LocalMachine):
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


def _umask() -> int:
    value = os.umask(0o022)
    os.umask(value)
    return value


def resources_fit(graph: StageGraph, slots: int) -> None:
    """Refuse a stage that this machine can never hold.

    Raises:
        MachineError: If a stage asks for more cores than there are.
    """
    most = max((n.base.threads for n in graph.nodes.values() if n.state in ("waiting", "ready")), default=1)
    if most > slots:
        raise MachineError(
            f"A stage asks for {most} threads, but only {slots} cores may be used here. Use --set threads={slots} or more cores."
        )


def execute(
    graph: StageGraph,
    store: Store,
    run: RunFolder,
    listener: Listener,
    *,
    driver: Lease,
    machine: Machine,
    needs: Needs,
    revision: str,
    display: Display | None = None,
    resume_line: str = "",
) -> EngineState:
    """Run every open stage of the graph; returns when all are done, failed or unrunnable, or a stop was asked.

    Args:
        graph: Stages; those in the store already are done.
        store: Where artifacts appear.
        run: Folder of the run; its stop file drains.
        listener: Told of every stage.
        driver: The lock under which we run; carries the pids for `status`.
        machine: Where the stages run.
        needs: What they ask of it.
        revision: Of the code.
        display: Shown the state about five times a second, from our own thread.
        resume_line: Printed when the run is stopped.

    Raises:
        MachineError: If Ray cannot start or dies.
    """
    state = EngineState(graph, machine, needs)
    queue = StageQueue(state, store, run, listener, revision=revision)
    if isinstance(machine, LocalMachine):
        resources_fit(graph, int(machine.has["CPU"]))
    _look_at_file_limit()
    if isinstance(machine, LocalMachine) or stop_content(run).get("warned"):
        run.stop_file.unlink(missing_ok=True)
    with private_temp() as temp, _quiet(run.logs / "driver.log") as terminal:
        if display:
            display.start(state, terminal)
        guard = Guard(temp)
        watch = Watch(state, run, terminal, display, resume_line, driver, guard)
        watch.start()
        try:
            with _ray(temp, state, driver):
                _fit(queue, state, temp)
        finally:
            watch.finish()
            if display:
                with contextlib.suppress(OSError):  # The terminal may be gone.
                    display.stop()
            if state.ended_early:
                # Somebody waits for the prompt. Closing Ray in order takes seconds and saves nothing: the guard ends
                # it when this process does.
                guard.tell()
                state.guard = guard
            else:
                guard.close()
    _leave_closed_terminal()
    return state


def _leave_closed_terminal() -> None:
    """Write to nowhere what would go to a terminal that was closed; files and pipes still get it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for end in (1, 2):
        # A terminal that was hung up is still a character device, but is no terminal any more.
        if stat.S_ISCHR(os.fstat(end).st_mode) and not os.isatty(end):
            os.dup2(nowhere, end)
    os.close(nowhere)


def _look_at_file_limit() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if soft != resource.RLIM_INFINITY and soft < machines.OBJECT_STORE_BYTES:
        raise MachineError(
            f"Files of at least {machines.OBJECT_STORE_BYTES >> 20} MiB must be allowed for Ray to start, but `ulimit -f` allows "
            f"{soft / 2**20:.1f} MiB. Raise it; what is finished is kept and the same command carries on."
        )


@contextlib.contextmanager
def _ray(temp: Path, state: EngineState, driver: Lease) -> Iterator[None]:
    """The machine's Ray, its pids known to `status`."""
    state.starting = True
    with state.machine.start(temp):
        try:
            state.pids = machines.ray_pids()
            state.starting = False
            driver.update(pids=state.pids)
            yield
        finally:
            state.pids = {}  # From here on a vanished raylet is no news.
            if not state.ended_early:
                machines.shut_down()
            driver.update(pids={})


def _fit(queue: StageQueue, state: EngineState, temp: Path) -> None:
    from sweeps.engine.searcher import take_memory_kills_as_losses

    logging.getLogger("ray").setLevel(logging.ERROR)
    take_memory_kills_as_losses()
    finished, fruitless = state.graph.counts["done"], 0
    for number in itertools.count():
        try:
            _tuner(queue, temp / f"tune{number}").fit()
            return
        except Exception as error:
            if state.draining or state.halted:
                return
            # Ray may end a process of Tune's own for memory; what ran is given again by a fresh Tune.
            fruitless = fruitless + 1 if state.graph.counts["done"] == finished else 1
            finished = state.graph.counts["done"]
            if fruitless > MOST_FRUITLESS or not queue.interrupted(str(error)):
                said = textwrap.shorten(str(error), 400, placeholder=" ...")
                raise MachineError(
                    f"Ray Tune must run to its end, but: {said} The whole message is in logs/driver.log of the run; "
                    "what is finished is kept and `python -m sweeps resume` goes on from there."
                ) from error
            time.sleep(min(FIRST_PAUSE * 2**fruitless, LONGEST_PAUSE))


def _tuner(queue: StageQueue, folder: Path) -> Any:
    from ray.tune import CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner

    from sweeps.engine.searcher import GraphSearcher, PruningScheduler
    from trainables.tune import StageTrainable

    return Tuner(
        StageTrainable,
        tune_config=TuneConfig(
            search_alg=GraphSearcher(queue),
            scheduler=PruningScheduler(queue),
            num_samples=10**9,
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.trial_id,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=RunConfig(
            name="t",
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=0),
            checkpoint_config=CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            verbose=0,
        ),
    )


class Watch(threading.Thread):
    """Display, stop flag, signals and the raylet's pulse: Tune may sit inside one step for minutes."""

    def __init__(
        self,
        state: EngineState,
        run: RunFolder,
        terminal: Any,
        display: Display | None,
        resume_line: str,
        driver: Lease,
        guard: Guard,
    ) -> None:
        super().__init__(name="watch", daemon=True)
        self.guard = guard
        self._told = 0.0
        self._idle_since = time.monotonic()
        self.state, self.run_folder, self.terminal = state, run, terminal
        self.display, self.resume_line, self.driver = display, resume_line, driver
        self._waiting = Waiting(self.say, lambda text: driver.update(waits=text))
        self._finished = threading.Event()
        self._presses = 0
        self._born: dict[str, int] = {}
        self._gone: dict[str, float] = {}
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[0], False)
        os.set_blocking(self._pipe[1], False)
        self._old: dict[int, Any] = {}

    def start(self) -> None:
        """Take over the signals, then run."""
        if threading.current_thread() is threading.main_thread():
            # The C handler writes to the pipe at once, even while the main thread sits inside Ray.
            self._old_wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
                # Under nohup a hang-up is ignored, and stays so.
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._old[number] = signal.signal(number, lambda *_: None)
        super().start()

    def finish(self) -> None:
        """Give the signals back and end."""
        self._finished.set()
        self.join(timeout=5)
        if self._old:
            signal.set_wakeup_fd(self._old_wakeup)
            for number, handler in self._old.items():
                signal.signal(number, handler)
        for end in self._pipe:
            os.close(end)

    def run(self) -> None:
        """About five times a second: signals, stop file, raylet, display."""
        while not self._finished.wait(0.2):
            try:
                self._look()
            except Exception:  # Signals and stops must be answered whatever a disk or the kernel refuses for a moment.
                logging.getLogger(__name__).exception("a look at the run failed")

    def _look(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in os.read(self._pipe[0], 64):
                if number == signal.SIGUSR2:
                    self._warned()
                elif number == signal.SIGTERM and not self.state.machine.core_locks:
                    # SLURM ends the whole job: Ray's processes had the same signal.
                    self._end_now()
                elif number == signal.SIGHUP and signal.SIGHUP in self._old:
                    self._hung_up()
                elif number in (signal.SIGINT, signal.SIGTERM):
                    self._pressed()
        if not self.state.ended_early and self.run_folder.stop_file.exists():
            self.state.draining = True
            self.say("Stop asked: running stages finish their epoch and save.")
        if not self.state.draining or self.state.halted or self.state.running:
            self._idle_since = time.monotonic()
        elif time.monotonic() - self._idle_since > IDLE_DRAINED_SECONDS:
            # All that ran is saved; Tune takes seconds more to notice that nothing is left. Under the lock no
            # record is half-way written.
            with self.state.lock:
                self.say(f"Stopped: {self.state.graph.counts['done']} stages are in the store.")
                # A stop that somebody asks for while we save after a warning is the end all the same.
                again = self.state.warned and stop_content(self.run_folder).get("warned")
                self._end_now(code=self.state.machine.lost_code if again else 130)
        content = stop_content(self.run_folder)
        if content.get("now"):
            self._end_now()
        if self.state.halted and not self.run_folder.stop_file.exists():
            with contextlib.suppress(OSError):
                self.run_folder.stop_file.write_text("{}")
        if self.state.pids:
            with contextlib.suppress(Exception):
                self.state.machine.look()
        for name, pid in (self._lost_at_birth() if self.state.starting else dict(self.state.pids)).items():
            if not process_start(pid):
                self.say(f"Ray's {name} was killed; this run ends here and loses nothing but the epochs in flight.")
                self._end_now(code=self.state.machine.lost_code)
        if not self.driver.is_mine():
            self.say("Another process drives this run now; this one leaves.")
            self._end_now(code=1)
        self.guard.watch()
        if time.monotonic() - self._told > 1.0:
            self._told = time.monotonic()
            self.guard.tell()
        self._tell_waiting()
        if self.display:
            with contextlib.suppress(Exception):
                self.display.tick(self.state)

    def _tell_waiting(self) -> None:
        """Say what the engine has to tell, and why nothing starts: here, and in the lock for `status`."""
        state = self.state
        with state.lock:
            news, state.news = state.news, []
            ready = state.graph.counts["ready"] and not state.ended_early
            state.waits = f"memory: {why}" if ready and (why := state.memory.why_closed()) else ""
            if not state.waits and state.core_waits and not state.ended_early:
                state.waits = waits_for_cores(len(state.core_waits), self.run_folder.id)
        for line in news:
            self.say(line)
        self._waiting.tell(state.waits)

    def _lost_at_birth(self) -> dict[str, int]:
        """Ray's processes that vanished while it starts: it would wait a minute and more for them.

        A start that fails for a reason of its own ends them too, and says it a moment later.
        """
        self._born |= machines.ray_pids()
        now = time.monotonic()
        gone = {name: pid for name, pid in self._born.items() if not process_start(pid)}
        self._gone = {name: self._gone.get(name, now) for name in gone}
        return {name: pid for name, pid in gone.items() if now - self._gone[name] > BIRTH_SECONDS}

    def say(self, line: str) -> None:
        """A line for the person, whatever happens to stdout."""
        with contextlib.suppress(Exception):
            if self.display:
                self.display.say(line)
            else:
                self.terminal.write(line + "\n")
                self.terminal.flush()

    def _warned(self) -> None:
        """The job's time is nearly up: save everything; the next life of the job goes on from the disk."""
        if self.state.draining:
            return
        with contextlib.suppress(OSError):
            self.run_folder.stop_file.write_text('{"warned": true}')
        self.state.warned = self.state.draining = True
        self.say(f"Warned: {len(self.state.running)} running stages finish their epoch and save.")

    def _hung_up(self) -> None:
        """The terminal was closed: drain. Shell and kernel may both say so, and neither means "at once"."""
        if not self.state.draining:
            self._pressed()

    def _pressed(self) -> None:
        self._presses += 1
        if self._presses == 1:
            with contextlib.suppress(OSError):
                self.run_folder.stop_file.write_text("{}")
            self.state.draining = True
            busy = len(self.state.running)
            self.say(f"Draining: {busy} running stages finish their epoch and save. Press again to stop at once.")
            if self.resume_line:
                self.say(self.resume_line)
        else:
            self._end_now()

    def _end_now(self, code: int = 130) -> None:
        """End this process and what it started, at once; the leases of the dead are free for the next run."""
        if self.resume_line:
            self.say(self.resume_line)
        if self.display:
            with contextlib.suppress(Exception):
                self.display.stop()
        for last in (self.guard.tell, self.guard.close, self.driver.release):
            with contextlib.suppress(Exception):
                last()
        os._exit(code)


@contextlib.contextmanager
def _quiet(log: Path) -> Iterator[Any]:
    """Send what Ray prints, from Python and from C++, to the log; yields the real terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    keep_out, keep_err = os.dup(1), os.dup(2)
    terminal = os.fdopen(os.dup(2), "w", buffering=1)
    old = sys.stdout, sys.stderr
    try:
        with opened_to_append(log) as target:
            os.dup2(target.fileno(), 1)
            os.dup2(target.fileno(), 2)
    except OSError as error:
        raise MachineError(
            f"The log {log} must be a file that can be written, but {error.strerror}. Remove it."
        ) from error
    try:
        yield terminal
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(keep_out, 1)
        os.dup2(keep_err, 2)
        os.close(keep_out)
        os.close(keep_err)
        sys.stdout, sys.stderr = old
        with contextlib.suppress(OSError):  # It may have been closed under us.
            terminal.close()
