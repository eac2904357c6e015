"""A task from its start: plan the graph as every task does, run the loop, bring the run to its end."""

from __future__ import annotations

from sweeps.engine.array.bench import TaskMachine
from sweeps.engine.array.merge import conclude
from sweeps.engine.array.signals import ENDED, EndedBySlurm, Heard
from sweeps.engine.array.task import Task
from sweeps.engine.resources import parse
from sweeps.planning.graph import OPEN
from sweeps.planning.planner import build_graph
from sweeps.planning.request import Request
from sweeps.runs import provenance
from sweeps.runs.folder import Place, RunFolder, Say
from sweeps.runs.open_stages import known_failures
from sweeps.runs.prepare import prepare
from sweeps.runs.record_writer import RecordWriter
from trainables.errors import UsageError


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
        except EndedBySlurm:
            return ENDED


def _work(run: RunFolder, request: Request, place: Place, slots: int, task: int, heard: Heard, say: Say) -> int:
    ready = prepare(request, place, say)
    if ready.study.sampled:
        raise UsageError(
            f"{request.study} draws its cells from what earlier ones gave, which needs one driver; an array has none. "
            "Use --on slurm, or --on slurm-gang."
        )
    place.prepare()
    run.prepare()
    store = ready.store
    graph, _, _ = build_graph(ready.plan, store, ready.planner)
    known_failures(graph, store)
    if not graph.finished:
        machine = TaskMachine.given(slots)
        uses_gpus = request.gpus if request.gpus is not None else len(machine.devices)
        resources = parse(request.needs, ready.study.recipe.roles, request.gpu_share if uses_gpus else 0.0)
        gpus = f", GPUs {','.join(machine.devices)}" if machine.devices else ""
        left = sum(graph.counts[state] for state in OPEN)
        say(f"Task {task} of {run.id}: {left} of {len(graph.nodes)} stages left, {slots} cores{gpus}.")
        records = RecordWriter(
            run, ready.study.name, ready.data["name"], store, graph, teacher=ready.study.recipe.teacher
        )
        loop = Task(run, graph, store, records, machine, resources, provenance.revision(), heard, say)
        code = loop.run()
        say(f"Task {task} trained {loop.trained} stages.")
        if code is not None:
            return code
    return conclude(run, request, place, graph, say)
