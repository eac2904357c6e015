"""Runs on the disk, their one driver, short temporary folders, and the cores of this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slurm import temp
from slurm.temp import private_temp, sweep_stale_temp
from sweeps.runs import Place, RunFolder, find_run, list_runs
from trainables import cores
from trainables.artifacts import Lease, LeaseObserver
from trainables.cores import CoreLocks
from trainables.errors import MachineError, UsageError
from trainables.liveness import this_process


@pytest.fixture
def place(nasty_path: Path) -> Place:
    made = Place.of(nasty_path, None)
    made.prepare()
    return made


def make_run(place: Place, name: str, touched: float = 0.0) -> RunFolder:
    run = RunFolder(place.runs / name)
    run.prepare()
    run.write({"run": name})
    os.utime(run.path / "run.json", (touched, touched))
    return run


# Places.


def test_one_folder_holds_runs_and_store_unless_told_otherwise(
    nasty_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SWEEPS_OUT", "SWEEPS_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(nasty_path)
    assert Place.of(None, None) == Place(nasty_path / "runs", nasty_path / "store")
    assert Place.of("here", "there") == Place(nasty_path / "here" / "runs", nasty_path / "there")
    monkeypatch.setenv("SWEEPS_OUT", str(nasty_path / "out"))
    monkeypatch.setenv("SWEEPS_STORE", str(nasty_path / "shared"))
    assert Place.of(None, None) == Place(nasty_path / "out" / "runs", nasty_path / "shared")
    assert Place.of("here", None).runs == nasty_path / "here" / "runs"


def test_a_file_in_the_way_is_said_so(nasty_path: Path) -> None:
    (nasty_path / "runs").write_text("x")
    with pytest.raises(MachineError, match="must be a folder"):
        Place.of(nasty_path, None).prepare()


# Finding runs.


def test_the_latest_run_is_the_one_touched_last(place: Place) -> None:
    make_run(place, "b-1", 100)
    make_run(place, "a-1", 300)
    make_run(place, "c-1", 200)
    (place.runs / "no run").mkdir()
    (place.runs / ".hidden").mkdir()
    (place.runs / "file").write_text("x")
    assert [run.id for run in list_runs(place)] == ["a-1", "c-1", "b-1"]
    for name in (None, "", "latest"):
        assert find_run(place, name).id == "a-1"


def test_a_run_is_found_by_name_prefix_or_path(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(place, "horkd_order_ablation-0123abcd")
    other = make_run(place, "horkd_loss_weights-0123abcd")
    make_run(place, "horkd_loss_weights-0123abcd-2")
    assert find_run(place, run.id).id == run.id
    assert find_run(place, "horkd_order").id == run.id
    assert find_run(place, other.id).id == other.id  # Exactly so, although another begins so.
    monkeypatch.chdir(place.runs)
    for path in (str(run.path), f"./{run.id}", f"{run.path}{os.sep}"):
        assert find_run(place, path).path == run.path
    monkeypatch.chdir(run.path)
    assert find_run(place, ".").path == run.path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("horkd_loss", "'horkd_loss' fits 2 runs: .*Give more of the name"),
        ("horkd_oder_ablation-0123abcd", "Did you mean 'horkd_order_ablation-0123abcd'"),
        ("zzz", "There is no run 'zzz' in .* The latest is"),
        ("./nowhere", "is not a run: it has no run.json"),
        ("..", "is not a run"),
        ("[x]*", "There is no run"),
    ],
)
def test_what_is_no_run_is_refused_in_words(place: Place, name: str, message: str) -> None:
    make_run(place, "horkd_order_ablation-0123abcd")
    make_run(place, "horkd_loss_weights-0123abcd")
    make_run(place, "horkd_loss_weights-4567abcd")
    with pytest.raises(UsageError, match=message):
        find_run(place, name)


def test_without_any_run_the_first_command_is_named(place: Place) -> None:
    for name in ("latest", None):
        with pytest.raises(UsageError, match="There is no run in .* Start one: python -m sweeps run"):
            find_run(place, name)
    with pytest.raises(UsageError, match="There is none yet"):
        find_run(place, "x")
    assert list_runs(Place.of(place.runs / "nowhere", None)) == []


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "[" * 100_000])
def test_an_unreadable_run_says_what_to_do(place: Place, content: str) -> None:
    run = make_run(place, "a-1")
    (run.path / "run.json").write_text(content)
    with pytest.raises(MachineError, match="no readable run.json.*the store keeps what was trained"):
        run.read()
    (run.path / "run.json").unlink()
    with pytest.raises(MachineError, match="no readable run.json"):
        run.read()


# The driver.

HOLD = """
import sys
from pathlib import Path
from sweeps.runs import RunFolder
lease = RunFolder(Path(sys.argv[1])).drive(slots=3)
print("driving", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def driver(place: Place) -> Iterator[tuple[RunFolder, subprocess.Popen[str]]]:
    """A run that another process drives."""
    run = make_run(place, "a-1")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "driving\n"
    yield run, process
    process.kill()
    process.stdin.close()
    process.stdout.close()
    process.wait()


def test_a_run_has_one_driver(driver: tuple[RunFolder, subprocess.Popen[str]]) -> None:
    run, process = driver
    assert run.is_driven()
    with pytest.raises(UsageError, match=f"driven by process {process.pid} .*sweeps status a-1.*sweeps stop a-1"):
        run.drive()
    said = run.driver()
    assert said is not None
    assert said["slots"] == 3


def test_a_killed_drivers_lock_is_taken_over_at_once(driver: tuple[RunFolder, subprocess.Popen[str]]) -> None:
    run, process = driver
    process.kill()
    process.wait()
    assert not run.is_driven()
    mine = run.drive()
    assert mine.number == 2
    assert mine.is_mine()
    assert Lease.numbers(run.path, "driver") == [2]  # Old locks are tidied.
    mine.release()
    assert not run.is_driven()


def test_a_released_run_can_be_driven_again_in_the_same_process(place: Place) -> None:
    run = make_run(place, "a-1")
    assert not run.is_driven()
    assert run.driver() is None
    for number in (1, 2, 3):
        lease = run.drive()
        assert lease.number == number
        with pytest.raises(UsageError, match="a run has one driver"):
            run.drive()
        lease.release()


def test_a_driver_on_another_machine_is_believed_until_it_is_silent(place: Place) -> None:
    run = make_run(place, "a-1")
    content = this_process() | {"boot": "another", "host": "node7", "counter": 0, "released": False}
    (run.path / "driver.1").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="on node7"):
        run.drive()
    observer = LeaseObserver(silence=0.0)
    assert run.is_driven(observer)
    assert not run.is_driven(observer)


