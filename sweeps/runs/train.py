"""Training what a run lacks: the engine, what it is shown by, and what it is told of the machine."""

from __future__ import annotations

from sweeps.engine import ray_tune, resources, temp_room
from sweeps.engine.eta import StageSeconds
from sweeps.engine.machines import LocalMachine, Machine
from sweeps.engine.progress import Progress
from sweeps.planning import cost
from sweeps.runs.folder import RunFolder
from sweeps.runs.listeners import Begun
from sweeps.runs.machine import find_gpus, slots_of
from sweeps.runs.outcome import Training
from sweeps.runs.prepare import Prepared
from trainables.data.packed import open_packed
from trainables.store.leases import Lease


def train(
    ready: Prepared,
    run: RunFolder,
    begun: Begun,
    driver: Lease,
    *,
    machine: Machine | None,
    revision: str,
    quiet: bool,
) -> Training:
    """Train every open stage.

    Args:
        ready: What was asked.
        run: Its folder.
        begun: Its stages and who listens to them.
        driver: The lock under which we run.
        machine: Where stages run; without one, this machine.
        revision: Of the code.
        quiet: Whether no progress is shown.

    Raises:
        MachineError: If Ray cannot start or dies.
    """
    temp_room.check()
    request = ready.request
    gpus = request.gpus if request.gpus is not None else find_gpus()
    slots = slots_of(request)
    where = f"{'GPU' if gpus else 'CPU'}, {slots} at a time" if machine is None else f"{request.on}, as workers join"
    state = ray_tune.execute(
        begun.graph,
        ready.store,
        run,
        begun.cells,
        driver=driver,
        machine=machine or LocalMachine(slots, gpus),
        resources=resources.parse(request.needs, ready.study.recipe.roles, request.gpu_share if gpus else 0.0),
        revision=revision,
        display=_progress(ready, begun, where, quiet=quiet),
        resume_line=f"Resume: {run.again('resume', store=ready.store.root)}",
    )
    return Training(state.trained, state.halted, state.draining, state.warned)


def _progress(ready: Prepared, begun: Begun, where: str, *, quiet: bool) -> Progress:
    resolved, store, cells = ready.resolved, ready.store, begun.cells
    title = (
        f"{ready.study.name} · {resolved.preset_name}: {resolved.cell_count} cells x {len(resolved.seeds)} seeds on "
        f"{ready.data['name']}, {where}"
    )
    packed = open_packed(ready.info.path) if ready.info is not None else None
    seconds_of = StageSeconds(begun.graph, ready.data, packed, cost.measured_rates(store, store.keys()))
    return Progress(title, lambda: cells.leader, quiet, seconds_of, ready.survey.seconds, cells.exhausted)
