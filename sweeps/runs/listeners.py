"""Who listens to the stages of a run: Optuna's cells, and the records."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sweeps.engine.sampling.grid import GridCells
from sweeps.engine.sampling.sampled import SampledCells
from sweeps.planning.cells import Cell
from sweeps.planning.graph import StageGraph, StageNode
from sweeps.planning.planner import Trial
from sweeps.runs.folder import RunFolder, Say
from sweeps.runs.open_stages import forget_failures, write_grid
from sweeps.runs.prepare import Prepared
from sweeps.runs.record_writer import RecordWriter
from sweeps.runs.run_content import cell_row, register
from trainables.errors import SweepsError


@dataclass(frozen=True)
class Begun:
    """A run whose cells and stages are known, as far as they can be before it trains."""

    graph: StageGraph
    cells: GridCells | SampledCells
    records: RecordWriter


def begin(
    ready: Prepared,
    run: RunFolder,
    content: dict[str, Any],
    before: dict[str, Any],
    say: Say,
    *,
    retry_failed: bool,
) -> Begun:
    """Write run.json, and tell Optuna and the records of what the store has.

    Args:
        ready: What was asked.
        run: Its folder.
        content: What run.json is to say; cells and trials are added.
        before: What it said.
        say: Tells the person what was mended.
        retry_failed: Whether stages that failed for good start anew.
    """
    start = _begin_sampled if ready.study.sampled else _begin_grid
    return start(ready, run, content, before, say, retry_failed)


def _begin_grid(
    ready: Prepared, run: RunFolder, content: dict[str, Any], before: dict[str, Any], say: Say, retry_failed: bool
) -> Begun:
    graph, trials, cells = write_grid(ready, run, content, before, retry_failed=retry_failed)
    records = RecordWriter(
        run, ready.study.name, ready.data["name"], ready.store, graph, teacher=ready.study.recipe.teacher
    )
    listener = GridCells(
        ready.resolved, cells, trials, graph, ready.store, run.journal, run.id, _recording(records), say=say
    )
    return Begun(graph, listener, records)


def _begin_sampled(
    ready: Prepared, run: RunFolder, content: dict[str, Any], before: dict[str, Any], say: Say, retry_failed: bool
) -> Begun:
    graph, store = StageGraph(), ready.store
    records = RecordWriter(run, ready.study.name, ready.data["name"], store, graph, teacher=ready.study.recipe.teacher)

    def on_cells(cells: list[Cell], trials: list[Trial]) -> None:
        content["cells"] = [cell_row(cell, None) for cell in cells]
        content["trials"] = [vars(trial) for trial in trials]
        run.write(content)
        register(store, run, content)

    run.write(content)
    register(store, run, content)
    if retry_failed:
        forget_failures(store, before)
    listener = SampledCells(
        ready.plan, graph, store, run.journal, run.id, _recording(records), on_cells, known=before, say=say
    )
    return Begun(graph, listener, records)


def _recording(records: RecordWriter) -> Callable[[StageNode], None]:
    def record(node: StageNode) -> None:
        try:
            records.write(node)
        except SweepsError as error:
            sys.stderr.write(f"{error}\n")

    return record
