"""`show`: what a study would do."""

from __future__ import annotations

from typing import Any

import click

from sweeps.commands.flags import json_flag, place_flags, study_argument, study_flags
from sweeps.commands.output import narrate
from sweeps.commands.requests import request_of_words


@click.command()
@study_argument
@study_flags
@place_flags
@click.option("--cells", is_flag=True, help="List every cell.")
@click.option("--measure", is_flag=True, help="Pack the data and time the frozen networks here, for a better forecast.")
@json_flag
def show(
    study: str, out: str | None, store: str | None, cells: bool, measure: bool, as_json: bool, **words: Any
) -> None:
    """What a study would do: cells, stages, cost, detectable gain. Starts nothing."""
    from sweeps.commands.plan_words import say_plan
    from sweeps.runs.continuation import continued
    from sweeps.runs.folder import Place
    from sweeps.runs.prepare import prepare

    request = request_of_words(study, **words)
    place = continued(request, Place.of(out, store), narrate)
    # Which images are trained on, and so what is timed, only the packed data tell.
    ready = prepare(request, place, narrate, pack=measure)
    say_plan(ready, place, cells=cells, as_json=as_json, measure=measure)
