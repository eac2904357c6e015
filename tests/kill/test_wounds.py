"""What happens to real runs: interrupted, hurt, side by side, out of space, and how each is completed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import harness
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

Start = Callable[..., harness.Living]
LONG = ["--no-report", "--preset", "tiny", "--seeds", "1", "--set", "epochs=400", "--set", "train_images=600"]


def only_run(out: Path) -> Path:
    (run,) = (out / "runs").iterdir()
    return run


def journal_states(run: Path) -> Counter[str]:
    storage = JournalStorage(JournalFileBackend(str(run / "optuna.journal")))
    study = optuna.load_study(study_name=run.name, storage=storage)
    return Counter(trial.state.name for trial in study.get_trials())


def busy_epochs(view: dict, epochs: int = 1, stage: str = "teacher") -> bool:
    return any(r["stage"] == stage and (r["epoch"] or 0) >= epochs for r in view["running"])


def test_ctrl_c_once_drains_and_the_run_resumed_over_a_hurt_journal_equals_an_unhurt_one(
    start: Start, tmp_path: Path, reference: dict[str, str]
) -> None:
    run = start("run", harness.STUDY, *harness.SMALL)
    view = run.until(lambda v: busy_epochs(v, 2))
    run.process.send_signal(signal.SIGINT)
    code, _, err = run.finish(30)
    assert code == 130
    assert "Draining" in err
    assert re.search(rf"Resume: python -m sweeps resume .*{view['run']}", err), err
    assert list((tmp_path / "store" / ".work").glob("*/checkpoint-*"))
    journal = only_run(tmp_path) / "optuna.journal"
    with open(journal, "ab") as file:
        file.write(b'{"op_code": 4, "worker_id": "x", "stu')  # Killed while writing a line ...
    os.symlink(journal, f"{journal}.lock")  # ... and while holding the lock.
    assert harness.sweeps("resume", "--no-report", "--out", str(tmp_path), "-q").returncode == 0
    assert harness.digests(tmp_path) == reference
    assert not harness.trained_twice(tmp_path), "a drained stage repeats nothing"
    assert journal_states(journal.parent) == Counter(COMPLETE=2)


def test_ctrl_c_twice_ends_at_once_and_says_how_to_resume(start: Start, tmp_path: Path) -> None:
    run = start("run", harness.STUDY, *LONG, "--set", "batch_size=4")
    view = run.until(lambda v: bool(v["running"]))
    everybody = harness.tree(run.process.pid)
    run.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    began = time.monotonic()
    run.process.send_signal(signal.SIGINT)
    code, _, err = run.finish(30)
    assert code == 130
    assert time.monotonic() - began < 3
    assert re.search(rf"Resume: python -m sweeps resume .*{view['run']}", err), err
    assert not harness.gone(everybody)


def test_ray_is_private_a_second_driver_is_refused_and_stop_drains(start: Start, tmp_path: Path) -> None:
    run = start("run", harness.STUDY, *LONG)
    view = run.until(lambda v: busy_epochs(v, 1))
    environment = Path(f"/proc/{view['driver']['raylet']}/environ").read_bytes().decode().split("\0")
    values = dict(entry.partition("=")[::2] for entry in environment if entry)
    assert values["RAY_AUTH_MODE"] == "token"
    token = Path(values["RAY_AUTH_TOKEN_PATH"])
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    assert token.read_text() not in " ".join(environment), "the token itself is in no environment"
    everybody = harness.tree(run.process.pid)
    names = {
        Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ")
        for pid in harness.tree(run.process.pid)
        if harness.alive(pid)
    }
    pages = [name for name in names if "dashboard/dashboard.py" in name]
    assert all("--disable-frontend" in name and "UsageStatsHead" in name for name in pages), "a dashboard is served"
    temp = token.parent
    assert len(str(temp)) <= 46
    second = harness.sweeps("run", harness.STUDY, *LONG, "--out", str(tmp_path))
    assert second.returncode == 2
    assert "has one driver" in second.stderr and str(run.process.pid) in second.stderr
    assert harness.sweeps("stop", view["run"], "--out", str(tmp_path)).returncode == 0
    code, _, err = run.finish(30)
    assert code == 130 and "Resume:" in err
    end = time.monotonic() + 5
    while temp.exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert not temp.exists(), "the temporary folder was left behind"
    assert not harness.gone(everybody)
    assert "is not running" in harness.sweeps("stop", "--out", str(tmp_path)).stdout


def test_two_runs_at_once_train_each_shared_teacher_once(start: Start, tmp_path: Path) -> None:
    common = ["--no-report", "--preset", "tiny", "--seeds", "2", "--set", "epochs=6", "--set", "train_images=600", "-q"]
    first = start("run", harness.STUDY, *common, "--set", "orders=none,1")
    second = start("run", harness.STUDY, *common, "--set", "orders=none,2")
    for run in (first, second):
        code, _, err = run.finish()
        assert code == 0, err
    trained: dict[str, Counter[int]] = {}
    for path in tmp_path.glob("runs/*/logs/*.log"):
        if path.name != "driver.log":
            trained.setdefault(path.stem, Counter()).update(int(n) for n in harness.EPOCH.findall(path.read_text()))
    teachers = {name: counts for name, counts in trained.items() if name.startswith("teacher")}
    assert len(teachers) == 2
    assert all(set(counts.values()) == {1} for counts in trained.values() if counts), trained
    assert len(list((tmp_path / "store" / "data").glob("*.arrow"))) == 1, "the data was packed once"
    for run in (tmp_path / "runs").iterdir():
        assert journal_states(run) == Counter(COMPLETE=2)


def test_a_run_that_only_waits_for_another_obeys_ctrl_c_within_two_seconds(start: Start, tmp_path: Path) -> None:
    busy = start("run", harness.STUDY, *LONG, "--set", "orders=1")
    busy.until(lambda v: busy_epochs(v, 1))
    (running,) = [r for r in busy.status()["running"] if r["stage"] == "teacher"]
    waiting = start("run", harness.STUDY, *LONG, "--set", "orders=2")
    other = waiting.until(lambda v: v["driver"] is not None and v["driver"]["pid"] == waiting.process.pid, 60)
    waiting.until(lambda v: "raylet" in v["driver"], 60)
    time.sleep(4)  # Long enough to be told that the teacher is held elsewhere.
    assert running["run"] != other["run"]
    began = time.monotonic()
    waiting.process.send_signal(signal.SIGINT)
    code, _, err = waiting.finish(20)
    took = time.monotonic() - began
    assert code == 130, err
    assert took < 2.0, f"took {took:.1f} s"


def test_nan_ends_its_stage_at_once_the_rest_finishes_and_only_it_is_retried(tmp_path: Path) -> None:
    words = [
        "--no-report",
        "--preset",
        "tiny",
        "--seeds",
        "1",
        "--set",
        "learning_rate=0.05,1e9",
        "--out",
        str(tmp_path),
    ]
    first = harness.sweeps("run", harness.STUDY, *words)
    assert first.returncode == 1, first.stderr
    assert "learning_rate" in first.stderr and ".log" in first.stderr
    assert "4 stages could not run" in first.stderr
    assert "Traceback" not in first.stderr
    view = harness.status(tmp_path)
    assert view["trials"]["done"] == 2 and view["trials"]["failed"] == 2
    (failed,) = view["failed"]
    assert failed["stage"] == "teacher" and "NonFiniteError" in (only_run(tmp_path) / failed["log"]).read_text()
    kept = harness.digests(tmp_path)
    assert len(kept) == 5
    again = harness.sweeps("resume", "--no-report", "--out", str(tmp_path), "--json")
    assert again.returncode == 1
    assert json.loads(again.stdout)["trained"] == 0
    retried = harness.sweeps("resume", "--no-report", "--retry-failed", "--out", str(tmp_path), "--json")
    assert retried.returncode == 1
    answer = json.loads(retried.stdout)
    assert answer["trained"] == 0 and answer["unrunnable"] == 4
    assert [f["stage"] for f in answer["failures"]] == ["teacher"]
    log = (only_run(tmp_path) / failed["log"]).read_text()
    assert log.count("begins") == 2, "a failure that cannot mend is tried again only when asked for"
    assert harness.digests(tmp_path) == kept
    assert not harness.trained_twice(tmp_path), "stages that were done were trained again"


def cut(packed: Path) -> None:
    os.truncate(packed, packed.stat().st_size // 2)


def zeros(packed: Path) -> None:
    with open(packed, "r+b") as file:
        file.seek(packed.stat().st_size // 2)
        file.write(bytes(8192))


@pytest.mark.parametrize("hurt", [cut, zeros])
def test_packed_data_hurt_in_mid_run_fail_their_stages_and_resume_packs_them_again(
    hurt: Callable[[Path], None], start: Start, tmp_path: Path, reference: dict[str, str]
) -> None:
    run = start("run", harness.STUDY, *harness.SMALL)
    run.until(lambda v: harness.done(v, "teacher") >= 1)
    (packed,) = (tmp_path / "store" / "data").glob("*.arrow")
    whole = packed.read_bytes()
    hurt(packed)
    code, _, err = run.finish()
    assert code == 1
    assert "DataError" in err and "Traceback" not in err
    mended = harness.sweeps("resume", "--no-report", "--out", str(tmp_path))
    assert mended.returncode == 0, mended.stderr
    assert packed.read_bytes() == whole
    assert harness.digests(tmp_path) == reference


def test_a_store_removed_in_mid_run_is_filled_again_by_resume(
    start: Start, tmp_path: Path, reference: dict[str, str]
) -> None:
    run = start("run", harness.STUDY, *harness.SMALL)
    run.until(lambda v: harness.done(v, "teacher") >= 1 and bool(v["running"]))
    shutil.rmtree(tmp_path / "store")
    code, _, err = run.finish()
    assert code in (1, 3) and "Traceback" not in err
    mended = harness.sweeps("resume", "--no-report", "--out", str(tmp_path))
    assert mended.returncode == 0, mended.stderr
    assert harness.digests(tmp_path) == reference


def test_a_store_that_becomes_read_only_ends_the_run_and_resume_goes_on(
    start: Start, tmp_path: Path, packed: Path, reference: dict[str, str]
) -> None:
    store = tmp_path / "disk"
    store.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(store)], capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    try:
        shutil.copytree(packed, store / "data")
        run = start("run", harness.STUDY, *harness.SMALL, "--store", str(store))
        end = time.monotonic() + 120
        while not list(store.glob(".work/*/checkpoint-*")) and time.monotonic() < end:
            time.sleep(0.1)
        end = time.monotonic() + 30
        while subprocess.run(["mount", "-o", "remount,ro", str(store)], capture_output=True, check=False).returncode:
            assert time.monotonic() < end  # Refused while a file is open for writing.
        code, _, err = run.finish(120)
        assert code in (1, 3) and "Read-only file system" in err and "Traceback" not in err
        refused = harness.sweeps("resume", "--no-report", "--out", str(tmp_path), "--store", str(store))
        assert refused.returncode == 3 and "must be writable" in refused.stderr
        subprocess.run(["mount", "-o", "remount,rw", str(store)], check=True)
        resumed = harness.sweeps("resume", "--no-report", "--out", str(tmp_path), "--store", str(store))
        assert resumed.returncode == 0, resumed.stderr
        digests = {p.parent.name: json.loads(p.read_text())["digest"] for p in store.glob("*/manifest.json")}
        assert digests == reference
    finally:
        subprocess.run(["umount", "-l", str(store)], check=False)


def test_a_worker_killed_three_times_without_progress_ends_its_stage_only(start: Start, tmp_path: Path) -> None:
    words = [
        "--no-report",
        "--preset",
        "tiny",
        "--seeds",
        "2",
        "--set",
        "teacher.train_images=1000",
        "--set",
        "teacher.batch_size=2",
    ]
    run = start("run", harness.STUDY, *words, "--set", "orders=none")
    view = run.until(lambda v: len(v["running"]) >= 1)
    key = view["running"][0]["key"]
    killed: set[int] = set()
    for _ in range(3):
        view = run.until(lambda v: any(r["key"] == key and r["pid"] not in killed for r in v["running"]))
        (row,) = [r for r in view["running"] if r["key"] == key]
        assert not row["epoch"], "the stage must not have progressed"
        harness.kill(row["pid"])
        killed.add(row["pid"])
    code, _, err = run.finish()
    assert code == 1
    assert "killed 3 times" in err and key in err
    view = harness.status(tmp_path)
    assert view["trials"]["done"] == 1 and view["trials"]["failed"] == 1


def test_a_disk_that_fills_ends_with_code_3_and_everything_stays_readable(
    start: Start, tmp_path: Path, reference: dict[str, str]
) -> None:
    run = start("run", harness.STUDY, *harness.SMALL)
    view = run.until(lambda v: harness.done(v, "teacher") >= 1 and bool(v["running"]))
    raylet = view["driver"]["raylet"]
    for pid in harness.tree(raylet)[1:]:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (8192, 8192))
    code, _, err = run.finish()
    assert code == 3, err
    assert "No room" in err and "Resume: python -m sweeps resume" in err
    assert harness.sweeps("store", "verify", "--out", str(tmp_path)).returncode == 0
    journal_states(only_run(tmp_path))
    assert not list((tmp_path / "store" / ".work").glob(".publish-*"))
    assert harness.sweeps("resume", "--no-report", "--out", str(tmp_path), "-q").returncode == 0
    assert harness.digests(tmp_path) == reference


def test_a_limit_on_file_size_below_what_ray_needs_is_told_before_the_start(tmp_path: Path) -> None:
    import subprocess

    words = harness.command("run", harness.STUDY, "--preset", "tiny", "--out", str(tmp_path))
    result = subprocess.run(
        ["bash", "-c", f"ulimit -f 2000; exec {' '.join(words)}"],
        env=harness.environment(),
        cwd=harness.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 3
    assert "ulimit -f" in result.stderr and "Traceback" not in result.stderr


def test_a_sampled_run_killed_in_the_middle_asks_nothing_twice(start: Start, tmp_path: Path) -> None:
    words = [
        "horkd_loss_weights",
        "--no-report",
        "--preset",
        "tiny",
        "--trials",
        "6",
        "--seeds",
        "2",
        "--set",
        "assistant.epochs=9",
    ]
    run = start("run", *words)
    run.until(lambda v: harness.done(v, "assistant") >= 2)
    everybody = harness.tree(run.process.pid)
    for pid in everybody:
        harness.kill(pid)
    run.finish()
    resumed = harness.sweeps("resume", "--no-report", "--out", str(tmp_path), "-q")
    assert resumed.returncode == 0, resumed.stderr
    folder = only_run(tmp_path)
    states = journal_states(folder)
    assert sum(states.values()) == 6
    assert states["RUNNING"] == 0 and states["WAITING"] == 0 and states["FAIL"] == 0
    assert states["COMPLETE"] >= 1
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    trials = optuna.load_study(study_name=folder.name, storage=storage).get_trials()
    assert len({tuple(sorted(t.params.items())) for t in trials}) == 6, "a cell was drawn twice"
    twice = harness.trained_twice(tmp_path)
    assert all(len(epochs) == 1 for epochs in twice.values()), twice
    before = harness.digests(tmp_path)
    again = harness.sweeps("run", *words, "--out", str(tmp_path), "--json")
    assert json.loads(again.stdout)["trained"] == 0
    assert harness.digests(tmp_path) == before


def test_garbage_collection_leaves_a_living_run_alone_and_takes_what_nobody_needs(start: Start, tmp_path: Path) -> None:
    old = harness.sweeps(
        "run", harness.STUDY, "--no-report", "--preset", "tiny", "--seeds", "1", "--out", str(tmp_path), "-q"
    )
    assert old.returncode == 0
    orphan = only_run(tmp_path)
    run = start("run", harness.STUDY, *harness.SMALL)
    run.until(lambda v: harness.done(v, "teacher") >= 1 and bool(v["running"]))
    import shutil

    shutil.rmtree(orphan)
    collected = json.loads(harness.sweeps("store", "gc", "--out", str(tmp_path), "--json").stdout)
    assert len(collected["artifacts"]) == 5
    assert collected["data"] == []
    code, _, err = run.finish()
    assert code == 0, err
    assert len(harness.digests(tmp_path)) == 10
