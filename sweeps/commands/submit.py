"""Submitting a run to SLURM, and what a submission would be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sweeps.commands.output import answer, narrate

if TYPE_CHECKING:
    from slurm.submit import WorkerJob
    from sweeps.engine.submission import Submission
    from sweeps.planning.request import Request
    from sweeps.runs.folder import Place, RunFolder


def submit_and_say(request: Request, place: Place, *, as_json: bool, wait: bool, **more: Any) -> RunFolder | None:
    """Submit a run's jobs; the folder to follow, or None when nothing was left to train."""
    from sweeps.engine.submission import submit_run
    from sweeps.runs.folder import RunFolder

    submission = submit_run(request, place, narrate, **more)
    run = RunFolder(submission.path)
    if submission.finished:
        narrate(f"Nothing is left to train for {run.id}, so nothing was submitted.")
        return None
    if as_json and not wait:
        answer({"run": run.id, "path": str(run.path), "jobs": submission.ids, "submitted": True}, True, lambda: None)
        return run

    def text(line: str) -> None:
        narrate(line) if as_json else click.echo(line)

    for role, ids in submission.ids.items():
        text(f"Submitted {role:<7} {', '.join(ids[:8])}{' ...' if len(ids) > 8 else ''}")
    text(f"{run.id}: at most {submission.workers} nodes train; work begins with the first.")
    if not wait:
        text(f"Watch: {run.again('status', store=place.store)}")
        first = next(iter(submission.ids))
        text(f"Logs:  {run.again('logs', f'{first}-job')}    Stop: {run.again('stop')}")
    return run


def say_jobs(submission: Submission) -> None:
    """The jobs, their resources, the shape of the queue and the scripts."""
    from sweeps.engine.submission import dry_run
    from sweeps.planning import rough

    survey = submission.ready.survey
    click.echo(f"\nJobs for {submission.run_id} ({submission.mode}):")
    for job in submission.worker_jobs:
        click.echo(f"  {_job_words(job)}")
    widths = submission.widths
    shape = " -> ".join(f"{count} {role}{'s' if count != 1 else ''}" for role, count in widths.items())
    slots = sum((o.nodes if o.role == "gang" else len(o.tasks)) * max(1, o.profile.cpus) for o in submission.training)
    widest = max(widths.values(), default=0)
    click.echo(f"  queue shape   {shape}: at most {widest} stages side by side; {slots} cores asked for")
    click.echo(
        f"  expected      about {rough.hours(survey.gpu_seconds, 'GPU')}, or {rough.hours(survey.seconds, 'core')} "
        f"({rough.FACTOR})"
    )
    for job, text in dry_run(submission):
        click.echo(f"\n--- {job.role}, profile {job.profile.name}\n{text.rstrip()}")


def _job_words(job: WorkerJob) -> str:
    from sweeps.engine.progress import duration

    profile = job.profile
    driver = job.role == "driver"
    cpus = profile.driver.cpus if driver else profile.cpus
    gpus = 0 if driver else profile.gpus
    memory = profile.driver.memory_gb if driver else profile.memory_gb
    minutes = (profile.driver.time_minutes or profile.time_minutes) if driver else profile.time_minutes
    count = job.nodes if job.role == "gang" else len(job.tasks)
    return (
        f"{count} x {job.role:<7} profile {profile.name} ({profile.source}): {cpus} cpus, {gpus} gpus"
        + (f", {memory:g} GB" if memory else "")
        + f", {duration(60 * minutes)}"
    )
