"""The searcher's logic without Ray: what runs next, and what becomes of each end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import helpers
import pytest

from slurm.rendezvous import Rendezvous
from sweeps.engine import queue as queue_module
from sweeps.engine.machines import ClusterMachine, LocalMachine
from sweeps.engine.memory_pressure import MemoryGate, NodeMemory
from sweeps.engine.order import StageOrder
from sweeps.engine.queue import StageQueue
from sweeps.engine.resources import Resources, resources_fit
from sweeps.engine.state import EngineState
from sweeps.engine.waiting import Waiting
from sweeps.planning.graph import StageGraph, StageNode
from sweeps.runs.folder import RunFolder
from trainables.attempts.attempt import begin
from trainables.attempts.failures import LOST, verdict
from trainables.errors import MachineError
from trainables.spec import SleepSpec, TeacherSpec
from trainables.store.artifacts import Store
from trainables.store.leases import Lease

A, B, C, D = ("a" * 16, "b" * 16, "c" * 16, "d" * 16)


class Listener(helpers.Listener):
    """Gives further stages while it has some."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[tuple[str, int, float]] = []
        self.prune = False
        self.in_store: list[Callable[[], Any]] = []
        self.asked = 0

    def stage_value(self, node: StageNode, epoch: int, value: float) -> bool:
        self.values.append((node.key, epoch, value))
        return self.prune

    def more(self) -> bool:
        self.asked += 1
        if not self.in_store:
            return False
        self.in_store.pop(0)()
        return True

    def exhausted(self) -> bool:
        return not self.in_store


def node(key: str, *parents: str) -> StageNode:
    return StageNode(key, "teacher", SleepSpec(label=key), 0, {f"p{i}": p for i, p in enumerate(parents)}, ["cell"])


class World:
    """A queue over a real store and a real run folder."""

    def __init__(self, store: Store, folder: Path, nodes: list[StageNode], slots: int) -> None:
        self.store, self.graph, self.listener = store, StageGraph(nodes), Listener()
        self.run = RunFolder(folder / "runs" / "a run")
        self.run.prepare()
        self.state = EngineState(self.graph, LocalMachine(slots))
        self.queue = StageQueue(self.state, store, self.run, self.listener, revision="r")
        self.given = 0

    def next(self) -> str | None:
        """Key handed out, FINISHED or None."""
        self.given += 1
        answer = self.queue.suggest(f"t{self.given}")
        return answer["key"] if isinstance(answer, dict) else answer

    def end(self, key: str, outcome: str | None = None, error: bool = False, **more: Any) -> None:
        """The trial that runs `key` ends so."""
        trial = next(t for t, k in self.state.running.items() if k == key)
        self.queue.complete(trial, {"outcome": outcome, **more} if outcome else None, error)

    def fail(self, key: str, kind: str = "ValueError", **more: Any) -> None:
        """The worker writes a failure, then the trial ends as failed."""
        self.store.write_failure(key, {"type": kind, "message": "m", "time": len(self.store.failures(key)), **more})
        self.end(key, "failed")

    def checkpoint(self, key: str, epoch: int) -> None:
        """A worker trains up to an epoch, saves and dies."""
        lease = Lease.take(self.store.work_folder(key))
        assert lease is not None
        self.store.write_checkpoint(key, lease, epoch, b"%d" % epoch)
        lease.release()


