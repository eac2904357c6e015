"""The one act behind `run` and `resume`: plan, leave out what the store has, train the rest, record, report.

Starting, resuming and extending are the same. If nothing is left, Ray is not started.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os

from sweeps.engine.machines import LATE_FILES_SECONDS, Machine
from sweeps.planning.request import Request
from sweeps.runs import plugin_files, provenance
from sweeps.runs.folder import Place, RunFolder, Say, stop_content
from sweeps.runs.machine import check_room, slots_of
from sweeps.runs.open_stages import known_failures
from sweeps.runs.outcome import Outcome, Training, outcome_of
from sweeps.runs.prepare import Prepared, prepare
from sweeps.runs.reporting import record_lines
from sweeps.runs.run_content import content_before, describe, plugins_of
from trainables.errors import SweepsError
from trainables.store.leases import Lease


def execute(
    request: Request,
    place: Place,
    say: Say,
    *,
    retry_failed: bool = False,
    quiet: bool = False,
    report: bool = True,
    run_id: str | None = None,
    machine: Machine | None = None,
    train: bool = True,
) -> Outcome:
    """Do what was asked and return what became of it.

    Args:
        request: What was asked.
        place: Where runs and store live.
        say: Tells the person what takes time.
        retry_failed: Whether stages that failed for good start anew.
        quiet: Whether no progress is shown.
        report: Whether the page is written at the end.
        run_id: The run to continue, when it is known.
        machine: Where stages run; without one, this machine.
        train: Whether missing stages are trained; without that the run is only brought up to what the store has.

    Raises:
        UsageError, DataError, MachineError: When it cannot start; nothing was started then.
    """
    ready = prepare(request, place, say)
    run = run_folder(ready, place, run_id)
    # On a cluster the last driver may have died on another machine, which only its silence tells.
    patience = machine.lock_patience if machine is not None else (0.0 if train else LATE_FILES_SECONDS)
    driver = run.drive(patience=patience, say=say, slots=slots_of(request), job=os.environ.get("SLURM_JOB_ID", ""))
    try:
        return _driven(
            ready,
            run,
            driver,
            say,
            retry_failed=retry_failed,
            quiet=quiet,
            report=report,
            machine=machine,
            trains=train,
        )
    finally:
        driver.release()


def run_folder(ready: Prepared, place: Place, run_id: str | None) -> RunFolder:
    """The run a request is or continues, its folders made."""
    place.prepare()
    identity = run_id or ready.run_id
    if ready.request.new and run_id is None:
        base, number = identity, 2
        while (place.runs / identity).exists():
            identity = f"{base}-{number}"
            number += 1
    run = RunFolder(place.runs / identity)
    check_room(ready.store.root, ready.survey.bytes, "This plan")
    run.prepare()
    plugin_files.keep(run, plugins_of(ready))
    return run


def _driven(
    ready: Prepared,
    run: RunFolder,
    driver: Lease,
    say: Say,
    *,
    retry_failed: bool,
    quiet: bool,
    report: bool,
    machine: Machine | None,
    trains: bool,
) -> Outcome:
    """The act itself, under the driver's lock."""
    from sweeps.runs.listeners import begin  # Optuna takes a second to import.

    before = content_before(run, say)
    revision = provenance.revision()
    if machine is None:
        # On a cluster that was done at the submission: a stop may be meant for us.
        run.stop_file.unlink(missing_ok=True)
    content = describe(ready, run, before, revision)
    begun = begin(ready, run, content, before, say, retry_failed=retry_failed)
    known_failures(begun.graph, ready.store)
    unfinished = not (begun.graph.finished and begun.cells.exhausted())
    training = Training()
    if unfinished and trains:
        from sweeps.runs.train import train

        training = train(ready, run, begun, driver, machine=machine, revision=revision, quiet=quiet)
    goes_on = machine is not None and training.warned and stop_content(run).get("warned")
    with contextlib.suppress(OSError):
        run.stop_file.unlink(missing_ok=True)
    try:
        begun.records.write_missing()
    except (OSError, SweepsError) as error:
        training = dataclasses.replace(training, halted=training.halted or str(error))
    for line in record_lines(begun.records):
        say(line)
    return outcome_of(
        run,
        ready.store.root,
        begun.graph,
        training,
        begun.records.damaged,
        complete=trains or not unfinished,
        lost_code=machine.lost_code if machine is not None and goes_on else None,
        report=report,
    )
