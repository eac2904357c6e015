"""The door to Ray Tune: starts Ray, hands Tune the queue, and starts Tune anew when it ended for memory.

A Tune run is started afresh over what the store lacks; nothing of Ray's is ever restored.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import resource
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slurm.reaper import Reaper
from slurm.temp import private_temp
from sweeps.engine import machines
from sweeps.engine.listener import Display, Listener
from sweeps.engine.machines import Machine
from sweeps.engine.memory_pressure import FIRST_PAUSE, LONGEST_PAUSE
from sweeps.engine.queue import StageQueue
from sweeps.engine.resources import Resources, resources_fit
from sweeps.engine.state import EngineState
from sweeps.engine.terminal import leave_closed_terminal, quietened
from sweeps.engine.watch import Watch
from sweeps.planning.graph import StageGraph
from sweeps.runs.folder import RunFolder, stop_content
from trainables.errors import MachineError
from trainables.store.artifacts import Store
from trainables.store.leases import Lease

MOST_FRUITLESS = 8  # Ends of Tune itself for memory with no stage finished between them.


def execute(
    graph: StageGraph,
    store: Store,
    run: RunFolder,
    listener: Listener,
    *,
    driver: Lease,
    machine: Machine,
    resources: Resources,
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
        resources: What they ask of it.
        revision: Of the code.
        display: Shown the state about five times a second, from our own thread.
        resume_line: Printed when the run is stopped.

    Raises:
        MachineError: If Ray cannot start or dies.
    """
    state = EngineState(graph, machine, resources)
    queue = StageQueue(state, store, run, listener, revision=revision)
    if machine.is_local:
        resources_fit(graph, machine.room({"CPU": 1.0}))
    _look_at_file_limit()
    if machine.is_local or stop_content(run).get("warned"):
        run.stop_file.unlink(missing_ok=True)
    with private_temp() as temp, quietened(run.logs / "driver.log") as terminal:
        if display:
            display.start(state, terminal)
        reaper = Reaper(temp)
        watch = Watch(state, run, terminal, display, resume_line, driver, reaper)
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
                # The prompt should come back at once. Closing Ray in order takes seconds and saves nothing: the reaper
                # ends it when this process does.
                reaper.tell()
                state.reaper = reaper
            else:
                reaper.close()
    leave_closed_terminal()
    return state


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
