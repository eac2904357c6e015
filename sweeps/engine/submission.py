"""A run on a SLURM cluster, submitted from the login node: everything is checked, then its jobs go into the queue.

Needs neither torch nor ray here. What the jobs do is in `slurm/`; what they drive is the same act as on one machine.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from pathlib import Path

from slurm import answer, queue
from slurm.errors import ClusterError
from slurm.rendezvous import Rendezvous, mine
from slurm.submit import WorkerJob, script, snapshot, submit
from slurm.worker import Worker
from sweeps.engine.cluster import cluster_errors, rendezvous_of
from sweeps.engine.machines import ROOT
from sweeps.engine.submitted import dead_driver
from sweeps.engine.worker_jobs import absolute, chosen_profiles, fitting_profiles, worker_jobs
from sweeps.planning.request import Request
from sweeps.runs import provenance
from sweeps.runs.execute import run_folder
from sweeps.runs.folder import Place, RunFolder, Say
from sweeps.runs.open_stages import write_plan
from sweeps.runs.prepare import Prepared, prepare, resolve
from trainables.errors import MachineError, UsageError


@dataclass
class Submission:
    """What will be, or was, submitted for a run."""

    run_id: str
    path: Path
    mode: str
    worker_jobs: list[WorkerJob]
    ready: Prepared
    widths: dict[str, int] = field(default_factory=dict)  # Role -> stages that can run side by side.
    ids: dict[str, list[str]] = field(default_factory=dict)  # Role -> job ids.
    finished: bool = False  # Nothing is left to train: nothing was submitted.

    @property
    def workers(self) -> int:
        """Nodes that train."""
        return sum(job.nodes if job.role == "gang" else len(job.tasks) for job in self.training)

    @property
    def training(self) -> list[WorkerJob]:
        """Those whose nodes train."""
        return [job for job in self.worker_jobs if job.role != "driver"]


def plan_submission(request: Request, place: Place, say: Say, *, pack: bool, run_id: str | None = None) -> Submission:
    """Check everything and say which jobs there would be; submits nothing.

    Raises:
        UsageError, DataError, MachineError: With what must hold, what was got and what to do.
    """
    profiles = chosen_profiles(request)
    request = absolute(replace(request, gpus=max(p.gpus for p, _ in profiles)))
    ready = prepare(request, place, say, pack=pack)
    if request.on == "slurm-array" and ready.study.sampled:
        raise UsageError(
            f"{request.study} draws its cells from what earlier ones gave, which needs one driver that all workers "
            "answer to; --on slurm-array has none. Use --on slurm, or --on slurm-gang."
        )
    fitting_profiles(ready, profiles)
    idle = [p.name for p, _ in profiles if not p.gpus]
    if request.gpus and idle and not request.needs:
        say(
            f"Every stage takes a GPU, so workers of profile {', '.join(idle)} will get none. "
            "Say which stages take none, such as --need evaluation:gpu=0."
        )
    identity = run_id or ready.run_id
    path = place.runs / identity
    bad = [mark for mark in "%:\n" if mark in str(path)]
    if bad:
        raise UsageError(
            f"{path} must hold none of '%', ':' and line ends, which mean something else to SLURM and Python. "
            "Choose another folder with --out."
        )
    return Submission(identity, path, request.on, worker_jobs(request, place, path, profiles), ready, _widths(ready))


def _widths(ready: Prepared) -> dict[str, int]:
    """How many stages of each role are distinct and still to be trained: more workers than that wait."""
    return {role: n - ready.survey.present.get(role, 0) for role, n in ready.survey.distinct.items()}


def dry_run(found: Submission) -> list[tuple[WorkerJob, str]]:
    """Each job with the script `sbatch` would get."""
    rendezvous = Rendezvous(found.path / "slurm", found.run_id)
    with cluster_errors():
        return [(job, script(rendezvous, job, rendezvous.folder / "code" / "COPY")) for job in found.worker_jobs]


def submit_run(
    request: Request, place: Place, say: Say, *, retry_failed: bool = False, run_id: str | None = None
) -> Submission:
    """Check everything, write the run's folder, submit its jobs.

    Raises:
        UsageError, DataError, MachineError: When it cannot be; nothing was submitted then.
    """
    chosen_profiles(request)
    resolve(request)
    why = queue.missing()
    if why is not None:
        raise MachineError(
            f"--on {request.on} needs SLURM here, but {why}. Run it on a login node, or leave --on out to train on this machine."
        )
    found = plan_submission(request, place, say, pack=True, run_id=run_id)
    run = run_folder(found.ready, place, run_id)
    found.run_id, found.path = run.id, run.path
    rendezvous = rendezvous_of(run)
    with cluster_errors():
        mine(run.path)
        _refuse_a_second_submission(run, rendezvous)
    found.worker_jobs = worker_jobs(found.ready.request, place, run.path, chosen_profiles(request))
    driver = run.drive(known_dead=dead_driver(run), say=say)
    try:
        found.finished = write_plan(found.ready, run, retry_failed=retry_failed, say=say)
        if found.finished:
            return found
        with cluster_errors():
            rendezvous.prepare()
            rendezvous.begin()
            code = snapshot(ROOT, rendezvous, provenance.revision())
            run.stop_file.unlink(missing_ok=True)
            _submit_jobs(found, rendezvous, code)
    finally:
        driver.release()
    return found


def _submit_jobs(found: Submission, rendezvous: Rendezvous, code: Path) -> None:
    driver = ""
    done: list[str] = []
    for job in found.worker_jobs:
        if driver:
            job.after = driver
            job.tasks = [replace(task, driver=driver) for task in job.tasks if isinstance(task, Worker)]
        try:
            ids = submit(rendezvous, job, code)
        except (ClusterError, OSError) as error:
            # Half a cluster is none: what the queue took already is taken back.
            with contextlib.suppress(ClusterError):
                queue.cancel(done)
            if isinstance(error, ClusterError):
                raise
            raise MachineError(
                f"The jobs' files must be written into {rendezvous.folder}, but: {error}. Nothing is left in the queue."
            ) from error
        done += ids
        found.ids.setdefault(job.role, []).extend(ids)
        if job.role == "driver":
            driver = ids[0]


def _refuse_a_second_submission(run: RunFolder, rendezvous: Rendezvous) -> None:
    living = [job for job in queue.of(rendezvous.jobs()) if job.living]
    strays = answer.settle(rendezvous.folder, rendezvous.jobs)
    if strays:
        names = sorted({job.name for job in strays})
        raise UsageError(
            f"{run.id} may be in the queue already: sbatch did not say what became of {', '.join(names)}, and "
            f"{', '.join(job.id for job in strays[:5])} bear that name. End them with `scancel --me --name={','.join(names)}`."
        )
    if living:
        shown = ", ".join(job.id for job in living[:5])
        raise UsageError(
            f"{run.id} is in the queue already (jobs {shown}{' ...' if len(living) > 5 else ''}). Watch it with "
            f"`{run.again('status')}`, change its size with `{run.again('scale', '--workers', 'N')}`, "
            f"or end it with `{run.again('stop')}`."
        )
