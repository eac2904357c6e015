"""A run on a SLURM cluster, seen from the login node: submit it, look after it, change its size, end it.

Needs neither torch nor ray here. What the jobs do is in `slurm/`; what they drive is the same act as on one machine.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slurm import answer, queue
from slurm import profiles as slurm_profiles
from slurm.errors import ClusterError
from slurm.jobs import ArrayTask, Driver, Gang, Worker
from slurm.profiles import Profile
from slurm.queue import QueuedJob
from slurm.ray_cluster import Meeting, mine
from slurm.submit import Order, script, snapshot, submit
from sweeps.engine import machines, resources
from sweeps.engine.machines import ROOT
from sweeps.runs import execute, plugin_files, provenance
from sweeps.runs.execute import Prepared, Request, Say
from sweeps.runs.folder import Place, RunFolder
from trainables.errors import MachineError, SweepsError, UsageError
from trainables.store.leases import Lease

MODES = ("local", "slurm", "slurm-gang", "slurm-array")
WORKERS = 2
GONE_SECONDS = 60.0


def meeting_of(run: RunFolder) -> Meeting:
    """Where the nodes of a run meet."""
    return Meeting(run.path / "slurm", run.id)


def explained(error: ClusterError) -> SweepsError:
    """A cluster's error as one of ours, with its exit code."""
    return UsageError(str(error)) if error.exit_code == 2 else MachineError(str(error))


@contextlib.contextmanager
def cluster_errors() -> Any:
    """Turn the cluster's errors into ours."""
    try:
        yield
    except ClusterError as error:
        raise explained(error) from error


@dataclass
class Submission:
    """What will be, or was, submitted for a run."""

    run_id: str
    path: Path
    mode: str
    orders: list[Order]
    ready: Prepared
    widths: dict[str, int] = field(default_factory=dict)  # Role -> stages that can run side by side.
    ids: dict[str, list[str]] = field(default_factory=dict)  # Role -> job ids.
    finished: bool = False  # Nothing is left to train: nothing was submitted.

    @property
    def workers(self) -> int:
        """Nodes that train."""
        return sum(order.nodes if order.role == "gang" else len(order.jobs) for order in self.training)

    @property
    def training(self) -> list[Order]:
        """The orders whose nodes train."""
        return [order for order in self.orders if order.role != "driver"]


def chosen_profiles(request: Request) -> list[tuple[Profile, int]]:
    """Profiles of the workers with their numbers.

    Raises:
        UsageError: For an unknown profile or key, or a number that cannot be.
    """
    words = request.profiles or ["default"]
    most = request.workers
    if most is not None and not 1 <= most <= 10_000:
        raise UsageError(f"--workers must be from 1 to 10,000, got {most}.")
    counts: list[int | None] = []
    for word in words:
        name, colon, count = word.partition(":")
        if colon and not (count.isdecimal() and count.isascii() and 1 <= int(count) <= 10_000):
            raise UsageError(f"--profile takes NAME or NAME:WORKERS, got '{word}'.")
        counts.append(int(count) if colon else None)
    if most is not None:
        rest = most - sum(count or 0 for count in counts)
        if counts.count(None) > 1 or (None not in counts and rest) or (None in counts and rest < 1):
            raise UsageError(
                f"--workers {most} and {' '.join(f'--profile {word}' for word in words)} must agree: "
                "say how many of each, or leave --workers to the one profile without a number."
            )
        counts = [rest if count is None else count for count in counts]
    found = []
    for word, number in zip(words, counts, strict=True):
        with cluster_errors():
            name = word.partition(":")[0]
            found.append((slurm_profiles.load(name, request.slurm), number or WORKERS))
            _announce(slurm_profiles.of_project(name))
    if request.on == "slurm-gang" and len(found) > 1:
        raise UsageError("--on slurm-gang is one job, so it takes one --profile; --on slurm takes several.")
    return found


@functools.cache
def _announce(sentence: str) -> None:
    """Say once that a profile is the working folder's: its lines of shell run on the nodes."""
    if sentence:
        print(sentence, file=sys.stderr)


