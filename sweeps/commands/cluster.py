"""The commands' cluster side: submit and follow, change the size, and the hidden ones that jobs themselves call."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import click

from sweeps.commands import completion
from sweeps.commands.output import answer, json_flag, narrate, place_flags, run_argument, say_lines

FOLLOW_SECONDS = 2.0
SAY_SECONDS = 60.0


def cluster_flags(function: Any) -> Any:
    """Adds what says where a run goes."""
    modes = click.Choice(["local", "slurm", "slurm-gang", "slurm-array"])
    flags = [
        click.option("--on", type=modes, default="local", show_default=True, help="Where the stages run."),
        click.option("--workers", type=int, metavar="N", help="SLURM: nodes that train, at most [2]."),
        click.option(
            "--profile",
            "profiles",
            multiple=True,
            metavar="NAME[:N]",
            shell_complete=completion.profiles,
            help="SLURM: what a node is.",
        ),
        click.option("--slurm", multiple=True, metavar="KEY=VALUE", help="SLURM: over the profile."),
        click.option(
            "--need", "needs", multiple=True, metavar="ROLE:KEY=VALUE", help="What a stage takes: gpu, cpus, memory_gb."
        ),
        click.option("--wait", is_flag=True, help="SLURM: follow the run to its end."),
    ]
    for flag in reversed(flags):
        function = flag(function)
    return function


def submit_and_say(request: Any, place: Any, *, as_json: bool, wait: bool, **more: Any) -> Any:
    """Submit a run's jobs; the folder to follow, or None when nothing was left to train."""
    from sweeps.engine.submission import submit_run
    from sweeps.runs.folder import RunFolder

    found = submit_run(request, place, narrate, **more)
    run = RunFolder(found.path)
    if found.finished:
        narrate(f"Nothing is left to train for {run.id}, so nothing was submitted.")
        return None
    if as_json and not wait:
        answer({"run": run.id, "path": str(run.path), "jobs": found.ids, "submitted": True}, True, lambda: None)
        return run

    def text(line: str) -> None:
        narrate(line) if as_json else click.echo(line)

    for role, ids in found.ids.items():
        text(f"Submitted {role:<7} {', '.join(ids[:8])}{' ...' if len(ids) > 8 else ''}")
    text(f"{run.id}: at most {found.workers} nodes train; work begins with the first.")
    if not wait:
        text(f"Watch: {run.again('status', store=place.store)}")
        first = next(iter(found.ids))
        text(f"Logs:  {run.again('logs', f'{first}-job')}    Stop: {run.again('stop')}")
    return run


def follow(run: Any, place: Any, *, quiet: bool) -> int:
    """Wait for a run's end, a line a minute; its exit code."""
    from slurm.errors import ClusterError
    from slurm.queue import of
    from sweeps.engine.cluster import meeting_of
    from sweeps.runs.status import look
    from trainables.store.artifacts import Store

    meeting = meeting_of(run)
    said = asked = time.monotonic()
    began = said
    try:
        while True:
            over = meeting.over()
            if over is not None:
                return int(over.get("code", 1))
            now = time.monotonic()
            if now - asked > 10:
                asked = now
                try:
                    if not any(job.living for job in of(meeting.jobs())):
                        # The end is written before the job leaves the queue, but may be seen after it.
                        time.sleep(5)
                        over = meeting.over()
                        if over is not None:
                            return int(over.get("code", 1))
                        if array_is_through(run, place):
                            return 0
                        narrate(
                            f"No job of {run.id} is in the queue any more. "
                            f"Resume: {run.again('resume', store=place.store)}"
                        )
                        return 1
                except ClusterError as error:
                    narrate(f"SLURM cannot be asked: {error}")
            if not quiet and now - said > SAY_SECONDS:
                said = now
                view = look(run, Store(place.store))
                done, total = (sum(row[name] for row in view["stages"].values()) for name in ("done", "total"))
                narrate(
                    f"{int(now - began) // 60} min  {done}/{total} stages, {len(view['running'])} running, "
                    f"{len(view['failed'])} failed"
                )
            time.sleep(FOLLOW_SECONDS)
    except KeyboardInterrupt:
        narrate(f"\nNot followed any more; {run.id} goes on. Watch: {run.again('status', store=place.store)}")
        raise click.exceptions.Exit(130) from None


def array_is_through(run: Any, place: Any) -> bool:
    """Whether every stage of a run is in the store."""
    from trainables.store.artifacts import Store

    present = Store(place.store).keys()
    keys = {key for trial in run.read().get("trials", ()) for key in trial["stages"].values()}
    return bool(keys) and keys <= present


def say_dry_run(found: Any) -> None:
    """The jobs, their resources, the shape of the queue and the scripts."""
    from sweeps.engine.progress import duration
    from sweeps.engine.submission import dry_run
    from sweeps.planning import rough

    survey = found.ready.survey
    click.echo(f"\nJobs for {found.run_id} ({found.mode}):")
    for order in found.worker_jobs:
        profile = order.profile
        driver = order.role == "driver"
        cpus = profile.driver.cpus if driver else profile.cpus
        gpus = 0 if driver else profile.gpus
        memory = profile.driver.memory_gb if driver else profile.memory_gb
        minutes = (profile.driver.time_minutes or profile.time_minutes) if driver else profile.time_minutes
        count = order.nodes if order.role == "gang" else len(order.tasks)
        click.echo(
            f"  {count} x {order.role:<7} profile {profile.name} ({profile.source}): {cpus} cpus, {gpus} gpus"
            + (f", {memory:g} GB" if memory else "")
            + f", {duration(60 * minutes)}"
        )
    shape = " -> ".join(f"{count} {role}{'s' if count != 1 else ''}" for role, count in found.widths.items())
    slots = sum((o.nodes if o.role == "gang" else len(o.jobs)) * max(1, o.profile.cpus) for o in found.training)
    widest = max(found.widths.values(), default=0)
    click.echo(f"  queue shape   {shape}: at most {widest} stages side by side; {slots} cores asked for")
    click.echo(
        f"  expected      about {rough.hours(survey.gpu_seconds, 'GPU')}, or {rough.hours(survey.seconds, 'core')} "
        f"({rough.FACTOR})"
    )
    for order, text in dry_run(found):
        click.echo(f"\n--- {order.role}, profile {order.profile.name}\n{text.rstrip()}")


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


def job_logs(run: Any) -> list[tuple[str, Any]]:
    """(name, path) of the logs of a run's jobs: `driver-job-12`, `worker-job-13_0`."""
    from sweeps.engine.cluster import meeting_of

    meeting = meeting_of(run)
    roles = {i: s["role"] for s in meeting.submissions() for i in s["ids"]}
    found = []
    for path in sorted((meeting.folder / "jobs").glob("*_log.out")):
        job, _, rank = path.name.removesuffix("_log.out").rpartition("_")
        role = roles.get(job) or roles.get(job.partition("_")[0])
        if role:
            found.append((f"{role}-job-{job}" + (f"-{rank}" if rank != "0" else ""), path))
    return found
