"""What `run` and `resume` share: train here, or submit; both end in the same words."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from sweeps.commands.follow import follow
from sweeps.commands.outcome import say_outcome
from sweeps.commands.output import answer, narrate
from sweeps.commands.submit import submit_and_say
from trainables.errors import UsageError

if TYPE_CHECKING:
    from sweeps.planning.request import Request
    from sweeps.runs.folder import Place
    from sweeps.runs.outcome import Outcome


def only_with_slurm(request: Request, wait: bool) -> None:
    """Refuse flags of a cluster on this machine, and of this machine on a cluster.

    Raises:
        UsageError: With the flags.
    """
    if request.on != "local":
        for flag, value in (("--jobs", request.jobs), ("--gpus", request.gpus)):
            if value is not None:
                raise UsageError(f"{flag} is for this machine; with --on {request.on} use --slurm cpus=N or gpus=N.")
        return
    of_clusters = {
        "--workers": request.workers is not None,
        "--profile": bool(request.profiles),
        "--slurm": bool(request.slurm),
        "--wait": wait,
    }
    wrong = [flag for flag, is_set in of_clusters.items() if is_set]
    if wrong:
        verb = "needs" if len(wrong) == 1 else "need"
        raise UsageError(f"{', '.join(wrong)} {verb} --on slurm, slurm-gang or slurm-array.")


def begin(
    request: Request, place: Place, *, as_json: bool, quiet: bool, no_report: bool, wait: bool, **more: Any
) -> None:
    """Train here, or submit.

    Args:
        request: What was asked.
        place: Where runs and store live.
        as_json: Whether one object is printed.
        quiet: Whether no progress is shown.
        no_report: Whether the page is left to `report`.
        wait: Whether a submitted run is followed to its end.
        more: The run to continue, and whether failed stages start anew.
    """
    quiet = quiet or as_json
    if request.on == "local":
        _execute(request, place, as_json=as_json, quiet=quiet, report=not no_report, **more)
        return
    request = dataclasses.replace(request, report=not no_report)
    run = submit_and_say(request, place, as_json=as_json, wait=wait, **more)
    if run is not None and not wait:
        return
    began = time.monotonic()
    code = follow(run, place, quiet=quiet) if run is not None else 0
    # What the store has is recorded and reported here, by the same act as on one machine.
    more = {"run_id": run.id if run is not None else more.get("run_id"), "ended": code}
    if run is not None:
        more["began"] = began  # The time that counts is that of the jobs.
        request = dataclasses.replace(request, new=False)
    _execute(request, place, as_json=as_json, quiet=True, report=not no_report, train=False, **more)


def _execute(
    request: Request,
    place: Place,
    *,
    as_json: bool,
    quiet: bool,
    ended: int = 0,
    began: float | None = None,
    **more: Any,
) -> None:
    from sweeps.runs.execute import execute

    followed = began is not None
    began = time.monotonic() if began is None else began
    outcome = execute(request, place, (lambda line: None) if quiet else narrate, quiet=quiet, **more)
    seconds = time.monotonic() - began
    if followed:
        outcome.elsewhere = "trained by the cluster's nodes"
    if ended and outcome.code in (0, 130):
        outcome.code = ended
    answer(_as_object(outcome, seconds), as_json, lambda: say_outcome(outcome, seconds))
    if outcome.ended_early:
        # Ray is left to the reaper, and so must not be closed in order at the interpreter's exit.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(outcome.code)
    if outcome.code:
        raise click.exceptions.Exit(outcome.code)


def _as_object(outcome: Outcome, seconds: float) -> dict[str, Any]:
    summary = outcome.summary
    return {
        "run": outcome.run.id,
        "path": str(outcome.run.path),
        "exit_code": outcome.code,
        "stages": outcome.counts,
        "trained": outcome.trained,
        "failures": [dict(zip(("stage", "key", "why", "log"), f, strict=True)) for f in outcome.failures],
        "unrunnable": outcome.unrunnable,
        "seconds": round(seconds, 1),
        "sentence": summary.sentence if summary else None,
        "rows": summary.rows if summary else [],
        "report": str(summary.index) if summary else None,
        "message": outcome.message or outcome.nothing or None,
    }
