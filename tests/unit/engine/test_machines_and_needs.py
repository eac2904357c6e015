"""What stages ask of machines, which nodes hold them, and what the loss of a node costs."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import Listener

from slurm.rendezvous import Rendezvous
from sweeps.engine import queue as queue_module
from sweeps.engine import resources
from sweeps.engine.machines import ClusterMachine, LocalMachine, fitting, token_file
from sweeps.engine.queue import StageQueue
from sweeps.engine.resources import Resources
from sweeps.engine.state import EngineState
from sweeps.planning.graph import StageGraph, StageNode
from sweeps.runs.folder import RunFolder
from trainables import tune
from trainables.attempts.failures import LOSSES_ALLOWED, LOST
from trainables.errors import ArtifactError, DrainedError, UsageError
from trainables.spec import SleepSpec, TeacherSpec, to_plain
from trainables.stages.base import Context
from trainables.store.artifacts import Store
from trainables.store.leases import Lease
from trainables.tune import NODE_ROOM, StageTrainable

A, B, C, D = ("a" * 16, "b" * 16, "c" * 16, "d" * 16)
GIB = 2.0**30
ROLES = ("teacher", "student", "evaluation")


# Needs in words.


def test_needs_are_read_by_role_and_added_up() -> None:
    found = resources.parse(["student:gpu=0.25,cpus=2", "student:memory_gb=1.5", "all:gpu=1"], ROLES, 0.5)
    student = found.of_role("student", TeacherSpec())
    assert student == {"CPU": 2.0, "GPU": 0.25, "memory": 1.5 * GIB}
    assert found.of_role("teacher", TeacherSpec()) == {"CPU": 1.0, "GPU": 1.0}


def test_without_words_a_stage_takes_its_threads_and_the_usual_share() -> None:
    assert Resources(0.5).of_role("teacher", TeacherSpec(threads=3)) == {"CPU": 3.0, "GPU": 0.5}
    assert Resources(0.0).of_role("teacher", TeacherSpec(threads=3)) == {"CPU": 3.0}
    assert Resources(0.5).of_role("teacher", SleepSpec()) == {"CPU": 1.0}


def test_cpus_may_be_more_than_the_threads_and_never_fewer() -> None:
    asked = resources.parse(["teacher:cpus=2"], ROLES, 0.0)
    assert asked.of_role("teacher", TeacherSpec(threads=4))["CPU"] == 4.0
    assert asked.of_role("teacher", TeacherSpec(threads=1))["CPU"] == 2.0


def test_a_role_may_do_without_the_gpu_that_all_take() -> None:
    asked = resources.parse(["evaluation:gpu=0"], ROLES, 1.0)
    assert asked.of_role("evaluation", TeacherSpec()) == {"CPU": 1.0}
    assert asked.of_role("student", TeacherSpec()) == {"CPU": 1.0, "GPU": 1.0}


def test_a_node_of_the_graph_is_asked_by_its_role() -> None:
    asked = resources.parse(["student:gpu=2"], ROLES, 0.0)
    assert asked.of(StageNode(A, "student", TeacherSpec(), 3, {})) == {"CPU": 1.0, "GPU": 2.0}
    assert asked.of(StageNode(A, "teacher", TeacherSpec(), 3, {})) == {"CPU": 1.0}


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("student", "--need takes ROLE:KEY=VALUE"),
        ("", "--need takes ROLE:KEY=VALUE"),
        ("studnet:gpu=1", "No stage is called 'studnet'. Did you mean 'student'? There are all, teacher, student"),
        (":gpu=1", "No stage is called ''"),
        ("student:gpus=1", "--need knows no 'gpus'. Did you mean 'gpu'? It knows gpu, cpus, memory_gb"),
        ("student:", "--need knows no ''"),
        ("student:gpu=1,", "--need knows no ''"),
        ("student: gpu=1", "--need knows no ' gpu'"),
        ("student:gpu", "`gpu` must be 0, a share from 0.01 to 1, or a whole number of GPUs, got ''"),
        *((f"student:gpu={bad}", "`gpu` must be") for bad in ("1.5", "-1", "0.001", "nan", "inf", "one", "1e7")),
        *((f"student:cpus={bad}", "`cpus` must be a whole number from 1") for bad in ("0", "1.5", "-2", "nan", "inf")),
        *((f"student:memory_gb={bad}", "`memory_gb` must be a number above 0") for bad in ("0", "-1", "nan", "inf")),
    ],
)
def test_a_need_that_cannot_be_is_refused_with_what_can(word: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        resources.parse([word], ROLES, 0.0)
    assert text in str(caught.value)


# What fits where.


@pytest.mark.parametrize(
    ("node", "asked", "count"),
    [
        ({"CPU": 4.0}, {"CPU": 1.0}, 4),
        ({"CPU": 4.0}, {"CPU": 3.0}, 1),
        ({"CPU": 4.0}, {"CPU": 5.0}, 0),
        ({"CPU": 4.0}, {"CPU": 1.0, "GPU": 1.0}, 0),
        ({"CPU": 4.0, "GPU": 1.0}, {"CPU": 1.0, "GPU": 0.25}, 4),
        ({"CPU": 8.0, "GPU": 1.0}, {"CPU": 1.0, "GPU": 0.1}, 8),
        ({"CPU": 16.0, "GPU": 1.0}, {"CPU": 1.0, "GPU": 0.1}, 10),
        ({"CPU": 16.0, "GPU": 0.3}, {"CPU": 1.0, "GPU": 0.1}, 3),
        ({"CPU": 4.0, "memory": 8 * GIB}, {"CPU": 1.0, "memory": 3 * GIB}, 2),
        ({"CPU": 4.0, "node:10.0.0.1": 1.0}, {"CPU": 2.0, "GPU": 0.0}, 2),
        ({}, {"CPU": 1.0}, 0),
    ],
)
def test_as_many_stages_fit_on_a_node_as_its_scarcest_part_holds(
    node: Mapping[str, float], asked: Mapping[str, float], count: int
) -> None:
    assert fitting(node, asked) == count


def test_one_machine_counts_cores_and_gpus_and_leaves_memory_to_ray() -> None:
    machine = LocalMachine(4, 1)
    assert machine.room({"CPU": 1.0}) == 4
    assert machine.room({"CPU": 1.0, "GPU": 0.5}) == 2
    assert machine.room({"CPU": 1.0, "memory": 1e15}) == 4
    assert machine.has_node("any")


def test_a_cluster_has_the_room_of_its_living_nodes(tmp_path: Path) -> None:
    machine = ClusterMachine(Rendezvous(tmp_path, "r"), "0-0")
    assert machine.room({"CPU": 1.0}) == 0
    machine._nodes = {"10.0.0.1": {"memory": 1e9}, "w1": {"CPU": 4.0}, "w2": {"CPU": 3.0, "GPU": 1.0}}
    assert machine.room({"CPU": 1.0}) == 7
    assert machine.room({"CPU": 2.0}) == 3  # No stage lies across two nodes.
    assert machine.room({"CPU": 1.0, "GPU": 0.5}) == 2
    assert (machine.has_node("w1"), machine.has_node("w3")) == (True, False)


def test_a_machines_own_token_is_private_and_never_replaced(tmp_path: Path) -> None:
    path = token_file(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        token_file(tmp_path)


# A cluster for the queue, without Ray.


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class FakeMachine:
    """Nodes that come and go as a test says."""

    is_local = False
    core_locks, patience, lock_patience, lost_code, settle_seconds = False, 5.0, 0.0, 75, 30.0

    def __init__(self, **nodes: Mapping[str, float]) -> None:
        self.nodes: dict[str, Mapping[str, float]] = dict(nodes)

    def start(self, temp: Path) -> contextlib.AbstractContextManager[None]:
        raise AssertionError("a queue starts nothing")

    def room(self, wanted: Mapping[str, float]) -> int:
        return sum(fitting(node, wanted) for node in self.nodes.values())

    def look(self) -> None: ...

    def has_node(self, name: str) -> bool:
        return name in self.nodes


def stage(key: str, role: str = "student") -> StageNode:
    return StageNode(key, role, SleepSpec(label=key), 0, {}, ["cell"])


class World:
    """A queue over a real store and nodes that a test names."""

    def __init__(self, store: Store, folder: Path, machine: FakeMachine, clock: Clock, asked: Resources) -> None:
        self.store, self.machine, self.clock, self.listener = store, machine, clock, Listener()
        self.graph = StageGraph()
        self.state = EngineState(self.graph, machine, asked)
        run = RunFolder(folder / "runs" / "a run")
        run.prepare()
        self.queue = StageQueue(self.state, store, run, self.listener, revision="r")
        self.given = 0

    def next(self) -> str | None:
        """Key handed out, FINISHED or None."""
        self.given += 1
        answer = self.queue.suggest(f"t{self.given}")
        return answer["key"] if isinstance(answer, dict) else answer

    def trial(self, key: str) -> str:
        return next(t for t, k in self.state.running.items() if k == key)

    def heard(self, *keys: str) -> None:
        """Workers have these stages and said so."""
        for key in keys:
            self.queue.result(self.trial(key), {"outcome": "running"})

    def end(self, key: str, outcome: str | None = None, error: bool = False) -> None:
        """The trial that runs `key` ends so."""
        self.queue.complete(self.trial(key), {"outcome": outcome} if outcome else None, error)

    def lose(self, key: str, node: str) -> None:
        """A process of a node takes the stage's lease and is killed."""
        lease = Lease.take(self.store.work_folder(key), more={"node": node})
        assert lease is not None
        lease.update(pid=2**22 + 1, started="1")
        self.end(key, error=True)

    def later(self, seconds: float) -> None:
        self.clock.now += seconds


