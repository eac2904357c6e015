"""Array mode: real tasks on one run, hurt from outside; and what a task knows of tasks on other nodes. No SLURM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slurm.array_task import SOME_FAILED
from sweeps.engine import queue as queue_module
from sweeps.engine.array.bench import Bench, TaskMachine
from sweeps.engine.array.signals import Heard
from sweeps.engine.array.task import Task
from sweeps.engine.resources import Resources
from sweeps.planning.graph import StageGraph, StageNode
from sweeps.planning.request import Request
from sweeps.runs.execute import run_folder
from sweeps.runs.folder import Place, RunFolder
from sweeps.runs.open_stages import write_plan
from sweeps.runs.prepare import prepare
from trainables.spec import SleepSpec
from trainables.store.artifacts import Store
from trainables.store.leases import Lease, LeaseObserver

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "kill"))

import harness

SLEEPS = "_engine_check"
A, B = "a" * 16, "b" * 16


class Array:
    """The tasks of one run, as a job of each would start them."""

    def __init__(self, out: Path) -> None:
        self.place = Place.of(out, None)
        self.store = Store(self.place.store)
        self.tasks: list[subprocess.Popen[str]] = []

    def plan(self, study: str, *settings: str) -> None:
        """What submission does."""
        request = Request(study, "tiny", "digits", settings=list(settings), on="slurm-array")
        ready = prepare(request, self.place, lambda line: None)
        self.run = run_folder(ready, self.place, None)
        assert not write_plan(ready, self.run, retry_failed=False, say=print)

    def task(self, slots: int = 1) -> subprocess.Popen[str]:
        """One more task."""
        words = harness.command("work", str(self.run.path), "--store", str(self.place.store))
        env = harness.environment() | {"SLURM_CPUS_PER_TASK": str(slots)}
        self.tasks.append(
            subprocess.Popen(
                words, cwd=harness.ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
        return self.tasks[-1]

    def leases(self) -> dict[str, dict[str, Any]]:
        """Key -> lease of the stages that run now."""
        observer = LeaseObserver()
        keys = (
            [p.name for p in self.store.work.iterdir() if not p.name.startswith(".")]
            if self.store.work.exists()
            else []
        )
        held = {key: self.store.lease_holder(key) or {} for key in keys if self.store.held_elsewhere(key, observer)}
        return {key: lease for key, lease in held.items() if lease and not self.store.has(key)}

    def until_running(self, count: int = 1, epoch: int = 1) -> dict[str, dict[str, Any]]:
        """The leases once so many stages have reached that epoch."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            far = {key: lease for key, lease in self.leases().items() if int(lease.get("epoch") or 0) >= epoch}
            if len(far) >= count:
                return far
            time.sleep(0.02)
        raise AssertionError(f"{count} stages never ran at once; running: {self.leases()}")

    def begun(self) -> Counter[str]:
        """Key -> how often it was begun."""
        logs = "".join(path.read_text() for path in self.run.logs.glob("*.log"))
        return Counter(line.split()[4] for line in logs.splitlines() if " begins, lease " in line)

    def keys(self) -> set[str]:
        """All stages of the plan."""
        return {key for trial in self.run.read()["trials"] for key in trial["stages"].values()}

    def end(self) -> None:
        """Leave nothing behind when a test fails."""
        for task in self.tasks:
            if task.poll() is None:
                for pid in harness.tree(task.pid):
                    harness.kill(pid)
            task.communicate(timeout=20)


def ended(task: subprocess.Popen[str], timeout: float = 60) -> tuple[int, str]:
    """Exit code, and everything it said."""
    out, err = task.communicate(timeout=timeout)
    return task.returncode, out + err


@pytest.fixture
def arrays(nasty_path: Path, packed_digits: Any) -> Iterator[Callable[..., Array]]:
    """A planned run in a folder of its own."""
    made: list[Array] = []

    def make(study: str, *settings: str) -> Array:
        out = nasty_path / f"out{len(made)}"
        (out / "store").mkdir(parents=True)
        (out / "store" / "data").symlink_to(packed_digits.path.parent)
        made.append(Array(out))
        made[-1].plan(study, *settings)
        return made[-1]

    yield make
    for one in made:
        one.end()


