"""Which SLURM jobs a run is made of: profiles with their numbers, what fits on them, one job or array for each.

Needs neither torch nor ray, and asks SLURM nothing.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from slurm import profile_files
from slurm.array_task import ArrayTask
from slurm.driver import Driver
from slurm.gang import Gang
from slurm.profiles import Profile
from slurm.submit import WorkerJob
from slurm.worker import Worker
from sweeps.engine import machines, resources
from sweeps.engine.cluster import cluster_errors
from sweeps.planning.request import Request
from sweeps.runs.folder import Place
from sweeps.runs.prepare import Prepared
from trainables.errors import UsageError

WORKERS = 2


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
            found.append((profile_files.load(name, request.slurm), number or WORKERS))
            _announce(profile_files.of_project(name))
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


def worker_jobs(request: Request, place: Place, path: Path, profiles: Sequence[tuple[Profile, int]]) -> list[WorkerJob]:
    command = ("-m", "sweeps", "drive", str(path), "--store", str(place.store))
    first = profiles[0][0]

    def common(profile: Profile) -> dict[str, Any]:
        return {
            "rendezvous_folder": str(path / "slurm"),
            "run": path.name,
            "warning_seconds": profile.warning_seconds,
            "scratch": profile.scratch,
            "interface": profile.interface,
        }

    if request.on == "slurm-gang":
        return [WorkerJob("gang", first, [Gang(**common(first), command=command)], nodes=profiles[0][1])]
    if request.on == "slurm-array":
        work = ("-m", "sweeps", "work", str(path), "--store", str(place.store))
        return [
            WorkerJob("array", profile, [ArrayTask(**common(profile), command=work) for _ in range(count)])
            for profile, count in profiles
        ]
    workers = [WorkerJob("worker", p, [Worker(**common(p)) for _ in range(count)]) for p, count in profiles]
    return [WorkerJob("driver", first, [Driver(**common(first), command=command)]), *workers]