@pytest.fixture
def world(store: Store, nasty_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    clock = Clock()
    monkeypatch.setattr(queue_module, "time", SimpleNamespace(monotonic=clock.monotonic, time=clock.time))
    monkeypatch.setattr(queue_module, "LOOK_ELSEWHERE_SECONDS", 0.0)

    def make(*stages: StageNode, words: tuple[str, ...] = (), **nodes: Mapping[str, float]) -> World:
        asked = resources.parse(words, ROLES, 0.0)
        made = World(store, nasty_path, FakeMachine(**(nodes or {"w1": {"CPU": 2.0}})), clock, asked)
        for node in stages:
            made.graph.add(node)
        return made

    return make


# Room for two shapes.


def test_a_gpu_stage_without_a_gpu_node_does_not_hold_up_the_others(world: Callable[..., World]) -> None:
    gpu = [stage(str(i) * 16, "student") for i in range(3)]
    cpu = [stage(letter * 16, "evaluation") for letter in "abcdef"]
    at = world(*gpu, *cpu, words=("student:gpu=1",), w1={"CPU": 2.0})
    # One of the first shape is handed out for the node that may come; the rest waits and is passed over.
    assert [at.next() for _ in range(6)] == [gpu[0].key, A, B, C, None, None]
    at.heard(A, B)
    at.end(A, "stopped")
    assert at.next() == D
    assert [node.key for node in at.graph.in_state("ready")] == [gpu[1].key, gpu[2].key, A, "e" * 16, "f" * 16]


def test_a_cpu_stage_does_not_hold_up_gpu_stages_when_all_cores_are_taken(world: Callable[..., World]) -> None:
    cpu = [stage(str(i) * 16, "evaluation") for i in range(4)]
    gpu = [stage(A), stage(B), stage(C)]
    nodes = {"w1": {"CPU": 2.0}, "w2": {"CPU": 2.0, "GPU": 2.0}}
    at = world(*cpu, *gpu, words=("student:gpu=1", "evaluation:cpus=2"), **nodes)
    assert [at.next() for _ in range(3)] == [cpu[0].key, cpu[1].key, cpu[2].key]
    assert at.next() == A
    at.heard(A)
    assert at.next() == B
    assert at.graph.nodes[cpu[3].key].state == "ready"


def test_a_node_that_joins_makes_room_and_one_that_leaves_takes_it(world: Callable[..., World]) -> None:
    at = world(*(stage(str(i) * 16) for i in range(8)), w1={"CPU": 1.0})
    assert [at.next() for _ in range(3)] == ["0" * 16, "1" * 16, None]
    at.machine.nodes["w2"] = {"CPU": 2.0}
    assert [at.next() for _ in range(3)] == ["2" * 16, "3" * 16, None]
    at.heard("0" * 16)
    assert at.next() is None  # Three run or wait in three slots, one more is in line.
    at.machine.nodes = {}
    at.end("3" * 16, "stopped")
    at.end("2" * 16, "stopped")
    at.end("1" * 16, "stopped")
    assert at.next() == "4" * 16  # For whoever comes.
    assert at.next() is None


def test_without_any_node_one_stage_waits_and_the_run_goes_on(world: Callable[..., World]) -> None:
    at = world(stage(A), stage(B))
    at.machine.nodes = {}
    assert [at.next(), at.next(), at.next()] == [A, None, None]


def test_slots_are_counted_in_usual_stages(world: Callable[..., World]) -> None:
    at = world(stage(A), words=("student:cpus=2",), w1={"CPU": 5.0}, w2={"CPU": 3.0})
    assert at.state.slots == 3


# What the loss of a process costs.


def charged(at: World, key: str) -> int:
    return sum(failure["type"] == LOST for failure in at.store.failures(key))


def test_the_loss_of_a_whole_node_is_charged_to_no_stage(world: Callable[..., World]) -> None:
    at = world(stage(A), w1={"CPU": 2.0}, w2={"CPU": 2.0})
    for _ in range(LOSSES_ALLOWED + 2):
        assert at.next() == A
        at.lose(A, "w1")
        assert at.graph.nodes[A].state == "ready"  # At once: others may go on with it.
        at.later(10)
        at.machine.nodes.pop("w1", None)
        at.later(60)
        at.queue._look_elsewhere()
    assert at.store.failures(A) == []
    assert at.listener.failed == []


def test_a_loss_on_a_node_that_lives_on_is_charged_once_that_is_sure(world: Callable[..., World]) -> None:
    at = world(stage(A))
    for count in range(LOSSES_ALLOWED):
        assert at.next() == A
        at.lose(A, "w1")
        at.later(29)
        at.queue._look_elsewhere()
        assert charged(at, A) == count
        at.later(2)
        at.queue._look_elsewhere()
        assert charged(at, A) == count + 1
    assert at.next() == A
    at.lose(A, "w1")
    assert at.graph.nodes[A].state == "failed"
    assert at.listener.failed == [A]


def test_two_losses_are_charged_each_in_its_time(world: Callable[..., World]) -> None:
    at = world(stage(A), stage(B))
    assert [at.next(), at.next()] == [A, B]
    at.lose(A, "w1")
    at.later(20)
    at.lose(B, "w1")
    at.later(15)
    at.queue._look_elsewhere()
    assert (charged(at, A), charged(at, B)) == (1, 0)
    at.later(20)
    at.queue._look_elsewhere()
    assert (charged(at, A), charged(at, B)) == (1, 1)


def test_a_loss_is_not_charged_once_the_stage_is_done(world: Callable[..., World], publish: Callable[..., Any]) -> None:
    at = world(stage(A))
    assert at.next() == A
    at.lose(A, "w1")
    assert at.next() == A
    publish(A)
    at.end(A, "done")
    at.later(60)
    at.queue._look_elsewhere()
    assert at.store.failures(A) == []


def test_a_process_that_ended_before_it_had_the_lease_costs_nothing(world: Callable[..., World]) -> None:
    at = world(stage(A))
    assert at.next() == A
    at.end(A, error=True)
    lease = Lease.take(at.store.work_folder(A), more={"node": "w1"})
    assert lease is not None
    lease.release()
    assert at.next() == A
    at.end(A, error=True)
    at.later(60)
    at.queue._look_elsewhere()
    assert at.store.failures(A) == []


def test_a_lost_stage_is_charged_while_all_slots_are_busy(world: Callable[..., World]) -> None:
    at = world(*(stage(str(i) * 16) for i in range(6)), w1={"CPU": 1.0})
    assert [at.next(), at.next()] == ["0" * 16, "1" * 16]
    at.heard("1" * 16)
    at.lose("0" * 16, "w1")
    assert at.next() == "2" * 16
    at.later(31)
    assert at.next() is None
    assert charged(at, "0" * 16) == 1


def test_a_stage_that_moved_costs_nothing_however_often(world: Callable[..., World]) -> None:
    at = world(stage(A))
    for _ in range(LOSSES_ALLOWED + 3):
        assert at.next() == A
        trial = at.trial(A)
        at.queue.result(trial, {"outcome": "moved", "done": False})
        at.queue.complete(trial, {"outcome": "moved"}, True)  # Its process ended with the node.
        assert at.graph.nodes[A].state == "ready"
        at.later(60)
        at.queue._look_elsewhere()
    assert at.store.failures(A) == []
    # Another trial of the same stage that is really lost is charged.
    assert at.next() == A
    at.lose(A, "w1")
    at.later(60)
    at.queue._look_elsewhere()
    assert charged(at, A) == 1


def test_what_another_node_published_is_waited_for_and_then_taken(
    world: Callable[..., World], publish: Callable[..., Any]
) -> None:
    child = StageNode(B, "student", SleepSpec(label=B), 0, {"teacher": A}, ["cell"])
    at = world(stage(A), child)
    assert at.next() == A
    at.end(A, "done")  # This machine's view of the file system does not show it yet.
    assert at.graph.nodes[A].state == "elsewhere"
    at.later(4)
    assert at.next() is None
    publish(A)
    assert at.next() == B
    assert at.listener.done == [A]


def test_what_was_said_to_be_done_but_never_appears_is_trained_again(world: Callable[..., World]) -> None:
    at = world(stage(A))
    for _ in range(2):
        assert at.next() == A
        at.end(A, "done")
        at.later(4.9)
        assert at.next() is None
        for _ in range(2):
            at.later(5.1)
            at.queue._look_elsewhere()
    assert at.next() == A
    assert at.store.failures(A) == []


def test_a_lease_taken_while_the_queue_judges_is_not_called_dead(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = world(stage(A))
    other = Lease.take(at.store.work_folder(A))
    assert other is not None
    assert at.next() == A
    at.end(A, "elsewhere")
    other.release()
    judge = at.store.dead_lease
    third: list[Lease | None] = []

    def and_then_another_takes_it(key: str, observer: Any) -> int | None:
        answer = judge(key, observer)
        if not third:
            third.append(Lease.take(at.store.work_folder(key)))
        return answer

    monkeypatch.setattr(at.store, "dead_lease", and_then_another_takes_it)
    order = at.queue.suggest("t9")
    assert isinstance(order, dict)
    assert third[0] is not None
    assert order["dead_lease"] < third[0].number


# A store whose files appear late.


def appear(store: Store, key: str, publish: Callable[..., Any], seconds: float) -> threading.Thread:
    """Publish, hide, and show again after some seconds."""
    publish(key)
    hidden = store.work / f"hidden-{key}"
    os.rename(store.path(key), hidden)

    def show() -> None:
        time.sleep(seconds)
        os.rename(hidden, store.path(key))

    thread = threading.Thread(target=show)
    thread.start()
    return thread


def test_an_artifact_that_appears_late_is_found(store: Store, publish: Callable[..., Any]) -> None:
    thread = appear(store, A, publish, 1.0)
    with pytest.raises(ArtifactError, match="has no artifact"):
        store.get(A)
    assert store.get(A, patience=20.0).key == A
    thread.join()


def test_an_artifact_that_never_appears_is_an_error_after_the_patience(store: Store) -> None:
    began = time.monotonic()
    with pytest.raises(ArtifactError, match=f"has no artifact {A}"):
        store.get(A, patience=1.0)
    assert 0.9 < time.monotonic() - began < 10


# A node that must go.


def test_a_stop_is_asked_by_the_run_or_by_the_node(tmp_path: Path, store: Store) -> None:
    context = Context(store=store, key=A)
    assert (context.stop_asked(), context.leave_asked()) == (False, False)
    context = Context(store=store, key=A, stop_file=tmp_path / "stop", leave_file=tmp_path / "leave")
    assert (context.stop_asked(), context.leave_asked()) == (False, False)
    context.save(1, b"goes on")
    (tmp_path / "leave").touch()
    assert (context.stop_asked(), context.leave_asked()) == (True, True)
    with pytest.raises(DrainedError, match="saved at epoch 2"):
        context.save(2, b"leaves")
    (tmp_path / "leave").unlink()
    (tmp_path / "stop").touch()
    assert (context.stop_asked(), context.leave_asked()) == (True, False)


class Exited(BaseException):
    """Stands for the end of the process."""


class Actor:
    """A trainable as Ray would hold it, without Ray."""

    def __init__(self, store: Store, folder: Path, **fields: Any) -> None:
        self.store, self.folder, self.room = store, folder, folder / "room"
        self.room.mkdir()
        self.trainable = StageTrainable.__new__(StageTrainable)
        self.take(A, **fields)

    def order(self, key: str, **fields: Any) -> dict[str, str]:
        umask = os.umask(0o022)
        os.umask(umask)
        spec = SleepSpec(label=key, **{"epochs": 50, "seconds": 0.02} | fields)
        order = {
            "key": key,
            "kind": "sleep",
            "spec": to_plain(spec),
            "parents": {},
            "resources": {"CPU": 1.0},
            "store": str(self.store.root),
            "run": "r",
            "stop_file": str(self.folder / "stop"),
            "log_file": str(self.folder / "log"),
            "core_locks": False,
            "umask": umask,
        }
        return {"order": json.dumps(order)}

    def take(self, key: str, **fields: Any) -> None:
        self.trainable.setup(self.order(key, **fields))

    def busy(self) -> list[str]:
        return [name for name in os.listdir(self.room) if name.startswith("busy-")]


@pytest.fixture
def actor(store: Store, nasty_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Actor]:
    def ended(code: int) -> None:
        raise Exited(code)

    monkeypatch.setattr(tune, "STEP_SECONDS", 0.05)
    monkeypatch.setattr(os, "_exit", ended)
    monkeypatch.setenv(NODE_ROOM, str(nasty_path / "room"))
    return lambda **fields: Actor(store, nasty_path, **fields)


def test_a_stage_marks_its_node_busy_until_it_is_through(actor: Callable[..., Actor]) -> None:
    one = actor(epochs=4)
    assert one.busy() == []
    said = one.trainable.step()
    assert said["outcome"] == "running" and said["epoch_of_stage"] >= 1
    assert one.busy() == [f"busy-{os.getpid()}"]
    while said["outcome"] == "running":
        said = one.trainable.step()
    assert (said["outcome"], said["done"]) == ("done", True)
    assert one.busy() == []
    assert one.store.has(A)


def test_a_stage_whose_actor_is_taken_away_marks_nothing_any_more(actor: Callable[..., Actor]) -> None:
    one = actor()
    one.trainable.step()
    one.trainable.cleanup()
    assert one.busy() == []
    one.take(A)
    one.trainable.step()
    assert one.trainable.reset_config(one.order(B)) is True
    assert one.busy() == []
    one.trainable.step()
    assert one.busy() == [f"busy-{os.getpid()}"]
    one.trainable.cleanup()


def test_a_stage_on_a_node_that_goes_saves_moves_and_ends_its_process(actor: Callable[..., Actor]) -> None:
    one = actor()
    epoch = one.trainable.step()["epoch_of_stage"]
    (one.room / "leave").touch()
    said = one.trainable.step()
    # Not done for Ray: else the next stage would find this actor free, on a node that goes.
    assert (said["outcome"], said["done"]) == ("moved", False)
    assert one.busy() == []
    saved = one.store.read_checkpoint(A)
    assert saved is not None and saved[0] > epoch
    holder = one.store.lease_holder(A)
    assert holder is not None and holder["released"]
    with pytest.raises(Exited):
        one.trainable.step()
    assert one.store.failures(A) == []


def test_a_stage_that_begins_on_a_node_that_goes_moves_at_once(actor: Callable[..., Actor]) -> None:
    one = actor()
    (one.room / "leave").touch()
    said = one.trainable.step()
    assert (said["outcome"], said["done"]) == ("moved", False)
    assert one.store.read_checkpoint(A) is None
    assert one.busy() == []


def test_a_stage_that_is_through_just_before_its_node_goes_is_done(actor: Callable[..., Actor]) -> None:
    one = actor(epochs=1, seconds=0.0)
    said = one.trainable.step()
    while said["outcome"] == "running":
        said = one.trainable.step()
    (one.room / "leave").touch()
    assert (said["outcome"], said["done"]) == ("done", True)
    one.take(A)
    assert one.trainable.step()["outcome"] == "done"


def test_a_drained_run_stops_a_stage_and_its_actor_stays(actor: Callable[..., Actor]) -> None:
    one = actor()
    one.trainable.step()
    (one.folder / "stop").touch()
    said = one.trainable.step()
    assert (said["outcome"], said["done"]) == ("stopped", True)
    assert one.busy() == []


def test_a_stage_that_fails_is_not_busy_and_does_not_move(actor: Callable[..., Actor]) -> None:
    one = actor(fail_at=1, seconds=0.0)
    said = one.trainable.step()
    assert (said["outcome"], said["done"]) == ("failed", True)
    assert one.busy() == []


def test_on_one_machine_nothing_is_marked(actor: Callable[..., Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    one = actor()
    monkeypatch.delenv(NODE_ROOM)
    (one.room / "leave").touch()
    assert one.trainable.step()["outcome"] == "running"
    assert one.busy() == []
    one.trainable.cleanup()
