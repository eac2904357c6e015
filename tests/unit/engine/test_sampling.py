"""Cells and Optuna's journal: mended, never written twice, taken up again, told once."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from search_spaces.study import Preset, Study
from sweeps.engine import queue as queue_module
from sweeps.engine.machines import LocalMachine
from sweeps.engine.queue import StageQueue
from sweeps.engine.sampling.grid import GridCells
from sweeps.engine.sampling.sampled import SampledCells
from sweeps.engine.sampling.study import open_study
from sweeps.engine.sampling.values import cell_value
from sweeps.engine.state import EngineState
from sweeps.planning.cells import Cell
from sweeps.planning.graph import StageGraph
from sweeps.planning.plan import Plan
from sweeps.planning.planner import Trial, build_graph
from sweeps.planning.resolve import resolve
from sweeps.runs.folder import RunFolder
from trainables.recipes.sleep import SLEEP
from trainables.store.artifacts import Store

DATA = {"fingerprint": "d", "height": 8}
NAME = "made-up-study-0123abcd"


def draw(trial: Any) -> dict[str, Any]:
    return {
        "student.value": trial.suggest_float("student.value", 0.0, 1.0),
        "student.label": trial.suggest_categorical("student.label", ("x", "y")),
    }


def study(
    space: Callable[[Any], dict[str, Any]] | None = draw, *, prune: bool = False, seeds: int = 2, **more: Any
) -> Study:
    preset = Preset(parameters={"epochs": 9, "teacher.label": "t", "evaluation.label": "e"}, seeds=seeds, trials=4)
    words: dict[str, Any] = {"name": "made_up_study", "title": "", "question": "", "paper": "", "figure": ""}
    return Study(**words, recipe=SLEEP, presets={"demo": preset}, space=space, prune=prune, **more)


class Run:
    """A sampled run without Ray: the real queue, the real store, artifacts that say what their spec says."""

    def __init__(
        self,
        store: Store,
        folder: Path,
        made: Study,
        *,
        seeds: int | None = None,
        trials: int | None = None,
        slots: int = 1,
        known: dict[str, Any] | None = None,
    ) -> None:
        self.store = store
        self.said: list[str] = []
        self.plan = Plan(resolve(made, seeds=seeds, trials=trials), DATA)
        self.run = RunFolder(folder / "runs" / NAME)
        self.run.prepare()
        self.graph = StageGraph()
        self.announced: list[tuple[list[Cell], list[Trial]]] = []
        self.cells = SampledCells(
            self.plan,
            self.graph,
            store,
            self.run.journal,
            NAME,
            lambda node: None,
            lambda cells, trials: self.announced.append((list(cells), list(trials))),
            known=known,
            say=self.said.append,
        )
        self.state = EngineState(self.graph, LocalMachine(slots))
        self.queue = StageQueue(self.state, store, self.run, self.cells, revision="")
        self.trained: list[dict[str, Any]] = []
        self._number = 0

    def next(self) -> tuple[str, dict[str, Any]] | str | None:
        """(trial id, order), FINISHED or None."""
        self._number += 1
        answer = self.queue.suggest(str(self._number))
        return (str(self._number), answer) if isinstance(answer, dict) else answer

    def train(self, trial_id: str, order: dict[str, Any], values: list[float] | None = None) -> bool:
        """Act the worker: report epochs, then publish; false when pruned."""
        spec = order["spec"]
        for epoch, value in enumerate(values or [], 1):
            if self.queue.result(trial_id, {"values": [[epoch, value]], "done": False}):
                self.queue.complete(trial_id, {"outcome": "running"}, False)
                return False
        manifest = {"kind": "sleep", "spec": spec, "parents": order["parents"]}
        manifest["metrics"] = {"validation_top1": spec["value"] + 0.01 * spec["seed"]}
        self.store.publish(order["key"], manifest, lambda folder: None)
        self.queue.complete(trial_id, {"outcome": "done"}, False)
        self.trained.append(spec)
        return True

    def to_the_end(self, most: int = 200) -> None:
        """Run until FINISHED."""
        for _ in range(most):
            before = self.cells.asked
            answer = self.next()
            if answer == "FINISHED":
                return
            if answer is None:  # Only when a cell was drawn whose stages are there already.
                assert self.cells.asked > before, f"nothing to do, yet not finished: {self.graph.counts}"
            else:
                assert isinstance(answer, tuple)
                self.train(*answer)
        raise AssertionError("the run did not end")

    def frozen(self) -> list[optuna.trial.FrozenTrial]:
        """What another process reads in the journal."""
        return read(self.run.journal)


def read(journal: Path) -> list[optuna.trial.FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return optuna.load_study(storage=storage, study_name=NAME).get_trials()


@pytest.fixture
def begin(store: Store, nasty_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    monkeypatch.setattr(queue_module, "LOOK_ELSEWHERE_SECONDS", 0.0)
    return lambda made=None, **more: Run(store, nasty_path, made or study(), **more)


# The journal.


@pytest.fixture
def journal(nasty_path: Path) -> Path:
    path = nasty_path / "optuna.journal"
    made = open_study(path, NAME)
    for value in (0.1, 0.2):
        made.add_trial(optuna.trial.create_trial(value=value))
    return path


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_journal_whose_last_line_was_cut_is_mended_and_readable(journal: Path, cut: int) -> None:
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-cut])
    said: list[str] = []
    made = open_study(journal, NAME, say=said.append)
    assert journal.read_bytes() == b"".join(whole.splitlines(keepends=True)[:-1])
    assert said == []  # Every kill may leave one.
    assert os.listdir(journal.parent) == [journal.name]
    made.add_trial(optuna.trial.create_trial(value=0.3))
    assert read(journal)[-1].value == 0.3


@pytest.mark.parametrize("tail", [b"\0\0\0\n", b"\xff\xfe\n", b'{"a": 1}\n{"b": ', b"[]\n", b"[" * 100_000 + b"\n"])
def test_garbage_at_the_end_goes_with_a_word_and_a_copy(journal: Path, tail: bytes) -> None:
    good = journal.read_bytes()
    journal.write_bytes(good + tail)
    said: list[str] = []
    made = open_study(journal, NAME, say=said.append)
    assert [trial.value for trial in made.get_trials()] == [0.1, 0.2]
    assert len(said) == 1
    assert "optuna.journal.damaged-1" in said[0]
    assert journal.with_name("optuna.journal.damaged-1").read_bytes() == good + tail
    before = journal.read_bytes()
    open_study(journal, NAME, say=said.append)
    assert journal.read_bytes() == before
    assert len(said) == 1


@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "link to a device"])
def test_what_is_no_file_in_the_journals_place_is_kept_aside_and_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "optuna.journal"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    said: list[str] = []
    assert open_study(path, NAME, say=said.append).get_trials() == []
    assert "optuna.journal.damaged-1" in said[0]
    assert path.is_file() and not path.is_symlink()
    assert os.path.lexists(tmp_path / "optuna.journal.damaged-1")


@pytest.mark.parametrize("kind", ["symlink", "file", "half released"])
def test_a_lock_left_behind_is_not_waited_for(journal: Path, kind: str) -> None:
    lock = journal.with_name(journal.name + ".lock")
    if kind == "symlink":
        lock.symlink_to(journal)
    elif kind == "file":
        lock.touch()
    else:
        lock.with_name(lock.name + "1234.rename").symlink_to(journal)
    made = open_study(journal, NAME)
    made.add_trial(optuna.trial.create_trial(value=0.5))
    assert [t.value for t in read(journal)] == [0.1, 0.2, 0.5]
    assert [name for name in os.listdir(journal.parent) if "lock" in name] == []


# Grids.


def grid(
    store: Store, folder: Path, *settings: str, seeds: int = 2, finished: list[str] | None = None
) -> tuple[GridCells, StageGraph, list[Trial]]:
    made = study(None, axes={"student.value": (0.25, 0.5), "student.label": ("x", "y")})
    resolved = resolve(made, settings=settings, seeds=seeds)
    graph, trials, cells = build_graph(Plan(resolved, DATA), store)
    folder.mkdir(exist_ok=True)
    done = finished if finished is not None else []
    listener = GridCells(
        resolved, cells, trials, graph, store, folder / "optuna.journal", NAME, lambda node: done.append(node.key)
    )
    return listener, graph, trials


def finish(store: Store, graph: StageGraph, listener: GridCells, keys: list[str]) -> None:
    for key in keys:
        node = graph.nodes[key]
        if node.state == "done":
            continue
        value = node.spec.value + 0.01 * node.seed  # type: ignore[attr-defined]
        manifest = {"kind": "sleep", "spec": {}, "parents": {}, "metrics": {"validation_top1": value}}
        store.publish(key, manifest, lambda folder: None)
        graph.set(key, "done")
        listener.stage_done(node)


def test_a_cell_is_written_when_its_last_seed_is_there_and_holds_the_mean(store: Store, tmp_path: Path) -> None:
    listener, graph, trials = grid(store, tmp_path / "run")
    journal = tmp_path / "run" / "optuna.journal"
    mine = [t for t in trials if t.cell == trials[0].cell]
    finish(store, graph, listener, list(mine[0].stages.values()))
    assert read(journal) == []
    finish(store, graph, listener, list(mine[1].stages.values()))
    (written,) = read(journal)
    assert written.state == TrialState.COMPLETE
    assert written.value == pytest.approx(0.255)
    assert written.params == {"student.value": 0.25, "student.label": "x"}
    assert written.user_attrs == {"cell": mine[0].cell, "seeds": 2}
    assert listener.leader == (pytest.approx(0.255), "value=0.25, label=x")


def test_a_finished_cell_of_which_what_was_measured_was_discarded_stops_no_run(store: Store, tmp_path: Path) -> None:
    listener, graph, trials = grid(store, tmp_path / "run")
    for trial in trials:
        finish(store, graph, listener, list(trial.stages.values()))
    for key in listener._measured[trials[0].cell]:
        store.discard(key)
    (tmp_path / "run" / "optuna.journal").unlink()
    again, _, _ = grid(store, tmp_path / "run")
    for key in again._open[trials[0].cell]:
        again.graph.nodes[key].state = "done"  # As an evaluation that is there is.
    again._note(trials[0].cell)
    assert trials[0].cell not in {trial.user_attrs["cell"] for trial in read(tmp_path / "run" / "optuna.journal")}


def test_a_finished_cell_of_which_what_was_measured_is_made_again_is_written_then(store: Store, tmp_path: Path) -> None:
    listener, graph, trials = grid(store, tmp_path / "run", seeds=1)
    for trial in trials:
        finish(store, graph, listener, list(trial.stages.values()))
    student = trials[0].stages["student"]
    store.discard(student)
    (tmp_path / "run" / "optuna.journal").unlink()
    again, graph, _ = grid(store, tmp_path / "run", seeds=1)
    assert len(read(tmp_path / "run" / "optuna.journal")) == 3
    finish(store, graph, again, [student])
    assert len(read(tmp_path / "run" / "optuna.journal")) == 4


def test_a_cell_is_written_once_however_often_it_is_asked_for(store: Store, tmp_path: Path) -> None:
    listener, graph, trials = grid(store, tmp_path / "run")
    for trial in trials:
        finish(store, graph, listener, list(trial.stages.values()))
    for node in graph.nodes.values():
        listener.stage_done(node)
    for _ in range(2):
        again, _, _ = grid(store, tmp_path / "run")
        assert again.leader is not None
    written = read(tmp_path / "run" / "optuna.journal")
    assert len(written) == 4
    assert len({t.user_attrs["cell"] for t in written}) == 4


def test_what_the_store_had_already_is_written_when_the_run_begins(store: Store, tmp_path: Path) -> None:
    listener, graph, trials = grid(store, tmp_path / "one")
    for trial in trials:
        finish(store, graph, listener, list(trial.stages.values()))
    grid(store, tmp_path / "two")
    assert len(read(tmp_path / "two" / "optuna.journal")) == 4


def test_a_failed_seed_leaves_its_cell_unwritten(store: Store, tmp_path: Path) -> None:
    listener, graph, trials = grid(store, tmp_path / "run")
    graph.set(trials[0].stages["student"], "failed")
    listener.stage_failed(graph.nodes[trials[0].stages["student"]])
    for trial in trials[1:]:
        finish(store, graph, listener, list(trial.stages.values()))
    assert {t.user_attrs["cell"] for t in read(tmp_path / "run" / "optuna.journal")} == {t.cell for t in trials} - {
        trials[0].cell
    }


def test_orders_are_four_switches_in_the_journal(store: Store, tmp_path: Path) -> None:
    import search_spaces

    resolved = resolve(search_spaces.load("horkd_order_ablation"), seeds=1)
    graph, trials, cells = build_graph(Plan(resolved, DATA), store)
    listener = GridCells(resolved, cells, trials, graph, store, tmp_path / "j", NAME, lambda node: None)
    params, distributions = listener._params(next(c for c in cells if c.point["horkd.orders"] == "2+C"))
    assert params == {"order_1": False, "order_2": True, "order_3": False, "order_C": True}
    assert set(distributions) == set(params)


def test_a_grid_never_prunes_and_never_grows(store: Store, tmp_path: Path) -> None:
    listener, graph, _ = grid(store, tmp_path / "run")
    assert not listener.stage_value(next(iter(graph.nodes.values())), 1, 0.0)
    assert not listener.more()
    assert listener.exhausted()


# Sampled studies.


def test_a_sampled_study_tells_the_mean_over_its_seeds(begin: Callable[..., Run]) -> None:
    run = begin(trials=3, seeds=2)
    run.to_the_end()
    told = run.frozen()
    assert [t.state for t in told] == [TrialState.COMPLETE] * 3
    for trial in told:
        assert trial.value == pytest.approx(trial.params["student.value"] + 0.005)
    assert len(run.trained) == 2 + 3 * 2 * 2  # A teacher per seed, then student and evaluation per trial.
    cells, trials = run.announced[-1]
    assert len(cells) == 3
    assert len(trials) == 6
    assert all(run.graph.nodes[key].state == "done" for trial in trials for key in trial.stages.values())
    best = max(told, key=lambda t: t.value or 0)
    assert run.cells.leader is not None
    assert run.cells.leader[0] == best.value


def test_cells_are_asked_for_free_slots_only(begin: Callable[..., Run]) -> None:
    run = begin(trials=4, seeds=1, slots=2)
    assert isinstance(run.next(), tuple)
    assert len(run.frozen()) == 1
    assert run.next() is None  # The teacher is shared: a second cell is asked for, and waits for it, too.
    assert len(run.frozen()) == 2
    assert run.next() is None
    assert len(run.frozen()) <= 4


def test_a_finished_study_asks_for_nothing_and_more_trials_extend_it(begin: Callable[..., Run]) -> None:
    begin(trials=2).to_the_end()
    again = begin(trials=2)
    assert again.next() == "FINISHED"
    assert again.trained == []
    more = begin(trials=3)
    more.to_the_end()
    assert len(more.frozen()) == 3
    assert len([s for s in more.trained if s["label"] in ("x", "y")]) == 2


def test_more_seeds_are_trained_for_finished_cells_and_their_value_stays_as_told(begin: Callable[..., Run]) -> None:
    first = begin(trials=2, seeds=1)
    first.to_the_end()
    values = [t.value for t in first.frozen()]
    more = begin(trials=2, seeds=3)
    more.to_the_end()
    assert {s["seed"] for s in more.trained} == {1, 2}
    assert len(more.trained) == 2 * (1 + 2 * 2)
    assert [t.value for t in more.frozen()] == values


def test_what_was_asked_and_never_told_is_taken_up_with_the_same_values(begin: Callable[..., Run]) -> None:
    killed = begin(trials=2, seeds=2)
    answer = killed.next()
    assert isinstance(answer, tuple)
    killed.train(*answer)  # The teacher; then the driver is killed.
    (open_one,) = killed.frozen()
    assert open_one.state == TrialState.RUNNING
    again = begin(trials=2, seeds=2)
    assert again.announced[-1][0][0].point == open_one.params
    again.to_the_end()
    told = again.frozen()
    assert len(told) == 2
    assert [t.state for t in told] == [TrialState.COMPLETE] * 2
    assert told[0].params == open_one.params


def test_a_trial_whose_stages_all_ended_before_the_kill_is_told_at_the_start(
    begin: Callable[..., Run], store: Store
) -> None:
    run = begin(trials=1, seeds=1)
    before = run.run.journal.with_name("before")
    answer = run.next()
    shutil.copy(run.run.journal, before)
    while isinstance(answer, tuple):
        run.train(*answer)
        answer = run.next()
    shutil.copy(before, run.run.journal)  # As if the driver died just before it told.
    again = begin(trials=1, seeds=1)
    assert again.next() == "FINISHED"
    assert [t.state for t in again.frozen()] == [TrialState.COMPLETE]


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_cell_of_which_what_was_measured_was_discarded_before_it_was_told_is_made_again(
    begin: Callable[..., Run], store: Store, seeds: int
) -> None:
    run = begin(trials=2, seeds=seeds)
    answer = run.next()
    before = run.run.journal.read_bytes()  # Its first cell was asked for.
    while isinstance(answer, tuple):
        run.train(*answer)
        answer = run.next()
    value = run.frozen()[0].value
    run.run.journal.write_bytes(before)  # As if the driver died just before it told.
    cell = run.announced[-1][0][0].id
    students = [trial.stages["student"] for trial in run.announced[-1][1] if trial.cell == cell]
    for key in students:
        store.discard(key)
    again = begin(trials=1, seeds=seeds)
    again.to_the_end()
    assert [spec["seed"] for spec in again.trained] == list(range(seeds))  # The students alone.
    (told,) = again.frozen()
    assert (told.state, told.value) == (TrialState.COMPLETE, value)


def test_a_cell_whose_artifacts_vanish_while_the_run_goes_on_is_left_to_the_next_run(
    begin: Callable[..., Run], store: Store
) -> None:
    run = begin(trials=2, seeds=1)
    first: str | None = None
    while isinstance(answer := run.next(), tuple):
        student = answer[1]["parents"].get("network") or next(iter(answer[1]["parents"].values()), None)
        if first is None and run.graph.nodes[answer[1]["key"]].role == "evaluation":
            first = student
            store.discard(str(first))
        run.train(*answer)
    assert answer == "FINISHED"
    assert [trial.state for trial in run.frozen()] == [TrialState.RUNNING, TrialState.COMPLETE]
    assert any("is left to the next run" in line for line in run.said)
    again = begin(trials=2, seeds=1)
    again.to_the_end()
    assert [trial.state for trial in again.frozen()] == [TrialState.COMPLETE] * 2
    assert len(again.trained) == 1


def test_a_trial_asked_but_killed_before_its_first_draw_is_drawn_then(
    begin: Callable[..., Run], nasty_path: Path
) -> None:
    run = begin(trials=1)
    run.cells.study.ask()
    again = begin(trials=1)
    again.to_the_end()
    (told,) = again.frozen()
    assert told.state == TrialState.COMPLETE
    assert set(told.params) == {"student.value", "student.label"}


def test_a_restart_does_not_repeat_the_first_draws(begin: Callable[..., Run]) -> None:
    drawn = []
    for trials in (1, 2, 3, 4):
        run = begin(trials=trials, seeds=1)
        run.to_the_end()
        drawn = [t.params["student.value"] for t in run.frozen()]
    assert len(set(drawn)) == 4


def test_two_equal_runs_draw_the_same(store: Store, tmp_path: Path) -> None:
    drawn = []
    for name in ("one", "two"):
        run = Run(Store(tmp_path / name), tmp_path / f"at {name}", study(), trials=3, seeds=1)
        run.store.prepare()
        run.to_the_end()
        drawn.append([t.params for t in run.frozen()])
    assert drawn[0] == drawn[1]


def test_a_failed_stage_fails_its_trial_and_the_others_go_on(begin: Callable[..., Run], store: Store) -> None:
    run = begin(trials=2, seeds=2)
    answer = run.next()
    while isinstance(answer, tuple) and answer[1]["spec"]["label"] not in ("x", "y"):
        run.train(*answer)
        answer = run.next()
    assert isinstance(answer, tuple)
    trial_id, order = answer
    store.write_failure(order["key"], {"type": "NonFiniteError", "message": "nan", "hopeless": True})
    run.queue.complete(trial_id, {"outcome": "failed"}, False)
    run.to_the_end()
    assert [t.state for t in run.frozen()] == [TrialState.FAIL, TrialState.COMPLETE]
    assert run.graph.counts["unrunnable"] == 1  # The evaluation behind it.


@pytest.mark.parametrize("metrics", [{"validation_top1": float("nan")}, {}, {"validation_top1": None}], ids=str)
def test_a_value_that_is_no_number_or_missing_is_told_as_failure(
    begin: Callable[..., Run], store: Store, metrics: dict[str, Any]
) -> None:
    run = begin(trials=1, seeds=1)
    while isinstance(answer := run.next(), tuple):
        manifest = {"kind": "sleep", "spec": {}, "parents": {}, "metrics": metrics}
        store.publish(answer[1]["key"], manifest, lambda folder: None)
        run.queue.complete(answer[0], {"outcome": "done"}, False)
    assert answer == "FINISHED"
    assert [t.state for t in run.frozen()] == [TrialState.FAIL]


# Pruning.


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> dict[int, bool]:
    """Trial number -> whether the pruner says stop."""
    said: dict[int, bool] = {}
    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda self: said.get(self.number, False))
    return said


def scout(run: Run) -> tuple[str, dict[str, Any]]:
    """Train what is ready until a scout is handed out."""
    for _ in range(50):
        answer = run.next()
        assert isinstance(answer, tuple), answer
        if answer[1]["every_epoch"]:
            return answer
        run.train(*answer)
    raise AssertionError("no scout came")


def test_a_pruned_scout_never_starts_the_other_seeds(begin: Callable[..., Run], verdicts: dict[int, bool]) -> None:
    run = begin(study(prune=True), trials=2, seeds=3)
    trial_id, order = scout(run)
    verdicts[0] = True
    assert run.train(trial_id, order, [0.1]) is False
    run.to_the_end()
    told = run.frozen()
    assert [t.state for t in told] == [TrialState.PRUNED, TrialState.COMPLETE]
    assert told[0].intermediate_values == {1: 0.1}
    students = [s for s in run.trained if s["label"] in ("x", "y")]
    assert {s["seed"] for s in students if s["value"] == told[0].params["student.value"]} == set()
    assert {s["seed"] for s in students} == {0, 1, 2}
    assert run.graph.counts["pruned"] == 2  # The scout and the evaluation behind it.


def test_the_other_seeds_of_a_scout_that_is_through_run_to_the_end_unwatched(
    begin: Callable[..., Run], verdicts: dict[int, bool]
) -> None:
    run = begin(study(prune=True), trials=1, seeds=3)
    trial_id, order = scout(run)
    assert order["spec"]["seed"] == 0
    assert {node.seed for node in run.graph.nodes.values()} == {0}
    assert run.train(trial_id, order, [0.1, 0.2, 0.3])
    verdicts[0] = True
    for _ in range(20):
        answer = run.next()
        if answer == "FINISHED":
            break
        assert isinstance(answer, tuple)
        assert answer[1]["every_epoch"] is False
        assert run.train(*answer, [0.0])
    (told,) = run.frozen()
    assert told.state == TrialState.COMPLETE
    assert told.intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3}


def test_successive_halving_prunes_the_worse_of_two_and_remembers_over_a_restart(begin: Callable[..., Run]) -> None:
    made = study(prune=True)
    first = begin(made, trials=1, seeds=1)
    assert first.train(*scout(first), [0.9] * 9)
    first.to_the_end()
    second = begin(made, trials=2, seeds=1)
    assert second.train(*scout(second), [0.1] * 9) is False
    second.to_the_end()
    assert [t.state for t in second.frozen()] == [TrialState.COMPLETE, TrialState.PRUNED]
    third = begin(made, trials=2, seeds=1)
    assert third.next() == "FINISHED"


def test_epochs_reported_before_a_kill_are_not_reported_again(
    begin: Callable[..., Run], verdicts: dict[int, bool]
) -> None:
    made = study(prune=True)
    killed = begin(made, trials=1, seeds=1)
    trial_id, _ = scout(killed)
    killed.queue.result(trial_id, {"values": [[1, 0.4], [2, 0.5]]})
    again = begin(made, trials=1, seeds=1)
    assert again.train(*scout(again), [0.4, 0.5, 0.6])
    again.to_the_end()
    (told,) = again.frozen()
    assert told.intermediate_values == {1: 0.4, 2: 0.5, 3: 0.6}


@pytest.mark.parametrize("when", ["asked before", "asked after"])
def test_a_cell_drawn_twice_is_pruned_twice_and_the_run_ends(
    begin: Callable[..., Run], verdicts: dict[int, bool], when: str
) -> None:
    # A space of one point: every trial draws the same cell, and all share one scout.
    run = begin(
        study(lambda t: {"student.label": t.suggest_categorical("student.label", ("x",))}, prune=True), trials=2
    )
    trial_id, order = scout(run)
    if when == "asked before":
        assert run.cells.more()
    verdicts[0] = True
    assert run.train(trial_id, order, [0.1]) is False
    run.to_the_end()
    assert [t.state for t in run.frozen()] == [TrialState.PRUNED] * 2


def test_a_cell_drawn_twice_is_trained_once_and_told_twice(begin: Callable[..., Run]) -> None:
    run = begin(study(lambda t: {"student.label": t.suggest_categorical("student.label", ("x",))}), trials=3, seeds=2)
    run.to_the_end()
    assert len(run.trained) == 2 * 3
    assert [t.state for t in run.frozen()] == [TrialState.COMPLETE] * 3


def test_the_value_of_a_cell_is_none_while_a_stage_has_none(store: Store, publish: Callable[..., Any]) -> None:
    publish("a" * 16, metrics={"validation_top1": 0.5})
    publish("b" * 16, metrics={})
    assert cell_value(store, ["a" * 16]) == 0.5
    assert cell_value(store, ["a" * 16, "b" * 16]) is None
    assert cell_value(store, []) is None


# Several objectives.


def front(trial: Any) -> dict[str, Any]:
    return {"student.value": trial.suggest_float("student.value", 0.0, 1.0)}


def pareto() -> Study:
    preset = Preset(
        parameters={"epochs": 9, "teacher.label": "t", "evaluation.label": "e"},
        seeds=2,
        trials=4,
        space=front,
        objectives=("score", "macs"),
    )
    return dataclasses.replace(study(prune=True), presets={"demo": preset})


def test_a_pareto_search_draws_from_the_presets_space_tells_all_objectives_and_prunes_nothing(
    begin: Callable[..., Run],
) -> None:
    run = begin(pareto())
    assert not run.cells.pruning
    original = run.store.publish

    def publish(key: str, manifest: dict[str, Any], write: Any) -> Any:
        manifest["metrics"] |= {"macs": 1000 + manifest["spec"]["seed"]}
        return original(key, manifest, write)

    run.store.publish = publish  # type: ignore[method-assign, assignment]
    run.to_the_end()
    told = run.frozen()
    assert [set(trial.params) for trial in told] == [{"student.value"}] * 4
    for trial in told:
        # Means over seeds 0 and 1; the first is to be large, the second small.
        assert trial.values == pytest.approx([trial.params["student.value"] + 0.005, 1000.5])
    journal = JournalStorage(JournalFileBackend(str(run.run.journal)))
    directions = optuna.load_study(storage=journal, study_name=NAME).directions
    assert [direction.name for direction in directions] == ["MAXIMIZE", "MINIMIZE"]
    assert begin(pareto()).cells.exhausted()


def test_a_cell_whose_stages_lack_an_objective_is_told_as_failed(begin: Callable[..., Run]) -> None:
    run = begin(pareto())
    run.to_the_end()  # These artifacts say nothing of multiply-adds.
    assert {trial.state for trial in run.frozen()} == {TrialState.FAIL}


# Damaged journals.


def told(run: Run) -> list[tuple[Any, ...]]:
    """What the journal says of each trial, as far as answers rest on it."""
    return [(t.state, t.values, t.params, t.user_attrs["cell"], t.user_attrs["point"]) for t in run.frozen()]


def run_file(run: Run) -> dict[str, Any]:
    """What run.json says of cells and trials, as JSON has it."""
    cells, trials = run.announced[-1]
    said = {
        "cells": [{"id": cell.id, "parameters": dict(cell.point)} for cell in cells],
        "trials": [vars(trial) for trial in trials],
    }
    return dict(json.loads(json.dumps(said)))


def without_stamps(journal: Path) -> None:
    """The journal as an earlier version wrote it."""
    lines = [json.loads(line) for line in journal.read_bytes().splitlines()]
    plain = [{key: value for key, value in line.items() if key != "stamp"} for line in lines]
    journal.write_bytes(b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in plain))


@pytest.mark.parametrize("stamps", [True, False])
def test_a_flipped_bit_anywhere_in_a_finished_runs_journal_changes_nothing_that_was_told(
    begin: Callable[..., Run], stamps: bool
) -> None:
    first = begin(trials=3, seeds=2)
    first.to_the_end()
    journal, before, known = first.run.journal, told(first), run_file(first)
    if not stamps:
        without_stamps(journal)
    whole = journal.read_bytes()
    draw = random.Random(7)
    for _ in range(60):
        bit = draw.randrange(8 * len(whole))
        hurt = bytearray(whole)
        hurt[bit // 8] ^= 1 << bit % 8
        journal.write_bytes(hurt)
        again = begin(trials=3, seeds=2, known=known)
        assert again.next() == "FINISHED", bit
        assert again.trained == [], bit
        assert sorted(told(again), key=str) == sorted(before, key=str), bit
        assert not stamps or len(again.said) == 1, bit


@pytest.mark.parametrize(
    "harm", ["doubled", "lost", "moved", "first lost", "empty", "gone", "half gone", "of another run"]
)
@pytest.mark.parametrize("stamps", [True, False])
def test_lines_doubled_lost_or_moved_and_a_journal_emptied_change_nothing_that_was_told(
    begin: Callable[..., Run], harm: str, stamps: bool
) -> None:
    first = begin(trials=3, seeds=2)
    first.to_the_end()
    journal, before, known = first.run.journal, told(first), run_file(first)
    if not stamps:
        without_stamps(journal)
    lines = journal.read_bytes().splitlines(keepends=True)
    creation = next(n for n, line in enumerate(lines) if n > 5 and b'"op_code":4' in line)
    for at in [creation, creation + 1, creation + 2, 3, len(lines) - 1]:
        hurt = list(lines)
        if harm == "doubled":
            hurt.insert(at, hurt[at])
        elif harm == "lost":
            del hurt[at]
        elif harm == "moved":
            hurt[at - 1], hurt[at] = hurt[at], hurt[at - 1]
        elif harm == "first lost":
            del hurt[0]
        elif harm == "half gone":
            del hurt[at:]
        elif harm == "of another run":
            hurt[0] = json.dumps(json.loads(hurt[0]) | {"study_name": "another"}).encode() + b"\n"
        else:
            hurt = []
        journal.write_bytes(b"".join(hurt))
        if harm == "gone":
            journal.unlink()
        again = begin(trials=3, seeds=2, known=known)
        assert again.next() == "FINISHED"
        assert again.trained == []
        assert sorted(told(again), key=str) == sorted(before, key=str)
    if harm in ("empty", "gone", "first lost"):
        assert len(again.said) == 1


def test_a_value_that_a_flipped_bit_made_another_number_is_told_again_from_the_store(begin: Callable[..., Run]) -> None:
    first = begin(trials=2, seeds=2)
    first.to_the_end()
    before, known = told(first), run_file(first)
    without_stamps(first.run.journal)
    text = first.run.journal.read_text()
    value = json.dumps(before[0][1])
    assert value in text.replace(" ", "")
    first.run.journal.write_text(text.replace(value, "[0.999]"))
    again = begin(trials=2, seeds=2, known=known)
    assert told(again) == before
    assert "completed from run.json and the store" in again.said[0]


def test_a_value_told_for_fewer_seeds_than_the_store_has_is_no_damage(begin: Callable[..., Run]) -> None:
    begin(trials=2, seeds=1).to_the_end()
    more = begin(trials=2, seeds=3)
    more.to_the_end()
    before, known = told(more), run_file(more)
    without_stamps(more.run.journal)
    again = begin(trials=2, seeds=3, known=known)
    assert told(again) == before
    assert again.said == []


def test_without_run_json_what_the_journals_other_lines_say_is_kept(begin: Callable[..., Run]) -> None:
    first = begin(trials=3, seeds=1)
    first.to_the_end()
    before = told(first)
    lines = first.run.journal.read_bytes().splitlines(keepends=True)
    states = [n for n, line in enumerate(lines) if b'"op_code":6' in line]
    lines[states[1]] = lines[states[1]].replace(b'"op_code":6', b'"op_code":V')
    first.run.journal.write_bytes(b"".join(lines))
    again = begin(trials=3, seeds=1)
    assert again.next() == "FINISHED"  # The trial is open in the journal, and all its stages are in the store.
    assert told(again) == before


def test_tools_of_optuna_may_append_to_a_journal_with_stamps(begin: Callable[..., Run]) -> None:
    first = begin(trials=1, seeds=1)
    first.to_the_end()
    storage = JournalStorage(JournalFileBackend(str(first.run.journal)))
    study_id = storage.get_study_id_from_name(NAME)
    storage.set_study_user_attr(study_id, "note", "looked at")
    more = begin(trials=2, seeds=1, known=run_file(first))
    more.to_the_end()
    again = begin(trials=2, seeds=1, known=run_file(more))
    assert again.next() == "FINISHED"
    assert first.said + more.said + again.said == []
    assert len(told(again)) == 2
