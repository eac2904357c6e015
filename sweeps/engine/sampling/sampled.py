"""Cells that Optuna draws: asked for when a slot is free, expanded into stages over its seeds, told what they gave.

That is the mean of the validation metric. What was asked and never told is taken up again by the next run.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from sweeps.engine.journal_repair import CELL, POINT, Say
from sweeps.engine.sampling.sources import repair_sources
from sweeps.engine.sampling.study import open_study
from sweeps.engine.sampling.values import cell_value
from sweeps.planning.cells import Cell, Pinned
from sweeps.planning.graph import StageGraph, StageNode
from sweeps.planning.plan import Plan
from sweeps.planning.planner import Planner, Trial
from trainables import spec as specs
from trainables.errors import ArtifactError
from trainables.store.artifacts import Store

_log = logging.getLogger(__name__)


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
        self.on_stage, self.on_cells, self._say = on_stage, on_cells, say
        self.recipe = resolved.study.recipe
        self.cells: list[Cell] = []
        self.trials: list[Trial] = []
        self.leader: tuple[float, str] | None = None
        self._open: dict[int, dict[int, Trial | None]] = {}  # Optuna trial -> seed -> trial, None while held back.
        self._handles: dict[int, optuna.trial.Trial] = {}
        self._cell_of: dict[int, Cell] = {}
        self._present = store.keys()
        epochs = self._epochs = self._scout_epochs()
        sources = repair_sources(
            self.planner, store, self._present, self._space, known or {}, records=journal.parent / "records"
        )
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
        begun = [trial for trial in trials.values() if trial is not None]
        measured = [self._measured(trial) for trial in begun]
        # A measured stage may be made again although its evaluation is there: somebody discarded it.
        last = [trial.stages[self.recipe.roles[-1]] for trial in begun]
        states = [self.graph.nodes[key].state for key in dict.fromkeys([*last, *measured])]
        if any(state in ("failed", "unrunnable") for state in states):
            self._tell_failed(number)
        elif "pruned" in states:
            self._tell_pruned(number)
        elif len(begun) == len(trials) and all(state == "done" for state in states):
            self._tell(number, measured)

    def _tell(self, number: int, measured: list[str]) -> None:
        """Tell what a cell gave; one whose artifacts were discarded under us stays asked, for the next run to make."""
        try:
            values = [cell_value(self.store, measured, metric) for metric in self.resolved.objectives]
        except ArtifactError as error:
            self._say(f"{self._cell_of[number].label} is left to the next run: {error}")
            del self._open[number]
            return
        if any(value is None or value != value for value in values):
            self._tell_failed(number)
            return
        told = [value for value in values if value is not None]
        self.study.tell(number, told, skip_if_finished=True)
        self._lead(told[0], self._cell_of[number])
        del self._open[number]

    def _tell_failed(self, number: int) -> None:
        self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
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
