"""A node filled by others: Ray ends what trains there, and the run waits, says why, and goes on when there is room."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import pytest

from sweeps.engine.memory_pressure import node_memory

ROOM, HOG = 4 * 2**30, 5 * 2**30  # Bytes below the limit at the start, and what another process takes.
LONG = ["--no-report", "--preset", "tiny", "--seeds", "1", "--set", "epochs=60", "--set", "train_images=600"]
FILL = """
import sys
held = b"x" * int(sys.argv[1])
print("full", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def low_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ray's limit a little above what is used now."""
    now = node_memory()
    if now is None or now.total - now.used < 2 * HOG:
        pytest.skip(f"needs {2 * HOG >> 30} GB of free memory, there are {now}")
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{(now.used + ROOM) / now.total:.6f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    monkeypatch.setenv("SWEEPS_CORES_DIR", str(tmp_path / "cores"))  # Other runs' turns are not under test.


@pytest.fixture
def fill() -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts a process that takes memory until it is ended."""
    started: list[subprocess.Popen[bytes]] = []

    def begin() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", FILL, str(HOG)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == b"full\n"
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def test_stages_ended_because_others_filled_the_node_wait_and_go_on(
    start: Callable[..., harness.Living],
    tmp_path: Path,
    low_limit: None,
    fill: Callable[[], subprocess.Popen[bytes]],
) -> None:
    run = start("run", harness.STUDY, *LONG)
    run.until(lambda v: any((r["epoch"] or 0) >= 1 for r in v["running"]))
    hog = fill()
    view = run.until(lambda v: f"process {hog.pid}," in v["waits"] and not v["running"], 60)
    assert view["state"] == "running"
    assert view["waits"].startswith("memory: ")
    time.sleep(5)  # Long enough for three losses, were it given out again and again.
    assert not run.status()["failed"]
    end(hog)
    code, _, err = run.finish()
    assert code == 0, err
    lost = re.findall(r"(\w+ [0-9a-f]{16}) was ended by Ray's memory monitor: ([\d.]+) of", err)
    assert lost and all(float(used) > 3 for _, used in lost), err
    assert "Waiting for memory: " in err
    assert "Traceback" not in err
    view = harness.status(tmp_path)
    assert view["state"] == "finished" and not view["failed"]
    log = next(tmp_path.glob(f"runs/*/logs/{lost[0][0].replace(' ', '-')}.log")).read_text()
    assert "ended by Ray's memory monitor" in log
    assert not list((tmp_path / "store" / ".work").glob("*/failure-*"))
    # What was saved before the loss was not trained again.
    again = {epoch for epochs in harness.trained_twice(tmp_path).values() for epoch in epochs}
    assert 1 not in again


def test_a_node_that_is_full_from_the_start_is_waited_for(
    start: Callable[..., harness.Living], low_limit: None, fill: Callable[[], subprocess.Popen[bytes]]
) -> None:
    hog = fill()
    run = start("run", harness.STUDY, "--no-report", "--preset", "tiny", "--seeds", "1")
    view = run.until(lambda v: bool(v["waits"]), 60)
    time.sleep(3)
    assert not run.status()["running"] and not run.status()["failed"]
    end(hog)
    code, _, err = run.finish()
    assert code == 0, err
    assert view["waits"].split(" (")[0].split(": ")[1].split(" of ")[1] in err
