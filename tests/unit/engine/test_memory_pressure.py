"""What Ray says when it ends a stage for memory, and when a node has room for another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.engine import memory_pressure
from sweeps.engine.memory_pressure import MemoryGate, MemoryKill, NodeMemory, kill_in, node_memory, threshold

GB = 2**30
# The words of Ray 2.60, shortened.
SAID = """ray.exceptions.OutOfMemoryError: 1 worker(s) were killed due to the node running low on memory. Memory on the node \
(IP: 192.0.2.2, ID: d153) was 22.51GB used / 23.54GB limit (0.956000)
OOM kill reason: Memory usage 24172847104B exceeded threshold of 24012676915B (95.0% of 25276502016B limit)
Ray killed 2 worker(s) based on the killing policy
Selected to kill: (Task: job ID=01000000, task name=StageTrainable.__init__, required resources={CPU: 1}, pid=11496, \
actual memory used=0.25GB, worker ID=b2e5), (Task: x, pid=11497, actual memory used=12.50GB, worker ID=b2e6)
]
Top 10 memory users: PID\tMEM(GB)\tCOMMAND
11241\t0.23\tpython
"""


def test_the_numbers_of_rays_message_are_read() -> None:
    kill = kill_in(SAID)
    assert kill == MemoryKill(24172847104, 25276502016, 24012676915, {11496: round(0.25 * GB), 11497: round(12.5 * GB)})
    assert kill.words(11496) == "22.5 of 23.5 GB were in use, 0.2 by this stage"


def test_a_message_without_exact_numbers_is_read_as_far_as_it_goes() -> None:
    rough = kill_in("\n".join(SAID.splitlines()[:1]))
    assert rough is not None
    assert (rough.used, rough.total, rough.limit) == (round(22.51 * GB), round(23.54 * GB), 0)
    bare = kill_in("The actor died. Task was killed due to the node running low on memory.")
    assert bare == MemoryKill()
    assert bare.words(None) == "the node was low on memory"
    assert not bare.is_own_growth(None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The actor died unexpectedly before finishing this task.",
        "Worker unexpectedly exits with a connection error code 2. (1) the process was killed by the OOM killer due to high "
        "memory usage, (2) ray stop --force was called",
        "RuntimeError: [enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_other_ends_are_no_memory_kills(text: str) -> None:
    assert kill_in(text) is None


def test_who_holds_half_of_what_is_used_has_grown_by_itself() -> None:
    kill = kill_in(SAID)
    assert kill is not None
    assert not kill.is_own_growth(11496)
    assert kill.is_own_growth(11497)
    assert kill.is_own_growth(None), "without its pid the largest counts"
    assert kill.held_by(None) == round(12.5 * GB)
    assert kill.is_own_growth(7) == kill.is_own_growth(None)


def files(root: Path, **named: str) -> Path:
    for name, text in named.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = "MemTotal:       1000 kB\nMemFree:  10 kB\nMemAvailable:    400 kB\nHugePages_Total:  0\n"


def test_used_memory_is_what_is_not_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.5")
    files(tmp_path, meminfo=MEMINFO)
    assert node_memory(tmp_path, tmp_path / "none") == NodeMemory(600 * 1024, 1000 * 1024, 500 * 1024)


@pytest.mark.parametrize("version", [1, 2])
def test_a_control_groups_limit_counts_where_it_is_lower(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_memory_usage_threshold", raising=False)
    files(tmp_path, meminfo=MEMINFO)
    if version == 1:
        names = ("memory__memory.limit_in_bytes", "memory__memory.usage_in_bytes", "memory__memory.stat", "total_")
    else:
        names = ("memory.max", "memory.current", "memory.stat", "")
    cached = f"anon 1\n{names[3]}inactive_file 30000\n{names[3]}active_file 20000\n"
    groups = files(tmp_path / "g", **{names[0]: "400000\n", names[1]: "350000\n", names[2]: cached})
    assert node_memory(tmp_path, groups) == NodeMemory(300000, 400000, 380000)
    files(groups, **{names[0]: "max\n" if version == 2 else "9223372036854771712\n"})
    found = node_memory(tmp_path, groups)
    assert found is not None and found.total == 1000 * 1024


def test_no_monitor_or_no_numbers_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert node_memory(tmp_path, tmp_path) is None
    files(tmp_path, meminfo=MEMINFO)
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")
    assert threshold() is None
    assert node_memory(tmp_path, tmp_path) is None


@pytest.mark.parametrize(("text", "share"), [("0.2", 0.2), ("1", 1.0), ("x", 0.95), ("7", 0.95), ("nan", 0.95)])
def test_a_threshold_that_is_none_is_rays_own(text: str, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_memory_usage_threshold", text)
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "often")
    assert threshold() == share


class Node:
    """A node of 24 GB whose used memory and clock are set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.used, self.now = 2.0, 100.0
        monkeypatch.setattr(memory_pressure, "largest_process", lambda: (4711, "hog", 3 * GB))
        self.gate = MemoryGate(lambda: NodeMemory(int(self.used * GB), 24 * GB, 22 * GB), lambda: self.now)

    def why(self, seconds: float = 1.0) -> str:
        self.now += seconds
        return self.gate.why_closed()


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(monkeypatch)


KILL = MemoryKill(22 * GB, 24 * GB, 22 * GB, {5: 2 * GB})


def test_a_full_node_is_closed_and_says_numbers_and_who(node: Node) -> None:
    assert node.why() == ""
    node.used = 22.5
    assert node.why() == (
        "22.5 of 24.0 GB are in use, and above 22.0 GB Ray ends stages (most by process 4711, hog: 3.0 GB)"
    )
    node.used = 21.9
    assert node.why() == ""


def test_after_a_loss_there_must_be_as_much_room_as_the_stage_had_taken(node: Node) -> None:
    node.used = 21.0
    assert node.gate.lost(KILL, 2 * GB) == 2.0
    assert "stages go on below 19.9 GB" in node.why(60)
    node.used = 19.5
    assert node.why() == ""
    node.gate.handed_out()
    assert "in use" in node.why(), "what was just started will take as much"
    assert node.why(30) == ""


def test_each_loss_in_a_row_waits_longer_until_a_stage_ends(node: Node) -> None:
    assert [node.gate.lost(KILL, GB) for _ in range(8)] == [2, 4, 8, 16, 32, 64, 120, 120]
    assert "the next try is in 110 s" in node.why(10)
    assert node.why(111) == ""
    node.gate.relieved()
    assert node.gate.lost(KILL, GB) == 2


def test_a_small_stage_still_asks_for_what_a_process_takes(node: Node) -> None:
    node.gate.lost(KILL, 0)
    node.used = 21.9
    assert node.why(60) != ""
    node.used = 21.5
    assert node.why() == ""


def test_where_the_memory_is_not_seen_the_gate_is_open() -> None:
    gate = MemoryGate(lambda: None)
    assert gate.lost(KILL, GB) == 2.0
    assert gate.why_closed() == ""
