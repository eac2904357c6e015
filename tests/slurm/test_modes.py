"""The three ways onto a cluster give the numbers of one machine; so do two runs at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import pytest
from scenario import SLEEP_STUDY, SMALL, ClusterRun, Reference


def started(run: ClusterRun) -> list[float]:
    """When stages began."""
    from benchmarks.cluster_overhead import BEGAN, times

    return times(run.out, BEGAN)


def test_elastic_work_begins_with_the_first_worker_and_gives_the_same_numbers(
    begin: Callable[..., ClusterRun], reference: Reference
) -> None:
    run = begin()
    expected = reference.digests()  # Beforehand, because two cores cannot time a start and train beside it.
    # Only one worker of so many cpus fits on the node; the other waits in the queue to the end. The first one starts when
    # the driver is there, as it mostly is where nodes have to be waited for.
    said = run.submit(*SMALL, cpus="9", nodelist="n2", extra__begin="now+15")
    assert "Submitted driver" in said
    assert "Watch: python -m sweeps status" in said
    run.until(lambda view: run.serving(), what="the first worker serves")
    states = sorted(job["state"] for job in run.jobs("worker"))
    assert states == ["PENDING", "RUNNING"]
    text = run.sweeps("status")
    assert any(f"waits: {why}" in text for why in ("Resources", "Priority", "BeginTime"))
    joined = next(iter((run.folder / "slurm" / "workers").glob("*.json")))
    number = joined.stem
    began = job_start(run, number)
    run.until(lambda view: started(run), what="a stage begins")
    assert run.jobs("worker")[-1]["state"] == "PENDING"
    assert min(started(run)) - began <= 20
    assert run.finish() == 0, run.report()
    assert run.digests() == expected
    assert not harness.trained_twice(run.out)
    run.nothing_failed()
    run.leaves_nothing()
    assert run.status()["state"] == "finished"
    assert "the run ended with code 0" in run.sweeps("logs", "latest", "driver-job")
    assert "joins" in run.sweeps("logs", "latest", f"worker-job-{number_to_id(run, number)}")


def job_start(run: ClusterRun, number: str) -> float:
    """When SLURM started a job."""
    text = run.cluster.run("scontrol", "show", "job", number)
    stamp = next(word.partition("=")[2] for word in text.split() if word.startswith("StartTime="))
    return time.mktime(time.strptime(stamp, "%Y-%m-%dT%H:%M:%S"))


def number_to_id(run: ClusterRun, number: str) -> str:
    return next(job["id"] for job in run.status()["jobs"] if job["number"] == number)


def test_a_gang_and_an_array_without_ray_give_the_same_numbers(
    begin: Callable[..., ClusterRun], reference: Reference
) -> None:
    array, gang = begin("array"), begin("gang")
    array.submit(*SMALL, on="slurm-array")
    array.until(lambda view: view["running"], what="a stage trains")
    assert not [pid for pid in array.processes() if b"raylet" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    said = gang.submit(*SMALL, "--wait", on="slurm-gang")
    assert "gang" in said
    assert array.finish() == 0
    for run in (array, gang):
        assert run.digests() == reference.digests()
        assert not harness.trained_twice(run.out)
        assert len(list((run.folder / "records").glob("*.parquet"))) == len(reference.digests())
        run.leaves_nothing()


def test_two_runs_at_once_share_their_teachers_and_stages_go_where_what_they_need_is(
    begin: Callable[..., ClusterRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = begin("one"), begin("other")
    store = tmp_path / "store"
    words = ["--preset", "tiny", "--set", "epochs=5", "--set", "seconds=1", "--set", "evaluation.seconds=0"]
    one.submit(SLEEP_STUDY, *words, "--set", "student.label=s00,s01", "--store", str(store))
    # The other one has a worker with a GPU and one without; its students take half a GPU each.
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    shared = "cpus = 2\nmemory_gb = 1\ntime = 30\nwarning_seconds = 30\n[driver]\nmemory_gb = 1\n"
    (profiles / "plain.toml").write_text(shared)
    (profiles / "fast.toml").write_text("gpus = 1\n" + shared)
    monkeypatch.setenv("SWEEPS_PROFILES", str(profiles))
    more = ["--on", "slurm", "--profile", "plain:1", "--profile", "fast:1", "--need", "student:gpu=0.5", "--no-report"]
    label = ["--set", "student.label=s02,s03"]
    done = harness.sweeps("run", SLEEP_STUDY, *words, *label, *more, "--store", str(store), "--out", str(other.out))
    assert done.returncode == 0, done.stdout + done.stderr
    seen: dict[str, set[str]] = {}
    most = 0

    def watch(view: dict[str, Any]) -> bool:
        nonlocal most
        mine = [row for row in harness.look_at(other.folder, store)["running"] if row["run"] == other.folder.name]
        for row in mine:
            name = node_of(row["pid"])
            if name:
                seen.setdefault(row["stage"], set()).add(name)
        most = max(most, sum(row["stage"] == "student" for row in mine))
        return other.over() is not None

    other.until(watch, timeout=180, what="the run is over")
    for run in (one, other):
        assert run.finish() == 0, run.report()
        run.leaves_nothing()
    fast = {job["number"] for job in other.status()["jobs"] if job["profile"] == "fast" and job["role"] == "worker"}
    assert {name.split("-")[0] for name in seen["student"]} == {f"w{number}" for number in fast}
    assert most == 2  # Half a GPU each.

    keys = {run: keys_of(run) for run in (one, other)}
    assert len(keys[one] & keys[other]) == 2  # The teachers, one a seed.
    assert len(list(store.glob("*/manifest.json"))) == len(keys[one] | keys[other])
    # The logs lie with the run that trained; a shared stage is in one of them only.
    trained = [name for run in (one, other) for name in harness.epochs_trained(run.out)]
    assert len(trained) == len(set(trained)) == len(keys[one] | keys[other])
    assert not harness.trained_twice(one.out)
    assert not harness.trained_twice(other.out)


def keys_of(run: ClusterRun) -> set[str]:
    """Of all stages the run rests on."""
    trials = json.loads((run.folder / "run.json").read_text())["trials"]
    return {key for trial in trials for key in trial["stages"].values()}


def node_of(pid: int) -> str:
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    return next((part.partition(b"=")[2].decode() for part in environ if part.startswith(b"SWEEPS_NODE=")), "")