# Real tasks.


def test_two_tasks_train_every_stage_once_and_to_the_digests_of_a_local_run(
    arrays: Callable[..., Array], tmp_path: Path, packed_digits: Any
) -> None:
    settings = ["epochs=2", "train_images=160", "batch_size=16"]
    at = arrays(harness.STUDY, *settings)
    first, second = at.task(), at.task()
    at.until_running(2, epoch=0)  # The teachers of both seeds.
    pids = {pid for task in (first, second) for pid in harness.tree(task.pid)}
    assert len(pids) == 4
    for task in (first, second):
        code, said = ended(task)
        assert code == 0, said
    assert harness.gone(list(pids)) == []

    local = tmp_path / "local"
    (local / "store").mkdir(parents=True)
    (local / "store" / "data").symlink_to(packed_digits.path.parent)
    words = [word for setting in settings for word in ("--set", setting)]
    done = harness.sweeps("run", harness.STUDY, "--preset", "tiny", *words, "--out", str(local), "--no-report", "-q")
    assert done.returncode == 0, done.stderr
    assert harness.digests(at.place.store.parent) == harness.digests(local)

    assert at.begun() == dict.fromkeys(at.keys(), 1)
    records = {path.stem for path in at.run.records.iterdir()}
    assert records == {path.stem for path in (local / "runs" / at.run.id / "records").iterdir()}
    assert (at.run.path / "report" / "index.html").is_file()
    cells = len(at.run.read()["cells"])
    assert at.run.journal.read_text().count('"value') >= cells > 0
    assert not at.run.is_driven()


def test_a_killed_process_costs_its_stage_one_more_beginning_and_slots_stay_full(arrays: Callable[..., Array]) -> None:
    at = arrays(SLEEPS, "epochs=3", "seconds=0.2")
    task = at.task(slots=2)
    key, lease = next(iter(at.until_running(2).items()))
    harness.kill(int(lease["pid"]))
    seen = set()
    while task.poll() is None and at.store.keys() < at.keys():
        seen.add(len(at.leases()))
        time.sleep(0.02)
    code, said = ended(task)
    assert code == 0, said
    assert at.begun() == dict.fromkeys(at.keys(), 1) | {key: 2}
    assert max(seen) == 2
    # What the killed process had saved was not trained again.
    again = harness.trained_twice(at.place.store.parent)
    assert all(len(epochs) == 1 for epochs in again.values()), again


def test_when_a_task_is_killed_with_all_its_processes_the_others_take_its_stages(arrays: Callable[..., Array]) -> None:
    at = arrays(SLEEPS, "epochs=4", "seconds=0.1")
    first = at.task(slots=2)
    lost = at.until_running(2)
    second = at.task(slots=1)
    for pid in harness.tree(first.pid):
        harness.kill(pid)
    code, said = ended(second)
    assert code == 0, said
    assert {key for key, count in at.begun().items() if count > 1} == set(lost)
    assert at.keys() <= at.store.keys()


def test_no_process_outlives_a_killed_task(arrays: Callable[..., Array]) -> None:
    at = arrays(SLEEPS, "epochs=500", "seconds=0.1")
    task = at.task(slots=2)
    at.until_running(2)
    pids = harness.tree(task.pid)
    harness.kill(task.pid)
    left = harness.gone(pids, timeout=5)
    for pid in left:
        harness.kill(pid)
    assert (len(pids), left) == (3, [])


