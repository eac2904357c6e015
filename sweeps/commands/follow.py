"""Following a run that was submitted to its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from sweeps.commands.output import narrate

if TYPE_CHECKING:
    from sweeps.runs.folder import Place, RunFolder

FOLLOW_SECONDS = 2.0
QUEUE_SECONDS = 10.0
SAY_SECONDS = 60.0


def follow(run: RunFolder, place: Place, *, quiet: bool) -> int:
    """Wait for a run's end, a line a minute; its exit code."""
    from sweeps.engine.cluster import rendezvous_of

    rendezvous = rendezvous_of(run)
    began = said = queue_seen = time.monotonic()
    try:
        while True:
            over = rendezvous.over()
            if over is not None:
                return int(over.get("code", 1))
            now = time.monotonic()
            if now - queue_seen > QUEUE_SECONDS:
                queue_seen = now
                code = _code_without_jobs(run, place)
                if code is not None:
                    return code
            if not quiet and now - said > SAY_SECONDS:
                said = now
                _say_how_far(run, place, int(now - began) // 60)
            time.sleep(FOLLOW_SECONDS)
    except KeyboardInterrupt:
        narrate(f"\nNot followed any more; {run.id} goes on. Watch: {run.again('status', store=place.store)}")
        raise click.exceptions.Exit(130) from None


def _code_without_jobs(run: RunFolder, place: Place) -> int | None:
    """The exit code of a run that has no job in the queue any more; None while it has one."""
    from slurm.errors import ClusterError
    from slurm.queue import of
    from sweeps.engine.cluster import rendezvous_of

    rendezvous = rendezvous_of(run)
    try:
        if any(job.living for job in of(rendezvous.jobs())):
            return None
    except ClusterError as error:
        narrate(f"SLURM cannot be asked: {error}")
        return None
    # The end is written before the job leaves the queue, but may be seen after it.
    time.sleep(5)
    over = rendezvous.over()
    if over is not None:
        return int(over.get("code", 1))
    if _is_through(run, place):
        return 0
    narrate(f"No job of {run.id} is in the queue any more. Resume: {run.again('resume', store=place.store)}")
    return 1


def _say_how_far(run: RunFolder, place: Place, minutes: int) -> None:
    from sweeps.runs.status import look
    from trainables.store.artifacts import Store

    view = look(run, Store(place.store))
    done, total = (sum(row[name] for row in view["stages"].values()) for name in ("done", "total"))
    narrate(f"{minutes} min  {done}/{total} stages, {len(view['running'])} running, {len(view['failed'])} failed")


def _is_through(run: RunFolder, place: Place) -> bool:
    """Whether every stage of a run is in the store."""
    from trainables.store.artifacts import Store

    present = Store(place.store).keys()
    keys = {key for trial in run.read().get("trials", ()) for key in trial["stages"].values()}
    return bool(keys) and keys <= present
