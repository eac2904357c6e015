"""What runs inside a job: the driver's command, a worker node, both in a gang, or one task of an array without Ray.

Signals are ours: SLURM's warning (USR2) drains and requeues, its end (TERM) leaves at once. submitit starts these
objects and would otherwise answer both.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import FrameType
from typing import Any

from slurm import devices, queue
from slurm.errors import ClusterError
from slurm.guard import Guard
from slurm.ray_cluster import Head, Meeting, WorkerNode, check_head, offer
from slurm.temp import private_temp

AGAIN = 75  # A driver's exit code that means: Ray was lost or the job is ending; start me again.
SOME_FAILED = 10  # An array task's exit code when all is done but what failed for good; 1 is also that of a crash.
CRASHES_ALLOWED = 5  # In a row; a life of ten minutes begins a new row.
LONG_LIFE_SECONDS = 600.0
LOOK_SECONDS = 0.2
FILES_SECONDS = 2.0
GUARD_SECONDS = 1.0
RELEASE_SECONDS = 60.0
NODE_ENDED = "its Ray node ended"
HELD = "held until the driver is there"
SHORT_LIFE_SECONDS = 60.0
SHORT_LIVES_ALLOWED = 5
ASK_QUEUE_SECONDS = 30.0
HEAD_WAIT_SECONDS = 600.0
HEAD_LOOK_SECONDS = 3.0
HEADLESS_SECONDS = 45.0  # A raylet without its head ends itself after a minute.
REFUSALS_ALLOWED = 3


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


def _answers(head: Head) -> bool:
    host, _, port = head.address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError):
        return False
    return True


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

    meeting_folder: str
    run: str
    warning_seconds: int = 120
    scratch: str | None = None
    interface: str | None = None

    def common(self) -> dict[str, Any]:
        """What this job shares with any other of the run, to make that one from."""
        return {each.name: getattr(self, each.name) for each in fields(Job)}

    @property
    def meeting(self) -> Meeting:
        """Where the run's nodes meet."""
        return Meeting(Path(self.meeting_folder), self.run)

    def place(self) -> str | None:
        """The scratch folder on this node."""
        return os.path.expandvars(self.scratch) if self.scratch else None


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
        meeting = self.meeting
        meeting.check()
        before = meeting.over()
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
            meeting.end(code)
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
            held = [number for number, said in self.meeting.workers().items() if said.get("state") == HELD]
            if held:
                queue.release([j.id for j in queue.of(self.meeting.jobs()) if j.number in held and j.waiting])
                for number in held:
                    self.meeting.say(number, state="released")

    def _cancel_waiting(self) -> None:
        with contextlib.suppress(ClusterError, OSError):
            mine = {job_number(), os.environ.get("SLURM_ARRAY_JOB_ID", "")}
            waiting = [job.id for job in queue.of(self.meeting.jobs()) if job.waiting and job.number not in mine]
            if waiting:
                queue.cancel(waiting)


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
        meeting = self.meeting
        meeting.check()
        job = job_number()
        with private_temp(self.place()) as temp:
            guard = Guard(temp)
            try:
                short = 0
                while True:
                    head = self._wait_for_head(meeting, signals, is_over)
                    if not isinstance(head, Head):
                        code = 3 if head == "refused" else 0
                        break
                    began = time.monotonic()
                    why = self._join(meeting, head, temp, signals, guard, is_over)
                    say(f"left {head.address}: {why}")
                    short = short + 1 if time.monotonic() - began < SHORT_LIFE_SECONDS and why == NODE_ENDED else 0
                    if short >= SHORT_LIVES_ALLOWED:
                        say(f"Ray ended {short} times in a row on this node within {SHORT_LIFE_SECONDS:.0f} s: leaving")
                        meeting.say(job, state="refused", why=NODE_ENDED)
                        return 3
                    if why in ("ended", "over", "asked"):
                        code = 0
                        break
                    if why == "warned":
                        meeting.say(job, state="left", why=why)
                        if self.requeues:
                            guard.close()
                            requeue_this_job(signals)
                        return 0
            finally:
                guard.close()
        if code == 0:
            meeting.say(job, state="left")
        return code

    def _leave(self, meeting: Meeting, signals: Signals, is_over: Callable[[], bool]) -> str | None:
        if signals.ended:
            return "ended"
        if signals.warned:
            return "warned"
        # Hundreds of workers look at one folder: signals are answered at once, files every two seconds.
        if time.monotonic() - self._looked < FILES_SECONDS:
            return None
        self._looked = time.monotonic()
        if meeting.over() is not None or is_over():
            return "over"
        return "asked" if meeting.is_asked_to_leave(job_number()) else None

    def _wait_for_head(self, meeting: Meeting, signals: Signals, is_over: Callable[[], bool]) -> Head | str:
        meeting.say(job_number(), state="looking for the head")
        began = time.monotonic()
        asked = began - ASK_QUEUE_SECONDS + 5.0
        refused = ""
        silent: Head | None = None
        strangers = 0  # Answers in a row that were none of a Ray head.
        limit = devices.seconds("SWEEPS_HEAD_WAIT_SECONDS", HEAD_WAIT_SECONDS)
        while True:
            why = self._leave(meeting, signals, is_over)
            if why is not None:
                say(f"leaving before there was a head: {why}")
                if why == "warned" and self.requeues:
                    requeue_this_job(signals)
                return why
            head = meeting.head()
            if head is not None and head.attempt != refused:
                try:
                    check_head(meeting, head)
                    return head
                except ClusterError as error:
                    say(str(error))
                    self._refused += 1
                    refused = head.attempt
                    meeting.say(job_number(), state="refused", why=str(error))
                    if self._refused >= REFUSALS_ALLOWED:
                        return "refused"
                except OSError as error:
                    strangers = strangers + 1 if isinstance(error, TimeoutError) else 0
                    if strangers >= REFUSALS_ALLOWED:
                        refused = head.attempt
                        meeting.say(job_number(), state="refused", why=str(error))
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
                    meeting.say(job_number(), state=HELD)
                    requeue_this_job(signals, hold=True)
                return "over"
            time.sleep(1.0)

    def _driver_runs(self) -> bool:
        with contextlib.suppress(ClusterError, ValueError):
            return not self.driver or any(job.living and not job.waiting for job in queue.of([self.driver]))
        return False

    def _join(
        self,
        meeting: Meeting,
        head: Head,
        temp: Path,
        signals: Signals,
        guard: Guard,
        is_over: Callable[[], bool],
    ) -> str:
        what = offer(self.interface)
        name = f"w{attempt_name()}-{os.environ.get('SLURM_PROCID', '0')}"
        node = WorkerNode(meeting, head, name, temp, what)
        with signals.shielded():
            node.start()
        say(f"joins {head.address} as {name} with {what.cpus} cpus, {what.gpus} gpus")
        meeting.say(job_number(), state="serving", cpus=what.cpus, gpus=what.gpus, node=name, head=head.address)
        looked = told = time.monotonic()
        missed = 0
        try:
            while node.is_up():
                if time.monotonic() - told > GUARD_SECONDS:
                    told = time.monotonic()
                    guard.tell()
                why = self._leave(meeting, signals, is_over)
                if why in ("warned", "asked"):
                    self._drain(meeting, node, signals, guard, why)
                if why is not None:
                    return why
                if time.monotonic() - looked > HEAD_LOOK_SECONDS:
                    looked = time.monotonic()
                    now = meeting.head()
                    if now is not None and now != head:
                        self._drain(meeting, node, signals, guard, "the head moved")
                        return "the head moved"
                    missed = 0 if _answers(head) else missed + 1
                    if missed >= 3:
                        self._drain(meeting, node, signals, guard, "the head is gone")
                        return "the head is gone"
                time.sleep(LOOK_SECONDS)
            return NODE_ENDED
        finally:
            guard.tell()
            node.stop()

    def _drain(self, meeting: Meeting, node: WorkerNode, signals: Signals, guard: Guard, why: str) -> None:
        # Who was warned has until the time limit; who was merely asked may finish even a long epoch.
        seconds = {"warned": 0.7 * self.warning_seconds, "asked": 3600.0}.get(why, HEADLESS_SECONDS)
        # Nobody asks a stage for its next epoch when the head is gone: only what computes now can still be saved.
        mark = "busy" if why in ("warned", "asked") else "step"
        say(f"draining ({why}): {node.busy(mark)} stages save and move")
        meeting.say(job_number(), state="draining", why=why, node=node.name)
        with signals.shielded():
            node.drain(seconds)
        told = 0.0
        until = time.monotonic() + seconds
        while node.busy(mark) and node.is_up() and time.monotonic() < until and not signals.ended:
            if time.monotonic() - told > GUARD_SECONDS:
                told = time.monotonic()
                guard.tell()
            time.sleep(0.1)
        say(f"drained: {node.busy(mark)} stages had not saved")


