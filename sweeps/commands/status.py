"""`status`: where a run is."""

from __future__ import annotations

import click

from sweeps.commands.flags import json_flag, place_flags, run_argument
from sweeps.commands.output import answer, table


@click.command()
@run_argument
@click.option("--failed", is_flag=True, help="Only what failed.")
@click.option("--all", "every", is_flag=True, help="A line for each run there is.")
@place_flags
@json_flag
def status(run: str | None, failed: bool, every: bool, out: str | None, store: str | None, as_json: bool) -> None:
    """Where a run is: coverage, running stages with their processes, failures, leader."""
    from sweeps.runs.folder import Place, find_run, list_runs
    from sweeps.runs.status import look, say
    from trainables.store.artifacts import Store

    place = Place.of(out, store)
    if every:
        views = [look(one, Store(place.of_run(one).store)) for one in list_runs(place) if one.is_readable()]
        rows = [(v["run"], v["state"], v["trials"]["done"], sum(v["trials"].values()), v["started"]) for v in views]
        answer({"runs": views}, as_json, lambda: table(rows, ("RUN", "STATE", "DONE", "TRIALS", "STARTED")))
        return
    folder = find_run(place, run)
    view = look(folder, Store(place.of_run(folder).store))
    answer(view, as_json, lambda: say(view, failed))
