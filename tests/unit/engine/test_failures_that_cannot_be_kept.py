"""A store that refuses to be written ends a run with a sentence; what was to blame on the disk is tried again later."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers import Listener

from sweeps.engine import failures
from sweeps.engine.array.task import TaskQueue
from sweeps.engine.machines import LocalMachine
from sweeps.engine.queue import StageQueue
from sweeps.engine.state import EngineState
from sweeps.planning.graph import StageGraph, StageNode
from sweeps.runs.folder import RunFolder
from sweeps.runs.open_stages import known_failures
from trainables.attempts.attempt import attempt
from trainables.attempts.failures import describe_failure, verdict
from trainables.errors import ArtifactError, DataError, LeaseLostError, MachineError, NonFiniteError, UsageError
from trainables.spec import SleepSpec
from trainables.stages.base import Context
from trainables.store.artifacts import Store
from trainables.store.files import explained
from trainables.store.leases import Lease, LeaseObserver

KEYS = [digit * 16 for digit in "abcdef"]


def node(key: str) -> StageNode:
    return StageNode(key, "teacher", SleepSpec(label=key), 0, {}, ["cell"])


@pytest.fixture
def queue(store: Store, tmp_path: Path) -> StageQueue:
    run = RunFolder(tmp_path / "runs" / "a run")
    run.prepare()
    state = EngineState(StageGraph([node(key) for key in KEYS]), LocalMachine(2))
    return StageQueue(state, store, run, Listener(), revision="r")


def refuse(store: Store, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Writing a failure into the store meets this error of the system."""

    def write(key: str, failure: Any) -> None:
        path = store.work_folder(key)
        raise explained(OSError(number, "the system says no"), path / "failure-1.json")

    monkeypatch.setattr(store, "write_failure", write)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("way", ["the stage fails", "its process dies"])
def test_a_store_that_takes_no_failure_ends_the_run(
    queue: StageQueue, store: Store, monkeypatch: pytest.MonkeyPatch, number: int, way: str
) -> None:
    refuse(store, monkeypatch, number)
    for given in range(20):
        order = queue.suggest(f"t{given}")
        if not isinstance(order, dict):
            break
        if way == "its process dies":
            queue.complete(f"t{given}", None, True)
            continue
        failure = describe_failure(explained(OSError(number, "no"), store.work / "x"), 0)
        try:
            store.write_failure(order["key"], failure)
        except (MachineError, OSError) as error:
            unwritten = json.dumps(failure | {"refused": str(error)})  # As Tune hands it on.
            told = {"outcome": "failed", "message": "m", "unwritten": unwritten}
            queue.complete(f"t{given}", told, False)
    assert given == failures.REFUSALS_ALLOWED
    assert str(store.root) in queue.state.halted and "must be writable" in queue.state.halted
    assert not queue.state.halted.startswith("an unexpected")


def test_single_refusals_between_finished_stages_end_nothing(
    queue: StageQueue, store: Store, monkeypatch: pytest.MonkeyPatch, publish: Any
) -> None:
    refuse(store, monkeypatch, errno.EIO)
    for number in range(len(KEYS) - 1):
        first = queue.suggest(f"lost{number}")
        assert isinstance(first, dict)
        queue.complete(f"lost{number}", None, True)
        again = queue.suggest(f"done{number}")
        assert isinstance(again, dict)
        publish(again["key"])
        queue.complete(f"done{number}", {"outcome": "done"}, False)
    assert queue.state.halted == ""


@pytest.mark.parametrize("error", [OSError(errno.EROFS, "no"), OSError(errno.EIO, "no"), MachineError("no room")])
def test_an_engine_that_cannot_write_ends_in_the_machine_s_name(queue: StageQueue, error: Exception) -> None:
    queue.broke(error)
    assert queue.state.halted and not queue.state.halted.startswith("an unexpected")


def test_an_attempt_in_a_store_that_refuses_says_so_instead_of_raising(store: Store, tmp_path: Path) -> None:
    shutil.rmtree(store.work)
    store.work.write_text("a file in the way")
    context = Context(store=store, key=KEYS[0], core_locks=False, log_file=tmp_path / "log")
    *_, last = attempt("sleep", {"label": "x", "seconds": 0.0}, {}, context)
    assert last["outcome"] == "failed"
    assert last["unwritten"]["type"] == "MachineError" and "must be writable" in last["unwritten"]["refused"]


