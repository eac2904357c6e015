"""What is left to do: the plan as run.json keeps it, less what the store has and what failed for good."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from sweeps.planning.cells import Cell
from sweeps.planning.graph import StageGraph
from sweeps.planning.planner import Trial, build_graph
from sweeps.runs import provenance
from sweeps.runs.folder import RunFolder, Say
from sweeps.runs.prepare import Prepared
from sweeps.runs.run_content import content_before, describe, merge_trials, register
from trainables.attempts.failures import is_mendable, verdict
from trainables.store.artifacts import Store


def write_plan(ready: Prepared, run: RunFolder, *, retry_failed: bool, say: Say) -> bool:
    """Write what will be done into the run's folder, for jobs that begin later; true when nothing is left to do."""
    before = content_before(run, say)
    content = describe(ready, run, before, provenance.revision())
    if ready.study.sampled:
        run.write(content)
        register(ready.store, run, content)
        if retry_failed:
            forget_failures(ready.store, before)
        return False
    graph, _, _ = write_grid(ready, run, content, before, retry_failed=retry_failed)
    known_failures(graph, ready.store)
    return graph.finished


def write_grid(
    ready: Prepared, run: RunFolder, content: dict[str, Any], before: dict[str, Any], *, retry_failed: bool
) -> tuple[StageGraph, list[Trial], list[Cell]]:
    """Write the cells and trials of a grid into run.json; its graph, trials and cells."""
    graph, trials, cells = build_graph(ready.plan, ready.store, ready.planner)
    merge_trials(content, before, trials, cells, ready.plan)
    run.write(content)
    register(ready.store, run, content)
    if retry_failed:
        for node in graph.nodes.values():
            ready.store.forget_failures(node.key)
    return graph, trials, cells


def known_failures(graph: StageGraph, store: Store) -> None:
    """End stages whose failures, kept in the store, say that trying again cannot help.

    What lay on the disk or the machine may be mended since: such failures are forgotten, and the stage goes again.
    """
    with contextlib.suppress(OSError):
        busy = {entry.name for entry in os.scandir(store.work) if entry.is_dir()}
        for node in list(graph.nodes.values()):
            if node.key in busy and node.state in ("waiting", "ready"):
                failures = store.failures(node.key)
                why = verdict(failures)
                if why is not None and verdict([f for f in failures if not is_mendable(f)]) is None:
                    store.forget_failures(node.key)
                elif why is not None:
                    graph.set(node.key, "failed", why)


def forget_failures(store: Store, before: dict[str, Any]) -> None:
    """Forget what failed in the trials that run.json knew."""
    for trial in before.get("trials", ()):
        for key in trial["stages"].values():
            store.forget_failures(key)
