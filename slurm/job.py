"""What every job of a run knows and answers: its folder, its number in the queue, SLURM's signals, its way back into the queue.

Signals are ours: SLURM's warning (USR2) drains and requeues, its end (TERM) leaves at once. submitit starts the jobs'
objects and would otherwise answer both.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass, fields
from pathlib import Path
from types import FrameType
from typing import Any

from slurm import queue
from slurm.errors import ClusterError
from slurm.rendezvous import Rendezvous

AGAIN = 75  # A driver's exit code that means: Ray was lost or the job is ending; start me again.
HELD = "held until the driver is there"


def say(line: str) -> None:
    """A line in the job's log."""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}", flush=True)


def job_number() -> str:
    """SLURM's own number of this job; tasks of an array have one each."""
    return os.environ.get("SLURM_JOB_ID", "0")


def job_id() -> str:
    """What SLURM's commands take for this job alone: the number of an array's last task means the whole array."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else job_number()


def attempt_name() -> str:
    """This life of this job: a requeued job keeps its number."""
    return f"{job_number()}-{os.environ.get('SLURM_RESTART_COUNT', '0')}"


@dataclass
class Signals:
    """What SLURM told this job."""

    warned: bool = False
    ended: bool = False

    def listen(self) -> None:
        """Take the signals over from submitit."""
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGUSR2, self._warn)
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGCONT, signal.SIG_DFL)

    def _warn(self, number: int, frame: FrameType | None) -> None:
        self.warned = True

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.ended = True

    @contextlib.contextmanager
    def shielded(self) -> Any:
        """Processes started inside ignore the warning until they say otherwise: by default they would die of it."""
        old = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        try:
            yield
        finally:
            signal.signal(signal.SIGUSR2, old)


def requeue_this_job(signals: Signals, *, hold: bool = False) -> None:
    """Put this job back in the queue; SLURM then ends it."""
    say("back into the queue" + (f", {HELD}" if hold else ""))
    try:
        queue.requeue(job_id(), hold=hold)
    except ClusterError as error:
        say(f"this job cannot be requeued: {error}. `python -m sweeps resume` submits what is missing.")
        return
    until = time.monotonic() + 60
    while not signals.ended and time.monotonic() < until:  # SLURM ends us; going at once spares its patience.
        time.sleep(0.1)


@dataclass
class Job:
    """What all jobs of a run know."""

    rendezvous_folder: str
    run: str
    warning_seconds: int = 120
    scratch: str | None = None
    interface: str | None = None

    def common(self) -> dict[str, Any]:
        """What this job shares with any other of the run, to make that one from."""
        return {each.name: getattr(self, each.name) for each in fields(Job)}

    @property
    def rendezvous(self) -> Rendezvous:
        """Where the run's nodes meet."""
        return Rendezvous(Path(self.rendezvous_folder), self.run)

    def place(self) -> str | None:
        """The scratch folder on this node."""
        return os.path.expandvars(self.scratch) if self.scratch else None