def fitting_profiles(ready: Prepared, profiles: Sequence[tuple[Profile, int]]) -> None:
    """Refuse a stage that no worker can hold.

    Raises:
        UsageError: With what it needs and what the profiles give.
    """
    request = ready.request
    wanted = resources.parse(request.needs, ready.study.recipe.roles, request.gpu_share if request.gpus else 0.0)
    has = [{"CPU": float(p.cpus), "GPU": float(p.gpus), "memory": (p.memory_gb or 1e9) * 2**30} for p, _ in profiles]
    for role, spec in ready.survey.examples.items():
        asked = wanted.of_role(role, spec)
        if not any(machines.fitting(node, asked) for node in has):
            said = ", ".join(
                f"{k} {v / 2**30 if k == 'memory' else v:g}{' GB' if k == 'memory' else ''}" for k, v in asked.items()
            )
            given = "; ".join(
                f"{p.name}: {p.cpus} cpus, {p.gpus} gpus" + (f", {p.memory_gb:g} GB" if p.memory_gb else "")
                for p, _ in profiles
            )
            raise UsageError(
                f"Every stage must fit on a worker, but the stage '{role}' needs {said}, and the profiles give {given}. "
                f"Change --slurm, --profile or --need {role}:..."
            )


def plan_submission(request: Request, place: Place, say: Say, *, pack: bool, run_id: str | None = None) -> Submission:
    """Check everything and say which jobs there would be; submits nothing.

    Raises:
        UsageError, DataError, MachineError: With what must hold, what was got and what to do.
    """
    profiles = chosen_profiles(request)
    request = absolute(replace(request, gpus=max(p.gpus for p, _ in profiles)))
    ready = execute.prepare(request, place, say, pack=pack)
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
    identity = run_id or ready.resolved.run_id(ready.data["fingerprint"])
    path = place.runs / identity
    bad = [mark for mark in "%:\n" if mark in str(path)]
    if bad:
        raise UsageError(
            f"{path} must hold none of '%', ':' and line ends, which mean something else to SLURM and Python. "
            "Choose another folder with --out."
        )
    return Submission(identity, path, request.on, _orders(request, place, path, profiles), ready, _widths(ready))


def absolute(request: Request) -> Request:
    """The request with paths that mean the same wherever a job runs."""

    def whole(text: str | None, prefix: str = "") -> str | None:
        if not text or not text.startswith(prefix):
            return text
        return f"{prefix}{Path(text.removeprefix(prefix)).expanduser().absolute()}"

    return replace(
        request,
        data=whole(request.data, "folder:"),
        data_root=whole(request.data_root),
        test_data=whole(request.test_data, "folder:"),
        test_data_root=whole(request.test_data_root),
    )


def _orders(request: Request, place: Place, path: Path, profiles: Sequence[tuple[Profile, int]]) -> list[Order]:
    command = ("-m", "sweeps", "drive", str(path), "--store", str(place.store))
    first = profiles[0][0]

    def common(profile: Profile) -> dict[str, Any]:
        return {
            "meeting_folder": str(path / "slurm"),
            "run": path.name,
            "warning_seconds": profile.warning_seconds,
            "scratch": profile.scratch,
            "interface": profile.interface,
        }

    if request.on == "slurm-gang":
        return [Order("gang", first, [Gang(**common(first), command=command)], nodes=profiles[0][1])]
    if request.on == "slurm-array":
        work = ("-m", "sweeps", "work", str(path), "--store", str(place.store))
        return [
            Order("array", profile, [ArrayTask(**common(profile), command=work) for _ in range(count)])
            for profile, count in profiles
        ]
    workers = [Order("worker", p, [Worker(**common(p)) for _ in range(count)]) for p, count in profiles]
    return [Order("driver", first, [Driver(**common(first), command=command)]), *workers]


def _widths(ready: Prepared) -> dict[str, int]:
    """How many stages of each role are distinct and still to be trained: more workers than that wait."""
    return {role: n - ready.survey.present.get(role, 0) for role, n in ready.survey.distinct.items()}


