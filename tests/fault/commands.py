"""Commands with bounds: what they print and how they end is what a round judges."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import harness

KNOWN_CODES = {0, 1, 2, 3, 4, 5, 130}
BOUND_SECONDS = (
    240.0  # Silence of another machine's process is watched for a minute; the rest is room on a busy machine.
)
MARK = "SWEEPS_FAULT_ROUND"


class Broken(AssertionError):
    """A promise was not kept."""


@dataclass
class Place:
    """Where the rounds happen: one `--out`, one temporary folder, one mark in every process's environment."""

    out: Path
    temp: Path
    said: list[str] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        temp = str(self.temp)
        return harness.environment() | {
            "SWEEPS_TMPDIR": temp,
            "TMPDIR": temp,
            MARK: temp,
            "SWEEPS_OUT": "",
            "SWEEPS_STORE": "",
        }

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, within bounds.

        Raises:
            Broken: If it hangs, shows a traceback, ends by a signal or an unknown code, or fails without a word.
        """
        line = " ".join(words)
        process = subprocess.Popen(
            harness.command(*words, "--out", str(self.out)),
            cwd=harness.ROOT,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=BOUND_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in harness.tree(process.pid):
                harness.kill(pid)
            out, err = process.communicate()
            raise Broken(f"`{line}` hung for {BOUND_SECONDS:.0f} s:\n{(out + err)[-1500:]}") from None
        self.said.append(f"$ {line}\n{out}{err}[{process.returncode}]")
        if "Traceback (most recent call last)" in out + err:
            raise Broken(f"`{line}` shows a traceback:\n{(out + err)[-3000:]}")
        if process.returncode not in KNOWN_CODES:
            raise Broken(f"`{line}` ended with {process.returncode}:\n{(out + err)[-1500:]}")
        if process.returncode and not (out + err).strip():
            raise Broken(f"`{line}` ended with {process.returncode} and said nothing")
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def must(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The same, but it must succeed."""
        result = self.call(*words)
        if result.returncode:
            raise Broken(
                f"`{' '.join(words)}` ended with {result.returncode}:\n{(result.stdout + result.stderr)[-1500:]}"
            )
        return result

    def begin(self, *words: str) -> harness.Living:
        """A command that is watched while it goes on."""
        return harness.Living(self.out, *words, env=self.environment())

    def processes(self) -> list[int]:
        """Everything that a command of ours started and that still lives, whoever adopted it."""
        mark = f"{MARK}={self.temp}".encode()
        found = []
        for entry in os.scandir("/proc"):
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if mark in Path(entry.path, "environ").read_bytes().split(b"\0") and harness.alive(int(entry.name)):
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def folders(self) -> list[str]:
        """Ray's temporary folders that are still there."""
        return sorted(path.name for path in self.temp.glob("swp*"))

    def wait_until_gone(self, timeout: float = 30.0) -> None:
        """Processes and temporary folders must be gone soon after a command has ended.

        Raises:
            Broken: If one is left; it is removed then, so that the next round does not meet it.
        """
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if not self.processes() and not self.folders():
                return
            time.sleep(0.2)
        left = [f"{pid} ({command_of(pid)})" for pid in self.processes()]
        folders = self.folders()
        for pid in self.processes():
            harness.kill(pid)
        for name in folders:
            shutil.rmtree(self.temp / name, ignore_errors=True)
        if left or folders:
            raise Broken(f"left after {timeout:.0f} s: processes {left}, temporary folders {folders}")


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")[:120]
    except OSError:
        return "gone"