# Temporary folders.


@pytest.fixture
def temp_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of our own in the place of /tmp."""
    root = tmp_path / "t"
    root.mkdir()
    monkeypatch.setattr(temp, "_temp_root", lambda root_asked: str(root))
    return root


def test_the_private_folder_is_short_ours_alone_and_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEPS_TMPDIR", "/a folder with a name much too long for a socket")
    with private_temp() as path:
        # 107 characters are a socket's; Ray's own part is session_<date>_<pid>/sockets/plasma_store.
        assert len(f"{path}/session_2026-12-31_23-59-59_999999_4194304/sockets/plasma_store") < 107
        assert path.stat().st_mode & 0o777 == 0o700
        assert path.name.startswith(f"swp{os.getpid()}-")
        (path / "deep" / "er").mkdir(parents=True)
    assert not path.exists()


def test_the_private_folder_is_removed_after_an_error(temp_root: Path) -> None:
    with pytest.raises(RuntimeError), private_temp():
        assert len(os.listdir(temp_root)) == 1
        raise RuntimeError
    assert os.listdir(temp_root) == []


def test_what_a_killed_driver_left_is_swept_and_nothing_else(temp_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    old = time.time() - 3600
    for name in (f"swp{child.pid}-old", f"swp{os.getpid()}-alive", "swpx-1", "other", f"swp{child.pid}-fresh"):
        (temp_root / name / "inside").mkdir(parents=True)
        if not name.endswith("fresh"):
            os.utime(temp_root / name, (old, old))
    (temp_root / f"swp{child.pid}-link").symlink_to(temp_root / "other")
    sweep_stale_temp()
    left = set(os.listdir(temp_root))
    assert left == {f"swp{os.getpid()}-alive", "swpx-1", "other", f"swp{child.pid}-fresh", f"swp{child.pid}-link"}
    assert (temp_root / "other" / "inside").is_dir()


# Cores.

HOLD_CORES = """
import sys
from trainables.cores import CoreLocks
locks = CoreLocks(int(sys.argv[1]))
print(locks.try_take(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of locks of our own, on a machine of three cores."""
    folder = tmp_path / "cores"
    monkeypatch.setenv("SWEEPS_CORES_DIR", str(folder))
    monkeypatch.setattr(cores, "numbers", lambda: [0, 1, 2])
    return folder


def test_cores_are_taken_all_at_once_or_not_at_all(machine: Path) -> None:
    two, other, one = CoreLocks(2), CoreLocks(2), CoreLocks(1)
    assert two.try_take()
    assert not other.try_take()
    assert one.try_take()  # What the other tried was given back.
    two.release()
    assert other.try_take()
    for locks in (one, other):
        locks.release()


def test_taking_twice_takes_once_and_releasing_twice_does_no_harm(machine: Path) -> None:
    locks = CoreLocks(3)
    assert locks.try_take()
    assert locks.try_take()
    locks.release()
    locks.release()
    assert CoreLocks(3).try_take()


def test_more_threads_than_cores_wait_for_all_cores(machine: Path) -> None:
    assert CoreLocks(64).wanted == 3


def test_cores_are_exclusive_between_processes_and_freed_by_a_kill(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("SWEEPS_CORES_DIR", str(machine))
    everyone = cores.available()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_CORES, str(everyone)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    mine = CoreLocks(1)
    try:
        assert process.stdout.readline() == "True\n"
        assert not mine.try_take()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert mine.try_take()
    finally:
        process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait()
        mine.release()


def test_the_locks_are_for_their_user_alone(machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locks = CoreLocks(1)
    assert locks.try_take()
    locks.release()
    assert machine.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in machine.iterdir())
    link: Any = tmp_path / "link"
    link.symlink_to(machine)
    monkeypatch.setenv("SWEEPS_CORES_DIR", str(link))
    with pytest.raises(MachineError, match="must belong to you"):
        CoreLocks(1).try_take()
