"""kill -9 of each part at three moments: the run is completed, its numbers are those of an unhurt one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import pytest

MOMENTS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "teachers": lambda v: any(r["stage"] == "teacher" and (r["epoch"] or 0) >= 2 for r in v["running"]),
    "assistants": lambda v: any(r["stage"] == "assistant" and (r["epoch"] or 0) >= 4 for r in v["running"]),
    "half": lambda v: harness.done(v, "assistant") >= 2
    and any(r["stage"] == "assistant" and (r["epoch"] or 0) >= 1 for r in v["running"]),
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


@pytest.mark.parametrize("moment", list(MOMENTS))
@pytest.mark.parametrize("who", ["driver", "worker", "raylet", "everything"])
def test_a_killed_part_costs_at_most_the_epochs_in_flight(
    who: str, moment: str, tmp_path: Path, start: Callable[..., harness.Living], reference: dict[str, str]
) -> None:
    run = start("run", harness.STUDY, *harness.SMALL)
    view = run.until(MOMENTS[moment])
    everybody = harness.tree(run.process.pid)
    busy = {row["key"] for row in view["running"]}
    for pid in victims(view, who, run.process.pid):
        harness.kill(pid)
    code, out, err = run.finish()
    if who == "worker":
        assert code == 0, err
    else:
        assert code != 0
        if who == "raylet":
            assert f"Resume: python -m sweeps resume {view['run']}" in err
        assert not harness.gone(everybody), "processes outlived their driver"
        resumed = harness.sweeps("resume", "latest", "--no-report", "--out", str(tmp_path), "-q")
        assert resumed.returncode == 0, resumed.stderr
    assert harness.digests(tmp_path) == reference
    twice = harness.trained_twice(tmp_path)
    # What was taken up between the look at the status and the kill may have lost its epoch too.
    assert len(twice) <= 3, twice
    assert all(len(epochs) == 1 for epochs in twice.values()), (twice, busy)
    assert not list((tmp_path / "store" / ".work").glob("*/lease.*")), "leases of finished stages were left"
    after = harness.status(tmp_path)
    assert after["state"] == "finished" and after["trials"]["done"] == 4
