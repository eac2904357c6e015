"""Runs on the disk, their one driver, short temporary folders, and the cores of this machine."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slurm import temp
from slurm.temp import private_temp, sweep_stale_temp
from sweeps.runs.folder import Place, RunFolder, find_run, list_runs
from system.liveness import this_process
from trainables import cores
from trainables.cores import CoreLocks
from trainables.errors import MachineError, UsageError
from trainables.store.files import write_atomically
from trainables.store.leases import Lease, LeaseObserver


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
    assert find_run(place, f"{run.path}{os.sep}run.json").path == run.path
    elsewhere = Place.of(place.runs / "elsewhere", None)
    assert find_run(elsewhere, run.id).path == run.path  # As a folder beside, where no run of the place is called so.
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
from sweeps.runs.folder import RunFolder
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
    with pytest.raises(UsageError, match=f"driven by process {process.pid} ") as refused:
        run.drive()
    for command in ("status", "stop"):  # The run is not in the current folder, so that its name would not be enough.
        assert f"python -m sweeps {command} {shlex.quote(str(run.path))}" in str(refused.value)
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


FOREIGN = {"boot": "another", "host": "node7", "pid": 4242, "counter": 0, "released": False}
# What a power cut, another machine or another container leave of a driver's lock.
LEFT = {
    "another boot": json.dumps(this_process() | FOREIGN),
    "another container": json.dumps(this_process() | {"namespace": "pid:[1]", "counter": 3, "released": False}),
    "empty": "",
    "half a line": json.dumps(this_process() | FOREIGN)[:40],
    "zeros": "\0" * 512,
    "a list": "[]",
    "no pid": json.dumps(this_process() | {"pid": None, "counter": 0}),
}


@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT.keys())
def test_a_driver_that_cannot_be_asked_is_watched_and_taken_over_when_silent(place: Place, left: str) -> None:
    run = make_run(place, "a-1")
    (run.path / "driver.1").write_text(left)
    said: list[str] = []
    lease = run.drive(observer=LeaseObserver(silence=0.2), say=said.append)
    assert lease.number == 2
    assert len(said) == 1 and "Watching" in said[0]
    lease.release()


def test_a_driver_on_another_machine_that_writes_is_believed(place: Place) -> None:
    run = make_run(place, "a-1")
    path = run.path / "driver.1"
    path.write_text(json.dumps(this_process() | FOREIGN))
    ended = threading.Event()

    def beat() -> None:
        counter = 0
        while not ended.wait(0.05):
            counter += 1
            write_atomically(path, json.dumps(this_process() | FOREIGN | {"counter": counter}), sync=False)

    writer = threading.Thread(target=beat)
    writer.start()
    try:
        with pytest.raises(UsageError, match="process 4242 on node7"):
            run.drive(observer=LeaseObserver(silence=30.0))
    finally:
        ended.set()
        writer.join()
    assert Lease.numbers(run.path, "driver") == [1]


def test_files_that_are_only_named_like_a_drivers_lock_are_no_locks(place: Place) -> None:
    run = make_run(place, "a-1")
    for name in ("driver.²", "driver.٣", "driver.007", "driver.0", f"driver.{'9' * 200}", "driver.-1", "driver.1e3"):
        (run.path / name).write_text(json.dumps(this_process() | FOREIGN))
    (run.path / "driver.3").mkdir()
    assert Lease.numbers(run.path, "driver") == [3]
    lease = run.drive(observer=LeaseObserver(silence=0.2))
    assert lease.number == 4
    lease.release()


def test_a_lock_from_before_a_power_cut_is_no_running_run(place: Place) -> None:
    run = make_run(place, "a-1")
    path = run.path / "driver.1"
    path.write_text(json.dumps(this_process() | FOREIGN))
    assert run.is_driven()
    old = time.time() - 3600
    os.utime(path, (old, old))
    assert not run.is_driven()
    path.write_text(json.dumps(this_process() | {"counter": 0, "released": False}))
    os.utime(path, (old, old))
    assert run.is_driven()  # A process that can be asked is never judged by its silence.


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


USE = """
import sys, time
from slurm import temp
temp._temp_root = lambda asked: sys.argv[1]
with temp.private_temp() as path:
    print(path, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def using(temp_root: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], Path]]]:
    """Starts processes that each hold a temporary folder."""
    started: list[subprocess.Popen[str]] = []

    def begin(*before: str) -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen(
            [*before, sys.executable, "-c", USE, str(temp_root)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    yield begin
    for process in started:
        process.kill()
        process.communicate()


UNSHARE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def test_the_folder_of_a_living_process_in_another_pid_namespace_stays(
    using: Callable[..., tuple[subprocess.Popen[str], Path]],
) -> None:
    if subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("pid namespaces cannot be made here")
    process, path = using(*UNSHARE)
    # In there it has a small pid, which out here is another process or none.
    claim = path / temp.OWNER
    assert json.loads(claim.read_text())["namespace"] != this_process()["namespace"]
    old = time.time() - 86_400
    os.utime(claim, (old, old))
    sweep_stale_temp()
    assert path.is_dir()
    process.kill()
    process.wait()
    assert wait_until(lambda: not locked(claim))
    os.utime(claim, (old, old))
    sweep_stale_temp()
    assert not path.exists()


def test_the_folder_of_a_killed_process_goes_at_once_and_so_does_what_it_left_running(
    using: Callable[..., tuple[subprocess.Popen[str], Path]],
) -> None:
    living, kept = using()
    killed, path = using()
    with open(path / "a.log", "w") as log:
        left = subprocess.Popen(["sleep", "60"], stdout=log, env={"RAY_TMPDIR": "elsewhere"})
    marked = subprocess.Popen(["sleep", "60"], env={"RAY_TMPDIR": f"{path}/r"})
    with open(path / "a.log") as reading:
        reader = subprocess.Popen(["sleep", "60"], stdin=reading)
        killed.kill()
        killed.wait()
        sweep_stale_temp()
        assert left.wait(5) == marked.wait(5) == -signal.SIGKILL
        assert reader.poll() is None, "who only reads a log is no part of the run"
        reader.kill()
        reader.wait()
    assert not path.exists()
    assert kept.is_dir() and living.poll() is None


@pytest.mark.parametrize("content", ["", "[]", "{", "\0" * 100, '{"boot": 3, "pid": [1]}', "[" * 5000])
def test_a_folder_whose_owner_cannot_be_read_stays_until_it_is_silent(temp_root: Path, content: str) -> None:
    path = temp_root / "swp4242-x"
    path.mkdir()
    (path / temp.OWNER).write_text(content)
    sweep_stale_temp()
    assert path.is_dir()
    old = time.time() - 2 * temp.SILENCE_SECONDS
    os.utime(path / temp.OWNER, (old, old))
    sweep_stale_temp()
    assert not path.exists()


def locked(path: Path) -> bool:
    with open(path) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def wait_until(reached: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while time.monotonic() < end and not reached():
        time.sleep(0.05)
    return reached()


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


def test_the_locks_say_which_run_holds_how_many_cores(machine: Path) -> None:
    assert cores.holders() == {}
    first, second = CoreLocks(1), CoreLocks(2)
    assert first.try_take("a-1") and second.try_take("b-2")
    assert cores.holders() == {"a-1": 1, "b-2": 2}
    second.release()
    assert cores.holders() == {"a-1": 1}
    killed = this_process() | {"run": "c-3", "started": "1"}
    for name, words in (("core-1", json.dumps(killed)), ("core-2", "{half")):
        (machine / name).write_text(words)
    assert cores.holders() == {"a-1": 1}
    (machine / "core-1").write_text(json.dumps(killed | {"namespace": "pid:[1]"}))
    assert cores.holders() == {"a-1": 1, "c-3": 1}, "who cannot be judged counts as living"
    (machine / "core-2").unlink()
    os.mkfifo(machine / "core-2")
    assert cores.holders() == {"a-1": 1, "c-3": 1}
    first.release()


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