@pytest.mark.parametrize("outcome", ["failed", "elsewhere"])
def test_a_lease_that_cannot_be_given_back_is_told_and_taken_over_by_order(
    outcome: str, store: Store, queue: StageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = KEYS[0]

    def lost(*_: Any) -> Any:
        raise LeaseLostError("the folder could not be seen for a moment")

    def refused(*_: Any) -> Any:
        raise OSError(errno.EROFS, "Read-only file system")

    context = Context(store=store, key=key, core_locks=False)
    spec = {"label": "x", "seconds": 0.0, "fail_at": int(outcome == "failed")}
    monkeypatch.setattr("trainables.store.leases.opened_to_change", refused)
    if outcome == "elsewhere":
        monkeypatch.setattr(Lease, "require", lost)
    *_, last = attempt("sleep", spec, {}, context)
    monkeypatch.undo()
    assert (last["outcome"], last["unreleased"]) == (outcome, 1)
    assert Lease.take(store.work_folder(key)) is None, "who looks at the disk alone believes that it is held"
    order = queue.suggest("t0")
    assert isinstance(order, dict) and order["dead_lease"] == 0
    queue.complete("t0", last, False)
    while (order := queue.suggest("again"))["key"] != key:  # What was given back goes behind the others.
        queue.state.running.pop("again")
    assert order["dead_lease"] == 1
    lease = Lease.take(store.work_folder(key), known_dead=order["dead_lease"])
    assert lease is not None and lease.number == 2


def test_a_task_hands_out_again_what_it_could_not_give_back(store: Store, queue: StageQueue, tmp_path: Path) -> None:
    key, tasks = KEYS[0], TaskQueue(queue.state, store, RunFolder(tmp_path / "runs" / "a run"), Listener(), revision="r")
    tasks.observer = LeaseObserver(3600.0)
    lease = Lease.take(store.work_folder(key))  # Of this process, which lives; never released.
    assert lease is not None and tasks.settled(key) == {"outcome": "elsewhere"}
    while (order := tasks.suggest("t0"))["key"] != key:
        tasks.state.running.pop("t0")
    tasks.complete("t0", {"outcome": "elsewhere", "unreleased": lease.number}, False)
    assert tasks.settled(key) is None
    while (order := tasks.suggest("again"))["key"] != key:
        tasks.state.running.pop("again")
    assert order["dead_lease"] == lease.number
    taken = Lease.take(store.work_folder(key), known_dead=order["dead_lease"])
    assert taken is not None and tasks.settled(key) == {"outcome": "elsewhere"}, "the new lease is somebody's"


def test_an_unreadable_store_is_told_in_words(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.scandir", refused)
    with pytest.raises(MachineError, match=r"that can be read, but: Permission denied\. .* --store"):
        store.keys()
    monkeypatch.setattr(Path, "exists", refused)
    with pytest.raises(MachineError, match="that can be read"):
        store.has(KEYS[0])


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (DataError("cut"), True),
        (ArtifactError("altered"), True),
        (MachineError("not writable"), True),
        (OSError(errno.EIO, "Input/output error"), True),
        (NonFiniteError("nan"), False),
        (UsageError("impossible"), False),
        (ValueError("a mistake"), False),
    ],
)
def test_what_lay_on_the_disk_is_tried_again_by_the_next_run_and_nothing_else(
    store: Store, error: Exception, again: bool
) -> None:
    for _ in range(2):
        store.write_failure(KEYS[0], describe_failure(error, 0))
    assert verdict(store.failures(KEYS[0])) is not None
    graph = StageGraph([node(KEYS[0])])
    known_failures(graph, store)
    assert graph.nodes[KEYS[0]].state == ("ready" if again else "failed")
    assert bool(store.failures(KEYS[0])) is not again


def test_strange_failure_files_count_for_nothing(store: Store) -> None:
    folder = store.work_folder(KEYS[0])
    folder.mkdir(parents=True)
    (folder / "failure-1.json").write_text('{"time": "late", "type": [], "epoch": {}}')
    (folder / "failure-2.json").write_text('{"time": 1e400, "hopeless": 0}')
    (folder / "failure-3.json").mkdir()
    (folder / "failure-4.json").symlink_to("/dev/zero")
    assert len(store.failures(KEYS[0])) == 2
    verdict(store.failures(KEYS[0]))
    store.forget_failures(KEYS[0])
    assert store.failures(KEYS[0]) == []
