"""The thread that looks after a run while Tune may sit inside one step for minutes: display, stop flag, signals, Ray's pulse."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from typing import Any

from slurm.reaper import Reaper
from sweeps.engine import machines
from sweeps.engine.listener import Display
from sweeps.engine.state import EngineState
from sweeps.engine.waiting import Waiting, waits_for_cores
from sweeps.runs.folder import RunFolder, stop_content
from system.liveness import process_start
from trainables.store.leases import Lease

IDLE_DRAINED_SECONDS = 0.6
BIRTH_SECONDS = 3.0


class Watch(threading.Thread):
    """Display, stop flag, signals and the raylet's pulse: Tune may sit inside one step for minutes."""

    def __init__(
        self,
        state: EngineState,
        run: RunFolder,
        terminal: Any,
        display: Display | None,
        resume_line: str,
        driver: Lease,
        reaper: Reaper,
    ) -> None:
        super().__init__(name="watch", daemon=True)
        self.reaper = reaper
        self._told = 0.0
        self._idle_since = time.monotonic()
        self.state, self.run_folder, self.terminal = state, run, terminal
        self.display, self.resume_line, self.driver = display, resume_line, driver
        self._waiting = Waiting(self.say, lambda text: driver.update(waits=text))
        self._finished = threading.Event()
        self._presses = 0
        self._born: dict[str, int] = {}
        self._gone: dict[str, float] = {}
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[0], False)
        os.set_blocking(self._pipe[1], False)
        self._old: dict[int, Any] = {}

    def start(self) -> None:
        """Take over the signals, then run."""
        if threading.current_thread() is threading.main_thread():
            # The C handler writes to the pipe at once, even while the main thread sits inside Ray.
            self._old_wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
                # Under nohup a hang-up is ignored, and stays so.
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._old[number] = signal.signal(number, lambda *_: None)
        super().start()

    def finish(self) -> None:
        """Give the signals back and end."""
        self._finished.set()
        self.join(timeout=5)
        if self._old:
            signal.set_wakeup_fd(self._old_wakeup)
            for number, handler in self._old.items():
                signal.signal(number, handler)
        for end in self._pipe:
            os.close(end)

    def run(self) -> None:
        """About five times a second: signals, stop file, raylet, display."""
        while not self._finished.wait(0.2):
            try:
                self._look()
            except Exception:  # Signals and stops must be answered whatever a disk or the kernel refuses for a moment.
                logging.getLogger(__name__).exception("a look at the run failed")

    def _look(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in os.read(self._pipe[0], 64):
                if number == signal.SIGUSR2:
                    self._warned()
                elif number == signal.SIGTERM and not self.state.machine.core_locks:
                    # SLURM ends the whole job: Ray's processes had the same signal.
                    self._end_now()
                elif number == signal.SIGHUP and signal.SIGHUP in self._old:
                    self._hung_up()
                elif number in (signal.SIGINT, signal.SIGTERM):
                    self._pressed()
        if not self.state.ended_early and self.run_folder.stop_file.exists():
            self.state.draining = True
            self.say("Stop asked: running stages finish their epoch and save.")
        if not self.state.draining or self.state.halted or self.state.running:
            self._idle_since = time.monotonic()
        elif time.monotonic() - self._idle_since > IDLE_DRAINED_SECONDS:
            # All that ran is saved; Tune takes seconds more to notice that nothing is left. Under the lock no
            # record is half-way written.
            with self.state.lock:
                self.say(f"Stopped: {self.state.graph.counts['done']} stages are in the store.")
                # A stop that somebody asks for while we save after a warning is the end all the same.
                again = self.state.warned and stop_content(self.run_folder).get("warned")
                self._end_now(code=self.state.machine.lost_code if again else 130)
        content = stop_content(self.run_folder)
        if content.get("now"):
            self._end_now()
        if self.state.halted and not self.run_folder.stop_file.exists():
            with contextlib.suppress(OSError):
                self.run_folder.stop_file.write_text("{}")
        if self.state.pids:
            with contextlib.suppress(Exception):
                self.state.machine.look()
        for name, pid in (self._lost_at_birth() if self.state.starting else dict(self.state.pids)).items():
            if not process_start(pid):
                self.say(f"Ray's {name} was killed; this run ends here and loses nothing but the epochs in flight.")
                self._end_now(code=self.state.machine.lost_code)
        if not self.driver.is_mine():
            self.say("Another process drives this run now; this one leaves.")
            self._end_now(code=1)
        self.reaper.watch()
        if time.monotonic() - self._told > 1.0:
            self._told = time.monotonic()
            self.reaper.tell()
        self._tell_waiting()
        if self.display:
            with contextlib.suppress(Exception):
                self.display.tick(self.state)

    def _tell_waiting(self) -> None:
        """Say what the engine has to tell, and why nothing starts: here, and in the lock for `status`."""
        state = self.state
        with state.lock:
            news, state.news = state.news, []
            ready = state.graph.counts["ready"] and not state.ended_early
            state.waits = f"memory: {why}" if ready and (why := state.memory.why_closed()) else ""
            if not state.waits and state.core_waits and not state.ended_early:
                state.waits = waits_for_cores(len(state.core_waits), self.run_folder.id)
        for line in news:
            self.say(line)
        self._waiting.tell(state.waits)

    def _lost_at_birth(self) -> dict[str, int]:
        """Ray's processes that vanished while it starts: it would wait a minute and more for them.

        A start that fails for a reason of its own ends them too, and says it a moment later.
        """
        self._born |= machines.ray_pids()
        now = time.monotonic()
        gone = {name: pid for name, pid in self._born.items() if not process_start(pid)}
        self._gone = {name: self._gone.get(name, now) for name in gone}
        return {name: pid for name, pid in gone.items() if now - self._gone[name] > BIRTH_SECONDS}

    def say(self, line: str) -> None:
        """A line for the person, whatever happens to stdout."""
        with contextlib.suppress(Exception):
            if self.display:
                self.display.say(line)
            else:
                self.terminal.write(line + "\n")
                self.terminal.flush()

    def _warned(self) -> None:
        """The job's time is nearly up: save everything; the next life of the job goes on from the disk."""
        if self.state.draining:
            return
        with contextlib.suppress(OSError):
            self.run_folder.stop_file.write_text('{"warned": true}')
        self.state.warned = self.state.draining = True
        self.say(f"Warned: {len(self.state.running)} running stages finish their epoch and save.")

    def _hung_up(self) -> None:
        """The terminal was closed: drain. Shell and kernel may both say so, and neither means "at once"."""
        if not self.state.draining:
            self._pressed()

    def _pressed(self) -> None:
        self._presses += 1
        if self._presses == 1:
            with contextlib.suppress(OSError):
                self.run_folder.stop_file.write_text("{}")
            self.state.draining = True
            busy = len(self.state.running)
            self.say(f"Draining: {busy} running stages finish their epoch and save. Press again to stop at once.")
            if self.resume_line:
                self.say(self.resume_line)
        else:
            self._end_now()

    def _end_now(self, code: int = 130) -> None:
        """End this process and what it started, at once; the leases of the dead are free for the next run."""
        if self.resume_line:
            self.say(self.resume_line)
        if self.display:
            with contextlib.suppress(Exception):
                self.display.stop()
        for last in (self.reaper.tell, self.reaper.close, self.driver.release):
            with contextlib.suppress(Exception):
                last()
        os._exit(code)
