"""What clusters do to jobs, each alone and all in one run: the run finishes, nothing is lost, nothing stays behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from scenario import LONG, ClusterRun


def training(view: dict[str, Any]) -> bool:
    """Whether two stages are in the middle of their epochs."""
    return sum(bool(row["epoch"]) for row in view["running"]) >= 2


def a_worker_is_cancelled(run: ClusterRun) -> None:
    run.cluster.run("scancel", run.serving()[0]["id"])


def a_worker_is_requeued(run: ClusterRun) -> None:
    run.cluster.run("scontrol", "requeue", run.serving()[0]["number"])


def a_worker_is_warned(run: ClusterRun) -> None:
    run.cluster.run("scancel", "--signal=USR2", run.serving()[0]["id"])


def a_worker_joins(run: ClusterRun) -> None:
    before = {job["id"] for job in run.jobs("worker")}
    run.sweeps("scale", "latest", "--workers", str(len(before) + 1))
    run.until(lambda view: {job["id"] for job in run.serving()} - before, what="a new worker serves")


def the_driver_is_requeued(run: ClusterRun) -> None:
    run.cluster.run("scontrol", "requeue", run.jobs("driver")[0]["number"])


def the_drivers_node_dies(run: ClusterRun) -> None:
    """slurmd and every process of the driver's job, as when the node loses its power."""
    driver = run.jobs("driver")[0]
    run.cluster.kill_slurmd(driver["node"])
    for pid in run.cluster.processes_of_job(driver["number"]):
        os.kill(pid, signal.SIGKILL)
    time.sleep(5)
    run.cluster.start_slurmd(driver["node"])


WOUNDS = [
    a_worker_is_cancelled,
    a_worker_is_requeued,
    a_worker_is_warned,
    a_worker_joins,
    the_driver_is_requeued,
    the_drivers_node_dies,
]


@pytest.mark.parametrize("wound", WOUNDS, ids=lambda wound: wound.__name__)
def test_a_run_survives(
    wound: Callable[[ClusterRun], None], begin: Callable[..., ClusterRun], long_reference: dict[str, str]
) -> None:
    run = begin()
    run.submit(*LONG)
    run.until(training, what="two stages train")
    wound(run)
    assert run.finish() == 0
    assert run.digests() == long_reference
    run.repeats_no_more_than_the_epochs_in_flight()
    run.nothing_failed()
    run.leaves_nothing()


def test_a_run_survives_all_of_it(begin: Callable[..., ClusterRun], long_reference: dict[str, str]) -> None:
    run = begin()
    run.submit(*LONG, "--set", "seed_order=0") if False else run.submit(*LONG)
    for wound in (a_worker_joins, a_worker_is_warned, a_worker_is_cancelled, the_driver_is_requeued):
        run.until(training, what=f"two stages train before {wound.__name__}")
        wound(run)
    assert run.finish() == 0
    assert run.digests() == long_reference
