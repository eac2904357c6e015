"""One task of a job array: a loop over the plan's ready stages and the store's leases. No Ray, no port, no torch.

Tasks do not talk to each other. Each plans the same graph, takes what is free and looks after what others hold: a lease
says who trains a stage, the store says what is done. Whoever sees the last stage done writes journal and report.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from slurm import devices
from slurm.temp import private_temp
from sweeps.engine.machines import LATE_FILES_SECONDS, ROOT, LocalMachine, fitting
from sweeps.engine.ray_tune import EngineState, StageQueue
from sweeps.engine.resources import Needs, parse
from sweeps.planning.graph import OPEN, StageGraph, StageNode
from sweeps.runs.folder import Place, RunFolder
from system.liveness import process_is_gone
from trainables.attempts.attempt import begin, tidy
from trainables.attempts.failures import verdict
from trainables.errors import ArtifactError, UsageError
from trainables.store.artifacts import Store
from trainables.store.files import read_json
from trainables.store.leases import LEASE_SILENCE_SECONDS, Lease, LeaseObserver

if TYPE_CHECKING:
    from sweeps.runs.execute import Request, Say
    from sweeps.runs.record_writer import Projector

WARNED, STOPPED, ENDED = 75, 130, 143
LOOK_SECONDS = 0.3
REST_SECONDS = 30.0
STILLBORN_ALLOWED = 3

# The task answers these for its stages, which save and leave when a file tells them to.
TASK_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


# What runs in a process for stages.


def serve() -> None:
    """Run the stages whose orders come as lines on standard input, and answer each with a line, until it closes."""
    for number in TASK_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TASK_SIGNALS)
    ctypes.CDLL(None, use_errno=True).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        return  # The task died before we could tie ourselves to it.
    # What a library prints goes to the log, not among the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    answers.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        latest: dict[str, Any] = {}
        for said in begin(json.loads(line)):
            latest = said
        tidy()
        answer = {
            name: latest[name] for name in ("outcome", "epoch", "message", "unwritten", "unreleased") if name in latest
        }
        answers.write(json.dumps(answer | {"trained": "metrics" in latest}) + "\n")


class Child:
    """A process for stages, tied to this one: it dies with us however we die.

    Attributes:
        devices: The GPUs it sees, as CUDA names them; without any it sees none.
        ready: Whether it came up; what it was given before that never began.
        trial: What it runs now.
        needs: What that takes.
    """

    def __init__(self, devices: tuple[str, ...], env: Mapping[str, str]) -> None:
        self.devices = devices
        self.ready = False
        self.trial: str | None = None
        self.needs: Mapping[str, float] = {}
        self._read = b""
        words = [sys.executable, "-P", "-c", "from sweeps.engine.array import serve; serve()", str(os.getpid())]
        # A signal meant for the whole job must not end it before it can ignore it, and must not be lost to us.
        old = signal.pthread_sigmask(signal.SIG_BLOCK, TASK_SIGNALS)
        try:
            self.process = subprocess.Popen(
                words,
                env={**env, "CUDA_VISIBLE_DEVICES": ",".join(devices)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)
        assert self.process.stdin is not None and self.process.stdout is not None
        self._to, self._from = self.process.stdin, self.process.stdout
        os.set_blocking(self._from.fileno(), False)

    def fileno(self) -> int:
        """Where its answers arrive."""
        return self._from.fileno()

    def give(self, trial: str, order: Mapping[str, Any]) -> None:
        """Let it run a stage."""
        self.trial, self.needs = trial, order["resources"]
        with contextlib.suppress(BrokenPipeError):  # It is dead: reading says so.
            self._to.write(json.dumps(order).encode() + b"\n")

    def answers(self) -> list[dict[str, Any] | None]:
        """What it said since the last look; None stands for its death."""
        found: list[dict[str, Any] | None] = []
        while True:
            try:
                more = os.read(self._from.fileno(), 1 << 16)
            except BlockingIOError:
                return found
            if not more:
                return [*found, None]
            *lines, self._read = (self._read + more).split(b"\n")
            for line in lines:
                said = json.loads(line)
                if said.get("ready"):
                    self.ready = True
                else:
                    found.append(said)

    def end(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
        self._to.close()
        self._from.close()


# What the task has.


class TaskMachine(LocalMachine):
    """What SLURM gave this task: it guards the cores itself, and other nodes' files may show late."""

    core_locks, patience, lost_code, settle_seconds = False, LATE_FILES_SECONDS, WARNED, 0.0

    def __init__(self, cpus: int, devices: Sequence[str] = (), memory_bytes: float | None = None) -> None:
        super().__init__(cpus, len(devices))
        self.devices = tuple(devices)
        if memory_bytes:
            self.has["memory"] = memory_bytes

    @classmethod
    def given(cls, slots: int) -> TaskMachine:
        """By SLURM's variables; GPUs that the task was not given are not used."""
        visible = os.environ.get(devices.VISIBLE)
        if visible is None:
            found = [str(number) for number in range(devices.number("SLURM_GPUS_ON_NODE"))]
        else:
            found = devices.named(visible)
        memory = devices.number("SLURM_MEM_PER_NODE")
        return cls(slots, found, float(memory << 20) if memory else None)

    def room(self, needs: Mapping[str, float]) -> int:
        """How many such stages this task holds at once."""
        return fitting(self.has, {name: amount for name, amount in needs.items() if name in self.has})


