"""A small process that outlives the driver by a moment: it ends what a killed driver leaves running.

Ray's agents stay for ever when driver and raylet are killed with -9. The driver writes the pids of its descendants to
our standard input; when that closes, for whatever reason, those still alive are killed and the temporary folder goes.
Runs as a script, with the standard library alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path


def processes() -> dict[int, tuple[int, str]]:
    """pid -> (parent, start time) of every living process."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = Path("/proc", name, "stat").read_text().rsplit(")", 1)[1].split()
            except (OSError, IndexError):
                continue
            if fields[0] not in ("Z", "X"):
                found[int(name)] = (int(fields[1]), fields[19])
    return found


def descendants(roots: set[int], table: dict[int, tuple[int, str]]) -> set[int]:
    """The living processes below `roots`, without them."""
    found: set[int] = set()
    grew = True
    while grew:
        more = {pid for pid, (parent, _) in table.items() if parent in roots | found} - found - roots
        grew = bool(more)
        found |= more
    return found


class Guard:
    """The driver's end: started before Ray, told about its descendants, closed after it."""

    def __init__(self, temp: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(temp)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )

    def tell(self) -> None:
        """Name all descendants of this process."""
        table = processes()
        mine = descendants({os.getpid()}, table) - {self._process.pid}
        if self._process.stdin is not None and not self._process.stdin.closed:
            try:
                self._process.stdin.write(" ".join(f"{pid}:{table[pid][1]}" for pid in mine) + "\n")
                self._process.stdin.flush()
            except OSError:
                pass

    def close(self) -> None:
        """Let it clean up, and wait for that."""
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except OSError:
                pass
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main() -> None:
    """Read pids until the driver is gone, then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    latest = ""
    for line in sys.stdin:
        latest = line.strip()
    named = {int(pid): started for pid, _, started in (word.partition(":") for word in latest.split())}
    table = processes()
    left = {pid for pid, started in named.items() if pid in table and table[pid][1] == started}
    left |= descendants(left, table)
    for pid in left - {os.getpid()}:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    shutil.rmtree(sys.argv[1], ignore_errors=True)


if __name__ == "__main__":
    main()
