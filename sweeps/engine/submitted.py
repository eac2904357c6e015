"""A run whose jobs are in the queue: looked after, stopped, made larger or smaller from the login node."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from slurm import profile_files, queue
from slurm.errors import ClusterError
from slurm.profiles import Profile
from slurm.queue import QueuedJob
from slurm.rendezvous import Rendezvous, mine
from slurm.submit import snapshot, submit
from slurm.worker import Worker
from sweeps.engine.cluster import cluster_errors, rendezvous_of
from sweeps.engine.machines import ROOT
from sweeps.engine.worker_jobs import worker_jobs
from sweeps.runs import provenance
from sweeps.runs.continuation import request_of
from sweeps.runs.folder import Place, RunFolder
from trainables.errors import MachineError, UsageError
from trainables.store.leases import Lease

GONE_SECONDS = 60.0


def jobs_of(run: RunFolder) -> tuple[list[dict[str, Any]], str]:
    """The run's jobs that SLURM still knows, with what its workers last said, and why SLURM could not be asked."""
    rendezvous = rendezvous_of(run)
    roles = {i: (s["role"], s.get("profile", {}).get("name", "?")) for s in rendezvous.submissions() for i in s["ids"]}
    try:
        found = queue.of(roles)
    except ClusterError as error:
        return [], str(error)
    said = rendezvous.workers()
    rows = []
    for job in found:
        role, profile = roles.get(job.id) or roles[job.id.partition("_")[0]]
        mark = said.get(job.number, {}) if job.living and not job.waiting else {}
        rows.append({"role": role, "profile": profile, **vars(job), "living": job.living, "does": mark.get("state")})
    return rows, ""


def _living(run: RunFolder, *roles: str) -> list[QueuedJob]:
    with cluster_errors():
        return [job for job in queue.of(rendezvous_of(run).jobs(*roles)) if job.living]


def dead_driver(run: RunFolder) -> int:
    """Number of the run's driver lock if its owner's job has left the queue; 0 otherwise.

    The lock itself says nothing to who sees it for the first time from another machine.
    """
    numbers = Lease.numbers(run.path, "driver")
    job = str((run.driver() or {}).get("job") or "")
    if not numbers or not job.isdigit():
        return 0
    return numbers[-1] if queue.is_alive(job) is False else 0


def has_jobs(run: RunFolder) -> bool:
    """Whether jobs of the run are in the queue."""
    return bool(_living(run))


def _until_gone(run: RunFolder, *roles: str) -> list[QueuedJob]:
    until = time.monotonic() + GONE_SECONDS
    while left := _living(run, *roles):
        if time.monotonic() > until:
            break
        time.sleep(0.5)
    return left


def stop(run: RunFolder, now: bool) -> list[str]:
    """Drain the run's jobs, or end workers and then the driver at once; lines that say what was done.

    Raises:
        UsageError, MachineError: If SLURM cannot be asked, or the run is somebody else's.
    """
    rendezvous = rendezvous_of(run)
    with cluster_errors():
        mine(run.path)
    leading = _living(run, "driver", "gang", "array")
    if not leading and not _living(run):
        return [f"{run.id} has no job in the queue."]
    with cluster_errors():
        if now:
            queue.cancel([job.id for job in _living(run, "worker")])
            _until_gone(run, "worker")
            queue.cancel([job.id for job in _living(run)])
            left = _until_gone(run)
            rendezvous.end(130, "stopped")
            if left:
                raise MachineError(
                    f"SLURM still shows {', '.join(j.id for j in left)} after {GONE_SECONDS:.0f} s. "
                    f"`{run.again('status')}` says more."
                )
            return [f"{run.id}: its jobs are gone; the epochs in flight are lost."]
        waiting = [job.id for job in _living(run) if job.waiting]
        if any(not job.waiting for job in leading):
            run.stop_file.write_text("{}")
            queue.cancel([job.id for job in _living(run, "worker", "array") if job.waiting])
            return [f"Draining {run.id}: running stages finish their epoch and save, then its jobs end."]
        # Nobody drives: nothing trains that could be saved.
        queue.cancel([job.id for job in _living(run)])
        rendezvous.end(130, "stopped")
        return [f"{run.id}: cancelled {len(waiting)} waiting jobs."]


def scale(run: RunFolder, workers: int, place: Place, profile: str | None = None) -> list[str]:
    """Give a living run more workers, or fewer; lines that say what was done.

    Raises:
        UsageError: If the run is not one that workers join, or is not in the queue.
    """
    if not 0 <= workers <= 10_000:
        raise UsageError(f"--workers must be from 0 to 10,000, got {workers}.")
    rendezvous = rendezvous_of(run)
    with cluster_errors():
        mine(run.path)
    modes = [s["role"] for s in rendezvous.submissions()]
    if not modes or modes[-1] == "gang":
        raise UsageError(f"{run.id} has no workers that join and leave; `scale` is for runs begun with --on slurm.")
    role = "array" if modes[-1] == "array" else "worker"
    living = _living(run, role)
    drivers = _living(run, "driver")
    if not drivers and not (role == "array" and living):
        raise UsageError(f"{run.id} is not in the queue. Submit what is missing: {run.again('resume')}")
    if workers > len(living):
        return _grow(run, rendezvous, role, workers - len(living), drivers[-1].id if drivers else "", place, profile)
    leave = sorted(living, key=lambda job: (not job.waiting, -int(job.number)))[: len(living) - workers]
    with cluster_errors():
        queue.cancel([job.id for job in leave if job.waiting])
        for job in leave:
            if not job.waiting:
                rendezvous.ask_to_leave(job.number)
        if role == "array":
            queue.cancel([job.id for job in leave if not job.waiting], signal="USR2")
    waiting = sum(job.waiting for job in leave)
    return [
        f"{run.id}: {waiting} waiting workers cancelled, {len(leave) - waiting} running ones finish their epoch and leave."
    ]


def _grow(
    run: RunFolder, rendezvous: Rendezvous, role: str, more: int, driver: str, place: Place, name: str | None
) -> list[str]:
    request = request_of(run, run.read())
    with cluster_errors():
        known = {p.name: p for p in reversed(kept_profiles(rendezvous))}
        chosen = kept_profiles(rendezvous)[0] if name is None else known.get(name)
        chosen = chosen or profile_files.load(str(name), request.slurm)
        request = replace(request, on="slurm-array" if role == "array" else "slurm")
        job = worker_jobs(request, place, run.path, [(chosen, more)])[-1]
        code = snapshot(ROOT, rendezvous, provenance.revision())
        if driver:
            job.after = driver
            job.tasks = [replace(task, driver=driver) for task in job.tasks if isinstance(task, Worker)]
        ids = submit(rendezvous, job, code)
    return [f"{run.id}: {more} workers submitted (jobs {', '.join(ids)})."]


def kept_profiles(rendezvous: Rendezvous) -> list[Profile]:
    """The profiles of the last submission, the driver's first, as they were then: their files may be out of reach.

    Raises:
        ClusterUsageError: If there are none, or they were kept by another version.
    """
    kept: list[dict[str, Any]] = []
    for entry in rendezvous.submissions():
        if entry["role"] in ("driver", "gang") or (entry["role"] == "array" and not kept):
            kept = []
        kept.append(entry.get("profile", {}))
    if not kept:
        raise UsageError(f"{rendezvous.run} was never submitted: {rendezvous.folder} has no submissions.json.")
    return [Profile.from_dict(one) for one in kept]
