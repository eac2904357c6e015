"""A small process that outlives the driver by a moment: it ends what a killed driver leaves running.

Ray's agents stay for ever when driver and raylet are killed with -9, and a raylet that is killed while workers are being
born leaves some that nobody listed. So the reaper does not work from one list: whatever has the run's temporary folder in
its environment, or writes to a file in it, belongs to the run, and so does what descends from it or was named by the
driver. It looks and kills again until nothing is left, then removes the folder.
Runs as a script, with the standard library alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

CALM_LOOKS = 4  # So many looks in a row must find nothing: one look is no snapshot while processes are born.
LOOK_SECONDS = 0.1
LONGEST_SECONDS = 45.0  # A process that the kernel does not let go of is left.


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


def belongs(pid: int, folder: Path) -> bool:
    """Whether a process was started for the run with this temporary folder: by its environment or the files it writes.

    Ray's processes write their titles over their environment, but keep their logs in the folder open. A person who
    reads such a log, or stands in the folder, does not write there.
    """
    place = f"/proc/{pid}"
    real = os.fsencode(os.path.realpath(folder)) + b"/"
    try:
        if os.stat(place).st_uid != os.getuid():
            return False
        for word in Path(place, "environ").read_bytes().split(b"\0"):
            variable, _, value = word.partition(b"=")
            # A shell exports where its user stands and stood.
            if variable not in (b"PWD", b"OLDPWD", b"_") and (real in value or os.fsencode(folder) + b"/" in value):
                return True
        for name in os.listdir(f"{place}/fd"):
            if os.readlink(f"{place}/fd/{name}".encode()).startswith(real):
                flags = Path(place, "fdinfo", name).read_text().partition("flags:")[2].split()
                if flags and int(flags[0], 8) & (os.O_WRONLY | os.O_RDWR):
                    return True
    except (OSError, ValueError):
        pass  # It ended while we looked, or hides from us.
    return False


def end_all(folder: Path, named: dict[int, str] | None = None, keep: dict[int, str] | None = None) -> bool:
    """Kill what belongs to a run's temporary folder, again and again until nothing is left; false if something stays.

    Args:
        folder: The temporary folder.
        named: pid -> start time of further processes that go, with what descends from them.
        keep: pid -> start time of processes that stay, such as a driver that ends in order.
    """
    until, calm = time.monotonic() + LONGEST_SECONDS, 0
    while calm < CALM_LOOKS:
        table = processes()
        stay = {pid for pid, started in (keep or {}).items() if pid in table and table[pid][1] == started}
        stay.add(os.getpid())
        left = {pid for pid, started in (named or {}).items() if pid in table and table[pid][1] == started}
        left |= {pid for pid in table if pid not in stay and belongs(pid, folder)}
        left -= stay
        left |= descendants(left, table) - stay
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        calm = 0 if left else calm + 1
        if time.monotonic() > until:
            return False
        if calm < CALM_LOOKS:
            time.sleep(LOOK_SECONDS)
    return True


class Reaper:
    """The driver's end: started before Ray, told about its descendants, closed after it."""

    def __init__(self, temp: Path) -> None:
        self._temp = temp
        self._process = self._begin()
        self._closed = False

    def _begin(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(self._temp)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
            # What belongs to the run has its folder in the environment; the reaper must not.
            env={name: value for name, value in os.environ.items() if str(self._temp) not in value},
        )

    @property
    def pid(self) -> int:
        """The process that watches now."""
        return self._process.pid

    def watch(self) -> None:
        """Start another reaper if ours was killed; called a few times a second."""
        if not self._closed and self._process.poll() is not None:
            self.tell()

    def tell(self) -> None:
        """Name all descendants of this process, to another reaper if ours was killed."""
        if self._closed:
            return
        if self._process.poll() is not None:
            self._release()
            self._process = self._begin()
        table = processes()
        mine = descendants({os.getpid()}, table) - {self._process.pid}
        if self._process.stdin is not None and not self._process.stdin.closed:
            try:
                self._process.stdin.write(" ".join(f"{pid}:{table[pid][1]}" for pid in mine) + "\n")
                self._process.stdin.flush()
            except OSError:
                pass

    def close(self) -> None:
        """Let it clean up, and wait for that; one that is killed meanwhile is followed by another."""
        for _ in range(3):
            if self._closed:
                return
            self.watch()
            self._release()
            try:
                self._closed = self._process.wait(timeout=LONGEST_SECONDS + 15) == 0
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                self._closed = True

    def _release(self) -> None:
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except OSError:
                pass


def main() -> None:
    """Read pids until the driver is gone, then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    driver = os.getppid()
    keep = {driver: started[1]} if (started := processes().get(driver)) else {}
    latest = ""
    for line in sys.stdin:
        latest = line.strip()
    named = {int(pid): started for pid, _, started in (word.partition(":") for word in latest.split())}
    temp = Path(sys.argv[1])
    end_all(temp, named, keep)
    for _ in range(20):
        shutil.rmtree(temp, ignore_errors=True)
        if not temp.exists():
            break
        time.sleep(LOOK_SECONDS)  # Somebody still wrote there.


if __name__ == "__main__":
    main()
