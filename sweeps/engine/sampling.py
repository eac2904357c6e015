"""Cells and Optuna: one journal per run, which Optuna's own tools open. The door to optuna.

A finished cell of a grid is added once. Sampled studies ask for free slots, expand the answer into stages over its
seeds and tell the mean of the validation metric. What was asked and never told is taken up again after a crash.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import statistics
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pyarrow as pa
import pyarrow.parquet as pq
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from sweeps.engine.journal_repair import CELL, POINT, Say, Sources, StampedBackend, mend
from sweeps.planning.cells import Cell, Pinned
from sweeps.planning.graph import StageGraph, StageNode
from sweeps.planning.plan import Plan
from sweeps.planning.planner import Planner, Trial
from sweeps.planning.resolve import Resolved
from system import regular_files
from trainables import spec as specs
from trainables.errors import ArtifactError, SweepsError
from trainables.store.artifacts import Store

optuna.logging.set_verbosity(optuna.logging.ERROR)
_log = logging.getLogger(__name__)
SUBSETS_TRIED = 6  # Seeds of a cell up to which every subset may be what its value was the mean of.


def open_study(
    path: Path,
    name: str,
    *,
    sampler: optuna.samplers.BaseSampler | None = None,
    prune: int = 0,
    objectives: tuple[str, ...] = ("score",),
    say: Say = _log.warning,
    sources: Sources | None = None,
) -> optuna.Study:
    """The Optuna study of a run.

    Args:
        path: The journal; mended first.
        name: Study name, the run's id.
        sampler: For sampled studies.
        prune: Epochs of the first rung of successive halving; 0 means no pruning.
        objectives: The first is to be large, the others small.
        say: Told what was mended, in words.
        sources: What else knows the trials of a sampled study.
    """
    directions = [StudyDirection.MAXIMIZE, *(StudyDirection.MINIMIZE for _ in objectives[1:])]
    mend(path, name, directions, say, sources)
    storage = JournalStorage(StampedBackend(path.absolute()))
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if prune:
        pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=prune, reduction_factor=3)
    # Where there is one it is loaded: creating it again would add a line each time.
    if all(each.study_name != name for each in storage.get_all_studies()):
        storage.create_new_study(directions, name)
    return optuna.load_study(storage=storage, study_name=name, sampler=sampler, pruner=pruner)


def pruned_in_records(records: Path) -> frozenset[str]:
    """Cells of which the records say that they were pruned; a record that cannot be read says nothing."""
    cells: set[str] = set()
    for path in sorted(records.glob("*.parquet")):
        with contextlib.suppress(OSError, pa.ArrowException, ValueError):
            regular_files.check(path)
            table = pq.read_table(path, columns=["cells", "status"]).to_pylist()
            cells.update(cell for row in table if row["status"] == "pruned" for cell in row["cells"] or ())
    return frozenset(cells)


def cell_value(store: Store, keys: Iterable[str], metric: str = "score") -> float | None:
    """Mean over finished training stages of a metric, or None when one has none; the score is that of validation."""
    values = []
    for key in keys:
        found = store.get(key).metrics
        # Artifacts of earlier versions know accuracy only.
        value = found.get("validation_score", found.get("validation_top1")) if metric == "score" else found.get(metric)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        values.append(float(value))
    return statistics.fmean(values) if values else None


class GridCells:
    """Listener of a grid study: writes each finished cell into the journal, once."""

    def __init__(
        self,
        resolved: Resolved,
        cells: list[Cell],
        trials: list[Trial],
        graph: StageGraph,
        store: Store,
        journal: Path,
        name: str,
        on_stage: Callable[[StageNode], None],
        *,
        say: Say = _log.warning,
    ) -> None:
        self.resolved, self.graph, self.store = resolved, graph, store
        self.cells = {cell.id: cell for cell in cells}
        self.on_stage = on_stage
        recipe = resolved.study.recipe
        self._last = resolved.study.recipe.roles[-1]
        self._open: dict[str, set[str]] = {}
        self._measured: dict[str, list[str]] = {}
        for trial in trials:
            self._open.setdefault(trial.cell, set()).add(trial.stages[self._last])
            self._measured.setdefault(trial.cell, []).append(trial.stages[recipe.measured(trial.stages)])
        self.study = open_study(journal, name, say=say)
        self._known = {
            (t.user_attrs.get(CELL), t.user_attrs.get("seeds")) for t in self.study.get_trials(deepcopy=False)
        }
        self.leader: tuple[float, str] | None = None
        for cell_id in self._open:
            self._note(cell_id)

    def stage_done(self, node: StageNode) -> None:
        """A stage finished: its cell may be complete."""
        self.on_stage(node)
        if node.role == self._last:
            for cell_id in node.cells:
                self._note(cell_id)

    def _note(self, cell_id: str) -> None:
        keys = self._open[cell_id]
        if any(self.graph.nodes[key].state != "done" for key in keys):
            return
        try:
            value = cell_value(self.store, self._measured[cell_id])
        except ArtifactError:
            return  # Its evaluation is there, what it measured was discarded: the record has the numbers.
        if value is None:
            return
        cell = self.cells[cell_id]
        if self.leader is None or value > self.leader[0]:
            self.leader = (value, cell.label)
        seeds = len(keys)
        if (cell_id, seeds) in self._known:
            return
        self._known.add((cell_id, seeds))
        params, distributions = self._params(cell)
        self.study.add_trial(
            optuna.trial.create_trial(
                value=value, params=params, distributions=distributions, user_attrs={CELL: cell_id, "seeds": seeds}
            )
        )

    def _params(self, cell: Cell) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        params: dict[str, Any] = {}
        distributions: dict[str, BaseDistribution] = {}
        for name, value in cell.point.items():
            if name.endswith("orders"):
                # Four on/off parameters: one category of 16 levels takes importance scores minutes.
                for order in specs.ORDERS:
                    params[f"order_{order}"] = order in specs.orders_of(value)
                    distributions[f"order_{order}"] = CategoricalDistribution((False, True))
            else:
                plain = [str(v) if isinstance(v, tuple) else v for v in self.resolved.axes[name]]
                params[name] = str(value) if isinstance(value, tuple) else value
                distributions[name] = CategoricalDistribution(plain)
        return params, distributions

    def stage_failed(self, node: StageNode) -> None:
        """A stage ended as failed."""
        self.on_stage(node)

    def stage_value(self, node: StageNode, epoch: int, value: float) -> bool:
        """Grids are never pruned."""
        return False

    def more(self) -> bool:
        """A grid is complete from the start."""
        return False

    def exhausted(self) -> bool:
        """A grid is complete from the start."""
        return True


class SampledCells:
    """Listener of a sampled study: asks Optuna for cells, one per free slot, and tells it what they gave."""

    def __init__(
        self,
        plan: Plan,
        graph: StageGraph,
        store: Store,
        journal: Path,
        name: str,
        on_stage: Callable[[StageNode], None],
        on_cells: Callable[[list[Cell], list[Trial]], None],
        *,
        grow: bool = True,
        known: Mapping[str, Any] | None = None,
        say: Say = _log.warning,
    ) -> None:
        resolved = self.resolved = plan.resolved
        self.plan, self.graph, self.store, self.grow = plan, graph, store, grow
        self.planner = Planner(plan)
        self.on_stage, self.on_cells = on_stage, on_cells
        self.recipe = resolved.study.recipe
        self.cells: list[Cell] = []
        self.trials: list[Trial] = []
        self.leader: tuple[float, str] | None = None
        self._open: dict[int, dict[int, Trial | None]] = {}  # Optuna trial -> seed -> trial, None while held back.
        self._handles: dict[int, optuna.trial.Trial] = {}
        self._cell_of: dict[int, Cell] = {}
        self._present = store.keys()
        epochs = self._epochs = self._scout_epochs()
        sources = self._sources(known or {}, journal.parent / "records")
        probe = open_study(journal, name, objectives=resolved.objectives, say=say, sources=sources)
        # A sampler seeded alike after every restart would draw the first cells again.
        seed = int(specs.short_hash({"run": name, "asked": len(probe.get_trials(deepcopy=False))}), 16)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(seed=seed % 2**31, constant_liar=True)
        # Several objectives have no order in which a cell could be poor.
        self.pruning = resolved.study.prune and epochs >= 3 and len(resolved.objectives) == 1
        self.study = open_study(
            journal,
            name,
            sampler=sampler,
            prune=max(1, epochs // 9) if self.pruning else 0,
            objectives=resolved.objectives,
        )
        self._adopt()

    def _scout_epochs(self) -> int:
        made = self.planner.specs(next(self.plan.examples()))
        spec = made[self.recipe.measured(made)]
        return int(getattr(spec, "epochs", 1))

    def _sources(self, known: Mapping[str, Any], records: Path) -> Sources:
        """What a damaged journal is repaired from: run.json as it was, the store, the records."""
        points = {str(cell["id"]): cell["parameters"] for cell in known.get("cells", ())}

        def cell_id(point: Mapping[str, Any]) -> str | None:
            try:
                cell = self.plan.cell(point)
                self.planner.keys(cell, self.resolved.seeds[0])
            except (SweepsError, TypeError, ValueError, KeyError):
                return None  # A flipped bit made a value that no stage could have.
            return cell.id

        def values(cell: str) -> list[list[float]]:
            seeds = sorted({*self.resolved.seeds, *(t["seed"] for t in known.get("trials", ()) if t["cell"] == cell)})
            measured = {seed: found for seed in seeds if (found := self._measurements(points.get(cell), seed))}
            groups: Iterable[tuple[int, ...]] = [tuple(measured)[:count] for count in range(1, len(measured) + 1)]
            if len(measured) <= SUBSETS_TRIED:
                groups = itertools.chain.from_iterable(
                    itertools.combinations(measured, count) for count in range(1, len(measured) + 1)
                )
            return [
                [statistics.fmean(each) for each in zip(*(measured[s] for s in group), strict=True)] for group in groups
            ]

        pruned = functools.cache(functools.partial(pruned_in_records, records))
        return Sources(cell_id, self._space, values, points, pruned)

    def _measurements(self, point: Mapping[str, Any] | None, seed: int) -> list[float]:
        """What the finished stage of a cell and seed measured, by objective; empty without one."""
        if point is None:
            return []
        keys = self.planner.keys(self.plan.cell(point), seed)
        key = keys[self.recipe.measured(keys)]
        if key not in self._present:
            return []
        try:
            found = [cell_value(self.store, [key], metric) for metric in self.resolved.objectives]
        except SweepsError:
            return []
        return [value for value in found if value is not None] if None not in found else []

    def _space(self, trial: Any) -> dict[str, Any]:
        assert self.resolved.space is not None
        return self.resolved.space(Pinned(trial, self.resolved.pinned))

    def _adopt(self) -> None:
        """Take up what was asked and never told; list what is finished."""
        for frozen in self.study.get_trials(deepcopy=False):
            if frozen.state == TrialState.RUNNING:
                handle = optuna.trial.Trial(self.study, frozen._trial_id)
                self._expand(handle)  # Suggesting again gives the values that were drawn.
            elif CELL in frozen.user_attrs and POINT in frozen.user_attrs:
                cell = self.plan.cell(frozen.user_attrs[POINT], frozen.number)
                self._cell_of[frozen.number] = cell
                self._announce(cell, [Trial(cell.id, s, self.planner.keys(cell, s)) for s in self.resolved.seeds])
                self._reopen(frozen, cell)
                if frozen.state == TrialState.COMPLETE and frozen.values:
                    self._lead(frozen.values[0], cell)

    def _reopen(self, frozen: optuna.trial.FrozenTrial, cell: Cell) -> None:
        """Show finished cells in the graph; further seeds of complete ones are trained, the value stays as told."""
        if frozen.state != TrialState.COMPLETE:
            return
        for seed in self.resolved.seeds:
            for node in self.planner.stages(cell, seed):
                self.graph.add(node, present=node.key in self._present)

    def _announce(self, cell: Cell, trials: list[Trial]) -> None:
        if all(known.id != cell.id for known in self.cells):
            self.cells.append(cell)
        self.trials.extend(trials)
        self.on_cells(self.cells, self.trials)

    def _expand(self, handle: optuna.trial.Trial) -> None:
        cell = self.plan.cell(self._space(handle), handle.number)
        handle.set_user_attr(CELL, cell.id)
        handle.set_user_attr(POINT, dict(cell.point))
        self._handles[handle.number] = handle
        self._cell_of[handle.number] = cell
        self._open[handle.number] = dict.fromkeys(self.resolved.seeds)
        self._announce(cell, [Trial(cell.id, s, self.planner.keys(cell, s)) for s in self.resolved.seeds])
        seeds = self.resolved.seeds
        self._start(handle.number, seeds[0], scout=self.pruning)
        if not self.pruning or self._through(handle.number):
            self._start_others(handle.number)
        self._settle(handle.number)

    def _through(self, number: int) -> bool:
        trial = self._open[number][self.resolved.seeds[0]]
        return trial is not None and self.graph.nodes[self._measured(trial)].state == "done"

    def _measured(self, trial: Trial) -> str:
        return trial.stages[self.recipe.measured(trial.stages)]

    def _start(self, number: int, seed: int, *, scout: bool) -> None:
        cell = self._cell_of[number]
        keys = self.planner.keys(cell, seed)
        for node in self.planner.stages(cell, seed, keys):
            if scout and node.role == self.recipe.measured(self.planner.specs(cell)):
                node.scout_of = number
            self.graph.add(node, present=node.key in self._present or self.store.has(node.key))
        self._open[number][seed] = Trial(cell.id, seed, keys)

    def _start_others(self, number: int) -> None:
        for seed, trial in list(self._open[number].items()):
            if trial is None:
                self._start(number, seed, scout=False)

    def _numbers_of(self, node: StageNode) -> list[int]:
        return [n for n in list(self._open) if self._cell_of[n].id in node.cells]

    def stage_done(self, node: StageNode) -> None:
        """A stage finished: a scout lets the other seeds start, a last stage may complete its cell."""
        self.on_stage(node)
        for number in self._numbers_of(node):
            if node.scout_of == number or self._through(number):
                self._start_others(number)
            self._settle(number)

    def stage_failed(self, node: StageNode) -> None:
        """A stage failed: its cells are told so."""
        self.on_stage(node)
        for number in list(self._open):
            self._settle(number)

    def stage_value(self, node: StageNode, epoch: int, value: float) -> bool:
        """Report a scout's epoch; true when the pruner ends its cell."""
        number = node.scout_of
        if number is None or number not in self._open or not self.pruning:
            return False
        handle = self._handles[number]
        if epoch not in self.study.get_trials(deepcopy=False)[number].intermediate_values:
            handle.report(value, epoch)
        # After the last epoch nothing is saved by pruning: the scout is through.
        if epoch >= self._epochs or not handle.should_prune():
            return False
        # Equal cells, drawn more than once, share the scout and its end.
        for pruned in self._numbers_of(node):
            self._tell_pruned(pruned)
        return True

    def _tell_pruned(self, number: int) -> None:
        self.study.tell(number, state=TrialState.PRUNED, skip_if_finished=True)
        del self._open[number]

    def _settle(self, number: int) -> None:
        """Tell Optuna about a cell when all its stages have ended."""
        trials = self._open.get(number)
        if trials is None:
            return
        last = self.recipe.roles[-1]
        ends = [self.graph.nodes[t.stages[last]] for t in trials.values() if t is not None]
        if any(node.state in ("failed", "unrunnable") for node in ends):
            self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
            del self._open[number]
            return
        if any(node.state == "pruned" for node in ends):
            self._tell_pruned(number)
            return
        if len(ends) < len(trials) or any(node.state != "done" for node in ends):
            return
        keys = [self._measured(t) for t in trials.values() if t is not None]
        values = [cell_value(self.store, keys, metric) for metric in self.resolved.objectives]
        if any(value is None or value != value for value in values):
            self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        else:
            told = [value for value in values if value is not None]
            self.study.tell(number, told, skip_if_finished=True)
            self._lead(told[0], self._cell_of[number])
        del self._open[number]

    def _lead(self, value: float, cell: Cell) -> None:
        if self.leader is None or value > self.leader[0]:
            self.leader = (value, cell.label)

    @property
    def asked(self) -> int:
        """Trials in the journal."""
        return len(self.study.get_trials(deepcopy=False))

    def more(self) -> bool:
        """Ask for one more cell when the budget allows."""
        if not self.grow or self.asked >= self.resolved.trials:
            return False
        self._expand(self.study.ask())
        return True

    def exhausted(self) -> bool:
        """Whether every cell of the budget was asked for and told."""
        return not self._open and (not self.grow or self.asked >= self.resolved.trials)
