"""`work`, which a job calls: one task of an array."""

from __future__ import annotations

import click


@click.command(hidden=True)
@click.argument("path")
@click.option("--store", required=True)
def work(path: str, store: str) -> None:
    """One task of an array, inside its job."""
    from slurm import devices
    from slurm.array_task import SOME_FAILED
    from sweeps.engine.array.work import work as begin
    from sweeps.runs.continuation import request_of
    from sweeps.runs.folder import Place, find_run

    folder = find_run(Place.of(None, store), path)
    place = Place(folder.path.parent, Place.of(None, store).store)
    slots = max(1, devices.number("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE", default=1))
    task = devices.number("SLURM_ARRAY_TASK_ID")
    code = begin(folder, request_of(folder, folder.read()), place, slots=slots, task=task)
    raise click.exceptions.Exit(SOME_FAILED if code == 1 else code)
