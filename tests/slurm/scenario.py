"""A study on the private cluster, watched through `status` and hurt through SLURM's own commands and kill -9."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kill"))

import harness
from private_slurm import PrivateSlurm

STUDY = harness.STUDY
SMALL = harness.SMALL[1:]
# Costs no computing: several such runs go side by side on two cores.
SLEEP_STUDY = "_engine_check"
FEW = ["--preset", "tiny", "--set", "student.label=s00,s01", "--set", "evaluation.seconds=0.1"]
SLEEP = [*FEW, "--set", "epochs=6", "--set", "seconds=1"]
# Long enough to be hurt six times: 15 stages of 16 seconds.
LONG = [
    "--preset",
    "tiny",
    "--seeds",
    "3",
    "--set",
    "evaluation.seconds=0.1",
    "--set",
    "epochs=16",
    "--set",
    "seconds=1",
]
JOBS = {"cpus": "1", "memory_gb": "1", "driver.memory_gb": "1", "time": "30", "warning_seconds": "30"}


class Reference:
    """A run on this machine alone that nobody hurts; it goes on beside the test that will compare with it."""

    def __init__(self, folder: Path, study: str, *words: str) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            harness.command("run", study, *words, "--out", str(folder), "-q", "--no-report"),
            cwd=harness.ROOT,
            env=harness.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def digests(self) -> dict[str, str]:
        """Key -> content digest of its artifacts."""
        if self._process.stderr is not None and not self._process.stderr.closed:
            _, said = self._process.communicate(timeout=300)
            assert self._process.returncode == 0, said
        return harness.digests(self.folder)

    def end(self) -> None:
        """Leave nothing behind when no test came to compare."""
        if self._process.poll() is None:
            for pid in harness.tree(self._process.pid):
                harness.kill(pid)
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()


class ClusterRun:
    """One run on the cluster."""

    def __init__(self, cluster: PrivateSlurm, out: Path) -> None:
        self.cluster, self.out = cluster, out

    def submit(self, *words: str, on: str = "slurm", workers: int = 2, **jobs: str) -> str:
        """Submit; what the command printed."""
        slurm = [f"--slurm={key.replace('__', '.')}={value}" for key, value in {**JOBS, **jobs}.items()]
        name = words[0] if words and not words[0].startswith("-") else STUDY
        rest = words[1:] if words and not words[0].startswith("-") else words
        done = harness.sweeps("run", name, *rest, "--on", on, "--workers", str(workers), *slurm, "--out", str(self.out))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def sweeps(self, *words: str, code: int = 0) -> str:
        """Another command on this run; what it printed."""
        done = harness.sweeps(*words, "--out", str(self.out))
        assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    @property
    def folder(self) -> Path:
        return next((self.out / "runs").iterdir())

    def status(self) -> dict[str, Any]:
        return harness.status(self.out)

    def jobs(self, *roles: str) -> list[dict[str, Any]]:
        """Its living jobs, of these roles if any are named."""
        return [j for j in self.status().get("jobs", []) if j["living"] and (not roles or j["role"] in roles)]

    def serving(self) -> list[dict[str, Any]]:
        """Its workers that serve the head now."""
        return [job for job in self.jobs("worker") if job["does"] == "serving"]

    def until(self, wanted: Callable[[dict[str, Any]], Any], timeout: float = 120, what: str = "") -> dict[str, Any]:
        """The first status for which `wanted` holds."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            view = self.status()
            if view and wanted(view):
                return view
            time.sleep(0.3)
        raise AssertionError(f"not seen within {timeout} s: {what}\n{self.report()}")

    def over(self) -> dict[str, Any] | None:
        path = self.folder / "slurm" / "over.json"
        return json.loads(path.read_text()) if path.exists() else None

    def finish(self, timeout: float = 240) -> int:
        """Wait for the run's end and for its jobs to leave; its exit code."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            over = self.over()
            if over is not None and not self.jobs():
                return int(over["code"])
            time.sleep(0.5)
        raise AssertionError(f"not over within {timeout} s\n{self.report()}")

    def report(self) -> str:
        """What helps to understand a failure."""
        lines = [json.dumps({k: v for k, v in self.status().items() if k not in ("cells",)}, indent=1, default=str)]
        for path in sorted((self.folder / "slurm" / "jobs").glob("*.out")):
            lines += [f"== {path.name}", *path.read_text(errors="replace").splitlines()[-40:]]
        return "\n".join(lines)

    def processes(self) -> list[int]:
        """Living processes that know this run's folder: its jobs, Ray's and the stages'."""
        mark = str(self.out).encode()
        found = []
        for entry in os.scandir("/proc"):
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    seen = Path(entry.path, "environ").read_bytes() + Path(entry.path, "cmdline").read_bytes()
                except OSError:
                    continue
                if mark in seen and harness.alive(int(entry.name)):
                    found.append(int(entry.name))
        return found

    def leaves_nothing(self, timeout: float = 20) -> None:
        """No process of the run is left a moment after its end."""
        end = time.monotonic() + timeout
        while self.processes() and time.monotonic() < end:
            time.sleep(0.3)
        left = [(pid, Path(f"/proc/{pid}/cmdline").read_bytes()[:200]) for pid in self.processes()]
        assert not left, left

    def digests(self) -> dict[str, str]:
        return harness.digests(self.out)

    def begins(self) -> dict[str, int]:
        """Stage -> how often a process began or continued it."""
        return {path.stem: path.read_text().count(" begins, lease ") for path in (self.folder / "logs").glob("*-*.log")}

    def repeats_no_more_than_the_epochs_in_flight(self) -> None:
        """Each interruption of a stage costs at most the one epoch it was in."""
        begins = self.begins()
        for name, epochs in harness.trained_twice(self.out).items():
            assert len(epochs) <= begins[name] - 1, (name, epochs, begins[name])

    def nothing_failed(self) -> None:
        """No stage was charged with a failure that was not its own."""
        failures = list((self.out / "store" / ".work").glob("*/failure-*.json"))
        assert not failures, [path.read_text()[:500] for path in failures]
        assert self.status()["failed"] == []
