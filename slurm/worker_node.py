"""One Ray node on a worker's machine: what it gives to the run, how it starts, drains and ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from slurm import devices
from slurm.head import OBJECT_STORE_BYTES, environment, node_address
from slurm.reaper import descendants, processes
from slurm.rendezvous import Head, Rendezvous, listing

LEFT_SECONDS = 4.0  # What a raylet gets to take its leave before it is killed.


@dataclass
class NodeResources:
    """What a worker node gives to the run."""

    cpus: int
    gpus: int
    memory_bytes: int | None = None
    address: str = "127.0.0.1"


def offer(interface: str | None = None) -> NodeResources:
    """What this job was given, from SLURM's variables; never more than that."""
    gpus = os.environ.get(devices.VISIBLE)
    count = len(devices.named(gpus)) if gpus is not None else devices.number("SLURM_GPUS_ON_NODE")
    cpus = max(1, devices.number("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE", default=1))
    memory = devices.number("SLURM_MEM_PER_NODE")
    return NodeResources(cpus, count, memory << 20 if memory else None, node_address(interface))


class WorkerNode:
    """One Ray node that joins a head and can be made to leave."""

    def __init__(self, rendezvous: Rendezvous, head: Head, name: str, temp: Path, what: NodeResources) -> None:
        self.rendezvous, self.head, self.name, self.temp, self.what = rendezvous, head, name, temp, what
        self.room = temp / "node"  # Its stages read here whether to leave, and say here that they are busy.
        self._process: subprocess.Popen[str] | None = None
        self._drainer: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; `is_up` says whether it still runs."""
        self.room.mkdir(exist_ok=True)
        for name in os.listdir(self.room):
            (self.room / name).unlink(missing_ok=True)
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--address={self.head.address}"]
        words += [f"--num-cpus={self.what.cpus}", f"--num-gpus={self.what.gpus}", f"--node-name={self.name}"]
        words += [f"--node-ip-address={self.what.address}", f"--temp-dir={self.temp / 'r'}"]
        words += ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"]
        words += [f"--object-store-memory={OBJECT_STORE_BYTES}", "--include-log-monitor=false", "--disable-usage-stats"]
        if self.what.memory_bytes:
            words += [f"--memory={self.what.memory_bytes}"]
        env = {**os.environ, **environment(self.rendezvous, self.temp)}
        env |= {"SWEEPS_NODE": self.name, "SWEEPS_NODE_ROOM": str(self.room)}
        self._process = subprocess.Popen(
            words, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)

    def is_up(self) -> bool:
        """Whether the node runs; what it prints goes to our log."""
        if self._process is None:
            return False
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, TypeError):
            text = self._process.stdout.read()
            if text:
                sys.stdout.write("".join(f"  ray: {line}\n" for line in text.splitlines() if line.strip()))
                sys.stdout.flush()
        return self._process.poll() is None

    def busy(self, mark: str = "busy") -> int:
        """Stages that are open here, or with the mark `step` those that compute at this moment."""
        marks = [name.partition("-") for name in listing(self.room)]
        return sum(head == mark and Path("/proc", pid).exists() for head, _, pid in marks)

    def drain(self, seconds: float) -> None:
        """Tell the stages to save and leave, and the head to send no more."""
        (self.room / "leave").touch()
        # The head is asked from a process of its own: it may be gone, and then an answer takes a minute.
        self._drainer = subprocess.Popen(
            [sys.executable, "-m", "slurm.worker_node", self.head.address, self.name, str(int(seconds * 1000))],
            env={**os.environ, **environment(self.rendezvous, self.temp)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        """End the node and everything below it."""
        if self._drainer is not None:
            self._drainer.kill()
            self._drainer.wait()
            self._drainer = None
        if self._process is None:
            return
        below = descendants({self._process.pid}, processes())
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=LEFT_SECONDS)
        table = processes()
        for pid in (below & set(table)) | descendants({self._process.pid} | below, table):
            with contextlib.suppress(OSError):
                os.kill(pid, 9)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None


def _drain(address: str, name: str, deadline_ms: str) -> int:
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason  # type: ignore[attr-defined]

    client = GcsClient(address=address)
    for node_id, node in client.get_all_node_info(timeout=10).items():
        if node.node_name == name:
            why = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
            until = int(time.time() * 1000) + int(deadline_ms)
            client.drain_node(node_id.hex(), why, "the job of this node is ending", until)
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(_drain(*sys.argv[1:]))