def test_a_warned_task_saves_and_leaves_and_its_next_life_carries_on(arrays: Callable[..., Array]) -> None:
    at = arrays(SLEEPS, "epochs=7", "seconds=0.1")
    task = at.task(slots=2)
    running = at.until_running(2, epoch=2)
    pids = harness.tree(task.pid)
    for pid in pids:  # SLURM tells every process of a job.
        harness.kill(pid, signal.SIGUSR2)
    code, said = ended(task, timeout=10)
    assert code == 75, said
    assert harness.gone(pids) == []
    for key in running:
        saved = at.store.read_checkpoint(key)
        assert saved is not None and saved[0] >= 2
        assert at.store.failures(key) == []
        assert (at.store.lease_holder(key) or {})["released"]
    assert not at.run.stop_file.exists()
    code, said = ended(at.task(slots=2))
    assert code == 0, said
    assert {key for key, count in at.begun().items() if count > 1} == set(running)
    assert harness.trained_twice(at.place.store.parent) == {}


def test_the_stop_file_drains_every_task_and_those_that_begin_later(arrays: Callable[..., Array]) -> None:
    at = arrays(SLEEPS, "epochs=500", "seconds=0.1")
    tasks = [at.task(), at.task()]
    running = at.until_running(2)
    at.run.stop_file.write_text("{}")
    for task in [*tasks, at.task()]:
        code, said = ended(task, timeout=10)
        assert code == 130, said
    assert all(at.store.read_checkpoint(key) for key in running)


def test_slurms_end_leaves_at_once_without_a_charge_and_frees_the_leases(arrays: Callable[..., Array]) -> None:
    at = arrays(SLEEPS, "epochs=2", "seconds=60.0")
    task = at.task(slots=2)
    end = time.monotonic() + 30
    while len(at.leases()) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    held, pids, began = at.leases(), harness.tree(task.pid), time.monotonic()
    for pid in pids:
        harness.kill(pid, signal.SIGTERM)
    code, said = ended(task, timeout=10)
    assert code == 143, said
    assert time.monotonic() - began < 3
    assert harness.gone(pids) == []
    assert len(held) == 2
    for key in held:
        assert (at.store.lease_holder(key) or {})["released"]
        assert at.store.failures(key) == []


def test_stages_that_fail_for_good_end_all_tasks_with_10_and_are_not_tried_in_each(
    arrays: Callable[..., Array],
) -> None:
    at = arrays(SLEEPS, "epochs=2", "seconds=0.05", "student.fail_at=2")
    tasks = [at.task(), at.task()]
    for task in tasks:
        code, said = ended(task)
        assert code == SOME_FAILED, said
        assert "told to fail at epoch 2" in said
    students = {t["stages"]["student"] for t in at.run.read()["trials"]}
    assert {count for key, count in at.begun().items() if key in students} == {2}
    assert {path.stem for path in at.run.records.iterdir()} == at.keys()  # Also of what could not run.


# What a task knows of others.


class World:
    """A task's loop over a graph of stages that sleep."""

    def __init__(
        self, store: Store, folder: Path, machine: TaskMachine, needs: Resources, keys: tuple[str, ...]
    ) -> None:
        self.run = RunFolder(folder / "runs" / "a run")
        self.run.prepare()
        nodes = [StageNode(k, "teacher", SleepSpec(label=k, seconds=0.0, epochs=1), 0, {}, ["cell"]) for k in keys]
        self.graph, self.said, self.written = StageGraph(nodes), list[str](), list[str]()
        task = Task(self.run, self.graph, store, self, machine, needs, "r", Heard(), self.said.append)  # type: ignore[arg-type]
        self.task, self.queue = task, task.queue

    def loop(self) -> int | None:
        """The task's loop, stopped when it does not come to its end."""
        late = threading.Timer(20, setattr, (self.task.heard, "stop", True))
        late.start()
        try:
            return self.task.run()
        finally:
            late.cancel()

    def write(self, node: StageNode) -> None:
        """In the projector's place."""
        self.written.append(node.key)


