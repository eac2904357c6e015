"""A worker's job: its node joins the run's Ray head, wherever that is now, serves and leaves."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from slurm import devices, queue
from slurm.errors import ClusterError
from slurm.head import check_head
from slurm.job import HELD, Job, Signals, attempt_name, job_number, requeue_this_job, say
from slurm.reaper import Reaper
from slurm.rendezvous import Head, Rendezvous
from slurm.temp import private_temp
from slurm.worker_node import WorkerNode, offer

LOOK_SECONDS = 0.2
FILES_SECONDS = 2.0
REAPER_SECONDS = 1.0
NODE_ENDED = "its Ray node ended"
SHORT_LIFE_SECONDS = 60.0
SHORT_LIVES_ALLOWED = 5
ASK_QUEUE_SECONDS = 30.0
HEAD_WAIT_SECONDS = 600.0
HEAD_LOOK_SECONDS = 3.0
HEADLESS_SECONDS = 45.0  # A raylet without its head ends itself after a minute.
REFUSALS_ALLOWED = 3


def _answers(head: Head) -> bool:
    host, _, port = head.address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError):
        return False
    return True


@dataclass
class Worker(Job):
    """Joins the run's Ray head, wherever that is now, and leaves when told, warned or no longer needed.

    Attributes:
        driver: Id of the driver's job: when that is not in the queue any more, nobody will need us.
        requeues: Whether a warned worker goes back into the queue.
    """

    driver: str = ""
    requeues: bool = True
    _refused: int = field(default=0, init=False)
    _looked: float = field(default=-FILES_SECONDS, init=False)

    def __call__(self) -> int:
        """Serve until the run is over; 0 when it left in order, 3 when it was refused."""
        signals = Signals()
        signals.listen()
        return self.serve(signals)

    def serve(self, signals: Signals, is_over: Callable[[], bool] = lambda: False) -> int:
        """Join, serve, leave; again when the head moved."""
        rendezvous = self.rendezvous
        rendezvous.check()
        job = job_number()
        with private_temp(self.place()) as temp:
            reaper = Reaper(temp)
            try:
                short = 0
                while True:
                    head = self._wait_for_head(rendezvous, signals, is_over)
                    if not isinstance(head, Head):
                        code = 3 if head == "refused" else 0
                        break
                    began = time.monotonic()
                    why = self._join(rendezvous, head, temp, signals, reaper, is_over)
                    say(f"left {head.address}: {why}")
                    short = short + 1 if time.monotonic() - began < SHORT_LIFE_SECONDS and why == NODE_ENDED else 0
                    if short >= SHORT_LIVES_ALLOWED:
                        say(f"Ray ended {short} times in a row on this node within {SHORT_LIFE_SECONDS:.0f} s: leaving")
                        rendezvous.say(job, state="refused", why=NODE_ENDED)
                        return 3
                    if why in ("ended", "over", "asked"):
                        code = 0
                        break
                    if why == "warned":
                        rendezvous.say(job, state="left", why=why)
                        if self.requeues:
                            reaper.close()
                            requeue_this_job(signals)
                        return 0
            finally:
                reaper.close()
        if code == 0:
            rendezvous.say(job, state="left")
        return code

    def _leave(self, rendezvous: Rendezvous, signals: Signals, is_over: Callable[[], bool]) -> str | None:
        if signals.ended:
            return "ended"
        if signals.warned:
            return "warned"
        # Hundreds of workers look at one folder: signals are answered at once, files every two seconds.
        if time.monotonic() - self._looked < FILES_SECONDS:
            return None
        self._looked = time.monotonic()
        if rendezvous.over() is not None or is_over():
            return "over"
        return "asked" if rendezvous.is_asked_to_leave(job_number()) else None

    def _wait_for_head(self, rendezvous: Rendezvous, signals: Signals, is_over: Callable[[], bool]) -> Head | str:
        rendezvous.say(job_number(), state="looking for the head")
        began = time.monotonic()
        asked = began - ASK_QUEUE_SECONDS + 5.0
        refused = ""
        silent: Head | None = None
        strangers = 0  # Answers in a row that were none of a Ray head.
        limit = devices.seconds("SWEEPS_HEAD_WAIT_SECONDS", HEAD_WAIT_SECONDS)
        while True:
            why = self._leave(rendezvous, signals, is_over)
            if why is not None:
                say(f"leaving before there was a head: {why}")
                if why == "warned" and self.requeues:
                    requeue_this_job(signals)
                return why
            head = rendezvous.head()
            if head is not None and head.attempt != refused:
                try:
                    check_head(rendezvous, head)
                    return head
                except ClusterError as error:
                    say(str(error))
                    self._refused += 1
                    refused = head.attempt
                    rendezvous.say(job_number(), state="refused", why=str(error))
                    if self._refused >= REFUSALS_ALLOWED:
                        return "refused"
                except OSError as error:
                    strangers = strangers + 1 if isinstance(error, TimeoutError) else 0
                    if strangers >= REFUSALS_ALLOWED:
                        refused = head.attempt
                        rendezvous.say(job_number(), state="refused", why=str(error))
                    if head != silent:
                        silent = head
                        say(f"nobody answers at {head.address} (attempt {head.attempt}) yet: {error}")
            now = time.monotonic()
            if now - asked > ASK_QUEUE_SECONDS:
                asked = now
                # While the driver waits in the queue its old address may be anybody's; once it runs, it has a new one.
                if refused and self._driver_runs():
                    say("refused by what the driver published: leaving")
                    return "refused"
                if self.driver and queue.is_alive(self.driver) is False:
                    say(f"the driver's job {self.driver} is not in the queue any more: nobody needs this worker")
                    return "over"
            if now - began > limit:
                # Better to give the node back than to sit on it while the driver waits in the queue.
                if self.requeues:
                    rendezvous.say(job_number(), state=HELD)
                    requeue_this_job(signals, hold=True)
                return "over"
            time.sleep(1.0)

    def _driver_runs(self) -> bool:
        with contextlib.suppress(ClusterError, ValueError):
            return not self.driver or any(job.living and not job.waiting for job in queue.of([self.driver]))
        return False

    def _join(
        self,
        rendezvous: Rendezvous,
        head: Head,
        temp: Path,
        signals: Signals,
        reaper: Reaper,
        is_over: Callable[[], bool],
    ) -> str:
        what = offer(self.interface)
        name = f"w{attempt_name()}-{os.environ.get('SLURM_PROCID', '0')}"
        node = WorkerNode(rendezvous, head, name, temp, what)
        with signals.shielded():
            node.start()
        say(f"joins {head.address} as {name} with {what.cpus} cpus, {what.gpus} gpus")
        rendezvous.say(job_number(), state="serving", cpus=what.cpus, gpus=what.gpus, node=name, head=head.address)
        looked = told = time.monotonic()
        missed = 0
        try:
            while node.is_up():
                if time.monotonic() - told > REAPER_SECONDS:
                    told = time.monotonic()
                    reaper.tell()
                why = self._leave(rendezvous, signals, is_over)
                if why in ("warned", "asked"):
                    self._drain(rendezvous, node, signals, reaper, why)
                if why is not None:
                    return why
                if time.monotonic() - looked > HEAD_LOOK_SECONDS:
                    looked = time.monotonic()
                    now = rendezvous.head()
                    if now is not None and now != head:
                        self._drain(rendezvous, node, signals, reaper, "the head moved")
                        return "the head moved"
                    missed = 0 if _answers(head) else missed + 1
                    if missed >= 3:
                        self._drain(rendezvous, node, signals, reaper, "the head is gone")
                        return "the head is gone"
                time.sleep(LOOK_SECONDS)
            return NODE_ENDED
        finally:
            reaper.tell()
            node.stop()

    def _drain(self, rendezvous: Rendezvous, node: WorkerNode, signals: Signals, reaper: Reaper, why: str) -> None:
        # Who was warned has until the time limit; who was merely asked may finish even a long epoch.
        seconds = {"warned": 0.7 * self.warning_seconds, "asked": 3600.0}.get(why, HEADLESS_SECONDS)
        # Nobody asks a stage for its next epoch when the head is gone: only what computes now can still be saved.
        mark = "busy" if why in ("warned", "asked") else "step"
        say(f"draining ({why}): {node.busy(mark)} stages save and move")
        rendezvous.say(job_number(), state="draining", why=why, node=node.name)
        with signals.shielded():
            node.drain(seconds)
        told = 0.0
        until = time.monotonic() + seconds
        while node.busy(mark) and node.is_up() and time.monotonic() < until and not signals.ended:
            if time.monotonic() - told > REAPER_SECONDS:
                told = time.monotonic()
                reaper.tell()
            time.sleep(0.1)
        say(f"drained: {node.busy(mark)} stages had not saved")


def _serve_beside_the_driver(folder: str, run: str, warning: str, scratch: str, interface: str) -> int:
    signals = Signals()
    signals.listen()
    worker = Worker(folder, run, int(warning), scratch or None, interface or None, requeues=False)
    parent = os.getppid()
    return worker.serve(signals, lambda: os.getppid() != parent)


if __name__ == "__main__":
    sys.exit(_serve_beside_the_driver(*sys.argv[1:]))