class Bench:
    """The processes for stages, started when first wanted, and what is left of the task's cores, memory and GPUs."""

    def __init__(self, machine: TaskMachine, env: Mapping[str, str]) -> None:
        self.machine, self.env = machine, env
        self.children: list[Child] = []

    @property
    def busy(self) -> list[Child]:
        """Those with a stage."""
        return [child for child in self.children if child.trial is not None]

    def place(self, needs: Mapping[str, float]) -> tuple[str, ...] | None:
        """The GPUs a stage with these needs can have now; None when something is lacking.

        A share of a GPU is a share of one; several GPUs are whole ones.
        """
        busy = self.busy
        for name in ("CPU", "memory"):
            if name in self.machine.has:
                used = sum(child.needs.get(name, 0.0) for child in busy)
                if used + needs.get(name, 0.0) > self.machine.has[name] + 1e-9:
                    return None
        wanted = needs.get("GPU", 0.0)
        if not wanted:
            return ()
        taken = dict.fromkeys(self.machine.devices, 0.0)
        for child in busy:
            for device in child.devices:
                taken[device] += min(1.0, child.needs.get("GPU", 0.0))
        idle = {child.devices for child in self.children if child.trial is None}
        each, count = min(1.0, wanted), max(1, int(wanted))
        # Where a process waits already comes first: another would load torch and open the GPU anew.
        fit = sorted((d for d in taken if taken[d] + each <= 1 + 1e-9), key=lambda d: ((d,) not in idle, taken[d]))
        return tuple(fit[:count]) if len(fit) >= count else None

    def give(self, trial: str, order: Mapping[str, Any]) -> None:
        """Let a process run a stage for which there is room."""
        devices = self.place(order["resources"])
        assert devices is not None, "a stage was handed out without room"
        idle = [child for child in self.children if child.trial is None]
        child = next((c for c in idle if c.devices == devices), None)
        if child is None:
            if idle and len(self.children) >= self.machine.has["CPU"]:
                self.drop(idle[0])
            child = Child(devices, self.env)
            self.children.append(child)
        child.give(trial, order)

    def reports(self, seconds: float) -> Iterator[tuple[Child, str, dict[str, Any] | None]]:
        """(process, what it ran, what became of it) of the stages that end within so long; None when it was killed."""
        readable, _, _ = select.select(self.children, [], [], seconds)
        for child in readable:
            for said in child.answers():
                trial, child.trial = child.trial, None
                if said is None:
                    self.drop(child)
                if trial is not None:
                    yield child, trial, said

    def drop(self, child: Child) -> None:
        """End a process."""
        if child in self.children:
            self.children.remove(child)
            child.end()

    def close(self) -> None:
        """End all of them at once."""
        for child in list(self.children):
            self.drop(child)


# What the task does.


class TaskState(EngineState):
    """The engine's state, with room for what can start at once and no more."""

    bench: Bench

    def has_room(self, node: StageNode) -> bool:
        """Whether a stage can start here now."""
        return self.bench.place(self.needs.of(node)) is not None


class TaskQueue(StageQueue):
    """The engine's logic among tasks that see only each other's files."""

    def settled(self, key: str) -> dict[str, Any] | None:
        """What is known of a stage that was just handed out, so that no process needs to look; None when it is free."""
        if self.store.has(key):
            return {"outcome": "done"}
        if verdict(self.failures.of(key)) is not None:
            return {"outcome": "failed"}  # In other tasks.
        if self.store.held_elsewhere(key, self.observer):
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

    def __init__(self, projector: Projector) -> None:
        self.projector = projector
        self.mine: set[str] = set()

    def stage_done(self, node: StageNode) -> None:
        """Write its record if it is ours."""
        if node.key in self.mine:
            with contextlib.suppress(ArtifactError):  # A damaged one: whoever concludes the run says so.
                self.projector.write(node)

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


class _Ended(BaseException):
    """SLURM ends this job now."""


class Heard:
    """The signals that came."""

    def __init__(self) -> None:
        self.warned = self.stop = self.ended = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[Heard]:
        """Answer the task's signals."""
        answers: dict[int, Any] = {
            signal.SIGUSR1: signal.SIG_IGN,
            signal.SIGUSR2: self._warn,
            signal.SIGINT: self._press,
            signal.SIGTERM: self._end,
        }
        old = {number: signal.signal(number, answer) for number, answer in answers.items()}
        try:
            yield self
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _warn(self, number: int, frame: FrameType | None) -> None:
        self.warned = True

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self.stop:
            self._end(number, frame)
        self.stop = True

    def _end(self, number: int, frame: FrameType | None) -> None:
        if not self.ended:  # Once: what cleans up meanwhile must not be interrupted.
            self.ended = True
            raise _Ended


