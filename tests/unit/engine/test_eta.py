"""How long a run will still take: by work and epochs, not by counting stages."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from sweeps.engine.eta import Pace, TimeLeft
from sweeps.engine.machines import LocalMachine
from sweeps.engine.progress import Progress
from sweeps.engine.state import EngineState
from sweeps.planning.graph import StageGraph, StageNode
from trainables.spec import EvaluationSpec, StageSpec, TeacherSpec

EPOCHS = 10
ESTIMATED = {"teacher": 30.0, "student": 10.0, "evaluation": 0.1}


def plan(seeds: int) -> StageGraph:
    """Per seed a teacher, four students and their evaluations."""
    nodes = []

    def add(role: str, spec: StageSpec, seed: int, *parents: str) -> str:
        key = f"{len(nodes):016x}"
        nodes.append(StageNode(key, role, spec, seed, {f"p{i}": p for i, p in enumerate(parents)}, ["c"]))
        return key

    for seed in range(seeds):
        teacher = add("teacher", TeacherSpec(epochs=EPOCHS), seed)
        for _ in range(4):
            student = add("student", TeacherSpec(epochs=EPOCHS), seed, teacher)
            add("evaluation", EvaluationSpec(), seed, student)
    return StageGraph(nodes)


class Simulated:
    """A run whose stages take `factor` times what was estimated; the clock is ours."""

    def __init__(self, seeds: int, slots: int, factor: Callable[[str], float] = lambda role: 3.0) -> None:
        self.graph, self.slots, self.factor, self.now = plan(seeds), slots, factor, 0.0
        self.pace = Pace(lambda: self.now)
        self.left = TimeLeft(self.pace, lambda node: ESTIMATED[node.role])
        self.running: dict[str, float] = {}

    def run(self) -> list[tuple[float, float | None]]:
        """(time, seconds left as shown) once a second until the end."""
        shown = []
        while not self.graph.finished:
            while len(self.running) < self.slots and (node := self.graph.next_ready()) is not None:
                self.graph.hand_out(node.key)
                self.running[node.key] = self.now
                self.pace.heard(node.key, 0, 0)
            self.now += 1.0
            for key, since in list(self.running.items()):
                node = self.graph.nodes[key]
                whole = ESTIMATED[node.role] * self.factor(node.role)
                epochs = 1 if node.role == "evaluation" else EPOCHS
                self.pace.heard(key, min(epochs, int((self.now - since) / whole * epochs)), epochs)
                if self.now - since >= whole:
                    del self.running[key]
                    self.pace.ended(key, done=True, since=since)
                    self.graph.set(key, "done")
            shown.append((self.now, self.left.seconds(self.graph, self.slots)))
        return shown


@pytest.mark.parametrize(("seeds", "slots"), [(1, 1), (3, 2), (5, 2), (4, 8)])
def test_the_time_left_is_near_the_truth_from_the_first_epochs_on_and_never_jumps_up(seeds: int, slots: int) -> None:
    shown = Simulated(seeds, slots).run()
    end = shown[-1][0]
    assert shown[4][1] is None, "no evidence yet"
    seen = [(now, left) for now, left in shown if left is not None]
    assert seen[0][0] < 0.25 * end
    for now, left in seen:
        assert left == pytest.approx(end - now, abs=0.35 * end)
    later = [(now, left) for now, left in seen if now > 0.2 * end]
    assert all(abs(left - (end - now)) <= 0.2 * end for now, left in later)
    best = seen[0][1] + seen[0][0]
    for now, left in seen:
        assert now + left <= 1.3 * best  # The moment of the end does not run away.


def test_estimates_that_are_wrong_for_one_role_are_corrected_by_its_epochs() -> None:
    run = Simulated(3, 1, lambda role: {"teacher": 1.0, "student": 8.0}.get(role, 1.0))
    shown = run.run()
    end = shown[-1][0]
    late = [(now, left) for now, left in shown if left is not None and now > 0.4 * end]
    assert all(abs(left - (end - now)) <= 0.2 * end for now, left in late)


def test_nothing_is_said_without_evidence() -> None:
    run = Simulated(1, 1)
    assert run.left.seconds(run.graph, 1) is None
    run.pace.heard("0" * 16, 0, EPOCHS)
    run.now = 1000.0
    assert run.left.seconds(run.graph, 1) is None, "no epoch ended"
    run.pace.heard("0" * 16, 5, EPOCHS)
    run.now = 1010.0
    assert run.left.seconds(run.graph, 1) is not None


def test_waiting_for_cores_is_no_training() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    pace.heard("a", 0, 0, waiting=True)
    now[0] = 500.0
    pace.heard("a", 0, EPOCHS)
    now[0] = 510.0
    pace.heard("a", 1, EPOCHS)
    assert pace.running["a"].seconds_of_whole() == pytest.approx(100.0)
    pace.ended("a", done=True, since=0.0)
    assert pace.finished["a"] == pytest.approx(100.0)


def test_a_stage_that_goes_on_from_a_checkpoint_is_judged_by_the_epochs_seen_here() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    pace.heard("a", 6, EPOCHS)
    now[0] = 4.0
    pace.heard("a", 8, EPOCHS)
    assert pace.running["a"].seconds_of_whole() == pytest.approx(20.0)
    assert pace.part("a") == pytest.approx(0.8)


def test_cells_that_are_still_to_be_drawn_count() -> None:
    run = Simulated(1, 1)
    run.left = TimeLeft(run.pace, lambda node: ESTIMATED[node.role], total=10 * 70.4)
    run.pace.heard("0" * 16, 0, EPOCHS)
    run.now = 30.0
    run.pace.heard("0" * 16, 5, EPOCHS)
    alone = run.left.seconds(run.graph, 1)
    run.now += 10.0
    run.left._end = None
    more = run.left.seconds(run.graph, 1, more=True)
    assert alone is not None and more is not None
    assert more > 5 * alone


def test_the_line_of_progress_has_an_eta_only_with_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, now = plan(1), [0.0]
    state = EngineState(graph, LocalMachine(1))
    state.pace = Pace(lambda: now[0])
    progress = Progress("a run", lambda: None, True, lambda node: ESTIMATED[node.role])
    progress.start(state, io.StringIO())
    assert "ETA" not in progress.line(state)
    state.pace.heard("0" * 16, 0, EPOCHS)
    now[0] = 60.0
    state.pace.heard("0" * 16, 5, EPOCHS)
    # 60 of 120 s of the teacher are left, and 4 students and evaluations at the same 4 times of what was estimated.
    assert "ETA 3:41" in progress.line(state) or "ETA 3:42" in progress.line(state)
    state.waits = "memory: 22.9 of 23.5 GB are in use"
    assert "waits for memory: 22.9" in progress.line(state)
    assert "ETA" not in progress.line(state)
