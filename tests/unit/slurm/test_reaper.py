"""What belongs to a run is found by its marks and ended until nothing is left; what is not its own stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurm.reaper import Reaper, belongs, end_all, processes

ROOT = Path(__file__).resolve().parents[3]
# A process with the mark that has a child again and again, as a raylet while its workers are born; each child forgets the
# environment, as a title written over it does, and keeps a log open for writing.
BREED = """
import os, subprocess, sys, time
folder = sys.argv[1]
while True:
    log = open(f"{folder}/log", "a")
    subprocess.Popen(["sleep", "60"], stdout=log, env={}, start_new_session=True)
    log.close()
    print("born", flush=True)
    time.sleep(0.01)
"""


@pytest.fixture
def begin() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def one(*words: str, **more: object) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(words, **more))  # type: ignore[call-overload]
        return started[-1]

    yield one
    for process in started:
        process.kill()
        process.communicate()


def marked(folder: Path) -> dict[str, str]:
    return {"RAY_TMPDIR": f"{folder}/r", "PATH": os.environ["PATH"]}


def left(folder: Path) -> list[int]:
    return [pid for pid in processes() if belongs(pid, folder)]


def test_a_process_that_goes_on_having_children_is_ended_with_all_of_them(
    tmp_path: Path, begin: Callable[..., subprocess.Popen[bytes]]
) -> None:
    breeder = begin(sys.executable, "-c", BREED, str(tmp_path), env=marked(tmp_path), stdout=subprocess.PIPE)
    assert breeder.stdout is not None
    for _ in range(5):
        breeder.stdout.readline()
    assert len(left(tmp_path)) > 3
    assert end_all(tmp_path)
    assert left(tmp_path) == []
    assert breeder.wait(5) == -signal.SIGKILL


def test_others_stay(tmp_path: Path, begin: Callable[..., subprocess.Popen[bytes]]) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours2").mkdir()
    (tmp_path / "ours" / "log").touch()
    named = begin("sleep", "60")
    kept = begin("sleep", "60", env=marked(tmp_path / "ours"))
    with open(tmp_path / "ours" / "log") as log, open(tmp_path / "ours2" / "log", "w") as neighbour:
        others = [
            begin("sleep", "60", stdin=log),  # Reads a log.
            begin("sleep", "60", cwd=tmp_path / "ours"),  # Stands in the folder.
            begin(
                "sleep", "60", env={"PWD": "/", "OLDPWD": f"{tmp_path}/ours/logs", "_": f"{tmp_path}/ours/x"}
            ),  # Stood.
            begin("sleep", "60", stdout=neighbour, env=marked(tmp_path / "ours2")),  # A folder whose name begins so.
        ]
    table = processes()
    keep = {kept.pid: table[kept.pid][1]}
    assert end_all(tmp_path / "ours", {named.pid: table[named.pid][1], others[0].pid: "another start"}, keep)
    assert named.wait(5) == -signal.SIGKILL
    assert kept.poll() is None
    assert [one.poll() for one in others] == [None] * 4


def test_a_killed_guard_is_followed_by_another_that_knows_as_much(
    tmp_path: Path, begin: Callable[..., subprocess.Popen[bytes]]
) -> None:
    temp = tmp_path / "swp"
    temp.mkdir()
    reaper = Reaper(temp)
    first = reaper.pid
    os.kill(first, signal.SIGKILL)
    end = time.monotonic() + 10
    while reaper.pid == first and time.monotonic() < end:
        reaper.watch()
        time.sleep(0.05)
    assert reaper.pid != first
    child = begin("sleep", "60")
    reaper.tell()
    os.kill(reaper.pid, signal.SIGKILL)
    reaper.close()  # Once more, at the very end.
    last = reaper.pid
    reaper.close()
    reaper.tell()
    reaper.watch()
    assert reaper.pid == last, "what is closed stays so"
    assert not temp.exists()
    assert left(temp) == []
    assert child.poll() in (None, -signal.SIGKILL)


def test_the_guard_of_a_killed_driver_ends_what_it_left(
    tmp_path: Path, begin: Callable[..., subprocess.Popen[bytes]]
) -> None:
    temp = tmp_path / "swp"
    temp.mkdir()
    drive = (
        "import os, subprocess, sys; from pathlib import Path; from slurm.reaper import Reaper\n"
        "reaper = Reaper(Path(sys.argv[1])); os.environ['RAY_TMPDIR'] = sys.argv[1] + '/r'\n"
        "subprocess.Popen(['sleep', '60'], start_new_session=True); print('ready', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    driver = begin(sys.executable, "-c", drive, str(temp), env=os.environ | {"PYTHONPATH": str(ROOT)}, **pipes)
    assert driver.stdout is not None and driver.stdout.readline() == b"ready\n"
    assert len(left(temp)) == 1
    driver.kill()
    driver.wait()
    end = time.monotonic() + 20
    while (left(temp) or temp.exists()) and time.monotonic() < end:
        time.sleep(0.1)
    assert left(temp) == []
    assert not temp.exists()
