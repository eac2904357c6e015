"""Kept outputs in the plan: what is shared, what is computed, and a forecast that counts what then happens."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import search_spaces
from sweeps.commands.app import cli
from sweeps.planning import forecast
from sweeps.planning.forecast import best, busy, forecasts
from sweeps.planning.identity import run_id
from sweeps.planning.plan import Plan
from sweeps.planning.planner import Planner, build_graph
from sweeps.planning.resolve import Resolved, resolve
from sweeps.planning.survey import Survey, survey
from trainables.attempts.attempt import attempt
from trainables.data.packed import open_packed
from trainables.errors import MachineError
from trainables.spec import OUTPUTS, TrainingSpec, stage_key, to_plain
from trainables.stages.base import Context
from trainables.store.artifacts import Store


def asked(study: str, *settings: str, preset: str = "tiny", seeds: int = 2, share: bool = True) -> Resolved:
    return resolve(search_spaces.load(study), preset=preset, settings=settings, seeds=str(seeds), share=share)


EIGHT = {"fingerprint": "d", "height": 8}


def about(packed: Any) -> dict[str, Any]:
    info = packed.info
    names = ("name", "height", "width", "train_images", "test_images", "fingerprint")
    return {name: getattr(info, name) for name in names} | {"classes": len(info.classes)}


def roles(resolved: Resolved, store: Store) -> dict[str, int]:
    graph, _, _ = build_graph(Plan(resolved, EIGHT), store)
    found: dict[str, int] = {}
    for node in graph.nodes.values():
        found[node.role] = found.get(node.role, 0) + 1
        assert stage_key(node.spec, node.parents) == node.key
    return found


def test_outputs_are_kept_once_for_all_cells_of_a_teacher(store: Store) -> None:
    live = roles(asked("horkd_order_ablation", preset="demo", seeds=5), store)
    views = roles(
        asked("horkd_order_ablation", "teacher_outputs=cached", "augment=flip", preset="demo", seeds=5), store
    )
    assert live == {"teacher": 5, "assistant": 80, "evaluation": 80}
    # A base and one shard of two views for each of the five teachers.
    assert views == live | {OUTPUTS: 10}
    settings = ("teacher_outputs=cached_epochs", "outputs_per_shard=10")
    by_epochs = roles(asked("horkd_order_ablation", *settings, preset="demo", seeds=5), store)
    assert by_epochs == live | {OUTPUTS: 5 * (1 + 3)}


def test_students_of_every_resolution_read_the_same_outputs(store: Store) -> None:
    settings = ("teacher_outputs=cached", "augment=flip", "arm=kd,horkd_direct", "resolution=8,6,4")
    resolved = asked("horkd_resolution_robustness", *settings, preset="demo", seeds=1)
    assert roles(resolved, store)[OUTPUTS] == 2


def test_arms_that_read_maps_run_live_beside_arms_that_read_what_is_kept() -> None:
    resolved = asked("horkd_classification", "teacher_outputs=cached", "arm=fitnet,kd,ce", preset="demo", seeds=1)
    planner = Planner(Plan(resolved, EIGHT))
    same = Planner(Plan(asked("horkd_classification", "arm=fitnet,kd,ce", preset="demo", seeds=1), EIGHT))
    for cell, other in zip(planner.plan.cells(), same.plan.cells(), strict=True):
        keys, live = planner.keys(cell, 0), same.keys(other, 0)
        reads = any(role.startswith(OUTPUTS) for role in keys)
        assert reads == (cell.point["arm"] == "kd")
        if not reads:
            assert keys == live


def test_without_sharing_no_two_trials_have_a_stage_in_common(store: Store) -> None:
    graph, trials, _ = build_graph(Plan(asked("horkd_order_ablation", share=False), EIGHT), store)
    keys = [key for trial in trials for key in trial.stages.values()]
    assert len(keys) == len(set(keys)) == len(graph.nodes)
    names = {run_id(Planner(Plan(asked("horkd_order_ablation", share=share), EIGHT))) for share in (True, False)}
    assert len(names) == 2
    for node in graph.nodes.values():
        assert all(parent in graph.nodes for parent in node.parents.values())


@pytest.mark.parametrize("way", ["live", "cached", "cached_epochs"])
def test_a_forecast_counts_what_then_is_computed_kept_and_read(way: str, packed_digits: Any, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.prepare()
    (store.root / "data").mkdir()
    shutil.copy(packed_digits.path, store.root / "data")
    packed = open_packed(packed_digits.path)
    resolved = asked("horkd_order_ablation", f"teacher_outputs={way}", "augment=flip", "orders=none,1,2+C", "epochs=2")
    found = {one.way: one for one in forecasts(Plan(resolved, about(packed)), packed)}
    graph, _, _ = build_graph(Plan(resolved, about(packed)), store)
    computed = kept = read = 0
    for node in graph.nodes.values():
        context = Context(store=store, key=node.key, core_locks=False)
        *_, last = attempt(node.spec.kind, to_plain(node.spec), node.parents, context)
        assert last["outcome"] == "done", last
        artifact = store.get(node.key)
        read += artifact.metrics.get("outputs_read", 0)
        if node.role == OUTPUTS:
            computed += artifact.metrics["forward_images"]
            kept += sum(entry["bytes"] for entry in artifact.manifest["files"].values())
    if way == "live":
        assert computed == kept == read == 0
        # 2 seeds; two cells read the teacher for 2 epochs of 3 batches, one of them counts its centres first.
        assert found["live"].computed == 2 * (2 * 2 * 96 + 100)
        return
    assert found[way].computed == computed
    assert found[way].asked == read > 0
    assert found[way].hits == 1 - computed / read
    # A few hundred bytes of headers are all that is not counted, on arrays of some kilobytes.
    assert found[way].bytes == pytest.approx(kept, abs=300 * 2 * len(found) + 2000)


def test_the_disk_of_a_plan_counts_what_its_task_trains_on(packed_digits: Any, store: Store) -> None:
    packed = open_packed(packed_digits.path)
    more = ("augment=flip", "arm=ce,horkd_direct")

    def counted(*settings: str) -> Survey:
        resolved = asked("horkd_face_verification", *more, *settings, preset="demo", seeds=2)
        return survey(Planner(Plan(resolved, about(packed))), store, packed)

    live, kept = counted(), counted("student.teacher_outputs=cached")
    assert (live.ways, kept.ways) == ({"live"}, {"cached"})
    resolved = asked("horkd_face_verification", *more, preset="demo", seeds=2)
    found = {one.way: one for one in forecasts(Plan(resolved, about(packed)), packed)}
    assert kept.bytes - live.bytes == found["cached"].bytes > 0


def test_the_least_work_is_advised(packed_digits: Any) -> None:
    packed = open_packed(packed_digits.path)

    def price(spec: TrainingSpec, side: int, batch: int) -> float:
        return 1.0

    def advised(*settings: str, seeds: int) -> str:
        resolved = asked("horkd_order_ablation", *settings, preset="demo", seeds=seeds)
        return best(forecasts(Plan(resolved, about(packed)), packed, price)).way

    assert advised("augment=flip", seeds=1) == "cached"
    assert advised("augment=crop_flip", seeds=1) == "cached_epochs"
    # 15 cells of 30 epochs read one seed's draws; a single one reads each of them once, so nothing is saved.
    assert advised("augment=crop_flip", "orders=2", seeds=1) == "live"


def test_the_forecast_of_a_study_that_distils_nothing_is_empty(packed_digits: Any) -> None:
    packed = open_packed(packed_digits.path)
    resolved = asked("horkd_classification", "arm=ce,teacher,pixels")
    assert forecasts(Plan(resolved, about(packed)), packed) == []


def test_a_forecast_leaves_the_study_as_it_was(packed_digits: Any) -> None:
    packed = open_packed(packed_digits.path)
    plan = Plan(asked("horkd_order_ablation"), about(packed))
    before = dict(plan.resolved.parameters)
    ids = [cell.id for cell in plan.cells()]
    forecasts(plan, packed)
    assert plan.resolved.parameters == before
    assert [cell.id for cell in plan.cells()] == ids


def test_an_augmentation_of_too_many_views_is_said_to_be_kept_by_epochs(packed_digits: Any) -> None:
    packed = open_packed(packed_digits.path)
    for pad, unbounded in ((4, False), (16, True)):
        resolved = asked("horkd_order_ablation", "augment=crop_flip", f"pad={pad}")
        found = {one.way: one for one in forecasts(Plan(resolved, about(packed)), packed)}
        assert found["cached"].unbounded == unbounded
        assert ("more than 1,000 views" in found["cached"].sentence) == unbounded
        assert not found["cached_epochs"].unbounded


# Measured, beside busy cores.


def test_measuring_packs_the_data_and_times_the_networks(tmp_path: Path) -> None:
    words = ["show", "horkd_order_ablation", "--preset", "tiny", "--json", "--out", str(tmp_path)]
    told = []
    for more in ([], ["--measure"], ["--measure"]):
        done = CliRunner().invoke(cli, [*words, *more])
        assert done.exit_code == 0, done.output
        told.append({way["way"]: way for way in json.loads(done.stdout)["teacher_outputs"]})
        assert bool(list(tmp_path.rglob("*.arrow"))) is bool(more)
    estimate, *measured = (ways["live"]["seconds"] for ways in told)
    # No two measurements agree to the last digit, and an estimate is always the same.
    assert len({estimate, *measured}) == 3
    assert [ways["live"]["asked"] for ways in told] == 3 * [told[0]["live"]["asked"]]


def children(of: int) -> list[int]:
    """Processes of a process, alive or not yet waited for."""
    return [int(pid) for pid in Path(f"/proc/{of}/task/{of}/children").read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_cores_are_busy_as_long_as_they_should_be() -> None:
    before = children(os.getpid())
    with busy(0):
        assert children(os.getpid()) == before
    with busy(2):
        (first, second) = [pid for pid in children(os.getpid()) if pid not in before]
        used = [_cpu(pid) for pid in (first, second)]
        time.sleep(1)
        assert all(_cpu(pid) > was for pid, was in zip((first, second), used, strict=True))
    assert children(os.getpid()) == before


def test_cores_that_cannot_be_kept_busy_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit(3)")
    monkeypatch.setattr(forecast, "BUSY", broken)
    with pytest.raises(MachineError, match="one ended with 3"), busy(1):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_cores_are_free_again_when_who_kept_them_busy_was_killed() -> None:
    program = (
        "from sweeps.planning.forecast import busy; import time\nwith busy(1): print('in', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout is not None and asking.stdout.readline() == "in\n"
        (worker,) = children(asking.pid)
        asking.send_signal(signal.SIGKILL)
    for _ in range(100):
        if not Path(f"/proc/{worker}").exists() or "\nState:\tZ" in Path(f"/proc/{worker}/status").read_text():
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the core was still busy ten seconds later")


def _cpu(pid: int) -> int:
    """Clock ticks that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
