"""`scale`: more workers for a run on SLURM, or fewer."""

from __future__ import annotations

import click

from sweeps.commands.flags import json_flag, place_flags, run_argument
from sweeps.commands.output import answer, say_lines


@click.command()
@run_argument
@click.option("--workers", type=int, required=True, metavar="N", help="Workers the run shall have.")
@click.option("--profile", metavar="NAME", help="Profile of the new ones [default: the first of the run].")
@place_flags
@json_flag
def scale(
    run: str | None, workers: int, profile: str | None, out: str | None, store: str | None, as_json: bool
) -> None:
    """Give a living run on SLURM more workers, or fewer."""
    from sweeps.engine.submitted import scale as change
    from sweeps.runs.folder import Place, find_run

    place = Place.of(out, store)
    folder = find_run(place, run)
    lines = change(folder, workers, place.of_run(folder), profile)
    answer({"run": folder.id, "workers": workers, "done": lines}, as_json, lambda: say_lines(lines))
