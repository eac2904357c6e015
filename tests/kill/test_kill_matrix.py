"""kill -9 of each part at three moments of a run: it is completed, and its numbers are those of an unhurt one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import pytest

MOMENTS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "teachers": lambda v: any(r["stage"] == "teacher" and (r["epoch"] or 0) >= 2 for r in v["running"]),
    "assistants": lambda v: any(r["stage"] == "assistant" and (r["epoch"] or 0) >= 4 for r in v["running"]),
    "half": lambda v: (
        harness.done(v, "assistant") >= 2
        and any(r["stage"] == "assistant" and (r["epoch"] or 0) >= 1 for r in v["running"])
    ),
}


def victims(view: dict[str, Any], who: str, driver: int) -> list[int]:
    """The pids that `status` shows for a part."""
    workers = [int(row["pid"]) for row in view["running"]]
    assert view["driver"]["pid"] == driver
    if who == "driver":
        return [driver]
    if who == "worker":
        return workers[:1]
    if who == "raylet":
        return [int(view["driver"]["raylet"])]
    return [driver, int(view["driver"]["raylet"]), int(view["driver"]["gcs_server"]), *workers]


@pytest.mark.parametrize("who", ["driver", "worker", "raylet", "everything"])
def test_a_part_killed_at_three_moments_costs_at_most_the_epochs_in_flight(
    who: str, tmp_path: Path, start: Callable[..., harness.Living], reference: dict[str, str]
) -> None:
    run = start("run", harness.STUDY, *harness.SMALL)
    for moment in MOMENTS.values():
        view = run.until(moment)
        everybody = harness.tree(run.process.pid)
        for pid in victims(view, who, run.process.pid):
            harness.kill(pid)
        if who == "worker":
            continue
        code, _, err = run.finish()
        assert code != 0
        if who == "raylet":
            assert re.search(rf"Resume: python -m sweeps resume .*{view['run']}", err), err
        assert not harness.gone(everybody), "processes outlived their driver"
        run = start("resume", "latest", "--no-report")
    code, _, err = run.finish()
    assert code == 0, err
    assert harness.digests(tmp_path) == reference
    # Two stages run at a time, so a kill costs at most two epochs in flight, and never the same one twice over.
    again = [(stage, epoch) for stage, epochs in harness.trained_twice(tmp_path).items() for epoch in epochs]
    assert len(again) <= 2 * len(MOMENTS), again
    counts = [n for epochs in harness.epochs_trained(tmp_path).values() for n in epochs.values()]
    assert max(counts) <= 1 + len(MOMENTS) and sum(n - 1 for n in counts) <= 2 * len(MOMENTS), again
    assert not list((tmp_path / "store" / ".work").glob("*/lease.*")), "leases of finished stages were left"
    after = harness.status(tmp_path)
    assert after["state"] == "finished" and after["trials"]["done"] == 4
