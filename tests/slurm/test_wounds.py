"""What clusters do to jobs, each alone and all in one run: the run finishes, nothing is lost, nothing stays behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from scenario import LONG, SLEEP, SLEEP_STUDY, ClusterRun, Reference


def training(view: dict[str, Any]) -> bool:
    """Whether two stages are in the middle of their epochs."""
    return sum(bool(row["epoch"]) for row in view["running"]) >= 2


def hurt_a_worker(run: ClusterRun, *command: str) -> None:
    """Do something to a worker that serves, and wait until it does not any more."""
    worker = run.serving()[0]
    run.cluster.run(*command, worker["id"])
    run.until(lambda view: worker["number"] not in {job["number"] for job in run.serving()}, what="it leaves")


def a_worker_is_cancelled(run: ClusterRun) -> None:
    hurt_a_worker(run, "scancel")


def a_worker_is_requeued(run: ClusterRun) -> None:
    hurt_a_worker(run, "scontrol", "requeue")


def a_worker_is_warned(run: ClusterRun) -> None:
    hurt_a_worker(run, "scancel", "--signal=USR2")
    assert "draining (warned)" in run.report()


def a_worker_joins(run: ClusterRun) -> None:
    before = {job["id"] for job in run.jobs("worker")}
    run.sweeps("scale", "latest", "--workers", str(len(before) + 1))
    run.until(lambda view: {job["id"] for job in run.serving()} - before, what="a new worker serves")


def hurt_the_driver(run: ClusterRun, *command: str) -> None:
    """Do something to the driver, and wait until its job is back in the queue."""
    number = run.jobs("driver")[0]["number"]
    run.cluster.run(*command, number)
    run.until(lambda view: run.jobs("driver") and run.jobs("driver")[0]["state"] == "PENDING", what="it is requeued")


def the_driver_is_requeued(run: ClusterRun) -> None:
    hurt_the_driver(run, "scontrol", "requeue")


def the_driver_is_warned(run: ClusterRun) -> None:
    hurt_the_driver(run, "scancel", "--signal=USR2")
    assert "Warned: " in run.report()


def the_drivers_node_dies(run: ClusterRun) -> None:
    """slurmd and every process of the driver's job, as when the node loses its power; it comes back when it is missed."""
    driver = run.jobs("driver")[0]
    run.cluster.kill_slurmd(driver["node"])
    for pid in run.cluster.processes_of_job(driver["number"]):
        os.kill(pid, signal.SIGKILL)
    run.until(lambda view: "down" in run.cluster.nodes()[driver["node"]].lower(), what="the node is missed")
    run.cluster.start_slurmd(driver["node"])


ALONE = [
    a_worker_is_cancelled,
    a_worker_is_requeued,
    a_worker_is_warned,
    a_worker_joins,
    the_driver_is_requeued,
    the_driver_is_warned,
]


def check(run: ClusterRun, reference: Reference) -> None:
    """The run ended well, with the numbers of one that nobody hurt."""
    assert run.finish() == 0, run.report()
    assert run.digests() == reference.digests()
    run.repeats_no_more_than_the_epochs_in_flight()
    run.nothing_failed()
    run.leaves_nothing()


@pytest.mark.long
def test_each_wound_alone_is_survived(begin: Callable[..., ClusterRun], sleep_reference: Reference) -> None:
    # Six runs at once on the same two nodes, which must not disturb each other either.
    runs = {wound: begin(wound.__name__) for wound in ALONE}
    for wound, run in runs.items():
        # A worker of two slots costs half of two workers to start; who loses one for good needs another.
        two = wound is a_worker_is_cancelled
        run.submit(SLEEP_STUDY, *SLEEP, workers=2 if two else 1, cpus="1" if two else "2")
    for wound, run in runs.items():
        run.until(training, timeout=240, what=f"two stages train before {wound.__name__}")
        wound(run)
    for run in runs.values():
        check(run, sleep_reference)


def test_one_run_survives_all_of_it(begin: Callable[..., ClusterRun], long_reference: Reference) -> None:
    run = begin()
    run.submit(SLEEP_STUDY, *LONG)
    for wound in (
        a_worker_is_warned,
        a_worker_is_requeued,
        a_worker_joins,
        the_driver_is_requeued,
        a_worker_is_cancelled,
        the_drivers_node_dies,
    ):
        run.until(
            lambda view: training(view) and len(run.serving()) >= 2,
            timeout=240,
            what=f"two stages train before {wound.__name__}",
        )
        wound(run)
    check(run, long_reference)
