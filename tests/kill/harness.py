"""Real runs of the command line, watched through `status` and hurt from outside. No part of the engine is replaced."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STUDY = "horkd_order_ablation"
# Small, but with epochs long enough to be hit in the middle.
SMALL = ["--no-report", "--preset", "tiny", "--set", "epochs=8", "--set", "train_images=320", "--set", "batch_size=16"]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "sweeps", *words]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def sweeps(*words: str, timeout: float = 180) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command(*words), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=timeout, check=False
    )


class Living:
    """A command that is still going on."""

    def __init__(self, out: Path, *words: str, env: dict[str, str] | None = None) -> None:
        self.out = out
        self.process = subprocess.Popen(
            command(*words, "--out", str(out)),
            cwd=ROOT,
            env=env or environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(self, timeout: float = 180) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        stdout, stderr = self.process.communicate(timeout=timeout)
        return self.process.returncode, stdout, stderr

    def status(self) -> dict[str, Any]:
        return status(self.out)

    def until(self, wanted: Callable[[dict[str, Any]], bool], timeout: float = 120) -> dict[str, Any]:
        """The first status for which `wanted` holds."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.process.poll() is not None:
                out, err = self.process.communicate()
                raise AssertionError(f"the run ended early with {self.process.returncode}:\n{out}\n{err}")
            view = self.status()
            if view and wanted(view):
                return view
            time.sleep(0.2)
        raise AssertionError(f"not seen within {timeout} s; last status: {self.status()}")

    def end(self) -> None:
        """Leave nothing behind when a test fails."""
        if self.process.poll() is None:
            for pid in tree(self.process.pid):
                kill(pid)
            self.process.wait(timeout=20)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def status(out: Path) -> dict[str, Any]:
    """`status --json`, in this process: the same code without a second of start-up."""
    from sweeps.runs.folder import Place, find_run
    from sweeps.runs.status import look
    from trainables.errors import SweepsError
    from trainables.store.artifacts import Store

    place = Place.of(out, None)
    try:
        return look(find_run(place, "latest"), Store(place.store))
    except SweepsError:
        return {}


def look_at(folder: Path, store: Path) -> dict[str, Any]:
    """The same of a run whose store lies elsewhere."""
    from sweeps.runs.folder import RunFolder
    from sweeps.runs.status import look
    from trainables.store.artifacts import Store

    return look(RunFolder(folder), Store(store))


def done(view: dict[str, Any], role: str) -> int:
    return int(view["stages"].get(role, {}).get("done", 0))


def tree(pid: int) -> list[int]:
    """A process and its descendants, children last."""
    parents: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                fields = Path(entry.path, "stat").read_text().rsplit(")", 1)[1].split()
            except (OSError, IndexError):
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        at = queue.pop(0)
        found.append(at)
        queue += parents.get(at, [])
    return found


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except OSError:
        return False


def gone(pids: list[int], timeout: float = 15) -> list[int]:
    """Which of these processes are still there after a while."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        left = [pid for pid in pids if alive(pid)]
        if not left:
            return []
        time.sleep(0.2)
    return [pid for pid in pids if alive(pid)]


def digests(out: Path) -> dict[str, str]:
    """Key -> content digest of every artifact."""
    return {
        path.parent.name: json.loads(path.read_text())["digest"] for path in (out / "store").glob("*/manifest.json")
    }


EPOCH = re.compile(r"epoch (\d+)/\d+")


def epochs_trained(out: Path) -> dict[str, Counter[int]]:
    """Stage log -> how often each epoch was trained."""
    found: dict[str, Counter[int]] = {}
    for path in out.glob("runs/*/logs/*.log"):
        if path.name != "driver.log":
            found[path.stem] = Counter(int(n) for n in EPOCH.findall(path.read_text()))
    return found


def trained_twice(out: Path) -> dict[str, list[int]]:
    """Stage log -> epochs trained more than once."""
    return {
        name: again
        for name, counts in epochs_trained(out).items()
        if (again := [e for e, n in counts.items() if n > 1])
    }
