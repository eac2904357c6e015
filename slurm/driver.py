"""The driver's job: runs the command that drives the study, again after a crash and in every life of the job."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from slurm import queue
from slurm.errors import ClusterError
from slurm.job import AGAIN, HELD, Job, Signals, attempt_name, job_number, requeue_this_job, say

CRASHES_ALLOWED = 5  # In a row; a life of ten minutes begins a new row.
LONG_LIFE_SECONDS = 600.0
RELEASE_SECONDS = 60.0


@dataclass
class Driver(Job):
    """Runs the command that drives the study, again when it crashes, and in the next life of the job when it ends.

    Attributes:
        command: What Python is to run, such as `-m sweeps drive RUN`.
    """

    command: Sequence[str] = ()

    def __call__(self) -> int:
        """Run it to its end; the exit code of the command."""
        signals = Signals()
        signals.listen()
        return self.drive(signals)

    def drive(self, signals: Signals) -> int:
        """Run the command until it is through; its exit code."""
        rendezvous = self.rendezvous
        rendezvous.check()
        before = rendezvous.over()
        if before is not None:
            say(f"the run ended already, with code {before.get('code')}")
            return int(before.get("code", 0))
        self._release_held()
        crashes = 0
        while True:
            began = time.monotonic()
            say(f"driver of {self.run}, attempt {attempt_name()}")
            code = self.once(signals)
            if signals.ended:
                say("ended by SLURM; what is saved is kept")
                return 143
            if code != AGAIN and code >= 0:
                break  # Also when it was warned: a stop that somebody asked for meanwhile is the end.
            if signals.warned:
                requeue_this_job(signals)
                return AGAIN
            crashes = 1 if time.monotonic() - began > LONG_LIFE_SECONDS else crashes + 1
            if crashes > CRASHES_ALLOWED:
                say(f"the driver was lost {crashes} times in a row; this run ends here")
                code = 1
                break
            say(f"the driver was lost (code {code}); it starts again from the disk")
            time.sleep(min(30, 2 * crashes))
        with contextlib.suppress(OSError):  # On a full disk workers learn it from the queue.
            rendezvous.end(code)
        self._cancel_waiting()
        say(f"the run ended with code {code}")
        return code

    def once(self, signals: Signals) -> int:
        """Run the command once; its exit code, negative when a signal ended it."""
        env = os.environ | {"SWEEPS_ATTEMPT": attempt_name(), "SWEEPS_NODE": f"w{attempt_name()}-0"}
        place = self.place()
        if place:
            env["SWEEPS_TMPDIR"] = place
        with signals.shielded():
            child = subprocess.Popen([sys.executable, *self.command], env=env, stdin=subprocess.DEVNULL)
        until = None
        released = time.monotonic()
        while child.poll() is None:
            time.sleep(0.2)
            if time.monotonic() - released > RELEASE_SECONDS:
                released = time.monotonic()
                self._release_held()
            if (signals.ended or signals.warned) and until is None:
                # The command had the signal too; a drain may take most of the time that the warning gives.
                until = time.monotonic() + (3.0 if signals.ended else 0.7 * self.warning_seconds)
            if signals.ended and until is not None:
                until = min(until, time.monotonic() + 3.0)
            if until is not None and time.monotonic() > until:
                child.kill()
        return child.wait()

    def _release_held(self) -> None:
        """Let the workers start that held themselves while there was no driver; what a person holds stays held."""
        with contextlib.suppress(ClusterError, OSError):
            held = [number for number, said in self.rendezvous.workers().items() if said.get("state") == HELD]
            if held:
                queue.release([j.id for j in queue.of(self.rendezvous.jobs()) if j.number in held and j.waiting])
                for number in held:
                    self.rendezvous.say(number, state="released")

    def _cancel_waiting(self) -> None:
        with contextlib.suppress(ClusterError, OSError):
            mine = {job_number(), os.environ.get("SLURM_ARRAY_JOB_ID", "")}
            waiting = [job.id for job in queue.of(self.rendezvous.jobs()) if job.waiting and job.number not in mine]
            if waiting:
                queue.cancel(waiting)
