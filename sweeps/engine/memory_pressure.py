"""Memory of the node: what Ray's memory monitor says when it ends a stage, and whether there is room to start another.

Ray ends a process that trains as soon as the node's used memory passes a threshold (`RAY_memory_usage_threshold`, 95 %),
whoever filled it. A stage that holds less than half of what is used is not to blame: it waits for room and goes again.
One that holds more has grown by itself, and that loss counts against it. No ray here: its words are read as text.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

THRESHOLD = 0.95  # Ray's default.
OF_THRESHOLD, OF_MONITOR = "RAY_memory_usage_threshold", "RAY_memory_monitor_refresh_ms"  # As Ray reads them.
OWN_SHARE = 0.5  # Of the used memory: who holds more than this caused the loss.
LEAST_NEED = 256 << 20  # Bytes: a process that trains takes this before its first batch.
SPARE = 128 << 20  # Bytes left below the threshold when a stage is started after a loss.
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 120.0  # Seconds before another try; doubled with each loss in a row.
GROWTH_SECONDS = 20.0  # A process that was just started has not yet taken the memory it will take.
LOOK_SECONDS = 0.5

_SIGN = re.compile(r"running low on memory|due to memory pressure", re.IGNORECASE)
_EXCEEDED = re.compile(r"[Mm]emory usage (\d+)B exceeded threshold of (\d+)B \([\d.]+% of (\d+)B")
_ROUGH = re.compile(r"was ([\d.]+)GB used / ([\d.]+)GB limit")
_VICTIM = re.compile(r"pid=(\d+), actual memory used=([\d.]+)GB")


def gigabytes(amount: float) -> str:
    """`22.9`, in units of 2^30 bytes as Ray and `free` count them."""
    return f"{amount / 2**30:.1f}"


@dataclass(frozen=True)
class NodeMemory:
    """Bytes of a node: used, all there are, and the limit above which Ray ends stages."""

    used: int
    total: int
    limit: int


@dataclass(frozen=True)
class MemoryKill:
    """What Ray said when it ended processes of a node; 0 where it said no number."""

    used: int = 0
    total: int = 0
    limit: int = 0
    victims: dict[int, int] = field(default_factory=dict)  # pid -> bytes it held.

    def held_by(self, pid: int | None) -> int:
        """Bytes that a stage's process held; without its pid the most that any of the ended ones held."""
        if pid in self.victims:
            return self.victims[pid]
        return max(self.victims.values(), default=0)

    def is_own_growth(self, pid: int | None) -> bool:
        """Whether the stage itself held most of what was used."""
        return bool(self.used) and self.held_by(pid) >= OWN_SHARE * self.used

    def words(self, pid: int | None) -> str:
        """`22.9 of 23.5 GB were in use, 0.3 by this stage`."""
        if not self.used:
            return "the node was low on memory"
        held = f", {gigabytes(self.held_by(pid))} by this stage" if self.victims else ""
        return f"{gigabytes(self.used)} of {gigabytes(self.total)} GB were in use{held}"


def kill_in(text: str) -> MemoryKill | None:
    """What an error's text says of Ray's memory monitor, or None when it is about something else."""
    if not _SIGN.search(text):
        return None
    victims = {int(pid): round(float(held) * 2**30) for pid, held in _VICTIM.findall(text)}
    if exact := _EXCEEDED.search(text):
        used, limit, total = map(int, exact.groups())
        return MemoryKill(used, total, limit, victims)
    if rough := _ROUGH.search(text):
        used, total = (round(float(number) * 2**30) for number in rough.groups())
        return MemoryKill(used, total, 0, victims)
    return MemoryKill(victims=victims)


def threshold() -> float | None:
    """The share of used memory above which Ray ends stages; None when its monitor is switched off."""
    try:
        if int(os.environ.get(OF_MONITOR, "1")) <= 0:
            return None
    except ValueError:
        pass
    try:
        share = float(os.environ.get(OF_THRESHOLD, THRESHOLD))
    except ValueError:
        return THRESHOLD
    return share if 0.0 <= share <= 1.0 else THRESHOLD


