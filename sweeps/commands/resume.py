"""`resume`: continue a run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from sweeps.commands.execution import begin, only_with_slurm
from sweeps.commands.flags import MODES, json_flag, place_flags, run_argument
from trainables.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from sweeps.planning.request import Request


@click.command()
@run_argument
@click.option("--retry-failed", is_flag=True, help="Give failed stages a new start.")
@click.option("--no-report", is_flag=True, help="Train and record only; `report` writes the page later.")
@click.option("--on", metavar="WHERE", help="local, slurm, slurm-gang or slurm-array [default: as it was begun].")
@click.option("--workers", type=int, metavar="N", help="SLURM: nodes that train, at most.")
@click.option("--wait", is_flag=True, help="SLURM: follow the run to its end.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option(
    "--plugins", multiple=True, metavar="PATH", help="More plug-ins; those of the run are taken from its own copies."
)
@place_flags
@json_flag
def resume(
    run: str | None,
    plugins: tuple[str, ...],
    retry_failed: bool,
    no_report: bool,
    on: str | None,
    workers: int | None,
    wait: bool,
    quiet: bool,
    out: str | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Continue a run: plan again, leave out what the store has, train the rest."""
    from sweeps.runs import plugin_files
    from sweeps.runs.continuation import request_of
    from sweeps.runs.folder import Place, find_run

    place = Place.of(out, store)
    folder = find_run(place, run)
    request = request_of(folder, folder.read())
    plugin_files.load_more(folder, plugins)
    request = _in_its_place(request, on, workers, wait)
    if workers is not None:
        request = _with_workers(request, folder.id, workers)
    only_with_slurm(request, wait)
    begin(
        request,
        place.of_run(folder),
        as_json=as_json,
        quiet=quiet,
        no_report=no_report,
        wait=wait,
        retry_failed=retry_failed,
        run_id=folder.id,
    )


def _in_its_place(request: Request, on: str | None, workers: int | None, wait: bool) -> Request:
    """The request where it goes on: without what was said of another place.

    Raises:
        UsageError: If there is no such place.
    """
    if on is not None:
        if on not in MODES:
            raise UsageError(f"--on takes {', '.join(MODES)}, got '{on}'.{did_you_mean(on, MODES)}")
        if on != request.on:
            request = replace(request, on=on, gpus=None, jobs=None)
    if request.on != "local":
        return replace(request, gpus=None, jobs=None)  # The profiles say it.
    if workers is None and not wait:
        return replace(request, workers=None, profiles=[], slurm=[])
    return request


def _with_workers(request: Request, run_id: str, workers: int) -> Request:
    if len(request.profiles) > 1:
        raise UsageError(
            f"{run_id} has {len(request.profiles)} profiles, so --workers cannot say how many of each. "
            "Give the run command again with --profile NAME:N."
        )
    return replace(request, workers=workers, profiles=[word.partition(":")[0] for word in request.profiles])