class Task:
    """The loop."""

    def __init__(
        self,
        run: RunFolder,
        graph: StageGraph,
        store: Store,
        projector: Projector,
        machine: TaskMachine,
        needs: Needs,
        revision: str,
        heard: Heard,
        say: Say,
    ) -> None:
        self.run_folder, self.graph, self.store, self.machine, self.say = run, graph, store, machine, say
        self.heard = heard
        self.records = Records(projector)
        self.state = TaskState(graph, machine, needs)
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
            if not any(self.machine.room(state.needs.of(node)) for node in left):
                needs = ", ".join(f"{amount:g} {name}" for name, amount in state.needs.of(left[0]).items())
                has = ", ".join(f"{amount:g} {name}" for name, amount in self.machine.has.items())
                self.say(f"None of the {len(left)} stages left fits here: the next takes {needs}; the task has {has}.")
                return 3
        return None


def work(run: RunFolder, request: Request, place: Place, *, slots: int, task: int = 0, say: Say = print) -> int:
    """Be one task of an array until every stage is done, failed for good or unrunnable.

    Args:
        run: The run, its plan written at submission.
        request: What was asked; of a grid study.
        place: Where runs and store live.
        slots: Cores of this task.
        task: Its number in the array, for the log.
        say: Writes a line to the job's log.

    Returns:
        0 when all is done; 1 when stages failed for good; 3 when the disk is full or no stage fits here; 75 when the job
        was warned and its stages are saved; 130 after `stop`; 143 when SLURM ended it.

    Raises:
        UsageError: If the study is no grid.
        DataError, MachineError: When it cannot start; nothing was started then.
    """
    with Heard().listening() as heard:
        try:
            return _work(run, request, place, slots, task, heard, say)
        except _Ended:
            return ENDED


def _work(run: RunFolder, request: Request, place: Place, slots: int, task: int, heard: Heard, say: Say) -> int:
    from sweeps.planning import plan
    from sweeps.runs import provenance
    from sweeps.runs.execute import known_failures, prepare
    from sweeps.runs.record_writer import Projector

    ready = prepare(request, place, say)
    if ready.study.sampled:
        raise UsageError(
            f"{request.study} draws its cells from what earlier ones gave, which needs one driver; an array has none. "
            "Use --on slurm, or --on slurm-gang."
        )
    place.prepare()
    run.prepare()
    store = ready.store
    graph, _, _ = plan.build_graph(ready.resolved, ready.data["fingerprint"], store)
    known_failures(graph, store)
    if not graph.finished:
        machine = TaskMachine.given(slots)
        uses_gpus = request.gpus if request.gpus is not None else len(machine.devices)
        needs = parse(request.needs, ready.study.recipe.roles, request.gpu_share if uses_gpus else 0.0)
        gpus = f", GPUs {','.join(machine.devices)}" if machine.devices else ""
        left = sum(graph.counts[state] for state in OPEN)
        say(f"Task {task} of {run.id}: {left} of {len(graph.nodes)} stages left, {slots} cores{gpus}.")
        projector = Projector(run, ready.study.name, ready.data["name"], store, graph)
        loop = Task(run, graph, store, projector, machine, needs, provenance.revision(), heard, say)
        code = loop.run()
        say(f"Task {task} trained {loop.trained} stages.")
        if code is not None:
            return code
    return _conclude(run, request, place, graph, say)


def _conclude(run: RunFolder, request: Request, place: Place, graph: StageGraph, say: Say) -> int:
    """Bring journal, records and report up to the store, unless another task does."""
    from sweeps.runs.execute import conduct

    failed = graph.in_state("failed")
    for node in failed[:10]:
        say(f"failed  {node.role} {node.key}: {node.why[:200]}  log: {run.stage_log(node.role, node.key)}")
    code = 1 if failed else 0
    if _waited_for_another(run) and _is_reported(run):
        return code
    until = time.monotonic() + LATE_FILES_SECONDS
    while True:
        try:
            outcome = conduct(request, place, say, quiet=True, run_id=run.id, train=False)
        except UsageError:
            return code  # Another task was faster.
        if outcome.message:
            say(outcome.message)
        # A listing may show stages of other nodes late.
        if outcome.code != STOPPED or time.monotonic() > until:
            return outcome.code
        time.sleep(5)


def _waited_for_another(run: RunFolder) -> bool:
    observer = LeaseObserver()
    until = time.monotonic() + LEASE_SILENCE_SECONDS + 10
    waited = False
    while run.is_driven(observer) and time.monotonic() < until:
        waited = True
        time.sleep(LOOK_SECONDS)
    return waited


def _is_reported(run: RunFolder) -> bool:
    """Whether the report is younger than every record."""
    try:
        newest = max((entry.stat().st_mtime for entry in os.scandir(run.records)), default=0.0)
        return (run.path / "report" / "index.html").stat().st_mtime >= newest
    except OSError:
        return False
