"""Jobs on their way into the queue: a copy of the code as it is now, a script each, and a note of what was submitted.

The script comes from submitit, and so does the process that starts our objects on the node. No torch, no ray.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm import answer, queue
from slurm.errors import ClusterError
from slurm.job import Job
from slurm.profiles import Profile
from slurm.rendezvous import Rendezvous
from system.rooms import ROOMS


@dataclass
class WorkerJob:
    """One job, or one array of equal jobs, to be submitted."""

    role: str  # driver, worker, gang or array.
    profile: Profile
    tasks: Sequence[Job]  # One, or one per task of the array.
    nodes: int = 1
    after: str | None = None  # Id of a job that must have started.

    def name(self, run: str) -> str:
        """The job's name in SLURM."""
        return f"{self.role}-{run}"[:200]

    def sbatch(self, run: str) -> dict[str, Any]:
        """Keyword arguments of `submitit.SlurmExecutor.update_parameters`."""
        found = self.profile.driver_sbatch() if self.role == "driver" else self.profile.sbatch()
        further: dict[str, Any] = {"requeue": True, **found.pop("additional_parameters", {})}
        if self.after:
            further["dependency"] = f"after:{self.after}"
        return found | {
            "job_name": self.name(run),
            "nodes": self.nodes,
            "ntasks_per_node": 1,
            "stderr_to_stdout": True,
            "array_parallelism": max(1, len(self.tasks)),
            "additional_parameters": further,
            # Where sbatch exports nothing, srun would not either.
            "srun_args": ["--export=ALL"],
        }


def snapshot(root: Path, rendezvous: Rendezvous, revision: str) -> Path:
    """A copy of the code as it is now: what runs after a requeue is what was submitted.

    Args:
        root: Folder of the rooms.
        rendezvous: Whose folder holds the copy; equal code is copied once.
        revision: Kept beside it, because the copy has no history of its own.
    """
    files = [path for room in ROOMS for path in sorted((root / room).rglob("*")) if path.is_file()]
    files = [path for path in files if "__pycache__" not in path.parts]
    digest = hashlib.sha256(revision.encode())
    for path in files:
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    place = rendezvous.folder / "code" / digest.hexdigest()[:12]
    if place.is_dir():
        return place
    place.parent.mkdir(exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".copy-", dir=place.parent))
    for path in files:
        target = aside / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (aside / "REVISION").write_text(revision)
    try:
        os.rename(aside, place)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)  # Another submission was faster with the same code.
        if not place.is_dir():
            raise
    return place


def setup_lines(profile: Profile, code: Path) -> list[str]:
    """Shell lines before Python starts."""
    mine = str(Path(__file__).resolve().parent.parent)
    others = [os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    paths = [str(code), *[p for p in others if p != mine]]
    return [
        *profile.setup_lines(),
        # From its folder: `python -m` looks there first, and must not find the code as it is by then.
        f"cd {shlex.quote(str(code))}",
        f"export PYTHONPATH={shlex.quote(os.pathsep.join(paths))}",
        "export PYTHONUNBUFFERED=1",
        # srun no longer takes this over from sbatch by itself.
        "export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}",
        "unset RAY_ADDRESS RAY_RUNTIME_ENV_HOOK RAY_AUTH_TOKEN",
    ]


def _executor(rendezvous: Rendezvous, job: WorkerJob, code: Path) -> Any:
    # Not at the top: submitit is wanted when something is submitted, not when a profile is looked at.
    from submitit import SlurmExecutor

    class Executor(SlurmExecutor):
        """Makes scripts on any machine: a dry run needs no SLURM, and who submits was told before if there is none."""

        @classmethod
        def affinity(cls) -> int:
            return 2

        @staticmethod
        def _get_job_id_from_submission_command(string: bytes | str) -> str:
            text = string.decode(errors="replace") if isinstance(string, bytes) else string
            return answer.job_id_of(text, job.name(rendezvous.run), rendezvous.jobs())

    try:
        python = shlex.quote(job.profile.python) if job.profile.python else None
        # A driver may be warned and requeued as often as its work takes.
        executor = Executor(rendezvous.folder / "jobs", max_num_timeout=1_000_000, python=python)
        executor.update_parameters(setup=setup_lines(job.profile, code), **job.sbatch(rendezvous.run))
    except (RuntimeError, ValueError) as error:
        raise ClusterError(f"SLURM's jobs cannot be made: {error}") from None
    return executor


def script(rendezvous: Rendezvous, job: WorkerJob, code: Path) -> str:
    """The script that `sbatch` would get."""
    executor = _executor(rendezvous, job, code)
    if len(job.tasks) > 1:
        executor.parameters["map_count"] = len(job.tasks)
    return str(executor._make_submission_file_text(executor._submitit_command_str, "dry-run"))


@contextlib.contextmanager
def _clean_environment() -> Iterator[None]:
    """Without what describes a job we may be in: sbatch would take it for wishes."""
    kept = dict(os.environ)
    clean = queue.environment()
    for name in ("RAY_ADDRESS", "RAY_RUNTIME_ENV_HOOK", "RAY_AUTH_TOKEN", "CUDA_VISIBLE_DEVICES", "SUBMITIT_EXECUTOR"):
        clean.pop(name, None)
    os.environ.clear()
    os.environ.update(clean)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


def submit(rendezvous: Rendezvous, job: WorkerJob, code: Path) -> list[str]:
    """Submit a job, or an array of them, and note it; their ids.

    Raises:
        ClusterError: With SLURM's words, if it refuses; `UnclearError` if nobody knows whether it took the job.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    executor = _executor(rendezvous, job, code)
    with _clean_environment():
        try:
            with executor.batch():
                submitted = [executor.submit(task) for task in job.tasks]
        except answer.UnclearError as error:
            raise answer.not_known(job.name(rendezvous.run), str(error), rendezvous.folder) from None
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            status = getattr(error.__cause__, "returncode", None)
            if isinstance(error, FailedJobError) and answer.is_unsure(str(error), status):
                shown = " ".join(str(error).split())[-300:] or f"exit {status}"
                why = f"sbatch failed with the {job.role} job of profile '{job.profile.name}': {shown}."
                raise answer.not_known(job.name(rendezvous.run), why, rendezvous.folder) from None
            said = [line for line in str(error).splitlines() if "error" in line.lower()] or [str(error)[-500:]]
            raise ClusterError(
                f"SLURM refused the {job.role} job of profile '{job.profile.name}': {' '.join(said)[:600]}. "
                "Change the profile or give --slurm KEY=VALUE; --dry-run shows the script."
            ) from None
    ids = [str(each.job_id) for each in submitted]
    try:
        note(rendezvous, job, ids)
    except OSError:
        queue.cancel(ids)  # Nobody would know of them.
        raise
    return ids


def note(rendezvous: Rendezvous, job: WorkerJob, ids: Sequence[str]) -> None:
    """Remember what was submitted, before anything else can go wrong."""
    kept = rendezvous.submissions()
    kept.append(
        {
            "role": job.role,
            "profile": job.profile.as_dict(),
            "ids": list(ids),
            "nodes": job.nodes,
            "time": time.time(),
        }
    )
    path = rendezvous.folder / "submissions.json"
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(kept, indent=1))
    os.replace(aside, path)
