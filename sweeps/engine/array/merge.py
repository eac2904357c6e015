"""The end of an array: whoever sees the last stage done writes journal, records and report."""

from __future__ import annotations

import os
import time

from sweeps.engine.array.signals import STOPPED
from sweeps.engine.array.task import LOOK_SECONDS
from sweeps.engine.machines import LATE_FILES_SECONDS
from sweeps.planning.graph import StageGraph
from sweeps.planning.request import Request
from sweeps.runs.execute import execute
from sweeps.runs.folder import Place, RunFolder, Say
from trainables.errors import UsageError
from trainables.store.leases import LEASE_SILENCE_SECONDS, LeaseObserver


def conclude(run: RunFolder, request: Request, place: Place, graph: StageGraph, say: Say) -> int:
    """Bring journal, records and report up to the store, unless another task does."""
    failed = graph.in_state("failed")
    for node in failed[:10]:
        say(f"failed  {node.role} {node.key}: {node.why[:200]}  log: {run.stage_log(node.role, node.key)}")
    code = 1 if failed else 0
    if _waited_for_another(run) and _is_reported(run):
        return code
    until = time.monotonic() + LATE_FILES_SECONDS
    while True:
        try:
            outcome = execute(request, place, say, quiet=True, run_id=run.id, train=False)
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
