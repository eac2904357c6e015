"""Variables that may hold anything: what they mean, or nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from slurm import devices
from sweeps.commands import fitness
from sweeps.engine import temp_room
from sweeps.engine.array.bench import TaskMachine
from sweeps.runs.folder import Place
from sweeps.runs.machine import find_gpus
from trainables import cores
from trainables.errors import MachineError

NO_DEVICE = [
    "NoDevFiles",
    "none",
    "None",
    "void",
    "no",
    "all",
    "-1",
    "",
    " ",
    ",",
    "-1,0",
    "x",
    "²",
    "1e3",
    "0x1",
    "99999",
    "GPU-",
]


@pytest.mark.parametrize("text", NO_DEVICE)
def test_words_that_mean_no_device_count_as_none_everywhere(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
    monkeypatch.setattr(devices, "GPUS", str(tmp_path / "none"))
    assert devices.named(text) == []
    assert find_gpus() == 0
    assert fitness.find_gpus() == 0
    assert TaskMachine.given(1).devices == ()
    devices.tidy()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0", ["0"]),
        (" 0 , 2", ["0", "2"]),
        ("0,0,1", ["0", "1"]),
        ("1,-1,0", ["1"]),  # CUDA stops at the first word that is no device.
        ("0,NoDevFiles", ["0"]),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,1", ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "1"]),
        ("MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/2", ["MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/2"]),
        ("MIG-b1c2", ["MIG-b1c2"]),
    ],
)
def test_numbers_and_ids_are_devices(text: str, found: list[str]) -> None:
    assert devices.named(text) == found


def test_a_number_beyond_the_machines_gpus_is_no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(devices, "GPUS", str(tmp_path))
    for text, count in (("0,1", 2), ("1,2", 1), ("2", 0), ("", 0)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
        assert find_gpus() == count
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert find_gpus() == 2


@pytest.mark.parametrize("text", ["²", "x", "-3", "", "1e3", "9" * 30, "2(x3)"])
def test_a_variable_of_slurm_that_holds_no_number_is_passed_over(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", text)
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "4")
    assert devices.number("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE", default=1) == 4
    monkeypatch.setenv("SWEEPS_HEAD_WAIT_SECONDS", text if text != "1e3" else "nan")
    if text != "9" * 30:
        assert devices.seconds("SWEEPS_HEAD_WAIT_SECONDS", 7.0) == 7.0


def test_the_temporary_folder_that_runs_use_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEPS_TMPDIR", str(tmp_path))
    place = Place(tmp_path / "runs", tmp_path / "store")
    assert any(str(tmp_path) in row["message"] and "temporary" in row["message"] for row in fitness.examine(place))


def test_a_full_temporary_folder_is_named_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temp_room, "root", lambda: tmp_path)
    temp_room.check()
    full = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(MachineError, match=f"{tmp_path} must have 20 MB free .* has 1.0 MB. .*SWEEPS_TMPDIR"):
        temp_room.check()
    assert any(state == "FAIL" and str(tmp_path) in message for state, message in temp_room.rows())
    monkeypatch.setattr(temp_room, "root", lambda: tmp_path / "none")
    with pytest.raises(MachineError, match="must be writable.*SWEEPS_TMPDIR"):
        temp_room.check()


def test_a_small_shared_memory_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.disk_usage
    small = real("/")._replace(free=64 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: small if str(path) == "/dev/shm" else real(path))
    assert [state for state, message in temp_room.rows() if message.startswith("/dev/shm")] == ["warn"]


def test_a_folder_for_temporary_files_that_cannot_be_used_is_said_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for text in (str(tmp_path / "n"), "/a folder with a name much too long for a socket"):
        monkeypatch.setenv("SWEEPS_TMPDIR", text)
        assert text in temp_room.unused()
    monkeypatch.setenv("SWEEPS_TMPDIR", "")
    assert temp_room.unused() == ""


@pytest.mark.parametrize("kind", ["a file", "below a file", "locks are folders"])
def test_a_folder_for_the_cores_that_cannot_be_used_is_said_so(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "cores"
    if kind == "locks are folders":
        for number in cores.numbers():
            (place / f"core-{number}").mkdir(parents=True)
    else:
        place.write_text("")
    monkeypatch.setenv("SWEEPS_CORES_DIR", str(place / "x" if kind == "below a file" else place))
    with pytest.raises(MachineError, match="must be writable in .*SWEEPS_CORES_DIR"):
        cores.CoreLocks(1).try_take()
