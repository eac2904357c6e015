"""kill -9 at random moments while Ray's processes are being born: nothing is left running, and no temporary folder."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import harness
import pytest

from slurm.reaper import belongs
from slurm.temp import sweep_stale_temp

ROUNDS = int(os.environ.get("SWEEPS_KILL_ROUNDS", "3"))
# Who is killed, in this order; the reaper is one of the children of the driver.
VICTIMS = (("raylet",), ("driver",), ("reaper", "driver"), ("gcs_server",), ("driver", "raylet"), ("reaper", "raylet"))
LATEST = 6.0  # Seconds after the driver's temporary folder appeared: Ray is up after about four.


@pytest.fixture
def short_temp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place of our own for temporary folders, short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="swk", dir="/tmp"))
    monkeypatch.setenv("SWEEPS_TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def named(pids: list[int], name: str) -> list[int]:
    """Those of the processes whose command is `name`, or whose command line ends in reaper.py and a folder."""
    found = []
    for pid in pids:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            comm = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            continue
        if comm == name or (name == "reaper" and any(word.endswith(b"/reaper.py") for word in words)):
            found.append(pid)
    return found


def of_folder(folder: Path) -> list[int]:
    """The processes of a run, by the same marks as the reaper goes by."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and belongs(int(name), folder)]


def wait(seconds: float, reached: object) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if reached():  # type: ignore[operator]
            return True
        time.sleep(0.1)
    return bool(reached())  # type: ignore[operator]


@pytest.mark.parametrize("number", range(ROUNDS))
def test_nothing_outlives_a_run_that_was_hurt_while_it_started(
    number: int, start: object, tmp_path: Path, short_temp: Path
) -> None:
    draw = random.Random(f"start-up {number}")
    who = VICTIMS[number % len(VICTIMS)]
    moment = draw.uniform(0.2, LATEST)
    run = start("run", harness.STUDY, *harness.SMALL)  # type: ignore[operator]
    assert wait(60, lambda: list(short_temp.glob("swp*"))), run.process.poll()
    (folder,) = short_temp.glob("swp*")
    time.sleep(moment)
    hit: dict[str, list[int]] = {}
    for victim in who:
        pids = [run.process.pid] if victim == "driver" else named(harness.tree(run.process.pid), victim)
        for pid in pids:
            harness.kill(pid)
        hit |= {victim: pids} if pids else {}
        time.sleep(draw.uniform(0.0, 0.3))
    what = f"{who}: {hit} after {moment:.2f} s"
    if not hit.keys() - {"reaper"}:
        run.process.kill()  # The others were not born yet.
    run.process.communicate(timeout=150)
    assert run.process.returncode != 0, what
    if "reaper" in who:
        # Reaper and driver may have died before another reaper was there: the next run sweeps.
        wait(5, lambda: not folder.exists())
        sweep_stale_temp(str(short_temp))
    assert wait(20, lambda: not of_folder(folder)), (what, of_folder(folder))
    assert wait(5, lambda: not folder.exists()), what
