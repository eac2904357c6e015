"""The private cluster itself: what the other tests of this folder take for granted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import private_slurm
import pytest
from private_slurm import PrivateSlurm


def living() -> set[int]:
    return {process.pid for process in private_slurm.processes()}


def gone(pids: list[int], timeout: float = 15) -> bool:
    """Whether all of them ended in time."""
    deadline = time.monotonic() + timeout
    while living() & set(pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not living() & set(pids)


def test_both_nodes_run_a_job_at_once_and_each_shows_it_one_gpu(cluster: PrivateSlurm):
    said = cluster.run("srun", "-N2", "--gpus-per-node=1", "sh", "-c", "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES")
    assert sorted(said.splitlines()) == ["n1 0", "n2 0"]


def test_a_third_gpu_job_waits_and_one_in_the_small_partition_runs_on_n2(cluster: PrivateSlurm):
    small = cluster.sbatch("sleep 60", "--gres=gpu:1", "--partition=small")
    other = cluster.sbatch("sleep 60", "--gres=gpu:1")
    cluster.wait_state(small, "RUNNING")
    cluster.wait_state(other, "RUNNING")
    third = cluster.sbatch("sleep 60", "--gres=gpu:1")
    freed_by_now = time.monotonic() + 3
    while time.monotonic() < freed_by_now:
        assert cluster.state(third) == "PENDING"
        time.sleep(0.5)
    assert {job.id: job.nodes for job in cluster.squeue()} == {small: "n2", other: "n1", third: ""}
    cluster.run("scancel", other)
    assert cluster.wait_state(third, "RUNNING") < 5


def test_a_requeued_job_runs_again_as_soon_as_its_credential_expired(cluster: PrivateSlurm):
    job = cluster.sbatch("sleep 300")
    cluster.wait_state(job, "RUNNING")
    cluster.run("scontrol", "requeue", job)
    cluster.wait_state(job, "PENDING")
    # About 11 s are measured; 121 s when `cred_expire` is not set.
    cluster.wait_state(job, "RUNNING", timeout=60)


def test_the_processes_of_a_job_are_found_also_in_sessions_of_their_own_and_end_with_it(cluster: PrivateSlurm):
    job = cluster.sbatch("sleep 301 & setsid sh -c 'sleep 302 & exec env -i sleep 303' & wait")
    other = cluster.sbatch("sleep 304")
    cluster.wait_state(job, "RUNNING")
    cluster.wait_state(other, "RUNNING")

    def titles() -> list[str]:
        return sorted(p.title for p in private_slurm.processes() if p.pid in cluster.processes_of_job(job))

    deadline = time.monotonic() + 10
    while len(titles()) < 5 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [title.split("/")[-1].strip() for title in titles()] == [
        "slurm_script",
        "sleep 301",
        "sleep 302",
        "sleep 303",
        f"slurmstepd: [{job}.batch]",
    ]
    pids = cluster.processes_of_job(job)
    cluster.run("scancel", job)
    assert gone(pids)
    assert cluster.state(other) == "RUNNING"


@pytest.mark.long
def test_a_job_on_a_node_that_died_runs_again_on_the_other_and_the_node_comes_back(cluster: PrivateSlurm):
    job = cluster.sbatch("sleep 300")
    cluster.wait_state(job, "RUNNING")
    (before,) = cluster.squeue()
    pids = cluster.processes_of_job(job)
    cluster.kill_slurmd(before.nodes)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    cluster.wait_state(job, "PENDING", timeout=60)
    assert cluster.nodes()[before.nodes] == "down*"
    cluster.wait_state(job, "RUNNING", timeout=60)
    (after,) = cluster.squeue()
    assert {before.nodes, after.nodes} == set(private_slurm.NODES)
    cluster.run("scancel", job)
    cluster.start_slurmd(before.nodes)
    assert cluster.wait_idle() < 15


def test_a_cluster_whose_owner_is_killed_leaves_neither_process_nor_folder(tmp_path: Path):
    owner = subprocess.Popen(
        [sys.executable, private_slurm.__file__],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=tmp_path,
    )
    assert owner.stdout is not None
    with owner, owner.stdout:
        try:
            words = owner.stdout.readline().strip()
            assert words.startswith("export SLURM_CONF=")
            configuration = Path(words.partition("=")[2])
            name = configuration.read_text().partition("ClusterName=")[2].split()[0]
            environment = {**os.environ, "SLURM_CONF": str(configuration), "PATH": private_slurm.PATH}
            subprocess.run(
                ["sbatch", "--output=/dev/null", "--wrap", "trap '' TERM; sleep 300"], env=environment, check=True
            )
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                pids = private_slurm.processes_of(configuration.parent, name)
                titles = [p.title for p in private_slurm.processes() if p.pid in pids]
                if any("sleep 300" in title for title in titles):
                    break
                time.sleep(0.1)
            else:
                pytest.fail(f"The job did not start: {titles}")
            for daemon in ("munged", "slurmctld", "slurmd -D -N n1", "slurmd -D -N n2", "slurmstepd"):
                assert any(title.startswith(daemon) for title in titles), daemon
        finally:
            owner.kill()
    assert gone(pids)
    deadline = time.monotonic() + 10
    while configuration.parent.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not configuration.parent.exists()
