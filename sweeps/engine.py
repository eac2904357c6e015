"""The engine: hands the stages of a graph to Ray Tune as soon as their parents' artifacts exist.

The disk is the truth. A Tune run is started afresh over what the store lacks; nothing of Ray's is ever restored.
Failures are answered here: Tune never retries, the searcher gives the stage again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sweeps.graph import StageGraph, StageNode
from sweeps.guard import Guard
from sweeps.runs import RunFolder, private_temp
from trainables.artifacts import Lease, LeaseObserver, Store, process_start
from trainables.errors import MachineError, is_disk_full
from trainables.spec import to_plain
from trainables.stages.base import LOST, verdict

OBJECT_STORE_BYTES = 80 * 1024 * 1024  # Trials pass only paths; this is the least Ray accepts.
LOOK_ELSEWHERE_SECONDS = 1.0
IDLE_DRAINED_SECONDS = 0.6


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
    slots: int
    running: dict[str, str] = field(default_factory=dict)  # Trial id -> key.
    draining: bool = False
    halted: str = ""  # Why everything must end now, e.g. a full disk.
    lock: threading.RLock = field(default_factory=threading.RLock)
    pids: dict[str, int] = field(default_factory=dict)
    trained: int = 0
    guard: Guard | None = None  # Kept open when the run ended early.

    @property
    def ended_early(self) -> bool:
        """Whether the run was drained or halted."""
        return self.draining or bool(self.halted)


class StageQueue:
    """The searcher's logic without Ray: what to run next and what became of it."""

    def __init__(
        self, state: EngineState, store: Store, run: RunFolder, listener: Listener, *, revision: str, gpu_share: float
    ) -> None:
        self.state, self.store, self.run, self.listener = state, store, run, listener
        self.revision, self.gpu_share = revision, gpu_share
        self.observer = LeaseObserver()
        self._looked = 0.0
        self._finished = False

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """An order for a stage, "FINISHED", or None for "not yet"."""
        state = self.state
        with state.lock:
            if self._finished or state.draining or state.halted:
                self._finished = True
                return "FINISHED"
            # One more than there are slots: the next stage is there when one ends, and no more.
            if len(state.running) > state.slots:
                self._look_elsewhere()
                return None
            node = state.graph.next_ready()
            if node is None and len(state.running) < state.slots and self.listener.more():
                node = state.graph.next_ready()
            if node is None:
                self._look_elsewhere()
                node = state.graph.next_ready()
            if node is None:
                if state.graph.finished and self.listener.exhausted():
                    self._finished = True
                    return "FINISHED"
                return None
            state.graph.hand_out(node.key)
            state.running[trial_id] = node.key
            return self.order(node)

    def broke(self, error: Exception) -> None:
        """A hook raised: end the run rather than let Tune spin; what is published stays."""
        logging.getLogger("sweeps").exception("a hook of the searcher failed", exc_info=error)
        self.state.halted = (
            str(error) if is_disk_full(error) else f"an unexpected {type(error).__name__} in the engine: {error}"
        )

    def order(self, node: StageNode) -> dict[str, Any]:
        """Everything a worker needs to run a stage."""
        spec = node.spec
        needs = {name.upper(): amount for name, amount in spec.resources().items() if name in ("cpu", "gpu")}
        if self.gpu_share and spec.kind != "sleep":
            needs["GPU"] = self.gpu_share
        return {
            "key": node.key,
            "kind": spec.kind,
            "spec": to_plain(spec),
            "parents": dict(node.parents),
            "resources": needs,
            "store": str(self.store.root),
            "run": self.run.id,
            "stop_file": str(self.run.stop_file),
            "log_file": str(self.run.stage_log(node.role, node.key)),
            "every_epoch": node.scout_of is not None,
            "revision": self.revision,
            "umask": _umask(),
        }

    def _look_elsewhere(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_ELSEWHERE_SECONDS:
            return
        self._looked = now
        for node in self.state.graph.in_state("elsewhere"):
            if self.store.has(node.key):
                self._done(node)
            elif not self.store.held_elsewhere(node.key, self.observer):
                self._judge(node)

    def _done(self, node: StageNode) -> None:
        self.state.graph.set(node.key, "done")
        self.listener.stage_done(node)

    def _judge(self, node: StageNode) -> None:
        """Give a stage out again, or end it, by what its failures say."""
        why = verdict(self.store.failures(node.key))
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
            if key is None or result.get("done"):
                return False  # What has ended cannot be pruned any more.
            node = state.graph.nodes[key]
            for epoch, value in result.get("values") or ():
                if self.listener.stage_value(node, int(epoch), float(value)):
                    state.graph.set(key, "pruned")
                    return True
            return False

    def complete(self, trial_id: str, result: dict[str, Any] | None, error: bool) -> None:
        """A trial ended: by its outcome, by pruning or by the loss of its process."""
        state = self.state
        with state.lock:
            key = state.running.pop(trial_id, None)
            if key is None:
                return
            node = state.graph.nodes[key]
            if node.state == "pruned":
                return
            outcome = (result or {}).get("outcome", "running")
            if self.store.has(key):
                state.trained += 1
                self._done(node)
            elif outcome == "disk_full":
                state.halted = str((result or {}).get("message", "the disk is full"))
                state.graph.set(key, "ready")
            elif outcome == "failed":
                self._judge(node)
            elif outcome == "elsewhere":
                state.graph.set(key, "elsewhere")
            elif outcome == "stopped" or state.draining or state.halted:
                state.graph.set(key, "ready")
            else:
                newest = next(iter(self.store.checkpoints(key)), None)
                with contextlib.suppress(Exception):
                    self.store.write_failure(
                        key,
                        {
                            "type": LOST,
                            "message": "the process training it was killed" if error else "the trial ended early",
                            "epoch": newest[1] if newest else 0,
                            "time": time.time(),
                        },
                    )
                self._judge(node)


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
    slots: int,
    revision: str,
    gpus: int = 0,
    gpu_share: float = 1.0,
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
        slots: Cores to use.
        revision: Of the code.
        gpus: GPUs to offer; each stage takes `gpu_share` of one.
        gpu_share: See gpus.
        display: Shown the state about five times a second, from our own thread.
        resume_line: Printed when the run is stopped.

    Raises:
        MachineError: If Ray cannot start or dies.
    """
    state = EngineState(graph, slots)
    queue = StageQueue(state, store, run, listener, revision=revision, gpu_share=gpu_share if gpus else 0.0)
    resources_fit(graph, slots)
    _look_at_file_limit()
    run.stop_file.unlink(missing_ok=True)
    with private_temp() as temp, _quiet(run.logs / "driver.log") as terminal:
        if display:
            display.start(state, terminal)
        guard = Guard(temp)
        watch = Watch(state, run, terminal, display, resume_line, driver, guard)
        watch.start()
        try:
            with _ray(temp, slots, gpus, state, driver):
                _fit(queue, state, temp)
        finally:
            watch.finish()
            if display:
                display.stop()
            if state.ended_early:
                # Somebody waits for the prompt. Closing Ray in order takes seconds and saves nothing: the guard ends
                # it when this process does.
                guard.tell()
                state.guard = guard
            else:
                guard.close()
    return state


def _look_at_file_limit() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if soft != resource.RLIM_INFINITY and soft < OBJECT_STORE_BYTES:
        raise MachineError(
            f"Files of at least {OBJECT_STORE_BYTES >> 20} MiB must be allowed for Ray to start, but `ulimit -f` allows "
            f"{soft / 2**20:.1f} MiB. Raise it; what is finished is kept and the same command carries on."
        )


def _token_file(temp: Path) -> Path:
    """A token of this run alone, readable by its user alone."""
    path = temp / "token"
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(32))
    return path


@contextlib.contextmanager
def _ray(temp: Path, slots: int, gpus: int, state: EngineState, driver: Lease) -> Iterator[None]:
    """A private Ray on this machine: token, no dashboard, no statistics, no log spam."""
    for name in ("RAY_ADDRESS", "RAY_RUNTIME_ENV_HOOK", "RAY_AUTH_TOKEN"):
        os.environ.pop(name, None)
    root = str(Path(__file__).resolve().parent.parent)
    paths = [root, *[p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and p != root]]
    os.environ.update(
        {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(_token_file(temp)),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "RAY_DEDUP_LOGS": "0",
            "RAY_worker_niceness": "0",  # Ray's own 15 would let every other process go before the stages.
            "RAY_TMPDIR": str(temp / "r"),
            "TUNE_DISABLE_SIGINT_HANDLER": "1",
            "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
            "TUNE_MAX_PENDING_TRIALS_PG": "256",
            "TUNE_GLOBAL_CHECKPOINT_S": "86400",
            "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
            "TUNE_RESULT_BUFFER_LENGTH": "1",
            "RAY_AIR_NEW_OUTPUT": "0",
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(paths),
        }
    )
    try:
        import ray

        ray.init(
            num_cpus=slots,
            num_gpus=gpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=str(temp / "r"),  # Ray opens its folder to everybody; ours around it stays closed.
            _node_ip_address="127.0.0.1",
            configure_logging=True,
        )
    except Exception as error:
        raise MachineError(
            f"Ray must start on this machine, but: {str(error)[:500]}. `python -m sweeps doctor` looks for the reason."
        ) from error
    try:
        state.pids = _ray_pids()
        driver.update(pids=state.pids)
        yield
    finally:
        state.pids = {}  # From here on a vanished raylet is no news.
        if not state.ended_early:
            with contextlib.suppress(Exception):
                ray.shutdown()
        driver.update(pids={})


def _ray_pids() -> dict[str, int]:
    """Pids of the raylet and the GCS we started."""
    found = {}
    with contextlib.suppress(OSError):
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError, IndexError, ValueError):
                text = Path(entry.path, "stat").read_text()
                name = text[text.index("(") + 1 : text.rindex(")")]
                parent = int(text.rsplit(")", 1)[1].split()[1])
                if parent == os.getpid() and name in ("raylet", "gcs_server"):
                    found[name] = int(entry.name)
    return found


def _fit(queue: StageQueue, state: EngineState, temp: Path) -> None:
    from ray.tune import CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner

    from sweeps.searcher import GraphSearcher, PruningScheduler
    from trainables.tune import StageTrainable

    logging.getLogger("ray").setLevel(logging.ERROR)
    tuner = Tuner(
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
            storage_path=str(temp / "tune"),
            failure_config=FailureConfig(max_failures=0),
            checkpoint_config=CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    except Exception as error:
        if state.draining or state.halted:
            return
        raise MachineError(f"Ray Tune must run to its end, but: {str(error)[:500]}") from error


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
        self._finished = threading.Event()
        self._presses = 0
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[0], False)
        os.set_blocking(self._pipe[1], False)
        self._old: dict[int, Any] = {}

    def start(self) -> None:
        """Take over the signals, then run."""
        if threading.current_thread() is threading.main_thread():
            # The C handler writes to the pipe at once, even while the main thread sits inside Ray.
            self._old_wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            for number in (signal.SIGINT, signal.SIGTERM):
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
            with contextlib.suppress(BlockingIOError):
                for number in os.read(self._pipe[0], 64):
                    if number in (signal.SIGINT, signal.SIGTERM):
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
                    self._end_now()
            content = _stop_content(self.run_folder)
            if content.get("now"):
                self._end_now()
            if self.state.halted and not self.run_folder.stop_file.exists():
                with contextlib.suppress(OSError):
                    self.run_folder.stop_file.write_text("{}")
            raylet = self.state.pids.get("raylet")
            if raylet and not process_start(raylet):
                self.say("Ray's raylet was killed; this run ends here and loses nothing but the epochs in flight.")
                self._end_now(code=1)
            if not self.driver.is_mine():
                self.say("Another process drives this run now; this one leaves.")
                self._end_now(code=1)
            if time.monotonic() - self._told > 1.0:
                self._told = time.monotonic()
                self.guard.tell()
            if self.display:
                with contextlib.suppress(Exception):
                    self.display.tick(self.state)

    def say(self, line: str) -> None:
        """A line for the person, whatever happens to stdout."""
        with contextlib.suppress(Exception):
            if self.display:
                self.display.say(line)
            else:
                self.terminal.write(line + "\n")
                self.terminal.flush()

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
        self.guard.tell()
        self.guard.close()
        self.driver.release()
        os._exit(code)


def _stop_content(run: RunFolder) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        value = json.loads(run.stop_file.read_text())
        return value if isinstance(value, dict) else {}
    return {}


@contextlib.contextmanager
def _quiet(log: Path) -> Iterator[Any]:
    """Send what Ray prints, from Python and from C++, to the log; yields the real terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    keep_out, keep_err = os.dup(1), os.dup(2)
    terminal = os.fdopen(os.dup(2), "w", buffering=1)
    target = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
    old = sys.stdout, sys.stderr
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
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
        terminal.close()
