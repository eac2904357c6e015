"""A run's life on the cluster: submitted from a bare login node, stopped, resumed, ended, and refused to strangers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import harness
from scenario import FEW, JOBS, SLEEP_STUDY, ClusterRun

from sweeps.engine.submitted import dead_driver
from sweeps.runs.folder import RunFolder

# Stages that last, so that there is something to stop.
SLOW = [*FEW, "--set", "epochs=16", "--set", "seconds=0.5"]
NO_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "ray"):
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Refuse())
from sweeps.commands.app import main
main(sys.argv[1:])
"""


def running(run: ClusterRun) -> None:
    run.until(lambda view: sum(bool(row["epoch"]) for row in view["running"]) >= 2, what="two stages train")


def test_a_bare_login_node_submits_stop_drains_and_resume_submits_only_what_is_missing(
    begin: Callable[..., ClusterRun],
) -> None:
    run = begin()
    # The site's sbatch exports nothing, and the login node has no torch and no Ray.
    slurm = [f"--slurm={key}={value}" for key, value in {**JOBS, "extra.export": "NONE"}.items()]
    words = ["run", SLEEP_STUDY, *SLOW, "--on", "slurm", "--workers", "2", *slurm, "--no-report", "--out", str(run.out)]
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH, *words],
        cwd=harness.ROOT,
        env=harness.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is in the queue already" in run.sweeps("resume", "latest", code=2)
    running(run)
    assert "Draining" in run.sweeps("stop", "latest")
    assert run.finish(60) == 130
    run.leaves_nothing()
    assert run.status()["state"] == "stopped"
    assert not harness.trained_twice(run.out)
    assert list((run.out / "store" / ".work").glob("*/checkpoint-*"))

    assert "Submitted worker" in run.sweeps("resume", "latest", "--no-report")
    assert run.finish() == 0, run.report()
    assert not harness.trained_twice(run.out)  # Drained in order, not even the epoch in flight was lost.
    run.nothing_failed()
    run.leaves_nothing()
    assert "Nothing is left to train" in run.sweeps("resume", "latest", "--no-report")
    assert not run.jobs()


def test_a_run_shrinks_and_grows_and_is_left_by_its_workers_when_nobody_drives_it(
    begin: Callable[..., ClusterRun],
) -> None:
    run = begin()
    run.submit(SLEEP_STUDY, *SLOW)
    running(run)
    run.sweeps("scale", "latest", "--workers", "1")
    run.until(lambda view: len(run.jobs("worker")) == 1, timeout=40, what="one worker left")
    run.sweeps("scale", "latest", "--workers", "2")
    run.until(lambda view: len(run.serving()) == 2, timeout=60, what="two workers serve")
    assert not harness.trained_twice(run.out)  # Who is asked to leave finishes the epoch first.
    run.nothing_failed()
    run.cluster.run("scancel", run.jobs("driver")[0]["id"])
    run.until(lambda view: not run.jobs(), timeout=90, what="the workers leave a run that nobody drives")
    run.leaves_nothing()
    assert run.status()["state"] == "stopped"


def test_strangers_are_refused_and_stop_now_leaves_nothing(begin: Callable[..., ClusterRun], tmp_path: Path) -> None:
    run = begin()
    run.submit(SLEEP_STUDY, *SLOW)
    running(run)
    # Another run's folder, whose published address leads to this run's head.
    foreign = tmp_path / "foreign" / "slurm"
    foreign.mkdir(parents=True)
    (foreign / "leave").mkdir()
    (foreign / "workers").mkdir()
    shutil.copy(run.folder / "slurm" / "head.json", foreign / "head.json")
    token = foreign / "token"
    token.touch(mode=0o600)
    token.write_text("0" * 64)
    assert "refuses the token of foreign" in serve(foreign)
    # With the right token it is still not the head of that run.
    token.write_text((run.folder / "slurm" / "token").read_text())
    assert "must be the one of foreign" in serve(foreign)
    token.chmod(0o644)
    assert "only you can read" in serve(foreign)

    before = run.processes()
    assert any(b"raylet" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in before)
    assert "are gone" in run.sweeps("stop", "latest", "--now")
    assert not run.jobs()
    run.leaves_nothing()
    assert not harness.gone(before, 5)

    # As if its node had been lost: the lock alone looks alive to whoever meets it first, the queue knows better.
    lock = max(run.folder.glob("driver.*"), key=lambda path: int(path.suffix[1:]))
    lock.write_text(json.dumps(json.loads(lock.read_text()) | {"boot": "another machine's", "released": False}))
    assert run.status()["state"] == "stopped"
    assert dead_driver(RunFolder(run.folder)) == int(lock.suffix[1:])

    os.chown(run.folder, 65534, 65534)
    for words in (("resume", "latest"), ("scale", "latest", "--workers", "3")):
        assert "must belong to you" in run.sweeps(*words, code=3)
    assert not run.jobs()


def serve(folder: Path) -> str:
    """What a worker says that is sent to `folder`; it must not join."""
    program = "from slurm.worker import Worker; import sys; sys.exit(Worker(sys.argv[1], 'foreign', requeues=False)())"
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        env=harness.environment() | {"SLURM_JOB_ID": "999", "SLURM_CPUS_PER_TASK": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "joins" not in done.stdout
    return done.stdout + done.stderr


def test_what_slurm_refuses_is_said_and_nothing_is_left_in_the_queue(begin: Callable[..., ClusterRun]) -> None:
    run = begin()
    words = ["run", SLEEP_STUDY, *SLOW, "--on", "slurm", "--no-report", "--out", str(run.out)]
    done = harness.sweeps(*words, "--slurm", "partition=nowhere", "--slurm", "driver.partition=main")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "SLURM refused the worker job" in done.stderr
    assert "invalid partition" in done.stderr.lower()
    time.sleep(2)
    assert not run.jobs()
    assert json.loads((run.folder / "run.json").read_text())["study"] == SLEEP_STUDY