def dry_run(found: Submission) -> list[tuple[Order, str]]:
    """Each order with the script `sbatch` would get."""
    meeting = Meeting(found.path / "slurm", found.run_id)
    with cluster_errors():
        return [(order, script(meeting, order, meeting.folder / "code" / "COPY")) for order in found.orders]


def submit_run(
    request: Request, place: Place, say: Say, *, retry_failed: bool = False, run_id: str | None = None
) -> Submission:
    """Check everything, write the run's folder, submit its jobs.

    Raises:
        UsageError, DataError, MachineError: When it cannot be; nothing was submitted then.
    """
    chosen_profiles(request)
    execute.resolve(request)
    why = queue.missing()
    if why is not None:
        raise MachineError(
            f"--on {request.on} needs SLURM here, but {why}. Run it on a login node, or leave --on out to train on this machine."
        )
    found = plan_submission(request, place, say, pack=True, run_id=run_id)
    run = execute.run_folder(found.ready, place, run_id)
    found.run_id, found.path = run.id, run.path
    meeting = meeting_of(run)
    with cluster_errors():
        mine(run.path)
        _refuse_a_second_submission(run, meeting)
    found.orders = _orders(found.ready.request, place, run.path, chosen_profiles(request))
    driver = run.drive(known_dead=dead_driver(run), say=say)
    try:
        found.finished = execute.write_plan(found.ready, run, retry_failed=retry_failed, say=say)
        if found.finished:
            return found
        with cluster_errors():
            meeting.prepare()
            meeting.begin()
            code = snapshot(ROOT, meeting, provenance.revision())
            run.stop_file.unlink(missing_ok=True)
            _submit_orders(found, meeting, code)
    finally:
        driver.release()
    return found


def _submit_orders(found: Submission, meeting: Meeting, code: Path) -> None:
    driver = ""
    done: list[str] = []
    for order in found.orders:
        if driver:
            order.after = driver
            order.jobs = [replace(job, driver=driver) for job in order.jobs if isinstance(job, Worker)]
        try:
            ids = submit(meeting, order, code)
        except (ClusterError, OSError) as error:
            # Half a cluster is none: what the queue took already is taken back.
            with contextlib.suppress(ClusterError):
                queue.cancel(done)
            if isinstance(error, ClusterError):
                raise
            raise MachineError(
                f"The jobs' files must be written into {meeting.folder}, but: {error}. Nothing is left in the queue."
            ) from error
        done += ids
        found.ids.setdefault(order.role, []).extend(ids)
        if order.role == "driver":
            driver = ids[0]


def _refuse_a_second_submission(run: RunFolder, meeting: Meeting) -> None:
    living = [job for job in queue.of(meeting.jobs()) if job.living]
    strays = answer.settle(meeting.folder, meeting.jobs)
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


def jobs_of(run: RunFolder) -> tuple[list[dict[str, Any]], str]:
    """The run's jobs that SLURM still knows, with what its workers last said, and why SLURM could not be asked."""
    meeting = meeting_of(run)
    roles = {i: (s["role"], s.get("profile", {}).get("name", "?")) for s in meeting.submissions() for i in s["ids"]}
    try:
        found = queue.of(roles)
    except ClusterError as error:
        return [], str(error)
    said = meeting.workers()
    rows = []
    for job in found:
        role, profile = roles.get(job.id) or roles[job.id.partition("_")[0]]
        mark = said.get(job.number, {}) if job.living and not job.waiting else {}
        rows.append({"role": role, "profile": profile, **vars(job), "living": job.living, "does": mark.get("state")})
    return rows, ""


def _living(run: RunFolder, *roles: str) -> list[QueuedJob]:
    with cluster_errors():
        return [job for job in queue.of(meeting_of(run).jobs(*roles)) if job.living]


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
    meeting = meeting_of(run)
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
            meeting.end(130, "stopped")
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
        meeting.end(130, "stopped")
        return [f"{run.id}: cancelled {len(waiting)} waiting jobs."]