@dataclass
class Gang(Job):
    """One job of several nodes: every task is a worker, the first one drives as well."""

    command: Sequence[str] = ()

    def __call__(self) -> int:
        """Serve until the driver is through."""
        signals = Signals()
        signals.listen()
        if os.environ.get("SLURM_PROCID", "0") != "0":
            return Worker(**self.common(), driver=job_number(), requeues=False).serve(signals)
        with signals.shielded():
            words = [sys.executable, "-m", "slurm.jobs", self.meeting_folder, self.run, str(self.warning_seconds)]
            worker = subprocess.Popen([*words, self.scratch or "", self.interface or ""], stdin=subprocess.DEVNULL)
        try:
            return Driver(**self.common(), command=self.command).drive(signals)
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(timeout=20)
            worker.kill()
            worker.wait()


@dataclass
class ArrayTask(Job):
    """One task of an array without a Ray network: a loop over the plan's ready stages."""

    command: Sequence[str] = ()

    def __call__(self) -> int:
        """Run the loop; a warned task goes back into the queue once its stages are saved."""
        signals = Signals()
        signals.listen()
        meeting = self.meeting
        meeting.check()
        over = meeting.over()
        if over is not None:
            say(f"the run ended already, with code {over.get('code')}")
            return int(over.get("code", 0))
        code = Driver(**self.common(), command=self.command).once(signals)
        if code in (0, SOME_FAILED):
            code = 1 if code else 0
            with contextlib.suppress(OSError):
                meeting.end(code)
        if code == AGAIN and not signals.ended and not meeting.is_asked_to_leave(job_number()):
            requeue_this_job(signals)
        return code


def _serve_beside_the_driver(folder: str, run: str, warning: str, scratch: str, interface: str) -> int:
    signals = Signals()
    signals.listen()
    worker = Worker(folder, run, int(warning), scratch or None, interface or None, requeues=False)
    parent = os.getppid()
    return worker.serve(signals, lambda: os.getppid() != parent)


if __name__ == "__main__":
    sys.exit(_serve_beside_the_driver(*sys.argv[1:]))
