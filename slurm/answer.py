"""What `sbatch` answered: a job's id in any accepted form, or that nobody knows whether the job is in the queue."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from slurm import queue
from slurm.errors import ClusterError
from slurm.queue import QueuedJob

UNCLEAR = (
    "unclear.json"  # In the folder of the rendezvous: names of jobs of which nobody knows whether they were taken.
)

# Words of failures after which the controller may have taken the job all the same.
_UNSURE = re.compile(
    r"timed? ?out|zero bytes|unexpected message|connection reset|broken pipe|interrupted", re.IGNORECASE
)


class UnclearError(ClusterError):
    """Whether SLURM took a job is not known."""


def job_id_in(answer: str) -> str | None:
    """The id in what sbatch printed, None when it names none.

    `Submitted batch job 12 [on cluster x]`, with `--parsable` `12` or `12;x`, or another sentence with one `job 12`; lines
    of the site before and after do not matter.
    """
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    for pattern in (r".*\bbatch job (\d{1,19})\b.*", r"(\d{1,19})(?:;\S+)?"):
        for line in reversed(lines):
            found = re.fullmatch(pattern, line, re.IGNORECASE)
            if found:
                return found[1]
    named = set(re.findall(r"\bjob (\d{1,19})\b", answer, re.IGNORECASE))
    return named.pop() if len(named) == 1 else None


def is_unsure(words: str, status: int | None = None) -> bool:
    """Whether a failure of sbatch leaves open that the job was taken; killed by a signal (`status` < 0) it does."""
    return bool(_UNSURE.search(words)) or (status is not None and status < 0)


def living_of_name(name: str, known: Sequence[str] = ()) -> list[QueuedJob]:
    """One's living jobs of that name, but for those whose ids are known.

    Raises:
        ClusterError: If SLURM cannot be asked.
    """
    bases = {each.partition("_")[0] for each in known}
    return [
        job
        for job in queue.jobs().values()
        if job.living and job.name == name and job.id.partition("_")[0] not in bases
    ]


def job_id_of(answer: str, name: str, known: Sequence[str]) -> str:
    """The id that sbatch gave a job of that name; where its answer names none, the queue is asked.

    Raises:
        UnclearError: If neither says it.
    """
    found = job_id_in(answer)
    if found is not None:
        return found
    try:
        bases = {job.id.partition("_")[0] for job in living_of_name(name, known)}
    except ClusterError:
        bases = set()
    if len(bases) == 1:
        return bases.pop()
    shown = " ".join(answer.split())[:200]
    raise UnclearError(f"sbatch answered {shown!r}, which names no job.")


def remember(folder: Path, name: str) -> None:
    """Note that a job of that name may be in the queue."""
    aside = folder / f".{UNCLEAR}.{os.getpid()}"
    aside.write_text(json.dumps(sorted({*unclear(folder), name})))
    os.replace(aside, folder / UNCLEAR)


def unclear(folder: Path) -> list[str]:
    """Names of jobs of which it is not known whether they were taken."""
    try:
        found = json.loads((folder / UNCLEAR).read_bytes())
    except (OSError, ValueError, RecursionError):
        return []
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def settle(folder: Path, known: Callable[[], Sequence[str]]) -> list[QueuedJob]:
    """The living jobs that an unclear submission left; where there is none, it is forgotten.

    Raises:
        ClusterError: If SLURM cannot be asked.
    """
    names = unclear(folder)
    found = [job for name in names for job in living_of_name(name, known())]
    if names and not found:
        (folder / UNCLEAR).unlink(missing_ok=True)
    return found


def not_known(name: str, why: str, folder: Path) -> UnclearError:
    """What to tell after a submission of which nobody knows what became; jobs of that name that are found are cancelled."""
    advice = (
        f"Look with `squeue --me --name={name}` and end what you find with `scancel --me --name={name}` before you give the "
        "command again."
    )
    try:
        found = living_of_name(name)
        queue.cancel({job.id.partition("_")[0] for job in found})
    except ClusterError as error:
        remember(folder, name)
        return UnclearError(
            f"{why} Whether the job is in the queue is not known, and SLURM cannot be asked: {error} {advice}"
        )
    if found:
        ids = ", ".join(sorted({job.id.partition("_")[0] for job in found}))
        return UnclearError(
            f"{why} It is in the queue nevertheless, and was cancelled (job {ids}). Give the command again."
        )
    remember(folder, name)
    return UnclearError(
        f"{why} Whether the job was taken is not known: no job of its name is in the queue yet. {advice}"
    )