def scale(run: RunFolder, workers: int, place: Place, profile: str | None = None) -> list[str]:
    """Give a living run more workers, or fewer; lines that say what was done.

    Raises:
        UsageError: If the run is not one that workers join, or is not in the queue.
    """
    if not 0 <= workers <= 10_000:
        raise UsageError(f"--workers must be from 0 to 10,000, got {workers}.")
    meeting = meeting_of(run)
    with cluster_errors():
        mine(run.path)
    modes = [s["role"] for s in meeting.submissions()]
    if not modes or modes[-1] == "gang":
        raise UsageError(f"{run.id} has no workers that join and leave; `scale` is for runs begun with --on slurm.")
    role = "array" if modes[-1] == "array" else "worker"
    living = _living(run, role)
    drivers = _living(run, "driver")
    if not drivers and not (role == "array" and living):
        raise UsageError(f"{run.id} is not in the queue. Submit what is missing: {run.again('resume')}")
    if workers > len(living):
        return _grow(run, meeting, role, workers - len(living), drivers[-1].id if drivers else "", place, profile)
    leave = sorted(living, key=lambda job: (not job.waiting, -int(job.number)))[: len(living) - workers]
    with cluster_errors():
        queue.cancel([job.id for job in leave if job.waiting])
        for job in leave:
            if not job.waiting:
                meeting.ask_to_leave(job.number)
        if role == "array":
            queue.cancel([job.id for job in leave if not job.waiting], signal="USR2")
    waiting = sum(job.waiting for job in leave)
    return [
        f"{run.id}: {waiting} waiting workers cancelled, {len(leave) - waiting} running ones finish their epoch and leave."
    ]


def _grow(
    run: RunFolder, meeting: Meeting, role: str, more: int, driver: str, place: Place, name: str | None
) -> list[str]:
    request = request_of(run, run.read())
    with cluster_errors():
        known = {p.name: p for p in reversed(kept_profiles(meeting))}
        chosen = kept_profiles(meeting)[0] if name is None else known.get(name)
        chosen = chosen or slurm_profiles.load(str(name), request.slurm)
        request = replace(request, on="slurm-array" if role == "array" else "slurm")
        order = _orders(request, place, run.path, [(chosen, more)])[-1]
        code = snapshot(ROOT, meeting, provenance.revision())
        if driver:
            order.after = driver
            order.jobs = [replace(job, driver=driver) for job in order.jobs if isinstance(job, Worker)]
        ids = submit(meeting, order, code)
    return [f"{run.id}: {more} workers submitted (jobs {', '.join(ids)})."]


def kept_profiles(meeting: Meeting) -> list[Profile]:
    """The profiles of the last submission, the driver's first, as they were then: their files may be out of reach.

    Raises:
        ClusterUsageError: If there are none, or they were kept by another version.
    """
    kept: list[dict[str, Any]] = []
    for entry in meeting.submissions():
        if entry["role"] in ("driver", "gang") or (entry["role"] == "array" and not kept):
            kept = []
        kept.append(entry.get("profile", {}))
    if not kept:
        raise UsageError(f"{meeting.run} was never submitted: {meeting.folder} has no submissions.json.")
    return [Profile.from_dict(one) for one in kept]


def request_of(run: RunFolder, kept: dict[str, Any]) -> Request:
    """What was asked of a run, with all the seeds it has.

    Raises:
        UsageError: If run.json does not say, or a plug-in of the run cannot be loaded.
    """
    import dataclasses

    try:
        plugin_files.use_those_of(run, kept)
        names = {f.name for f in dataclasses.fields(Request)}
        request = Request(**{k: v for k, v in kept["request"].items() if k in names})
        if kept.get("seeds"):
            first, *others = kept["seeds"]
            request.seeds = ",".join(map(str, kept["seeds"])) if others else f"{first}-{first}"
        return request
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{run.id} does not say what was asked ({error!r}); give the run command again.") from None


def drive(run: RunFolder, place: Place, say: Say) -> execute.Outcome:
    """The driver's part, inside its job: conduct the run on the nodes that join."""
    meeting = meeting_of(run)
    request = request_of(run, run.read())
    profile = kept_profiles(meeting)[0]
    with cluster_errors():
        machine = machines.ClusterMachine(meeting, os.environ.get("SWEEPS_ATTEMPT", "0-0"), profile.interface)
        return execute.conduct(request, place, say, run_id=run.id, machine=machine, report=request.report)
