"""`drive`, which a job calls: the driver of a run."""

from __future__ import annotations

import os
import sys
import time

import click

from sweeps.commands.output import narrate


@click.command(hidden=True)
@click.argument("path")
@click.option("--store", required=True)
def drive(path: str, store: str) -> None:
    """The driver of a run, inside its job."""
    from sweeps.commands.outcome import say_outcome
    from sweeps.engine.drive import drive as begin
    from sweeps.runs.folder import Place, find_run

    folder = find_run(Place.of(None, store), path)
    began = time.monotonic()
    outcome = begin(folder, Place(folder.path.parent, Place.of(None, store).store), narrate)
    say_outcome(outcome, time.monotonic() - began)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(outcome.code)  # Ray is left to the reaper when the run ended early.
