"""What a task has: its cores, memory and GPUs, and the processes for stages among which it shares them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slurm import devices
from sweeps.engine.array.serve import TASK_SIGNALS
from sweeps.engine.array.signals import WARNED
from sweeps.engine.machines import LATE_FILES_SECONDS, LocalMachine, fitting
from sweeps.engine.order import StageOrder


class Child:
    """A process for stages, tied to this one: it dies with us however we die.

    Attributes:
        devices: The GPUs it sees, as CUDA names them; without any it sees none.
        ready: Whether it came up; what it was given before that never began.
        trial: What it runs now.
        resources: What that takes.
    """

    def __init__(self, devices: tuple[str, ...], env: Mapping[str, str]) -> None:
        self.devices = devices
        self.ready = False
        self.trial: str | None = None
        self.resources: Mapping[str, float] = {}
        self._read = b""
        words = [sys.executable, "-P", "-c", "from sweeps.engine.array.serve import serve; serve()", str(os.getpid())]
        # A signal meant for the whole job must not end it before it can ignore it, and must not be lost to us.
        old = signal.pthread_sigmask(signal.SIG_BLOCK, TASK_SIGNALS)
        try:
            self.process = subprocess.Popen(
                words,
                env={**env, "CUDA_VISIBLE_DEVICES": ",".join(devices)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)
        assert self.process.stdin is not None and self.process.stdout is not None
        self._to, self._from = self.process.stdin, self.process.stdout
        os.set_blocking(self._from.fileno(), False)

    def fileno(self) -> int:
        """Where its answers arrive."""
        return self._from.fileno()

    def give(self, trial: str, order: StageOrder) -> None:
        """Let it run a stage."""
        self.trial, self.resources = trial, order["resources"]
        with contextlib.suppress(BrokenPipeError):  # It is dead: reading says so.
            self._to.write(json.dumps(order).encode() + b"\n")

    def answers(self) -> list[dict[str, Any] | None]:
        """What it said since the last look; None stands for its death."""
        found: list[dict[str, Any] | None] = []
        while True:
            try:
                more = os.read(self._from.fileno(), 1 << 16)
            except BlockingIOError:
                return found
            if not more:
                return [*found, None]
            *lines, self._read = (self._read + more).split(b"\n")
            for line in lines:
                said = json.loads(line)
                if said.get("ready"):
                    self.ready = True
                else:
                    found.append(said)

    def end(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
        self._to.close()
        self._from.close()


class TaskMachine(LocalMachine):
    """What SLURM gave this task: it guards the cores itself, and other nodes' files may show late."""

    core_locks, patience, lost_code, settle_seconds = False, LATE_FILES_SECONDS, WARNED, 0.0

    def __init__(self, cpus: int, devices: Sequence[str] = (), memory_bytes: float | None = None) -> None:
        super().__init__(cpus, len(devices))
        self.devices = tuple(devices)
        if memory_bytes:
            self.has["memory"] = memory_bytes

    @classmethod
    def given(cls, slots: int) -> TaskMachine:
        """By SLURM's variables; GPUs that the task was not given are not used."""
        visible = os.environ.get(devices.VISIBLE)
        if visible is None:
            found = [str(number) for number in range(devices.number("SLURM_GPUS_ON_NODE"))]
        else:
            found = devices.named(visible)
        memory = devices.number("SLURM_MEM_PER_NODE")
        return cls(slots, found, float(memory << 20) if memory else None)

    def room(self, wanted: Mapping[str, float]) -> int:
        """How many such stages this task holds at once."""
        return fitting(self.has, {name: amount for name, amount in wanted.items() if name in self.has})


class Bench:
    """The processes for stages, started when first wanted, and what is left of the task's cores, memory and GPUs."""

    def __init__(self, machine: TaskMachine, env: Mapping[str, str]) -> None:
        self.machine, self.env = machine, env
        self.children: list[Child] = []

    @property
    def busy(self) -> list[Child]:
        """Those with a stage."""
        return [child for child in self.children if child.trial is not None]

    def place(self, wanted: Mapping[str, float]) -> tuple[str, ...] | None:
        """The GPUs a stage that asks for this can have now; None when something is lacking.

        A share of a GPU is a share of one; several GPUs are whole ones.
        """
        busy = self.busy
        for name in ("CPU", "memory"):
            if name in self.machine.has:
                used = sum(child.resources.get(name, 0.0) for child in busy)
                if used + wanted.get(name, 0.0) > self.machine.has[name] + 1e-9:
                    return None
        gpu = wanted.get("GPU", 0.0)
        if not gpu:
            return ()
        taken = dict.fromkeys(self.machine.devices, 0.0)
        for child in busy:
            for device in child.devices:
                taken[device] += min(1.0, child.resources.get("GPU", 0.0))
        idle = {child.devices for child in self.children if child.trial is None}
        each, count = min(1.0, gpu), max(1, int(gpu))
        # Where a process waits already comes first: another would load torch and open the GPU anew.
        fit = sorted((d for d in taken if taken[d] + each <= 1 + 1e-9), key=lambda d: ((d,) not in idle, taken[d]))
        return tuple(fit[:count]) if len(fit) >= count else None

    def give(self, trial: str, order: StageOrder) -> None:
        """Let a process run a stage for which there is room."""
        devices = self.place(order["resources"])
        assert devices is not None, "a stage was handed out without room"
        idle = [child for child in self.children if child.trial is None]
        child = next((c for c in idle if c.devices == devices), None)
        if child is None:
            if idle and len(self.children) >= self.machine.has["CPU"]:
                self.drop(idle[0])
            child = Child(devices, self.env)
            self.children.append(child)
        child.give(trial, order)

    def reports(self, seconds: float) -> Iterator[tuple[Child, str, dict[str, Any] | None]]:
        """(process, what it ran, what became of it) of the stages that end within so long; None when it was killed."""
        readable, _, _ = select.select(self.children, [], [], seconds)
        for child in readable:
            for said in child.answers():
                trial, child.trial = child.trial, None
                if said is None:
                    self.drop(child)
                if trial is not None:
                    yield child, trial, said

    def drop(self, child: Child) -> None:
        """End a process."""
        if child in self.children:
            self.children.remove(child)
            child.end()

    def close(self) -> None:
        """End all of them at once."""
        for child in list(self.children):
            self.drop(child)