def node_memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> NodeMemory | None:
    """The memory of this node as Ray's monitor measures it, or None where that cannot be told or nothing is watched.

    A control group's limit counts where it is below the machine's memory; files that the kernel keeps cached do not.
    """
    share = threshold()
    table = _numbers(proc / "meminfo", 1024)
    if share is None or "MemTotal" not in table or "MemAvailable" not in table:
        return None
    total, used = table["MemTotal"], table["MemTotal"] - table["MemAvailable"]
    for limit_at, usage_at, statistics, cached in (
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_"),
        ("memory.max", "memory.current", "memory.stat", ""),
    ):
        limit, usage = _number(cgroups / limit_at), _number(cgroups / usage_at)
        if limit is not None and usage is not None and limit < total:
            known = _numbers(cgroups / statistics, 1)
            files = known.get(f"{cached}inactive_file", 0) + known.get(f"{cached}active_file", 0)
            total, used = limit, max(0, usage - files)
    return NodeMemory(used, total, int(share * total))


def _number(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return None


def _numbers(path: Path, unit: int) -> dict[str, int]:
    found = {}
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) >= 2 and words[1].isdecimal():
                found[words[0].rstrip(":")] = int(words[1]) * unit
    return found


def largest_process(proc: Path = Path("/proc")) -> tuple[int, str, int] | None:
    """(pid, name, resident bytes) of the process that holds most of this node's memory, as far as we may see."""
    best = None
    page = os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError):
        for name in os.listdir(proc):
            if name.isdecimal():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    held = int((proc / name / "statm").read_text().split()[1]) * page
                    if best is None or held > best[2]:
                        best = (int(name), (proc / name / "comm").read_text().strip(), held)
    return best


class MemoryGate:
    """Says whether another stage may be started on this node, and in words why not.

    Closed while the node is above Ray's limit: whatever started would be ended at once. After a stage was ended for
    others' memory it also waits for as much room as that stage had taken, and a while longer after each loss in a row.
    """

    def __init__(
        self, read: Callable[[], NodeMemory | None] = node_memory, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read, self._clock = read, clock
        self._seen: tuple[float, NodeMemory | None] = (-LOOK_SECONDS, None)
        self._need = 0
        self._limit: int | None = None  # As Ray itself said it.
        self._in_a_row = 0
        self._not_before = 0.0
        self._started: list[float] = []  # When stages were handed out lately.
        self._largest: tuple[float, str] = (-60.0, "")

    def lost(self, kill: MemoryKill, held: int) -> float:
        """A stage that held so many bytes was ended for others' memory; returns the seconds until another try."""
        self._in_a_row += 1
        pause = min(FIRST_PAUSE * 2 ** (self._in_a_row - 1), LONGEST_PAUSE)
        self._not_before = self._clock() + pause
        self._need = max(self._need, held, LEAST_NEED)
        if kill.limit:
            self._limit = kill.limit
        return pause

    def handed_out(self) -> None:
        """A stage is about to take memory."""
        self._started.append(self._clock())

    def relieved(self) -> None:
        """A stage was finished, so there is room for one."""
        self._in_a_row = 0

    def why_closed(self) -> str:
        """Why no stage may be started now, with numbers; "" when one may."""
        now = self._clock()
        if now - self._seen[0] >= LOOK_SECONDS:
            self._seen = (now, self._read())
        memory = self._seen[1]
        if memory is None:  # Another node's, which only time can tell, or no monitor at all.
            return ""
        limit = memory.limit if self._limit is None else self._limit
        self._started = [at for at in self._started if now - at < GROWTH_SECONDS]
        room = limit - memory.used
        wanted = (self._need * (1 + len(self._started)) + SPARE) if self._need else 0
        if room > 0 and room >= wanted and now >= self._not_before:
            return ""
        most = f"{gigabytes(memory.used)} of {gigabytes(memory.total)} GB are in use"
        if room <= 0:
            why = f"{most}, and above {gigabytes(limit)} GB Ray ends stages"
        elif room < wanted:
            why = f"{most}, stages go on below {gigabytes(max(0, limit - wanted))} GB"
        else:
            why = f"{most}, the next try is in {self._not_before - now:.0f} s"
        return why + self._who(now)

    def _who(self, now: float) -> str:
        """The process to look at first, found at most every ten seconds."""
        if now - self._largest[0] >= 10.0:
            found = largest_process()
            text = f" (most by process {found[0]}, {found[1]}: {gigabytes(found[2])} GB)" if found else ""
            self._largest = (now, text)
        return self._largest[1]