@pytest.fixture
def world(store: Store, nasty_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    monkeypatch.setattr(queue_module, "LOOK_ELSEWHERE_SECONDS", 0.0)
    return lambda *nodes, slots=2: World(store, nasty_path, list(nodes), slots)


# Handing out.


def test_one_more_than_the_slots_is_handed_out_and_no_more(world: Callable[..., World]) -> None:
    at = world(*(node(digit * 16) for digit in "0123456789"), slots=2)
    assert [at.next() for _ in range(6)] == ["0" * 16, "1" * 16, "2" * 16, None, None, None]
    at.queue.complete("t1", {"outcome": "stopped"}, False)
    assert at.next() == "3" * 16
    assert at.next() is None


def test_not_yet_is_none_and_the_end_is_finished_for_ever(
    world: Callable[..., World], publish: Callable[..., Any]
) -> None:
    at = world(node(A), node(B, A))
    assert at.next() == A
    assert at.next() is None  # B waits for A.
    publish(A)
    at.end(A, "done")
    assert at.next() == B
    publish(B)
    at.end(B, "done")
    assert at.next() == "FINISHED"
    at.graph.add(node(C))
    assert [at.next(), at.next()] == ["FINISHED", "FINISHED"]
    assert at.listener.done == [A, B]
    assert at.state.trained == 2


def test_an_empty_graph_is_finished_at_once(world: Callable[..., World]) -> None:
    assert world().next() == "FINISHED"


def test_new_cells_are_asked_for_only_when_a_slot_is_free_and_nothing_is_ready(
    world: Callable[..., World], publish: Callable[..., Any]
) -> None:
    at = world(node(A), node(B), node(C), slots=2)
    at.listener.in_store = [lambda: at.graph.add(node(D))]
    assert [at.next() for _ in range(3)] == [A, B, C]
    assert (at.next(), at.listener.asked) == (None, 0)
    publish(A)
    publish(B)
    at.end(A, "done")
    assert (at.next(), at.listener.asked) == (None, 0)  # Two run in two slots.
    at.end(B, "done")
    assert (at.next(), at.listener.asked) == (D, 1)


def test_a_study_that_may_add_cells_is_not_finished(world: Callable[..., World]) -> None:
    at = world()
    at.listener.in_store = [lambda: at.graph.add(node(A), present=True), lambda: at.graph.add(node(B))]
    assert at.next() is None  # Its first cell was there already: ask again.
    assert at.next() == B


def test_a_drained_or_halted_run_hands_out_nothing_more(world: Callable[..., World]) -> None:
    for name, value in (("draining", True), ("halted", "the disk is full")):
        at = world(node(A))
        setattr(at.state, name, value)
        assert at.next() == "FINISHED"
        setattr(at.state, name, type(value)())
        assert at.next() == "FINISHED"  # Latched.


def test_an_order_holds_all_a_worker_needs(world: Callable[..., World]) -> None:
    at = world(node(A))
    before = os.umask(0o027)
    try:
        order = at.queue.suggest("t")
    finally:
        os.umask(before)
    assert isinstance(order, dict)
    assert order["spec"]["label"] == A
    assert order["resources"] == {"CPU": 1.0}
    assert order["umask"] == 0o027
    assert order["store"] == str(at.store.root)
    assert order["every_epoch"] is False
    assert os.umask(before) == before


def test_an_order_for_a_gpu_asks_for_its_share(store: Store, nasty_path: Path) -> None:
    graph = StageGraph([StageNode(A, "teacher", TeacherSpec(threads=3), 5, {})])
    queue = StageQueue(
        EngineState(graph, LocalMachine(4, 1), Resources(0.25)), store, RunFolder(nasty_path), Listener(), revision=""
    )
    order = queue.suggest("t")
    assert isinstance(order, dict)
    assert order["resources"] == {"CPU": 3.0, "GPU": 0.25}
    assert order["spec"]["seed"] == 5


def test_a_stage_that_no_slot_can_hold_is_refused_before_the_start() -> None:
    graph = StageGraph([StageNode(A, "teacher", TeacherSpec(threads=3), 0, {})])
    resources_fit(graph, 3)
    with pytest.raises(MachineError, match="3 threads, but only 2 cores.*threads=2"):
        resources_fit(graph, 2)
    graph.set(A, "done")
    resources_fit(graph, 2)


# Ends.


def test_ending_twice_does_no_harm(world: Callable[..., World], publish: Callable[..., Any]) -> None:
    at = world(node(A))
    at.next()
    publish(A)
    for _ in range(3):
        at.queue.complete("t1", {"outcome": "done"}, False)
        at.queue.complete("never given", None, True)
    assert at.listener.done == [A]
    assert at.state.trained == 1
    assert at.state.running == {}


def test_a_published_stage_is_done_whatever_its_worker_said_last(
    world: Callable[..., World], publish: Callable[..., Any]
) -> None:
    for outcome, error in (("failed", False), ("running", True), ("elsewhere", False), (None, True)):
        at = world(node(A))
        at.next()
        publish(A)
        at.end(A, outcome, error)
        assert at.graph.nodes[A].state == "done"


def test_a_worker_that_says_done_without_an_artifact_is_not_believed(world: Callable[..., World]) -> None:
    at = world(node(A))
    at.next()
    at.end(A, "done")
    assert at.graph.nodes[A].state == "ready"


def test_the_same_exception_twice_ends_a_stage_and_closes_what_follows(world: Callable[..., World]) -> None:
    at = world(node(A), node(B, A))
    at.next()
    at.fail(A)
    assert at.graph.nodes[A].state == "ready"
    assert at.next() == A
    at.fail(A)
    assert at.graph.nodes[A].state == "failed"
    assert at.graph.nodes[A].why == "ValueError: m"
    assert at.graph.nodes[B].state == "unrunnable"
    assert at.listener.failed == [A]
    assert at.next() == "FINISHED"


def test_different_exceptions_are_tried_again(world: Callable[..., World]) -> None:
    at = world(node(A))
    for kind in ("ValueError", "KeyError", "OSError"):
        assert at.next() == A
        at.fail(A, kind)
    assert at.graph.nodes[A].state == "ready"
    assert at.next() == A
    at.fail(A, "KeyError")
    assert at.graph.nodes[A].state == "failed"


def test_what_cannot_be_helped_by_trying_again_ends_at_once(world: Callable[..., World]) -> None:
    at = world(node(A))
    at.next()
    at.fail(A, "NonFiniteError", hopeless=True)
    assert at.graph.nodes[A].state == "failed"
    assert at.next() == "FINISHED"


def test_a_process_lost_three_times_without_a_checkpoint_ends_its_stage(world: Callable[..., World]) -> None:
    at = world(node(A))
    for _ in range(2):
        assert at.next() == A
        at.end(A, error=True)
        assert at.graph.nodes[A].state == "ready"
    assert at.next() == A
    at.end(A, error=True)
    assert at.graph.nodes[A].state == "failed"
    assert at.graph.nodes[A].why == "killed 3 times without progress, probably for memory"


def test_a_process_lost_after_new_checkpoints_costs_nothing(world: Callable[..., World]) -> None:
    at = world(node(A))
    for epoch in range(1, 9):
        assert at.next() == A
        at.checkpoint(A, epoch)
        at.end(A, error=True)
        assert at.graph.nodes[A].state == "ready"
    for _ in range(2):  # The second and third loss at epoch 8.
        assert at.next() == A
        at.end(A, error=True)
    assert at.graph.nodes[A].state == "failed"


def test_a_full_disk_halts_everything_and_blames_no_stage(world: Callable[..., World]) -> None:
    at = world(node(A), node(B))
    assert [at.next(), at.next()] == [A, B]
    at.end(A, "disk_full", message="No room to write /x")
    assert at.state.halted == "No room to write /x"
    assert at.graph.nodes[A].state == "ready"
    assert at.next() == "FINISHED"
    at.end(B, error=True)  # Killed while the run ends: no failure either.
    assert at.graph.nodes[B].state == "ready"
    assert at.store.failures(A) == at.store.failures(B) == []


def test_a_stopped_stage_goes_back_in_line(world: Callable[..., World]) -> None:
    at = world(node(A))
    at.next()
    at.end(A, "stopped")
    assert at.graph.nodes[A].state == "ready"
    assert at.next() == A
    at.state.draining = True
    at.end(A, None, error=True)
    assert at.graph.nodes[A].state == "ready"
    assert at.store.failures(A) == []


def test_a_stage_trained_elsewhere_is_looked_for_until_it_is_there(
    world: Callable[..., World], publish: Callable[..., Any]
) -> None:
    at = world(node(A), node(B, A))
    lease = Lease.take(at.store.work_folder(A))
    assert lease is not None
    assert at.next() == A
    at.end(A, "elsewhere")
    assert [at.next(), at.next()] == [None, None]
    assert at.graph.nodes[A].state == "elsewhere"
    publish(A)
    assert at.next() == B
    assert at.listener.done == [A]
    assert at.state.trained == 0


def test_a_stage_whose_other_trainer_left_is_given_again(world: Callable[..., World]) -> None:
    at = world(node(A))
    lease = Lease.take(at.store.work_folder(A))
    assert lease is not None
    assert at.next() == A
    at.end(A, "elsewhere")
    assert at.next() is None
    lease.release()
    assert at.next() == A


def test_a_stage_that_failed_for_good_elsewhere_fails_here(world: Callable[..., World]) -> None:
    at = world(node(A), node(B, A))
    lease = Lease.take(at.store.work_folder(A))
    assert lease is not None
    at.next()
    at.end(A, "elsewhere")
    at.store.write_failure(A, {"type": "DataError", "message": "m", "hopeless": True})
    lease.release()
    assert at.next() == "FINISHED"
    assert at.graph.nodes[B].state == "unrunnable"


def test_the_store_is_asked_about_elsewhere_at_most_once_a_second(
    store: Store, nasty_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = World(store, nasty_path, [node(A)], 2)
    lease = Lease.take(store.work_folder(A))
    assert lease is not None
    at.next()
    at.end(A, "elsewhere")
    looks: list[str] = []
    monkeypatch.setattr(Store, "has", lambda self, key: bool(looks.append(key)))
    for _ in range(100):
        assert at.next() is None
    assert len(looks) == 1


# The node's memory.

FULL = (
    "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 1, ID: 2) was 22.51GB used / "
    "23.54GB limit (0.956)\nOOM kill reason: Memory usage 24172847104B exceeded threshold of 24012676915B (95.0% of "
    "25276502016B limit)\nSelected to kill: (Task: x, pid=1, actual memory used={held}GB, worker ID=b2e5)"
)


def lose_for_memory(at: World, key: str, held: str) -> None:
    trial = next(t for t, k in at.state.running.items() if k == key)
    at.queue.cause(trial, FULL.format(held=held))
    at.queue.complete(trial, None, True)


def test_a_stage_ended_for_others_memory_is_never_charged_and_goes_again_when_there_is_room(
    world: Callable[..., World],
) -> None:
    at = world(node(A), node(B, A))
    now = [1000.0]
    used = [23 * 2**30]
    at.state.memory = MemoryGate(lambda: NodeMemory(used[0], 24 * 2**30, 22 * 2**30), lambda: now[0])
    assert at.next() is None  # Full from the start.
    for _ in range(5):
        used[0], now[0] = 2**30, now[0] + 1000
        assert at.next() == A
        lose_for_memory(at, A, "0.30")
        used[0], now[0] = 23 * 2**30, now[0] + 1000
        assert at.next() is None
        assert at.graph.nodes[A].state == "ready"
    assert at.store.failures(A) == []
    assert at.listener.failed == []
    assert len(at.state.news) == 5
    assert all(f"teacher {A}" in line and "22.5 of 23.5 GB" in line for line in at.state.news)
    log = at.run.stage_log("teacher", A).read_text()
    assert log.count("ended by Ray's memory monitor: 22.5 of 23.5 GB were in use, 0.3 by this stage") == 5


def test_a_stage_that_filled_the_memory_itself_is_ended_after_three_losses(world: Callable[..., World]) -> None:
    at = world(node(A), node(B, A))
    for _ in range(3):
        assert at.next() == A
        lose_for_memory(at, A, "21.00")
    assert at.graph.nodes[A].state == "failed"
    assert "memory" in at.graph.nodes[A].why
    assert [f["type"] for f in at.store.failures(A)] == [LOST] * 3
    assert all("21.0 by this stage" in f["message"] for f in at.store.failures(A))
    assert at.graph.nodes[B].state == "unrunnable"
    assert at.next() == "FINISHED"


def test_a_tune_that_ends_for_memory_is_started_again_and_any_other_end_is_not(world: Callable[..., World]) -> None:
    at = world(node(A), node(B))
    assert [at.next(), at.next()] == [A, B]
    assert not at.queue.interrupted("RuntimeError: something else")
    assert len(at.state.running) == 2
    assert at.queue.interrupted("Caught unexpected exception: " + FULL.format(held="0.30"))
    assert at.state.running == {}
    assert [at.graph.nodes[key].state for key in (A, B)] == ["ready", "ready"]
    assert at.store.failures(A) == at.store.failures(B) == []


def test_on_a_cluster_a_stage_ended_for_memory_rests_and_the_others_go_on(world: Callable[..., World]) -> None:
    at = world(node(A), node(B))
    at.state.machine = ClusterMachine(Rendezvous(at.run.path, "r"), "1")
    at.state.machine._nodes = {"w1": {"CPU": 1.0}}
    at.state.memory = MemoryGate(lambda: None)
    assert at.next() == A
    lose_for_memory(at, A, "0.30")
    assert at.next() == B
    assert at.next() is None, "A rests"
    at.queue._resting[A] = 0.0
    assert at.next() == A


def test_a_loss_is_written_into_the_stages_log(world: Callable[..., World]) -> None:
    at = world(node(A))
    at.next()
    at.end(A, error=True)
    assert "the process training it was killed" in at.run.stage_log("teacher", A).read_text()
    at.run.stage_log("teacher", A).unlink()
    os.mkfifo(at.run.stage_log("teacher", A))
    assert at.next() == A
    at.end(A, error=True)  # Nobody reads there, and nothing waits for a reader.
    assert at.graph.nodes[A].state == "ready"


def test_waiting_is_told_when_it_begins_and_again_while_it_lasts() -> None:
    now, said, written = [0.0], [], []
    waiting = Waiting(said.append, written.append, lambda: now[0])
    waiting.tell("")
    assert (said, written) == ([], [])
    for second in range(0, 660, 5):
        now[0] = float(second)
        waiting.tell(f"memory: {second}")
    assert [line.split(": ")[1] for line in said] == ["0.", "300.", "600."]
    assert len(written) == 66
    waiting.tell("")
    assert written[-1] == ""
    now[0] += 1
    waiting.tell("cores: 2 stages")
    assert written[-1] == "cores: 2 stages"


# Pruning.


def test_a_pruned_scout_ends_with_what_hangs_from_it(world: Callable[..., World]) -> None:
    at = world(node(A), node(B, A))
    at.next()
    assert at.queue.result("t1", {"values": [[1, 0.2], [2, 0.3]], "done": False}) is False
    assert at.listener.values == [(A, 1, 0.2), (A, 2, 0.3)]
    at.listener.prune = True
    assert at.queue.result("t1", {"values": [[3, 0.1]], "done": False}) is True
    at.end(A, "running")
    assert [at.graph.nodes[key].state for key in (A, B)] == ["pruned", "pruned"]
    assert at.store.failures(A) == []
    assert at.next() == "FINISHED"


def test_a_scout_that_is_through_is_not_pruned_any_more(
    world: Callable[..., World], publish: Callable[..., Any]
) -> None:
    at = world(node(A))
    at.next()
    at.listener.prune = True
    publish(A)
    assert at.queue.result("t1", {"values": [[3, 0.1]], "done": True}) is False
    at.end(A, "done")
    assert at.graph.nodes[A].state == "done"


def test_a_report_of_a_trial_that_is_unknown_or_says_nothing_is_ignored(world: Callable[..., World]) -> None:
    at = world(node(A))
    at.next()
    assert at.queue.result("who", {"values": [[1, 0.2]]}) is False
    assert at.queue.result("t1", {}) is False
    assert at.queue.result("t1", {"values": None}) is False
    assert at.listener.values == []


# A broken hook.


def test_a_hook_that_broke_ends_the_run_in_words(world: Callable[..., World], caplog: pytest.LogCaptureFixture) -> None:
    at = world(node(A))
    at.queue.broke(KeyError("x"))
    assert "an unexpected KeyError in the engine" in at.state.halted
    assert at.next() == "FINISHED"
    at.queue.broke(OSError(28, "No space left on device"))
    assert at.state.halted == "[Errno 28] No space left on device"


# The verdict.


def failure(kind: str, message: str = "m", **more: Any) -> dict[str, Any]:
    return {"type": kind, "message": message, **more}


@pytest.mark.parametrize(
    ("failures", "why"),
    [
        ([], None),
        ([failure("ValueError")], None),
        ([failure("ValueError"), failure("ValueError", "other")], None),
        ([failure("ValueError"), failure("KeyError"), failure("ValueError")], "ValueError: m"),
        ([failure("DataError", hopeless=True)], "DataError: m"),
        ([failure("ValueError"), failure("NonFiniteError", hopeless=True)], "NonFiniteError: m"),
        ([failure(LOST, epoch=0)] * 2, None),
        ([failure(LOST, epoch=0)] * 3, "killed 3 times"),
        ([failure(LOST, epoch=0), failure(LOST, epoch=0), failure(LOST, epoch=1), failure(LOST, epoch=1)], None),
        ([failure(LOST, epoch=n) for n in range(50)], None),
        ([failure(LOST, epoch=4), failure("ValueError"), failure(LOST, epoch=4), failure(LOST, epoch=4)], "killed 3"),
        ([failure(LOST, epoch=0), failure(LOST, epoch=0), failure("ValueError")], None),
        ([{}], None),
        ([{}, {}], "None: None"),
    ],
)
def test_the_verdict_over_failures(failures: list[dict[str, Any]], why: str | None) -> None:
    answer = verdict(failures)
    assert answer is None if why is None else answer is not None and answer.startswith(why)


def test_an_order_says_what_its_type_says_and_survives_the_way_as_json(world: Callable[..., World]) -> None:
    at = world(node(A))
    order = at.queue.suggest("t")
    assert isinstance(order, dict)
    assert set(order) == set(StageOrder.__annotations__)
    assert json.loads(json.dumps(order)) == order


def test_a_lease_that_went_silent_on_another_machine_is_taken_over(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = world(node(A))
    foreign = Lease.take(at.store.work_folder(A))
    assert foreign is not None
    foreign.update(boot="another machine's", counter=7)
    order = at.queue.suggest("t1")
    assert isinstance(order, dict)
    # Who sees the lease for the first time cannot tell that its owner is gone.
    assert [said["outcome"] for said in begin(order)] == ["elsewhere"]
    at.queue.complete("t1", {"outcome": "elsewhere"}, False)
    assert at.queue.suggest("t2") is None
    monkeypatch.setattr(at.queue.observer, "silence", 0.0)
    again = at.queue.suggest("t3")
    assert isinstance(again, dict)
    assert [said["outcome"] for said in begin(again) if "outcome" in said] == ["done"]