@pytest.fixture
def world(store: Store, nasty_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    monkeypatch.setattr(queue_module, "LOOK_ELSEWHERE_SECONDS", 0.0)

    def make(*keys: str, machine: TaskMachine | None = None, needs: Resources | None = None) -> World:
        return World(store, nasty_path, machine or TaskMachine(2), needs or Resources(), keys)

    return make


def foreign_lease(store: Store, key: str) -> Path:
    """A lease of a process on another node."""
    lease = Lease.take(store.work_folder(key), more={"boot": "another node", "epoch": 1})
    assert lease is not None
    return lease.path


def held(at: World, key: str) -> Bench:
    """Hand the stage out as the loop does; the bench says whether a process has it."""
    at.task.state.bench = bench = Bench(at.task.machine, os.environ)
    at.task._hand_out()
    return bench


def test_only_what_this_task_ran_gets_its_record_here(world: Callable[..., World], publish: Callable[..., Any]) -> None:
    publish(A)
    at = world(A, B)  # A was published after the plan was made.
    assert at.loop() is None
    assert at.graph.counts["done"] == 2
    assert at.written == [B]
    assert at.task.trained == 1


def test_a_stage_held_on_another_node_is_left_alone_until_its_lease_is_silent(
    world: Callable[..., World], store: Store
) -> None:
    at = world(A)
    foreign_lease(store, A)
    held(at, A)
    assert at.graph.nodes[A].state == "elsewhere"
    assert at.task.state.bench.busy == []
    at.queue.observer.silence = 0.0
    assert at.loop() is None  # Its own process had no minute to watch the lease.
    assert at.graph.nodes[A].state == "done"
    assert at.written == [A]
    assert store.has(A)


def test_work_that_vanished_was_published_and_is_waited_for(
    world: Callable[..., World], store: Store, publish: Callable[..., Any]
) -> None:
    at = world(A)
    foreign_lease(store, A)
    held(at, A)
    store.clear_work(A)  # The artifact itself shows late.
    assert at.queue.suggest("x") is None
    assert at.graph.nodes[A].state == "elsewhere"
    publish(A)
    assert at.queue.suggest("y") == "FINISHED"
    assert at.graph.nodes[A].state == "done"


def test_work_that_vanished_without_an_artifact_is_done_again_in_the_end(
    world: Callable[..., World], store: Store
) -> None:
    at = world(A)
    foreign_lease(store, A)
    held(at, A)
    store.clear_work(A)
    assert at.queue.suggest("x") is None
    at.queue._late[A] -= at.task.machine.patience
    assert isinstance(at.queue.suggest("y"), dict)


def test_a_released_stage_is_taken_at_once(world: Callable[..., World], store: Store) -> None:
    at = world(A)
    path = foreign_lease(store, A)
    held(at, A)
    Lease(path.parent, 1, {"counter": 0}).update(released=True)
    assert isinstance(at.queue.suggest("x"), dict)


def test_only_dead_owners_lose_their_lease(world: Callable[..., World], store: Store) -> None:
    at = world(A, B)
    lease = Lease.take(store.work_folder(A))
    assert lease is not None
    foreign_lease(store, B)
    for key in (A, B):
        at.queue.release(key)
        assert not (store.lease_holder(key) or {})["released"]
    lease.update(pid=2**22 + 1)
    at.queue.release(A)
    assert (store.lease_holder(A) or {})["released"]


def test_processes_that_cannot_start_end_the_task_and_charge_no_stage(
    world: Callable[..., World], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    at = world(A)
    assert at.loop() == 3
    assert "must start on this node" in at.said[-1]
    assert store.failures(A) == []


def test_a_full_disk_ends_the_task_with_3(world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    at = world(A)
    monkeypatch.setattr(
        Bench,
        "reports",
        lambda bench, seconds: [(bench.children[0], "t1", {"outcome": "disk_full", "message": "No room"})],
    )
    monkeypatch.setattr(Bench, "busy", property(lambda bench: [] if at.task.state.halted else bench.children))
    assert at.loop() == 3
    assert at.said[-1] == "No room"


def test_a_task_on_which_nothing_left_fits_says_so_and_leaves(world: Callable[..., World]) -> None:
    at = world(A, needs=Resources(by_role={"all": {"gpu": 1.0}}))
    assert at.loop() == 3
    assert at.said[-1] == "None of the 1 stages left fits here: the next takes 1 CPU, 1 GPU; the task has 2 CPU, 0 GPU."


def environment_of(pid: int) -> list[bytes]:
    """What a process was given; between fork and exec, on a busy machine, there is nothing to read."""
    end = time.monotonic() + 30
    while not (given := Path(f"/proc/{pid}/environ").read_bytes()) and time.monotonic() < end:
        time.sleep(0.01)
    return given.split(b"\0")


def test_processes_see_the_gpus_of_their_stage_alone(world: Callable[..., World], nasty_path: Path) -> None:
    machine = TaskMachine(4, ("3", "GPU-x"))
    at = world(A, B, "c" * 16, needs=Resources(by_role={"all": {"gpu": 0.5}}), machine=machine)
    bench = held(at, A)
    try:
        assert [child.devices for child in bench.busy] == [("3",), ("GPU-x",), ("3",)]
        seen = [environment_of(child.process.pid) for child in bench.busy]
        assert [next(w for w in words if w.startswith(b"CUDA_VIS")) for words in seen] == [
            b"CUDA_VISIBLE_DEVICES=3",
            b"CUDA_VISIBLE_DEVICES=GPU-x",
            b"CUDA_VISIBLE_DEVICES=3",
        ]
    finally:
        bench.close()


class Taken:
    """In a process's place."""

    def __init__(self, devices: tuple[str, ...], needs: dict[str, float] | None) -> None:
        self.devices, self.resources = devices, needs or {}
        self.trial = "t" if needs else None


@pytest.mark.parametrize(
    ("children", "needs", "placed"),
    [
        ([], {"CPU": 1}, ()),
        ([], {"CPU": 5}, None),
        ([((), {"CPU": 3})], {"CPU": 1}, ()),
        ([((), {"CPU": 3})], {"CPU": 2}, None),
        ([((), {"CPU": 1, "memory": 6.0})], {"CPU": 1, "memory": 6.0}, None),
        ([], {"CPU": 1, "GPU": 1.0}, ("0",)),
        ([(("0",), {"CPU": 1, "GPU": 0.5})], {"CPU": 1, "GPU": 1.0}, ("1",)),
        ([(("0",), {"CPU": 1, "GPU": 0.5})], {"CPU": 1, "GPU": 0.5}, ("1",)),
        ([(("0",), {"CPU": 1, "GPU": 0.5}), (("1",), {"CPU": 1, "GPU": 1.0})], {"CPU": 1, "GPU": 0.5}, ("0",)),
        ([(("0",), {"CPU": 1, "GPU": 0.5}), (("1",), {"CPU": 1, "GPU": 1.0})], {"CPU": 1, "GPU": 0.6}, None),
        ([(("1",), None)], {"CPU": 1, "GPU": 1.0}, ("1",)),  # Its process waits already.
        ([], {"CPU": 1, "GPU": 2.0}, ("0", "1")),
        ([(("1",), {"CPU": 1, "GPU": 0.1})], {"CPU": 1, "GPU": 2.0}, None),
    ],
)
def test_a_stage_gets_what_is_left_of_cores_memory_and_gpus(
    children: list[Any], needs: dict[str, float], placed: tuple[str, ...] | None
) -> None:
    bench = Bench(TaskMachine(4, ("0", "1"), memory_bytes=10.0), {})
    bench.children = [Taken(*child) for child in children]  # type: ignore[misc]
    assert bench.place(needs) == placed


def test_a_task_uses_only_what_slurm_gave_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_GPUS_ON_NODE", "SLURM_MEM_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    assert TaskMachine.given(3).has == {"CPU": 3.0, "GPU": 0.0}
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "2")
    assert TaskMachine.given(3).devices == ("0", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "NoDevFiles")
    assert TaskMachine.given(3).devices == ()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1024")
    assert TaskMachine.given(3).has == {"CPU": 3.0, "GPU": 2.0, "memory": float(1 << 30)}
