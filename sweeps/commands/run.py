"""`run`: run a study, or continue it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sweeps.commands.execution import begin, only_with_slurm
from sweeps.commands.flags import cluster_flags, json_flag, place_flags, study_argument, study_flags
from sweeps.commands.output import narrate
from sweeps.commands.requests import request_of_words
from sweeps.commands.submit import say_jobs
from trainables.errors import DataError

if TYPE_CHECKING:
    from sweeps.planning.request import Request
    from sweeps.runs.folder import Place


@click.command()
@study_argument
@study_flags
@place_flags
@cluster_flags
@click.option("--jobs", type=int, metavar="N", help="Cores to use [default: all this process may use].")
@click.option("--gpus", type=int, metavar="N", help="GPUs to use [default: all found].")
@click.option("--gpu-share", type=click.FloatRange(0.01, 1.0), default=1.0, help="Share of a GPU a stage takes.")
@click.option("--new", is_flag=True, help="Start another run instead of continuing the same one.")
@click.option("--dry-run", is_flag=True, help="Check everything, print the plan, start nothing.")
@click.option("--no-report", is_flag=True, help="Train and record only; `report` writes the page later.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@json_flag
def run(
    study: str,
    out: str | None,
    store: str | None,
    dry_run: bool,
    no_report: bool,
    quiet: bool,
    as_json: bool,
    wait: bool,
    **words: Any,
) -> None:
    """Run a study, or continue it: the same command trains only what is missing."""
    from sweeps.runs.continuation import continued
    from sweeps.runs.folder import Place

    request = request_of_words(study, **words)
    only_with_slurm(request, wait)
    place = continued(request, Place.of(out, store), narrate)
    if dry_run:
        _dry_run(request, place, as_json)
        return
    begin(request, place, as_json=as_json, quiet=quiet, no_report=no_report, wait=wait)


def _dry_run(request: Request, place: Place, as_json: bool) -> None:
    from sweeps.commands.plan_words import say_plan
    from sweeps.engine.submission import dry_run, plan_submission
    from sweeps.runs.prepare import prepare

    submission = None
    if request.on == "local":
        ready = prepare(request, place, narrate, pack=False)
    else:
        submission = plan_submission(request, place, narrate, pack=False)
        ready = submission.ready
    if ready.missing_data:
        raise DataError(ready.missing_data)
    more: dict[str, Any] = {}
    if submission is not None and as_json:
        more["jobs"] = [
            {"role": o.role, "count": len(o.tasks), "nodes": o.nodes, "profile": o.profile.as_dict(), "script": text}
            for o, text in dry_run(submission)
        ]
    say_plan(ready, place, as_json=as_json, more=more)
    if submission is not None and not as_json:
        say_jobs(submission)
    narrate("Nothing was started (dry run).")
